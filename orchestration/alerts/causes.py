"""What is wrong with a home at this moment, as causes of alerts.

In: settings and the time. Out: ``Cause`` objects, worst first: failed and hung runs, forecasts that are late, closed gates, stale streams, space, clock, a home that does
not open, and, as information, drift and changes of leader. Reads run history, tables and the disk; never sends, never writes, never needs Dagster.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import duckdb

from orchestration.alerts.ledger import Ledger, read_ledger
from orchestration.due_days import due_day, is_kept_current
from orchestration.metrics.tables import (
    NEWEST_VERDICTS,
    STALE_STREAM,
    clock_ahead_seconds,
    newest_as_of,
)
from orchestration.observing import lock_age_seconds, look
from orchestration.run_history import FAILED, RUNNING, PastRun, past_runs
from orchestration.settings import Settings
from orchestration.warehouse import (
    LAYOUT_VERSION,
    PREVIOUS_LAYOUTS,
    Warehouse,
    WarehouseError,
    get_state,
)

SEVERITIES = ("critical", "warning", "info")
KINDS_OF_TABLES = ("home", "late", "gate", "stale", "clock", "decision")
KINDS = ("run", "start", "hung", "disk", *KINDS_OF_TABLES)
"""What a key begins with."""
FAILED_RUN_DAYS = 7
"""A failed run that nobody made good is a cause for so long."""
MOST_RUNS = 2000
"""Runs that are looked at: a week of captures, and what else ran in it."""
HUNG_HOURS = 6
LEAST_FREE_BYTES = 2**30
CLOCK_SECONDS = 300


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong. ``key`` stays the same while it lasts; ``section`` is its place in the runbook."""

    key: str
    severity: str
    title: str
    todo: str
    section: str
    day: str = ""
    since: datetime | None = None
    lines: tuple[str, ...] = ()
    run_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        since = self.since.isoformat(timespec="seconds") if self.since else None
        return {**asdict(self), "since": since, "lines": list(self.lines)}

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Cause:
        """What ``as_dict`` gave, perhaps by another version of volcast. Raises KeyError where a part is missing."""
        kept = {item.name: value[item.name] for item in fields(cls)}
        since = datetime.fromisoformat(kept["since"]) if kept["since"] else None
        return cls(**{**kept, "since": since, "lines": tuple(kept["lines"])})


@dataclass(frozen=True)
class Survey:
    """What holds now, worst first. While a run writes, the tables are read from the published copy, which is of the day before: what they say is then neither begun
    (``begins``) nor over (``ends``). Tables that cannot be read end nothing either."""

    causes: list[Cause]
    begins: bool = True
    ends: bool = True

    def may_begin(self, key: str) -> bool:
        return self.begins or not _is_of_tables(key)

    def may_end(self, key: str) -> bool:
        return self.ends or not _is_of_tables(key)


def _is_of_tables(key: str) -> bool:
    return key.partition(":")[0] in KINDS_OF_TABLES


def open_causes(settings: Settings, now: datetime) -> list[Cause]:
    """Every cause that holds at ``now``, worst first. A home that no run has written to has none."""
    return survey(settings, now).causes


def survey(settings: Settings, now: datetime) -> Survey:
    """Every cause that holds at ``now``, and which of them may be told.

    A writer that has held the lock for longer than others wait for it (``VOLCAST_LOCK_TIMEOUT_SECONDS``) may well hang: then what the copy says begins.
    """
    runs = past_runs(settings, most=MOST_RUNS)
    found = [*_of_runs(runs, now), *_space(settings)]
    found += [Cause.of_dict(value) for value in still_raised(read_ledger(settings), runs).values()]
    begins = ends = True
    try:
        with look(settings) as view:
            if view is None:
                begins = ends = not Warehouse(settings).exists()
            else:
                ends = view.writer is None
                begins = ends or lock_age_seconds(settings) > settings.lock_timeout_seconds
                for part in _OF_TABLES:
                    found += part(view.connection, settings, now)
    except (WarehouseError, duckdb.Error) as error:
        ends = False
        found.append(_broken(settings, str(error)))
    found.sort(key=lambda cause: (SEVERITIES.index(cause.severity), cause.key))
    return Survey(found, begins, ends)


def still_raised(ledger: Ledger, runs: Sequence[PastRun]) -> dict[str, dict[str, Any]]:
    """The raised causes but those of a job that has been run since, by the command line or the daemon."""
    return {
        key: value
        for key, value in ledger.raised.items()
        if not any(
            f"start:{run.job}" == key and run.created_at > datetime.fromisoformat(value["since"])
            for run in runs
        )
    }


def _broken(settings: Settings, error: str) -> Cause:
    return Cause(
        "home", "critical", f"the warehouse of {settings.home} cannot be opened",
        "look with `volcast status`; restore the newest backup if the file is damaged", "home-damaged", lines=(error,),
    )  # fmt: skip


def _of_runs(runs: Sequence[PastRun], now: datetime) -> Iterator[Cause]:
    seen: set[str] = set()
    for position, run in enumerate(runs):  # newest first
        key = f"run:{run.job}:{run.days}"
        if run.status in FAILED and key not in seen:
            recent = now - run.created_at < timedelta(days=FAILED_RUN_DAYS)
            if recent and not run.made_good(runs[:position]):
                yield _failed(key, run)
        seen.add(key)
    for run in runs:
        since = run.started_at or run.created_at
        if run.status in RUNNING and now - since > timedelta(hours=HUNG_HOURS):
            yield Cause(
                f"hung:{run.run_id}", "warning", f"{run.job} {run.days} has been running for more than {HUNG_HOURS} hours".replace("  ", " "),
                "see whether its process lives and writes (`volcast status`); end it, and run the day again", "hung-run",
                day=run.days, since=since, lines=(f"run {run.run_id}",),
            )  # fmt: skip


def _failed(key: str, run: PastRun) -> Cause:
    how = "was canceled" if run.status == "CANCELED" else "failed"
    return Cause(
        key, "critical" if run.job == "daily" else "warning", f"{run.job} {run.days} {how}".replace("  ", " "),
        f"read the reason; mend it; run {_again(run)} again: it goes on where it stopped", "run-failed",
        day=run.days, since=run.ended_at or run.created_at, run_id=run.run_id,
    )  # fmt: skip


def _again(run: PastRun) -> str:
    """The command whose success makes ``run`` good."""
    command = {"daily": "run", "retrain": "train", "study": "study"}.get(run.job)
    if command is None or run.last is None:
        return "it in the UI"
    if run.first != run.last and run.job == "daily":
        return f"`volcast backfill --from {run.first} --to {run.last}`"
    return f"`volcast {command} --as-of {run.last}`"


def _space(settings: Settings) -> Iterator[Cause]:
    if not settings.home.exists():
        return
    free = shutil.disk_usage(settings.home).free
    held = settings.warehouse_path.stat().st_size if settings.warehouse_path.exists() else 0
    needed = max(LEAST_FREE_BYTES, 2 * held)
    if free < needed:
        yield Cause(
            "disk", "critical", f"{free / 2**30:.1f} GiB left on the disk of {settings.home}, a run wants {needed / 2**30:.1f} GiB",
            "free space (old reports, artifacts/snapshots, other files of the disk); nothing is lost meanwhile", "no-space",
        )  # fmt: skip


def _layout(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    layout = get_state(connection, "layout", catalog=None)
    if layout not in (LAYOUT_VERSION, *PREVIOUS_LAYOUTS):
        yield _broken(settings, f"it has layout {layout!r}, this volcast writes {LAYOUT_VERSION!r}")


def _late(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    newest = newest_as_of(connection)
    if newest is None:
        return
    wanted = due_day(settings, now, timedelta(minutes=settings.alert_late_minutes))
    if newest < wanted and is_kept_current(settings, newest, wanted):
        due = settings.decision_time(newest + timedelta(days=1))
        yield Cause(
            "late", "critical", f"no forecasts for {wanted}; the newest are of {newest}",
            f"is the daemon running and its schedule on? `volcast status`, then `volcast backfill --from {newest + timedelta(days=1)} --to {wanted}`",
            "forecasts-missing", day=f"{wanted}", since=due,
        )  # fmt: skip


def _gates(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    for suite, day, checked_at, _, _, closing, _, example in connection.execute(
        NEWEST_VERDICTS
    ).fetchall():
        if closing:
            yield Cause(
                f"gate:{suite}", "critical", f"gate {suite} closed for {day}",
                f"mend the data and run the day again, or `volcast override --suite {suite} --as-of {day} --by NAME --reason TEXT`",
                "gate-closed", day=f"{day}", since=checked_at,
                lines=(str(example), *([f"and {closing - 1} more"] if closing > 1 else [])),
            )  # fmt: skip


def _stale(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    limit = now - timedelta(hours=settings.alert_stale_hours)
    for table, provider, count, since, status, detail in connection.execute(
        f"""
        SELECT table_name, provider, count(*), min(succeeded_at), any_value(status ORDER BY stream), any_value(detail ORDER BY stream)
        FROM raw.streams WHERE {STALE_STREAM} AND attempted_at IS NOT NULL AND (succeeded_at IS NULL OR succeeded_at < ?)
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        [limit],
    ).fetchall():
        prices = table == "raw.ohlcv"
        yield Cause(
            f"stale:{table}:{provider}", "critical" if prices else "warning",
            f"{table} gets nothing from {provider}" + ("" if since else ", and never did"),
            "ask who answers with `volcast sources check`; the line goes on without this provider" + (" where another has the coin" if prices else ""),
            "prices-down" if prices else "provider-down", since=since, lines=(f"{count} streams, {status}: {detail}",),
        )  # fmt: skip


def _clock(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    ahead = clock_ahead_seconds(connection, now)
    if ahead > CLOCK_SECONDS:
        yield Cause(
            "clock", "critical", f"the clock of this machine is wrong: rows arrived {ahead / 60:.0f} minutes after now ({now:%Y-%m-%d %H:%M} UTC)",
            "set the clock (`timedatectl`, chrony) before the next run", "clock-wrong",
        )  # fmt: skip


def _decisions(
    connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime
) -> Iterator[Cause]:
    what = {
        "promote": "{} leads from the next day on",
        "retrain": "{} has drifted and is trained again",
        "drift": "{} has drifted",
    }
    for day, kind, model, reason in connection.execute(
        """
        SELECT as_of, kind, model, any_value(reason ORDER BY horizon) FROM models.decisions
        WHERE as_of = (SELECT max(as_of) FROM models.decisions) AND list_contains(?, kind) AND created_at > ?
        GROUP BY ALL ORDER BY ALL
        """,
        [list(what), now - timedelta(days=2)],
    ).fetchall():
        yield Cause(
            f"decision:{day}:{kind}:{model}", "info", what[kind].format(model),
            "nothing is to be done; `models.decisions` has the figures", "drift", day=f"{day}", lines=(str(reason),),
        )  # fmt: skip


_OF_TABLES: tuple[
    Callable[[duckdb.DuckDBPyConnection, Settings, datetime], Iterator[Cause]], ...
] = (_layout, _late, _gates, _stale, _clock, _decisions)
