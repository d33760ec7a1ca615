"""What a killed process leaves: temporary files, runs that Dagster holds for started, slots of its pools.

In: the folders of a home and Dagster's tables, read-only. Out: findings of severity ``warning``: the run that follows clears these away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestration.cleaning import (
    dead_runs,
    leftovers,
    of_writers,
    somebody_writes,
    warehouse_free,
)
from orchestration.dagster_database import of_file, rows
from orchestration.doctor.finding import Finding
from orchestration.settings import Settings

CLEANED = "the next run clears it away; nothing is lost"
STARTED = "SELECT run_id, status FROM runs WHERE status IN ('STARTED', 'STARTING', 'CANCELING')"


def findings(settings: Settings) -> Iterator[Finding]:
    """Every invariant of this theme; they need no warehouse."""
    yield _files(settings)
    yield _runs(settings)
    yield _slots(settings)


def _told(name: str, meaning: str, checked: int, left: list[str], note: str = "") -> Finding:
    """A warning that holds where nothing is ``left``, and else shows the first of it."""
    example, advice = (left[0], CLEANED) if left else ("", "")
    return Finding(
        name, meaning, not left, checked, len(left), example, advice, note, severity="warning"
    )


def _files(settings: Settings) -> Finding:
    busy = somebody_writes(settings)
    left = [] if busy else sorted(map(str, leftovers(settings)))
    with warehouse_free(settings) as free:
        left += sorted(map(str, of_writers(settings))) if free else []
    meaning = "no unfinished file of a process that has ended lies in the home"
    note = "not looked at: a run is alive" if busy else ""
    return _told("temporary-files", meaning, 1, left, note)


def _runs(settings: Settings) -> Finding:
    dead = {run_id for run_id, _ in dead_runs(settings)}
    started = rows(settings, "history/runs.db", STARTED)
    found = [
        f"run {run} is {status}, its process is gone" for run, status in started if run in dead
    ]
    meaning = "no run counts as started whose process is gone"
    return _told("dagster-runs", meaning, len(started), found)


def started_runs(dagster_home: Path) -> list[tuple[str, ...]]:
    """Run id and status of every run that a process works on, as the files of a backup say."""
    return of_file(dagster_home / "history" / "runs.db", STARTED)


def _slots(settings: Settings) -> Finding:
    slots = rows(
        settings,
        "history/runs/index.db",
        "SELECT concurrency_key, run_id, step_key FROM concurrency_slots WHERE run_id IS NOT NULL AND NOT deleted",
    )
    ended = {
        run_id
        for (run_id,) in rows(
            settings,
            "history/runs.db",
            "SELECT run_id FROM runs WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED')",
        )
    }
    held = [
        f"pool {pool}: held by step {step} of run {run}, which has ended"
        for pool, run, step in slots
        if run in ended
    ]
    meaning = "no slot of a pool is held by a run that has ended"
    return _told("dagster-slots", meaning, len(slots), held)
