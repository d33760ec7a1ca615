"""The files of a backup: how each kind is copied, described and put on the disk.

In: files of a home while nothing writes to its warehouse. Out: copies. Never: a file copy of an open database.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from orchestration.settings import Settings
from orchestration.warehouse import CATALOG, attach, get_state, storage_of

HALF = ".part"


def copy_warehouse(settings: Settings, target: Path) -> dict[str, str]:
    """Copy tables, views and comments by DuckDB itself; the layout and the source of what was copied."""
    spill = target.with_name(f".spill{HALF}")  # beside the copy: there must be room for that anyway
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET memory_limit = ?", [settings.memory_limit])
        connection.execute("SET temp_directory = ?", [str(spill)])
        storage = storage_of(settings)
        storage.attach(connection, read_only=True)
        state = {key: get_state(connection, key) or "" for key in ("layout", "source")}
        attach(connection, target, "copied", read_only=False)
        connection.execute(f"COPY FROM DATABASE {CATALOG} TO copied")
        connection.execute("DETACH copied")
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)
    return state


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder less what is temporary; SQLite files through SQLite, which takes a consistent state of one that is open.

    A file that somebody removes or renames meanwhile is one that a backup some moments later would not have had.
    """
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
            try:
                (_copy_sqlite if name.endswith(".db") else shutil.copyfile)(path, here / name)
            except (FileNotFoundError, sqlite3.OperationalError):
                (here / name).unlink(missing_ok=True)
                if path.exists():
                    raise


def _copy_sqlite(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as held:  # noqa: SIM117
        with closing(sqlite3.connect(target)) as copy:
            held.backup(copy)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def described(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        return {
            "size": os.fstat(handle.fileno()).st_size,
            "sha256": hashlib.file_digest(handle, "sha256").hexdigest(),
        }


def sync(*paths: Path) -> None:
    """Put files and folders on the disk: a rename that outlives a power cut must not outlive what it names."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
