"""What a killed process leaves: temporary files, runs that Dagster holds for started, slots of its pools.

In: the folders of a home and Dagster's SQLite files, read-only. Out: findings of severity ``warning``: the run that follows clears these away.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from orchestration.doctor.finding import Finding
from orchestration.settings import Settings

CLEANED = "the next run clears it away; nothing is lost"
RUNNING = ("STARTED", "STARTING", "CANCELING")
PROCESS_TAG = "volcast/process"
"""Tag of a run with the process that runs it: pid, and its start in clock ticks since boot."""
_OF_A_PROCESS = re.compile(r"\.(\d+)(\.wal)?$")
_DUCKDB_SPILL = ".duckdb.tmp"


def findings(settings: Settings) -> Iterator[Finding]:
    """Every invariant of this theme; they need no warehouse."""
    yield _files(settings)
    yield _runs(settings)
    yield _slots(settings)


def _files(settings: Settings) -> Finding:
    left = sorted(str(path.relative_to(settings.home)) for path in temporary_files(settings.home))
    return Finding(
        "temporary-files",
        "no temporary file of a process that has ended lies in the home",
        not left,
        1,
        len(left),
        left[0] if left else "",
        CLEANED if left else "",
        severity="warning",
    )


def temporary_files(home: Path) -> Iterator[Path]:
    """Files and folders that a process which has ended was writing: named after it, unfinished parts, DuckDB's spill folder."""
    for folder, folders, files in os.walk(home):
        here = Path(folder)
        if here == home / "dagster":
            folders[:] = []
            files = [name for name in files if name.startswith("dagster.")]
        for name in [*files, *folders]:
            path = here / name
            if _abandoned(path):
                yield path
        folders[:] = [name for name in folders if not name.endswith((".part", _DUCKDB_SPILL))]


def _abandoned(path: Path) -> bool:
    found = _OF_A_PROCESS.search(path.name)
    if found:
        return not process_lives(int(found.group(1)))
    return path.name.endswith(".part") or (
        path.name.endswith(_DUCKDB_SPILL) and any(path.iterdir())
    )


def process_lives(pid: int, started: str = "") -> bool:
    """Whether a process runs, and is the one that started then."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return False
    return fields[0] != "Z" and (not started or fields[19] == started)


def _runs(settings: Settings) -> Finding:
    started = _rows(
        settings.dagster_home / "history" / "runs.db",
        'SELECT r.run_id, r.status, t.value FROM runs r LEFT JOIN run_tags t ON t.run_id = r.run_id AND t."key" = ? '
        f"WHERE r.status IN ({', '.join('?' * len(RUNNING))})",
        [PROCESS_TAG, *RUNNING],
    )
    dead = [
        f"run {run_id} is {status}, its process {process.split()[0]} is gone"
        for run_id, status, process in started
        if process and not process_lives(int(process.split()[0]), process.partition(" ")[2])
    ]
    return Finding(
        "dagster-runs",
        "no run counts as started whose process is gone",
        not dead,
        len(started),
        len(dead),
        dead[0] if dead else "",
        CLEANED if dead else "",
        severity="warning",
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
