"""Metrics that the warehouse's tables give: freshness, gates, forecasts, live scores, drift.

In: a connection to the live warehouse or the published copy. Out: samples. Never writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import duckdb

from orchestration.champion import champion_on
from orchestration.due_days import due_day, is_kept_current
from orchestration.metrics.samples import Sample, day_stamp, stamp
from orchestration.observing import utc_now
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES

WINDOWS = (30, 90)
"""Days of as_of, up to the newest that is scored, over which live scores are means."""
COVERAGE_DAYS = 90


def raw_tables(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    for name in TABLES:
        rows, event, known = connection.execute(
            f"SELECT count(*), max(ts), max(known_at) FROM raw.{name}"
        ).fetchone() or (0, None, None)
        labels = {"table": f"raw.{name}"}
        yield Sample("volcast_raw_rows", rows, labels)
        if event is not None:
            yield Sample("volcast_raw_newest_event_timestamp_seconds", stamp(event), labels)
            yield Sample("volcast_raw_newest_known_timestamp_seconds", stamp(known), labels)
    for table, ever, held in connection.execute(
        "SELECT table_name, count(*), count(*) FILTER (released_at IS NULL) FROM quarantine.rows GROUP BY 1 ORDER BY 1"
    ).fetchall():
        yield Sample("volcast_quarantined_rows_total", ever, {"table": table})
        yield Sample("volcast_quarantined_rows_held", held, {"table": table})


def streams(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    for provider, status, count in connection.execute(
        "SELECT provider, status, count(*) FROM raw.streams GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall():
        yield Sample("volcast_streams", count, {"provider": provider, "status": status})
    for provider, count in connection.execute(
        f"SELECT provider, count(*) FILTER ({STALE_STREAM}) FROM raw.streams GROUP BY 1 ORDER BY 1"
    ).fetchall():
        yield Sample("volcast_streams_stale", count, {"provider": provider})


STALE_STREAM = "status <> 'ok' AND (status <> 'not listed' OR table_name = 'raw.ohlcv')"
"""A stream whose last read failed. No provider has every coin, so one that is not listed is stale only where it is prices."""

NEWEST_VERDICTS = """
    SELECT suite, as_of, max(checked_at) AS checked_at,
        count(*) FILTER (NOT success AND severity = 'critical') AS critical,
        count(*) FILTER (NOT success AND severity = 'warning') AS warnings,
        count(*) FILTER (NOT success AND severity = 'critical' AND overridden_by IS NULL) AS closing,
        coalesce(min(overridden_by) FILTER (NOT success AND severity = 'critical'), '') AS overridden_by,
        min(expectation || ': ' || observed) FILTER (NOT success AND severity = 'critical' AND overridden_by IS NULL) AS example
    FROM quality.validations GROUP BY suite, from_as_of, as_of, run_id
    QUALIFY row_number() OVER (PARTITION BY suite ORDER BY as_of DESC, max(checked_at) DESC) = 1
    ORDER BY suite
"""
"""A row for each suite: what its newest verdict found, and whether it is closed."""


def gates(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    for suite, _, _, critical, warnings, closing, *_ in connection.execute(
        NEWEST_VERDICTS
    ).fetchall():
        yield Sample("volcast_gate_open", float(closing == 0), {"suite": suite})
        yield Sample("volcast_gate_failures", critical, {"suite": suite, "severity": "critical"})
        yield Sample("volcast_gate_failures", warnings, {"suite": suite, "severity": "warning"})
    for suite, count in connection.execute(
        "SELECT suite, count(*) FROM quality.overrides GROUP BY 1 ORDER BY 1"
    ).fetchall():
        yield Sample("volcast_gate_overrides_total", count, {"suite": suite})


def newest_as_of(connection: duckdb.DuckDBPyConnection) -> date | None:
    row = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    return row[0] if row else None


def forecasts(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    newest = newest_as_of(connection)
    current = is_kept_current(settings, newest, due_day(settings, utc_now()))
    yield Sample("volcast_home_current", float(current))
    if newest is None:
        return
    yield Sample("volcast_forecast_newest_as_of_timestamp_seconds", day_stamp(newest))
    due = settings.decision_time(newest + timedelta(days=1))
    yield Sample("volcast_forecast_due_timestamp_seconds", due.timestamp())
    for name, table in (
        ("volcast_forecasts", "forecasts.volatility"),
        ("volcast_forecasts_refused", "forecasts.refusals"),
    ):
        for model, horizon, count in connection.execute(
            f"SELECT model, horizon, count(DISTINCT asset) FROM {table} WHERE as_of = ? GROUP BY 1, 2 ORDER BY 1, 2",
            [newest],
        ).fetchall():
            yield Sample(name, count, {"model": model, "horizon": str(horizon)})
    try:
        champion = champion_on(connection, date.max).model
    except LookupError:
        return
    yield Sample("volcast_champion_info", 1, {"model": champion})


def live_scores(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    for days in WINDOWS:
        for model, horizon, count, qlike, ratio in connection.execute(
            """
            WITH newest AS (SELECT horizon, max(as_of) AS last FROM evaluation.scores GROUP BY horizon),
            recent AS (
                SELECT s.model, s.horizon, s.asset, s.as_of, avg(s.qlike) AS qlike FROM evaluation.scores s JOIN newest USING (horizon)
                WHERE s.as_of > last - CAST(? AS INTEGER) GROUP BY ALL
            )
            SELECT r.model, r.horizon, count(*), avg(r.qlike), avg(r.qlike) FILTER (b.qlike IS NOT NULL) / nullif(avg(b.qlike), 0)
            FROM recent r LEFT JOIN recent b ON b.model = 'harx_cal' AND b.horizon = r.horizon AND b.asset = r.asset AND b.as_of = r.as_of
            GROUP BY 1, 2 ORDER BY 1, 2
            """,
            [days],
        ).fetchall():
            labels = {"model": model, "horizon": str(horizon), "window": f"{days}d"}
            yield Sample("volcast_live_scored_forecasts", count, labels)
            if qlike is not None:
                yield Sample("volcast_live_qlike", qlike, labels)
            if ratio is not None:
                yield Sample("volcast_live_qlike_ratio", ratio, labels)
    for model, horizon, inner, outer in connection.execute(
        """
        SELECT model, horizon, avg(covered_80::INTEGER), avg(covered_98::INTEGER) FROM evaluation.scores
        JOIN (SELECT horizon, max(as_of) AS last FROM evaluation.scores GROUP BY horizon) USING (horizon)
        WHERE as_of > last - CAST(? AS INTEGER) GROUP BY 1, 2 ORDER BY 1, 2
        """,
        [COVERAGE_DAYS],
    ).fetchall():
        for level, share in (("0.80", inner), ("0.98", outer)):
            if share is not None:
                labels = {"model": model, "horizon": str(horizon), "level": level}
                yield Sample("volcast_interval_coverage_ratio", share, labels)


def drift(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    for model, kind, count in connection.execute(
        "SELECT model, kind, count(*) FILTER (verdict = 'drift') FROM models.drift "
        "WHERE as_of = (SELECT max(as_of) FROM models.drift) GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall():
        yield Sample("volcast_drift_measures", count, {"model": model, "kind": kind})


def clock(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[Sample]:
    yield Sample("volcast_clock_ahead_seconds", clock_ahead_seconds(connection, utc_now()))


def clock_ahead_seconds(connection: duckdb.DuckDBPyConnection, now: datetime) -> float:
    """How far the newest stored time of arrival lies after ``now``; 0 where it does not."""
    row = connection.execute(
        "SELECT max(t) FROM (SELECT max(ingested_at) AS t FROM raw.batches UNION ALL SELECT max(attempted_at) FROM raw.streams)"
    ).fetchone()
    if row is None or row[0] is None:
        return 0.0
    return max(0.0, float((row[0] - now).total_seconds()))


COLLECTORS = (clock, raw_tables, streams, gates, forecasts, live_scores, drift)
