"""Runs the dbt project of transforms/ as a child process, and keeps its manifest fresh.

In: settings and a range of as_of days. Out: dbt's run results. dbt is found through this interpreter, never through PATH, writes its target
folder under the home, and calls nobody. The warehouse lock is held while it runs.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from orchestration.logs import current_run
from orchestration.secrets import without_secrets
from orchestration.settings import PROJECT_ROOT, TRANSFORMS_DIR, Settings
from orchestration.warehouse import Warehouse

logger = logging.getLogger(__name__)
TRIES = 5
"""Of dbt as a whole, where other homes write to the same lake."""


class DbtError(RuntimeError):
    """dbt failed; the message ends with what it printed."""


@dataclass(frozen=True)
class DbtResult:
    """One node of a run: ``unique_id``, ``status`` (success, pass, warn, fail, error, skipped), its message and seconds."""

    unique_id: str
    status: str
    message: str
    failures: int
    seconds: float


def ensure_manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest, parsed again when any file of the project is newer than it, or it cannot be read."""
    path = settings.dbt_target_dir / "manifest.json"
    found = _manifest(path)
    if found is None:
        settings.make_home()
        settings.dbt_target_dir.mkdir(exist_ok=True)
        with Warehouse(settings).lock() as lock:
            found = _manifest(path)
            if found is None:
                _make_way(path)
                _run(settings, ["parse"], lock)
                path.touch()
    return found if found is not None else dict(json.loads(path.read_text()))


def _manifest(path: Path) -> dict[str, Any] | None:
    """What is at ``path``; None where it is older than the project, or no manifest."""
    newest = max(file.stat().st_mtime for file in TRANSFORMS_DIR.rglob("*") if _is_source(file))
    try:
        if path.stat().st_mtime < newest:
            return None
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def _make_way(path: Path) -> None:
    """Remove what dbt could not write over."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def project_fingerprint() -> str:
    """Hash of the project's files: when it changes, features are built anew."""
    import hashlib

    digest = hashlib.sha256()
    for file in sorted(TRANSFORMS_DIR.rglob("*")):
        if _is_source(file):
            digest.update(
                file.relative_to(TRANSFORMS_DIR).as_posix().encode()
                + b"\0"
                + file.read_bytes()
                + b"\0"
            )
    return digest.hexdigest()[:16]


def parsed_file(settings: Settings) -> Path:
    """Where the project is kept as dbt has parsed it, named by what that hangs on."""
    import hashlib
    from importlib.metadata import version

    versions = [version(name) for name in ("dbt-core", "dbt-adapters", "dbt-duckdb")]
    kind = settings.warehouse.partition(":")[0]
    parts = [project_fingerprint(), kind, sys.version, *versions]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return settings.dbt_target_dir / f"parsed-{digest}.msgpack"


def build(
    settings: Settings,
    from_as_of: date,
    to_as_of: date,
    assets: tuple[str, ...],
    *,
    lock: int,
    full_refresh: bool = False,
) -> list[DbtResult]:
    """Build every model for the range and run its data tests, under the warehouse lock that the caller holds as descriptor ``lock``.

    Raises ``DbtError`` when a model fails; failed data tests are in the results.
    """
    variables = {
        "from_date": from_as_of.isoformat(),
        "to_date": to_as_of.isoformat(),
        "decision_offset_minutes": settings.decision_offset_minutes,
        "rv_interval": settings.rv_interval,
        "assets": list(assets),
    }
    arguments = ["build", "--exclude-resource-type", "unit_test", "--vars", json.dumps(variables)]
    if full_refresh:
        arguments.append("--full-refresh")
    results_path = settings.dbt_target_dir / "run_results.json"
    _make_way(results_path)
    if (parsed := parsed_file(settings)).exists() and not parsed.is_file():
        _make_way(parsed)
    for number in range(1, TRIES + 1):
        output = _run(settings, arguments, lock, may_fail=True)
        if number == TRIES or not _lost_a_race(settings, results_path, output):
            break
        logger.info("another writer of the lake was first (try %d): dbt runs again", number)
        results_path.unlink(missing_ok=True)
    if not results_path.exists():
        raise DbtError(f"dbt stopped before it ran anything:\n{output[-4000:]}")
    results = [
        DbtResult(
            unique_id=item["unique_id"],
            status=item["status"],
            message=str(item.get("message") or ""),
            failures=int(item.get("failures") or 0),
            seconds=float(item.get("execution_time") or 0),
        )
        for item in json.loads(results_path.read_text())["results"]
    ]
    broken = [
        item
        for item in results
        if item.unique_id.startswith("model.") and item.status in ("error", "skipped")
    ]
    if broken:
        raise DbtError(
            "\n".join(f"{item.unique_id}: {item.status}: {item.message}" for item in broken)
            + "\n"
            + output[-2000:]
        )
    return results


def _lost_a_race(settings: Settings, results: Path, output: str) -> bool:
    """Whether dbt failed for no reason but another home's commit: the same run may succeed when repeated, for it deletes the window that it writes."""
    storage = Warehouse(settings).storage
    if not storage.is_shared:
        return False
    if not results.exists():
        return storage.is_conflict(RuntimeError(output))
    failed = [
        item for item in json.loads(results.read_text())["results"] if item["status"] == "error"
    ]
    return bool(failed) and all(
        storage.is_conflict(RuntimeError(str(item.get("message")))) for item in failed
    )


def _run(settings: Settings, arguments: list[str], lock: int, *, may_fail: bool = False) -> str:
    command = [
        sys.executable,
        "-W",
        "ignore::RuntimeWarning:runpy",
        "-m",
        "orchestration.dbt_child",
        str(parsed_file(settings)),
        *arguments,
        "--project-dir",
        str(TRANSFORMS_DIR),
        "--profiles-dir",
        str(TRANSFORMS_DIR),
        "--target-path",
        str(settings.dbt_target_dir),
        "--log-path",
        str(settings.dbt_target_dir / "logs"),
        "--log-level-file",
        "info",  # the SQL as it was sent lies under compiled/ and run/
        "--no-use-colors",
        "--no-partial-parse",
    ]
    environment = {
        **without_secrets(os.environ),
        **Warehouse(settings).storage.dbt_environment(),
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH")))
        ),
        "VOLCAST_MEMORY_LIMIT": settings.memory_limit,
        "VOLCAST_SPILL_DIR": str(settings.spill_dir()),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "TZ": "UTC",
        **{f"DBT_ENV_CUSTOM_ENV_{name}": value for name, value in current_run().items()},
    }
    with subprocess.Popen(
        command,
        env=environment,
        cwd=TRANSFORMS_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),  # a dbt that outlives us keeps the lock until it has ended
    ) as process:
        lines = [line for line in process.stdout or () if _note(line)]
    output = "".join(lines)
    if process.returncode != 0 and not may_fail:
        raise DbtError(f"dbt {arguments[0]} failed:\n{output[-4000:]}")
    return output


def _note(line: str) -> bool:
    """Log what dbt printed; True, for the line is kept."""
    text = line.strip()
    if any(word in text for word in ("ERROR", "Error", "FAIL ")) and "ERROR=0" not in text:
        level = logging.ERROR
    elif " WARN " in text or "[WARNING]" in text:
        level = logging.WARNING
    else:
        level = logging.DEBUG if " of " in text else logging.INFO
    if text:
        logger.log(level, "%s", text, extra={"event": "dbt"})
    return True


def _is_source(file: Path) -> bool:
    ignored = {"target", "logs", "dbt_packages"}
    return (
        file.is_file()
        and file.suffix in {".sql", ".yml", ".yaml", ".md"}
        and not ignored & set(file.relative_to(TRANSFORMS_DIR).parts)
    )
