"""`volcast doctor`: does what the platform promises of its tables hold in this home?

In: settings. Out: ``Finding``s, one per invariant, in the order in which they are worth reading. Never: a write to the home; it reads the warehouse
under the shared lock, so that no run writes meanwhile, and builds features anew (``deep``) after it has let go of it. A broken file is a finding, not a traceback.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

import duckdb

from orchestration.doctor import (
    append_only,
    forecasts,
    leftovers,
    lineage,
    point_in_time,
    raw,
    rebuilt,
    storage,
)
from orchestration.doctor.finding import RESTORE, CannotLook, Count, Finding, Invariant, Look
from orchestration.settings import Settings
from orchestration.warehouse import LAYOUT_VERSION, Warehouse, WarehouseError, get_state

__all__ = ["CannotLook", "Finding", "broken", "examine"]

OPENS = Invariant("warehouse", "the warehouse opens and its pages can be read", RESTORE)
INVARIANTS = (
    *storage.INVARIANTS,
    *point_in_time.INVARIANTS,
    *lineage.INVARIANTS,
    *forecasts.INVARIANTS,
    *append_only.INVARIANTS,
    *raw.INVARIANTS,
)


def broken(findings: Sequence[Finding]) -> list[Finding]:
    """Critical invariants that do not hold; leftovers, which the next run clears away, are not among them."""
    return [item for item in findings if not item.holds and item.severity == "critical"]


def examine(
    settings: Settings,
    *,
    deep: bool = False,
    days: Sequence[date] = (),
    progress: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Look at every invariant; ``deep`` also builds the features of ``days`` (a sample where there are none) anew.

    Raises ``CannotLook`` where there is no warehouse, or a run goes on writing for longer than the lock's timeout.
    """
    found: list[Finding] = []
    for item in _findings(settings, deep, tuple(days)):
        found.append(item)
        if progress:
            progress(item)
    return found


def _findings(settings: Settings, deep: bool, days: tuple[date, ...]) -> Iterator[Finding]:
    path = Warehouse(settings).storage.address
    try:
        is_made = Warehouse(settings).exists()
    except WarehouseError as error:
        raise CannotLook(str(error)) from error
    if not is_made:
        raise CannotLook(
            f"no warehouse at {path}: run `volcast demo`, or name the home with VOLCAST_HOME"
        )
    try:
        yield from leftovers.findings(settings)
    except (sqlite3.Error, ValueError) as error:
        yield Finding(
            "dagster",
            "Dagster's own files can be read",
            False,
            1,
            1,
            f"{settings.dagster_home}: {error}",
            f"runs would not start: {RESTORE}, or delete the folder; only the history of runs is lost",
        )
    with ExitStack() as scratch:
        rebuild: Callable[[], Finding] | None = None
        try:
            with (
                Warehouse(settings).read() as connection,
                tempfile.TemporaryDirectory() as spill,
            ):
                connection.execute("SET temp_directory = ?", [spill])
                look = _look(settings, connection, deep, days)
                yield OPENS.finding(Count(len(look.tables)))
                yield from _of_tables(look)
                if deep:
                    rebuild = rebuilt.prepare(look, scratch.enter_context(_beside(settings)))
        except WarehouseError as error:
            if isinstance(error.__cause__, duckdb.Error):
                yield OPENS.finding(Count(1, 1, str(error)))
                return
            raise CannotLook(str(error)) from error
        except duckdb.Error as error:
            yield OPENS.finding(Count(1, 1, f"{path}: {str(error).strip().splitlines()[0]}"))
        if rebuild is not None:
            try:
                finding = rebuild()
            except (duckdb.Error, RuntimeError) as error:
                raise CannotLook(f"features cannot be built anew: {error}") from error
            yield finding


def _of_tables(look: Look) -> Iterator[Finding]:
    """What the tables of the warehouse say."""
    whole = False
    for invariant in INVARIANTS:
        try:
            finding = invariant(look)
        except (duckdb.BinderException, duckdb.CatalogException):
            if whole and look.layout == LAYOUT_VERSION:
                raise  # a query of our own is wrong
            finding = invariant.finding(Count(note="not looked at: a column is missing"))
        whole = whole or (invariant is storage.LAYOUT and finding.holds)
        yield finding


@contextmanager
def _beside(settings: Settings) -> Iterator[Path]:
    """A folder on the disk of the home, which has room for much, unless nobody may write there."""
    parent = settings.home.parent
    place = parent if os.access(parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="volcast-doctor-", dir=place) as folder:
        yield Path(folder)


def _look(
    settings: Settings, connection: duckdb.DuckDBPyConnection, deep: bool, days: tuple[date, ...]
) -> Look:
    tables = frozenset(
        str(row[0])
        for row in connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall()
    )
    layout = (get_state(connection, "layout") or "") if "meta.state" in tables else ""
    built = json.loads(get_state(connection, "features_built") or "{}") if layout else {}
    offset = settings.decision_offset_minutes
    if built:
        offset = int(json.loads(built["fingerprint"])[1])  # what the stored rows were built with
    values = {"offset": offset, "days": 100_000 if deep else point_in_time.DAYS}
    return Look(settings, connection, layout, tables, deep, days, values)
