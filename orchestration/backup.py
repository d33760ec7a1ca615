"""Backups of a home, and a home out of a backup.

In: a home while nothing writes to it, held by the warehouse lock. Out: a folder with a manifest of every file's size and SHA-256; or, from such a
folder, an empty home filled whole. Never: a file copy of an open database, a half-written folder under its final name, a secret.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.metrics.home import note_backup
from orchestration.settings import Settings
from orchestration.warehouse import CATALOG, LAYOUT_VERSION, Warehouse, attach, get_state

MANIFEST = "manifest.json"
FORMAT = "volcast backup 1"
WAREHOUSE = "warehouse.duckdb"
FOLDERS = ("artifacts", "model_cards", "reports", "dagster")
"""Folders of a home that a backup keeps; the published copy and dbt's target are made anew by the next run."""
HALF = ".part"
RESTORING = f".restore{HALF}"
"""Folder of an empty home in which a restore gathers the files; it is there exactly until the restore is done."""
LOCK = "warehouse.lock"


class BackupError(RuntimeError):
    """A backup cannot be made or restored; the message says why, and that nothing was changed."""


@dataclass(frozen=True)
class Backup:
    """A finished backup: its folder and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

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
    if not settings.warehouse_path.is_file():
        raise BackupError(f"no warehouse at {settings.warehouse_path}: nothing to back up")
    half = folder.with_name(f"{folder.name}{HALF}")
    with _whole_or_nothing(half, f"backup to {folder}"):
        with Warehouse(settings).lock():
            state = _copy_warehouse(settings.warehouse_path, half / WAREHOUSE)
            for name in FOLDERS:
                _copy_folder(settings.home / name, half / name)
        manifest = {
            "format": FORMAT,
            "volcast": _version(),
            "layout": state["layout"],
            "source": state["source"],
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {name: _described(half / name) for name in _files(half)},
        }
        (half / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
        _sync(half, *half.rglob("*"))
        os.rename(half, folder)
        _sync(folder.parent)
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
            found = _described(path)
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
    found, home = verify(folder), settings.home
    if found.folder.is_relative_to(home):
        raise BackupError(f"{found.folder} lies in the home {home}: move it out first")
    _clear_unfinished(home)
    held = (
        sorted(path.name for path in home.iterdir() if path.name != LOCK) if home.exists() else []
    )
    if held:
        raise BackupError(
            f"{home} is not empty (it holds {', '.join(held[:3])}): restore into an empty home, named by VOLCAST_HOME"
        )
    half = home / RESTORING
    try:
        with _whole_or_nothing(half, f"restore to {home}"):
            for name, expected in found.manifest["files"].items():
                target = half / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.folder / name, target)
                if _described(target) != expected:
                    raise OSError(f"{target}: the copy differs from {found.folder / name}")
            restored = Warehouse(settings.model_copy(update={"home": half}))
            with restored.write():
                pass  # an older layout gets what it lacks, a newer one is refused
            restored.publish()
            _sync(half, *half.rglob("*"))
            (half / LOCK).unlink()
            for path in sorted(half.iterdir(), key=lambda path: path.name == WAREHOUSE):
                os.rename(path, home / path.name)
            _sync(home)
    except BaseException:
        _clear_unfinished(home)
        raise
    return found


def keep_newest(folder: Path, count: int) -> list[Path]:
    """Delete all but the ``count`` newest finished backups beside ``folder``; returns what was deleted."""
    made: list[tuple[str, Path]] = []
    for path in folder.expanduser().resolve().parent.iterdir():
        try:
            manifest = json.loads((path / MANIFEST).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            made.append((str(manifest["created_at"]), path))
    old = [path for _, path in sorted(made, reverse=True)[count:]]
    for path in old:
        (path / MANIFEST).unlink()  # first: what a kill leaves of it is no backup
        shutil.rmtree(path)
    return old


def _clear_unfinished(home: Path) -> None:
    """Take away what a restore that was stopped left in a home that has no warehouse yet."""
    if (home / RESTORING).is_dir() and not (home / WAREHOUSE).exists():
        for name in (*FOLDERS, "published", RESTORING):
            shutil.rmtree(home / name, ignore_errors=True)


@contextmanager
def _whole_or_nothing(half: Path, task: str) -> Iterator[None]:
    """Make the folder ``half``; whatever stops the work leaves nothing of it. What an earlier kill left goes first."""
    try:
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(parents=True)
        yield
    except (OSError, duckdb.Error, sqlite3.Error) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
            text in str(error).lower() for text in ("no space left", "disk is full", "disk full")
        )
        reason = (
            f"no space left on {half.parent}: free some or choose another place" if full else error
        )
        raise BackupError(f"{task} failed, nothing was kept: {reason}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _copy_warehouse(source: Path, target: Path) -> dict[str, str]:
    """Copy tables, views and comments by DuckDB itself; the layout and the source of what was copied."""
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        attach(connection, source, CATALOG, read_only=True)
        state = {key: get_state(connection, key) or "" for key in ("layout", "source")}
        attach(connection, target, "copied", read_only=False)
        connection.execute(f"COPY FROM DATABASE {CATALOG} TO copied")
        connection.execute("DETACH copied")
    finally:
        connection.close()
    return state


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder less what is temporary; SQLite files through SQLite, which takes a consistent state of one that is open."""
    if not source.is_dir():
        return
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.endswith(HALF))
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in sorted(files):
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file() or name.endswith((HALF, "-wal", "-shm", "-journal")):  # fmt: skip
                continue
            if name.endswith(".db"):
                _copy_sqlite(path, here / name)
            else:
                shutil.copyfile(path, here / name)


def _copy_sqlite(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as held:  # noqa: SIM117
        with closing(sqlite3.connect(target)) as copy:
            held.backup(copy)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        return {
            "size": os.fstat(handle.fileno()).st_size,
            "sha256": hashlib.file_digest(handle, "sha256").hexdigest(),
        }


def _sync(*paths: Path) -> None:
    """Put files and folders on the disk: a rename that outlives a power cut must not outlive what it names."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("volcast")
    except PackageNotFoundError:
        return f"not installed, layout {LAYOUT_VERSION}"
