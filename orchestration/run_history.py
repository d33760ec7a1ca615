"""Past runs of a home, read from Dagster's own tables without loading Dagster.

In: settings. Out: runs, newest first, and how long their stages took. It answers in milliseconds, and also when Dagster or the warehouse cannot be opened;
a test holds what it reads equal to what Dagster says. Never writes, never raises where there is no run yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from orchestration.dagster_database import rows
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
    found = rows(
        settings,
        "history/runs.db",
        f"""
        SELECT r.run_id, r.pipeline_name, r.status, r.create_timestamp, r.start_time, r.end_time,
            max(CASE t.key WHEN '{DAY_TAG}' THEN t.value END), max(CASE t.key WHEN '{FIRST_TAG}' THEN t.value END),
            max(CASE t.key WHEN '{LAST_TAG}' THEN t.value END)
        FROM (SELECT * FROM runs ORDER BY id DESC LIMIT ?) r LEFT JOIN run_tags t ON t.run_id = r.run_id
        GROUP BY r.id, r.run_id, r.pipeline_name, r.status, r.create_timestamp, r.start_time, r.end_time ORDER BY r.id DESC
        """,
        [most],
    )
    return [
        PastRun(
            run_id, job, status, _day(day or first), _day(day or last), _utc(created), _instant(start), _instant(end),
        )
        for run_id, job, status, created, start, end, day, first, last in found
    ]  # fmt: skip


def stage_seconds(settings: Settings, run_id: str) -> dict[str, float]:
    """Seconds of each stage of a run by its Dagster step key, from its first start to its last end."""
    found = rows(
        settings,
        f"history/runs/{run_id}.db",
        """
        SELECT step_key, min(CASE WHEN dagster_event_type = 'STEP_START' THEN timestamp END),
            max(CASE WHEN dagster_event_type IN ('STEP_SUCCESS', 'STEP_FAILURE') THEN timestamp END)
        FROM event_logs WHERE run_id = ? AND dagster_event_type IN ('STEP_START', 'STEP_SUCCESS', 'STEP_FAILURE')
        GROUP BY step_key ORDER BY step_key
        """,
        [run_id],
    )
    return {
        step: round((_utc(end) - _utc(start)).total_seconds(), 3)
        for step, start, end in found
        if start is not None and end is not None
    }


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _utc(value: str | datetime) -> datetime:
    """An instant as the two databases give it: a text or a datetime, of UTC without saying so."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC)
