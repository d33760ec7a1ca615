"""A look at a home from outside of a run: for metrics, alerts and `volcast status`.

In: settings. Out: a read-only connection to the live warehouse, or, while a run is writing, to the published copy. Never waits for a writer, never makes a file.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from orchestration.lock_notes import holder
from orchestration.settings import Settings
from orchestration.warehouse import Locked, Warehouse, read_published

PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class View:
    """What was opened: ``writer`` names the run that is writing, where the published copy had to do, which may be older than what it writes."""

    connection: duckdb.DuckDBPyConnection
    writer: str | None = None


@contextmanager
def look(settings: Settings) -> Iterator[View | None]:
    """The home's tables; None where there are none yet. Raises ``WarehouseError`` where they cannot be opened."""
    warehouse = Warehouse(settings)
    if not warehouse.exists():
        yield None
        return
    with ExitStack() as opened:
        waits = not warehouse.storage.is_shared  # a lake's readers wait for nobody
        writer = who_writes(settings) if waits else None
        if writer is None:
            impatient = settings.model_copy(update={"lock_timeout_seconds": PATIENCE_SECONDS})
            try:
                connection = opened.enter_context(Warehouse(impatient).read())
            except Locked:  # somebody took the lock just now
                writer = who_writes(settings) or "another process"
        if writer is None:
            yield View(connection)
        elif settings.published_path.exists():
            yield View(opened.enter_context(read_published(settings)), writer)
        else:
            yield None


def who_writes(settings: Settings) -> str | None:
    """The process that holds the warehouse lock alone, in words; None where nobody does."""
    path = settings.lock_path
    if not path.exists():
        return None
    with path.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return holder(path)
    return None


def lock_age_seconds(settings: Settings) -> float:
    """How long ago the warehouse lock was last taken alone; 0 where it never was."""
    try:
        taken = settings.lock_path.stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, time.time() - taken)


def utc_now() -> datetime:
    """The present; one name, so that tests can move it."""
    return datetime.now(UTC)
