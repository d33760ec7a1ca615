"""What a killed process leaves: temporary files, runs that Dagster holds for started, slots of its pools.

In: the folders of a home and Dagster's SQLite files, read-only. Out: findings of severity ``warning``: the run that follows clears these away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from orchestration.cleaning import (
    dead_runs,
    leftovers,
    of_writers,
    somebody_writes,
    warehouse_free,
)
from orchestration.doctor.finding import Finding
from orchestration.settings import Settings

CLEANED = "the next run clears it away; nothing is lost"
RUNNING = ("STARTED", "STARTING", "CANCELING")


def findings(settings: Settings) -> Iterator[Finding]:
    """Every invariant of this theme; they need no warehouse."""
    yield _files(settings)
    yield _runs(settings)
    yield _slots(settings)


def _files(settings: Settings) -> Finding:
    busy = somebody_writes(settings)
    left = [] if busy else sorted(map(str, leftovers(settings)))
    with warehouse_free(settings) as free:
        left += sorted(map(str, of_writers(settings))) if free else []
    return Finding(
        "temporary-files",
        "no unfinished file of a process that has ended lies in the home",
        not left,
        1,
        len(left),
        left[0] if left else "",
        CLEANED if left else "",
        note="not looked at: a run is alive" if busy else "",
        severity="warning",
    )


def _runs(settings: Settings) -> Finding:
    dead = {run_id for run_id, _ in dead_runs(settings)}
    started = started_runs(settings.dagster_home)
    found = [
        f"run {run} is {status}, its process is gone" for run, status in started if run in dead
    ]
    return Finding(
        "dagster-runs",
        "no run counts as started whose process is gone",
        not found,
        len(started),
        len(found),
        found[0] if found else "",
        CLEANED if found else "",
        severity="warning",
    )


def started_runs(dagster_home: Path) -> list[tuple[str, ...]]:
    """Run id and status of every run that a process works on, as Dagster's files say."""
    return _rows(
        dagster_home / "history" / "runs.db",
        f"SELECT run_id, status FROM runs WHERE status IN ({', '.join('?' * len(RUNNING))})",
        list(RUNNING),
    )


def _slots(settings: Settings) -> Finding:
    folder = settings.dagster_home / "history"
    slots = _rows(
        folder / "runs" / "index.db",
        "SELECT concurrency_key, run_id, step_key FROM concurrency_slots WHERE run_id IS NOT NULL AND NOT deleted",
        [],
    )
    ended = {
        run_id
        for (run_id,) in _rows(
            folder / "runs.db",
            "SELECT run_id FROM runs WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED')",
            [],
        )
    }
    held = [
        f"pool {pool}: held by step {step} of run {run}, which has ended"
        for pool, run, step in slots
        if run in ended
    ]
    return Finding(
        "dagster-slots",
        "no slot of a pool is held by a run that has ended",
        not held,
        len(slots),
        len(held),
        held[0] if held else "",
        CLEANED if held else "",
        severity="warning",
    )


def _rows(path: Path, query: str, parameters: list[str]) -> list[tuple[str, ...]]:
    """Rows of one of Dagster's SQLite files, opened read-only; none where the file or the table is not there."""
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
