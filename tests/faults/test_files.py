"""Files that cannot be read, or hold something else: a clear error or a repair, never a wrong number."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.homes import Boundaries, copy_home, fingerprint
from tests.faults.invariants import broken_invariants
from tests.faults.kills import same

pytestmark = pytest.mark.faults


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _write(path, bytes(content))


def truncate(path: Path) -> None:
    _write(path, path.read_bytes()[: path.stat().st_size // 2])


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def empty(path: Path) -> None:
    _write(path, b"")


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.chmod(0)


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def _newest(home: Path, pattern: str) -> Path:
    return max(home.glob(pattern))


BREAKS = (flip, truncate, directory, dangling, empty, unreadable)
HEALS = {
    "manifest": ("dbt", "dbt/manifest.json", (truncate, directory, dangling, empty)),
    "published": ("publishing", "published/volcast.duckdb", (flip, truncate, dangling, empty)),
    "snapshot": ("training", "artifacts/snapshots/*/daily.parquet", (truncate, empty)),
    "results": ("training", "artifacts/models/results-*.json", (truncate, empty)),
}
"""Made anew by the stage that needs them."""
FAILS = {
    "artefact": ("forecasting", "artifacts/models/harx_cal/*/model.safetensors", BREAKS),
    "document": ("forecasting", "artifacts/models/harx_cal/*/model.json", BREAKS),
    "lock": ("prices", "warehouse.lock", (directory,)),
    "dagster": ("prices", "dagster/history/runs.db", (truncate, directory)),
    "published": ("publishing", "published/volcast.duckdb", (directory,)),
    "warehouse": ("prices", "warehouse.duckdb", (directory, truncate)),
}
"""Nothing else holds them: an error that names the place, and nothing changed."""


def _cases(named: dict[str, tuple[str, str, tuple[Callable[[Path], None], ...]]]) -> list[object]:
    return [
        pytest.param(stage, pattern, damage, id=f"{name}-{damage.__name__}")
        for name, (stage, pattern, damages) in named.items()
        for damage in damages
    ]


@pytest.mark.parametrize(("stage", "pattern", "damage"), _cases(HEALS))
def test_what_can_be_made_again_is_made_again(
    boundaries: Boundaries, tmp_path: Path, stage: str, pattern: str, damage: Callable[[Path], None]
) -> None:
    boundaries.finished(stage)
    path = copy_home(boundaries.before(stage), tmp_path / "home")
    damage(_newest(path, pattern))
    outcome = boundaries.run(path, stage)
    assert outcome.status == 0, outcome.errors
    home = boundaries.home(path)
    same(fingerprint(home), boundaries.after[stage], "tables")
    assert broken_invariants(home) == []


@pytest.mark.parametrize(("stage", "pattern", "damage"), _cases(FAILS))
def test_what_nothing_else_holds_is_an_error_that_names_it_and_changes_nothing(
    boundaries: Boundaries, tmp_path: Path, stage: str, pattern: str, damage: Callable[[Path], None]
) -> None:
    boundaries.finished(stage)
    path = copy_home(boundaries.before(stage), tmp_path / "home")
    place = _newest(path, pattern)
    aside = shutil.copy2(place, tmp_path / "aside")
    before = fingerprint(boundaries.home(path))
    damage(place)
    outcome = boundaries.run(path, stage)
    assert outcome.status != 0, f"{stage} went on with {place}"
    assert place.name in "\n".join(outcome.errors), outcome.errors
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
    shutil.copy2(aside, place)  # as from a backup
    home = boundaries.home(path)
    same(fingerprint(home), before, "tables")
    again = boundaries.run(path, stage)
    assert again.status == 0, again.errors
    same(fingerprint(home), boundaries.after[stage], "tables")


def test_a_log_of_changes_that_is_cut_short_is_no_lost_warehouse(
    boundaries: Boundaries, tmp_path: Path
) -> None:
    """Half of a write-ahead log, as a power cut leaves it: what was committed before it is there."""
    boundaries.finished("prices")
    path = copy_home(boundaries.before("prices"), tmp_path / "home")
    home = boundaries.home(path)
    before = fingerprint(home)
    wal = path / "warehouse.duckdb.wal"
    wal.write_bytes(b"\x00" * 100)
    outcome = boundaries.run(path, "prices")
    if outcome.status != 0:
        assert wal.name in "\n".join(outcome.errors) or "warehouse.duckdb" in "\n".join(outcome.errors)  # fmt: skip
        wal.unlink(missing_ok=True)
        same(fingerprint(home), before, "tables")
        assert boundaries.run(path, "prices").status == 0
    same(fingerprint(home), boundaries.after["prices"], "tables")
