"""Backups of a home, and a home out of a backup.

In: a home while nothing writes to it, held by the warehouse lock. Out: a folder with a manifest of every file's size and SHA-256; or, from such a
folder, an empty home filled whole. Never: a file copy of an open database, a half-written folder under its final name, a secret.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.backup_files import (
    HALF,
    copy_folder,
    copy_warehouse,
    described,
    files_of,
    sync,
)
from orchestration.cleaning import FOLDER as RUN_LOCKS
from orchestration.disk_space import is_full
from orchestration.doctor.leftovers import started_runs
from orchestration.metrics.home import note_backup
from orchestration.settings import Settings
from orchestration.warehouse import LAYOUT_VERSION, Warehouse

MANIFEST = "manifest.json"
FORMAT = "volcast backup 1"
WAREHOUSE = "warehouse.duckdb"
FOLDERS = ("artifacts", "model_cards", "reports", "dagster")
"""Folders of a home that a backup keeps; the published copy and dbt's target are made anew by the next run."""
RESTORING = f".restore{HALF}"
"""Folder of an empty home in which a restore gathers the files; it is there exactly until the restore is done."""
LOCK = "warehouse.lock"
NOT_HELD = (LOCK, RESTORING, "logs", "metrics")
"""What an empty home may hold: the traces of a restore that failed or had to wait."""
MOVING = "moving"
"""File in the folder of a restore from when on files are moved out of it into their places."""


class BackupError(RuntimeError):
    """A backup cannot be made or restored; the message says why, and that nothing was changed."""


@dataclass(frozen=True)
class Backup:
    """A finished backup: its folder and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def artifacts_elsewhere(self) -> str:
        """Where the artefacts lie that this backup does not hold: VOLCAST_ARTIFACTS of then; empty where it holds them."""
        return str(self.manifest.get("artifacts", ""))

    @property
    def bytes(self) -> int:
        return sum(int(item["size"]) for item in self.manifest["files"].values())


def backup(settings: Settings, folder: Path) -> Backup:
    """Write a backup to ``folder``, which must not exist; nothing writes meanwhile. Raises ``BackupError``."""
    folder = folder.expanduser().resolve()
    if folder.exists():
        raise BackupError(f"{folder} exists: expected a new folder, a backup is never overwritten")
    if folder.is_relative_to(settings.home):
        raise BackupError(f"{folder} lies in the home {settings.home}: expected a place outside")
    if not Warehouse(settings).exists():
        address = Warehouse(settings).storage.address
        raise BackupError(f"no warehouse at {address}: nothing to back up")
    half = folder.with_name(f"{folder.name}{HALF}")
    with _whole_or_nothing(half, f"backup to {folder}"):
        with Warehouse(settings).lock(shared=True):  # keeps writers out, and lets readers in
            state = copy_warehouse(settings, half / WAREHOUSE)
            for name in FOLDERS:
                copy_folder(settings.home / name, half / name)
        manifest = {
            "format": FORMAT,
            "volcast": _version(),
            "layout": state["layout"],
            "source": state["source"],
            "home": str(settings.home),
            "artifacts": settings.artifacts,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {name: described(half / name) for name in files_of(half)},
        }
        (half / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
        sync(half, *half.rglob("*"))
        os.rename(half, folder)
        sync(folder.parent)
    note_backup(settings)
    return Backup(folder, manifest)


def verify(folder: Path) -> Backup:
    """The backup in a folder, every file's size and hash checked. Raises ``BackupError`` that names the first file that differs."""
    folder = folder.expanduser().resolve()
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        stated, files = manifest.get("format"), manifest.get("files")
    except (OSError, ValueError, AttributeError) as error:
        raise BackupError(
            f"{folder}: no readable {MANIFEST}, so not a finished backup ({error})"
        ) from None
    if stated != FORMAT or not isinstance(files, dict) or WAREHOUSE not in files:
        raise BackupError(f"{folder / MANIFEST}: format {stated!r}, expected {FORMAT!r} with its files")  # fmt: skip
    for name, expected in files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise BackupError(f"{folder / MANIFEST}: {name!r} lies outside the backup")
        try:
            found = described(path)
        except OSError as error:
            raise BackupError(f"{path}: {error.strerror}; the backup is damaged, use another") from None  # fmt: skip
        if found != expected:
            raise BackupError(f"{path}: {found}, the manifest says {expected}; the backup is damaged, use another")  # fmt: skip
    return Backup(folder, manifest)


def restore(settings: Settings, folder: Path) -> Backup:
    """Fill an empty home from a backup, whole or not at all. Raises ``BackupError``.

    The files are gathered in a folder of the home and moved into place with the warehouse last: killed before that, there is no warehouse
    yet, and the same command starts afresh. The home may be a mount point.
    """
    if settings.warehouse:
        raise BackupError(
            f"VOLCAST_WAREHOUSE={settings.warehouse}: a restore fills a home with a file; leave it empty, restore, then run "
            "`volcast migrate --to` a new lake (docs/lake.md)"
        )
    found, home = verify(folder), settings.home
    if found.folder.is_relative_to(home):
        raise BackupError(f"{found.folder} lies in the home {home}: move it out first")
    with Warehouse(settings).lock():  # who would write waits, and then finds what was restored
        _clear_unfinished(home)
        _require_empty(home)
        half = home / RESTORING
        with _whole_or_nothing(half, f"restore to {home}", lambda: _clear_unfinished(home)):
            _gather(settings, found, half)
            _require_empty(home)
            (half / MOVING).touch()
            sync(half)
            names = [path.name for path in half.iterdir() if path.name != MOVING]
            for name in sorted(names, key=lambda name: name == WAREHOUSE):
                os.rename(half / name, home / name)
        sync(home)
    return found


def _gather(settings: Settings, found: Backup, half: Path) -> None:
    """Make a whole home of a backup in the folder ``half``: files copied and compared, published, and its runs marked as dead."""
    for name, expected in found.manifest["files"].items():
        target = half / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.folder / name, target)
        if described(target) != expected:
            raise OSError(f"{target}: the copy differs from {found.folder / name}")
    for run_id, _ in started_runs(half / "dagster"):
        path = half / RUN_LOCKS / f"{run_id}.lock"  # nobody holds it: the next run tells Dagster
        path.parent.mkdir(exist_ok=True)
        path.touch()
    restored = Warehouse(settings.model_copy(update={"home": half}))
    with restored.write():
        pass  # an older layout gets what it lacks, a newer one is refused
    restored.publish()
    (half / LOCK).unlink()
    sync(half, *half.rglob("*"))


def _require_empty(home: Path) -> None:
    held = sorted(path.name for path in home.iterdir() if path.name not in NOT_HELD)
    if held:
        raise BackupError(
            f"{home} is not empty (it holds {', '.join(held[:3])}): restore into an empty home, named by VOLCAST_HOME"
        )


def keep_newest(folder: Path, count: int) -> list[Path]:
    """Delete all but ``count`` finished backups of the same home beside ``folder``, the newest and itself; returns what was deleted."""
    folder = folder.expanduser().resolve()
    home = _manifest(folder).get("home")
    made = [
        (path != folder, str(manifest["created_at"]), path)
        for path in folder.parent.iterdir()
        if not path.is_symlink() and (manifest := _manifest(path)) and manifest.get("home") == home
    ]
    others = [path for other, _, path in sorted(made, reverse=True) if other]
    old = others[count - 1 :]
    for path in old:
        (path / MANIFEST).unlink()  # first: what a kill leaves of it is no backup
        shutil.rmtree(path)
    return old


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished backup; empty where the folder is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    finished = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if finished else {}


def _clear_unfinished(home: Path) -> None:
    """Take away what a restore that was stopped left in a home that has no warehouse yet."""
    half = home / RESTORING
    if not half.is_dir() or (home / WAREHOUSE).exists():
        return
    if (half / MOVING).exists():  # else whatever is there is not the restore's
        for name in (*FOLDERS, "published", RUN_LOCKS):
            if (home / name).exists():
                shutil.rmtree(home / name)
    shutil.rmtree(half)


@contextmanager
def _whole_or_nothing(
    half: Path, task: str, undo: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Make the folder ``half``; whatever stops the work leaves nothing of it, by ``undo`` first. What an earlier kill left goes first."""
    try:
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(parents=True)
        yield
    except BaseException as error:
        undo()
        shutil.rmtree(half, ignore_errors=True)
        if not isinstance(error, OSError | duckdb.Error | sqlite3.Error):
            raise
        reason = (
            f"no space for the files in {half.parent}: free some or choose another place"
            if is_full(str(error))
            else error
        )
        raise BackupError(f"{task} failed, nothing was kept: {reason}") from error
    else:
        shutil.rmtree(half, ignore_errors=True)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("volcast")
    except PackageNotFoundError:
        return f"not installed, layout {LAYOUT_VERSION}"
