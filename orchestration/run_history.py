"""Past runs of a home, read from Dagster's own SQLite files without loading Dagster.

In: settings. Out: runs, newest first, and how long their stages took. It answers in milliseconds, and also when Dagster or the warehouse cannot be opened;
a test holds what it reads equal to what Dagster says. Never writes, never raises where there is no run yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.settings import Settings

DAY_TAG = "dagster/partition"
FIRST_TAG = "dagster/asset_partition_range_start"
LAST_TAG = "dagster/asset_partition_range_end"
RUNNING = ("STARTING", "STARTED", "CANCELING")
FAILED = ("FAILURE", "CANCELED")
SUCCEEDED = "SUCCESS"


@dataclass(frozen=True)
class PastRun:
    """One Dagster run. ``first`` and ``last`` are its as_of days; None for a job without days, such as capture."""

    run_id: str
    job: str
    status: str
    first: date | None
    last: date | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def seconds(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def days(self) -> str:
        """Its as_of days as people write them; empty for a job without."""
        if self.first is None or self.last is None:
            return ""
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    def made_good(self, others: Iterable[PastRun]) -> bool:
        """Whether later ones of ``others`` succeeded at the same job for all of its days together."""
        later = [
            run
            for run in others
            if run.job == self.job and run.status == SUCCEEDED and run.created_at >= self.created_at
        ]
        if self.first is None or self.last is None:
            return bool(later)
        missing = self.first
        for first, last in sorted(
            (run.first, run.last) for run in later if run.first is not None and run.last is not None
        ):
            if first <= missing <= last:
                missing = last + timedelta(days=1)
        return missing > self.last


def past_runs(settings: Settings, *, most: int = 200) -> list[PastRun]:
    """The newest ``most`` runs, newest first."""
    rows = _query(
        settings.dagster_home / "history" / "runs.db",
        f"""
        SELECT r.run_id, r.pipeline_name, r.status, r.create_timestamp, r.start_time, r.end_time,
            max(CASE t.key WHEN '{DAY_TAG}' THEN t.value END), max(CASE t.key WHEN '{FIRST_TAG}' THEN t.value END),
            max(CASE t.key WHEN '{LAST_TAG}' THEN t.value END)
        FROM (SELECT * FROM runs ORDER BY id DESC LIMIT ?) r LEFT JOIN run_tags t ON t.run_id = r.run_id
        GROUP BY r.id ORDER BY r.id DESC
        """,
        [most],
    )
    return [
        PastRun(
            run_id, job, status, _day(day or first), _day(day or last),
            datetime.fromisoformat(created).replace(tzinfo=UTC), _instant(start), _instant(end),
        )
        for run_id, job, status, created, start, end, day, first, last in rows
    ]  # fmt: skip


def stage_seconds(settings: Settings, run_id: str) -> dict[str, float]:
    """Seconds of each stage of a run by its Dagster step key, from its first start to its last end."""
    rows = _query(
        settings.dagster_home / "history" / "runs" / f"{run_id}.db",
        """
        SELECT step_key, 86400 * (julianday(max(CASE WHEN dagster_event_type IN ('STEP_SUCCESS', 'STEP_FAILURE') THEN timestamp END))
            - julianday(min(CASE WHEN dagster_event_type = 'STEP_START' THEN timestamp END)))
        FROM event_logs WHERE dagster_event_type IN ('STEP_START', 'STEP_SUCCESS', 'STEP_FAILURE') GROUP BY step_key ORDER BY step_key
        """,
        [],
    )
    return {step: round(seconds, 3) for step, seconds in rows if seconds is not None}


def _query(path: Path, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    if not path.is_file():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        try:
            return connection.execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # another process is just making the file
                return []
            raise


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
