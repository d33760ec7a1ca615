"""Gate verdicts: made by quality/, stored here, read before training and forecasting.

In: frames and verdicts. Out: rows of ``quality.validations``, and ``GateClosed`` for whoever may not start. Dagster's blocking checks act
inside one run only; the stored verdicts stop other runs too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import pandas as pd

from orchestration.gate_reference import StoredReference
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import (
    Warehouse,
    bump_revision,
    get_json_state,
    get_state,
    replace_rows,
    set_json_state,
)
from quality import SUITES as QUALITY_SUITES
from quality import Reference, Result, Verdict, validate

FEATURE_SUITES = ("features.daily", "features.hourly", "features.realized")
RAW_SUITES = tuple(table.qualified_name for table in TABLES.values())
SUITES = (*RAW_SUITES, *FEATURE_SUITES)
ASSET_SUITES = ("raw.ohlcv", *FEATURE_SUITES)
"""Suites in which every coin must be there; other modalities cover some coins only."""
LARGE_SUITES = ("raw.ohlcv",)
"""Suites whose reference stays in the warehouse; of the others' it is small."""
REFERENCE_DAYS = 90
"""Days before the checked ones that units, drift and missing coins are judged against."""
GATED_ROWS = {
    "ohlcv": "\"interval\" <> '1m'",  # no feature reads them, and fresh ones would hide stale 5m bars
    "order_books": "known_at > run_end - INTERVAL 2 DAY",  # a snapshot is kilobytes
}
"""Rows that a raw table's gate looks at, where those are not all: each row was judged by itself when it came."""
MAX_QUARANTINED_SHARE = 0.05
"""More refused rows than this in a window, and the table's gate closes."""


class GateClosed(RuntimeError):
    """A gate failed, or never ran, for a day that was asked for; the message names suite, expectation and what to do."""


@dataclass(frozen=True)
class GateOutcome:
    """A stored verdict: ``open`` is what decides, ``overridden`` says that it is open only by permission."""

    verdict: Verdict
    open: bool
    overridden: str | None


def run_gate(
    warehouse: Warehouse,
    suite: str,
    from_as_of: date,
    to_as_of: date,
    run_id: str,
) -> GateOutcome:
    """Judge what ``suite`` guards for the days of a run, and store every verdict.

    The same days over the same rows are not judged again: the stored verdict stands.
    """
    with warehouse.read() as connection:
        seen = _evidence(connection, suite)
        held = get_json_state(connection, f"gate:{suite}")
        now = datetime.now(UTC)
        same = held == {"from": str(from_as_of), "to": str(to_as_of), "rows": seen}
        if same and _next_stamp(connection, suite, now) == now:  # else a clock was ahead: again
            return stored_outcome(connection, suite, from_as_of, to_as_of)
        frame, reference = _guarded_rows(
            connection, warehouse.settings, suite, from_as_of, to_as_of
        )
        quarantined = _quarantine_result(
            connection, warehouse.settings, suite, from_as_of, to_as_of
        )
        assets = _expected_assets(connection, warehouse.settings, to_as_of)
        verdict = validate(  # while the connection is open: a stored reference reads what a check asks for
            suite,
            frame,
            reference=reference,
            now=warehouse.settings.decision_time(to_as_of),
            assets=assets if suite in ASSET_SUITES else None,
        )
    if quarantined is not None:
        verdict = Verdict(
            suite=suite,
            passed=verdict.passed and quarantined.success,
            results=[*verdict.results, quarantined],
        )
    outcome = store_verdict(warehouse, verdict, from_as_of, to_as_of, run_id)
    for attempt in warehouse.writes():
        with attempt as connection:
            set_json_state(
                connection,
                f"gate:{suite}",
                {"from": str(from_as_of), "to": str(to_as_of), "rows": seen},
            )
    return outcome


def stored_outcome(
    connection: duckdb.DuckDBPyConnection, suite: str, from_as_of: date, to_as_of: date
) -> GateOutcome:
    """The newest stored verdict of exactly these days, overrides included."""
    rows = (
        connection.execute(
            "SELECT expectation, column_name, severity, success, observed, message, overridden_by, override_reason "
            "FROM quality.validations WHERE suite = ? AND from_as_of = ? AND as_of = ? "
            "QUALIFY checked_at = max(checked_at) OVER () ORDER BY validation_id",
            [suite, from_as_of, to_as_of],
        )
    ).fetchall()
    verdict = Verdict.of(
        suite,
        [
            Result(suite, expectation, column, severity, success, observed, message)
            for expectation, column, severity, success, observed, message, _, _ in rows
        ],
    )
    lifted = [f"{who}: {why}" for *_, who, why in rows if who is not None]
    closed = [row for row in rows if row[2] == "critical" and not row[3] and row[6] is None]
    return GateOutcome(verdict, not closed, lifted[0] if lifted and not closed else None)


def store_verdict(
    warehouse: Warehouse, verdict: Verdict, from_as_of: date, to_as_of: date, run_id: str
) -> GateOutcome:
    """Keep every expectation's verdict; overrides of the day apply."""
    for attempt in warehouse.writes():
        with attempt as connection:
            now = _next_stamp(connection, verdict.suite, datetime.now(UTC))
            overrides = connection.execute(
                "SELECT expectation, overridden_by, reason FROM quality.overrides WHERE suite = ? AND as_of BETWEEN ? AND ?",
                [verdict.suite, from_as_of, to_as_of],
            ).fetchall()
            by_expectation = {str(name): (str(who), str(why)) for name, who, why in overrides}
            rows = []
            for position, result in enumerate(verdict.results):
                who, why = (
                    by_expectation.get(result.expectation)
                    or by_expectation.get("*")
                    or (None, None)
                )
                failed = result.severity == "critical" and not result.success
                identity = f"{verdict.suite}|{from_as_of}|{to_as_of}|{run_id}|{position}|{result.expectation}|{result.column}"
                rows.append(
                    {
                        "validation_id": hashlib.sha256(identity.encode()).hexdigest()[:24],
                        "suite": verdict.suite,
                        "from_as_of": from_as_of,
                        "as_of": to_as_of,
                        "run_id": run_id,
                        "expectation": result.expectation,
                        "column_name": result.column,
                        "severity": result.severity,
                        "success": result.success,
                        "observed": str(result.observed),
                        "message": result.message,
                        "checked_at": now,
                        "overridden_by": who if failed else None,
                        "override_reason": why if failed else None,
                    }
                )
            frame = pd.DataFrame(rows)
            replace_rows(connection, "quality.validations", frame, on=["validation_id"])
            outcome = stored_outcome(connection, verdict.suite, from_as_of, to_as_of)
    return outcome


def _next_stamp(connection: duckdb.DuckDBPyConnection, suite: str, now: datetime) -> datetime:
    """``now``; but after a clock that was ahead a microsecond past the newest verdict, so that the one stored last is the newest."""
    row = connection.execute(
        "SELECT max(checked_at) + INTERVAL 1 MICROSECOND FROM quality.validations WHERE suite = ?",
        [suite],
    ).fetchone()
    return now if row is None or row[0] is None else max(now, row[0].astimezone(UTC))


def require_open_gates(
    connection: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> dict[str, str]:
    """Raise ``GateClosed`` unless every suite's newest verdict on every day is open; returns suite -> 'open' or the override.

    A suite that never ran for a day is closed: nothing is trained on what nobody looked at.
    """
    wanted = pd.DataFrame({"day": pd.to_datetime(sorted(set(days)))})
    connection.register("wanted_days", wanted)
    suites = pd.DataFrame({"suite": SUITES})
    connection.register("wanted_suites", suites)
    rows = connection.execute(
        """
        WITH covering AS (
            SELECT d.day::DATE AS day, v.*,
                max(v.checked_at) OVER (PARTITION BY d.day, v.suite) AS newest
            FROM wanted_days d JOIN quality.validations v ON d.day::DATE BETWEEN v.from_as_of AND v.as_of
        )
        SELECT d.day::DATE, s.suite, count(c.suite) AS verdicts,
            count(*) FILTER (c.severity = 'critical' AND NOT c.success AND c.overridden_by IS NULL) AS failures,
            min(c.expectation || ': ' || c.message || ' (seen: ' || c.observed || ')')
                FILTER (c.severity = 'critical' AND NOT c.success AND c.overridden_by IS NULL) AS example,
            min(c.overridden_by || ': ' || c.override_reason) AS overridden
        FROM wanted_days d CROSS JOIN wanted_suites s
        LEFT JOIN covering c ON c.day = d.day::DATE AND c.suite = s.suite AND c.checked_at = c.newest
        GROUP BY ALL ORDER BY 1, 2
        """
    ).fetchall()
    connection.unregister("wanted_days")
    connection.unregister("wanted_suites")
    for day, suite, _, failures, example, _ in rows:
        if failures:
            raise GateClosed(
                f"gate {suite} failed for {day}: {example}. Mend the data and run the day again, or "
                f"`volcast override --suite {suite} --as-of {day} --by NAME --reason TEXT`"
            )
    verdicts: dict[str, str] = {}
    for day, suite, count, _, _, overridden in rows:
        if not count:
            raise GateClosed(
                f"no gate verdict of {suite} for {day}: run the whole line for that day (`volcast run --as-of {day}`)"
            )
        verdicts[suite] = (
            f"overridden by {overridden}" if overridden else verdicts.get(suite, "open")
        )
    return verdicts


def add_override(
    warehouse: Warehouse,
    suite: str,
    as_of: date,
    overridden_by: str,
    reason: str,
    expectation: str = "*",
) -> int:
    """Let a failed gate pass for one day, by name and with a reason; returns how many stored failures it lifts."""
    if suite not in SUITES:
        raise ValueError(f"suite {suite!r}: expected one of {', '.join(SUITES)}")
    if not overridden_by.strip() or not reason.strip():
        raise ValueError("an override needs a name and a reason: give --by and --reason")
    row = {
        "suite": suite,
        "expectation": expectation,
        "as_of": as_of,
        "overridden_by": overridden_by,
        "reason": reason,
        "created_at": datetime.now(UTC),
    }
    for attempt in warehouse.writes():
        with attempt as connection:
            replace_rows(
                connection,
                "quality.overrides",
                pd.DataFrame([row]),
                on=["suite", "expectation", "as_of"],
            )
            lifted = connection.execute(
                "UPDATE quality.validations SET overridden_by = $by, override_reason = $reason WHERE suite = $suite "
                "AND $as_of BETWEEN from_as_of AND as_of AND severity = 'critical' AND NOT success "
                "AND ($expectation = '*' OR expectation = $expectation)",
                {
                    "by": overridden_by,
                    "reason": reason,
                    "suite": suite,
                    "as_of": as_of,
                    "expectation": expectation,
                },
            ).fetchone()
            bump_revision(connection)
    return int(lifted[0]) if lifted else 0


def _evidence(connection: duckdb.DuckDBPyConnection, suite: str) -> str:
    """What the verdict of ``suite`` rests on: changes when a row came, was refused or was released, or features were built."""
    if suite in FEATURE_SUITES:
        return hashlib.sha256((get_state(connection, "features_built") or "").encode()).hexdigest()
    row = connection.execute(
        "SELECT coalesce(sum(rows_inserted), 0), coalesce(sum(rows_quarantined), 0), "
        "(SELECT count(*) FROM quarantine.rows WHERE released_at IS NOT NULL) FROM raw.batches WHERE table_name = ?",
        [suite],
    ).fetchone()
    return str(row)


def _guarded_rows(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    suite: str,
    from_as_of: date,
    to_as_of: date,
) -> tuple[pd.DataFrame, pd.DataFrame | Reference | None]:
    schema, table = suite.split(".")
    if schema == "raw":
        # A first run's window holds all of history: a gate looks at what became known since the last decision.
        start = settings.decision_time(from_as_of - timedelta(days=1))
        until = settings.decision_time(to_as_of)
        query = (
            f"SELECT * EXCLUDE (batch_id, run_end) FROM raw.{table}, (SELECT CAST($until AS TIMESTAMPTZ) AS run_end) "
            f"WHERE known_at > $after AND known_at <= $before AND {GATED_ROWS.get(table, 'true')} ORDER BY ALL"
        )
        window = {"after": start, "before": until, "until": until}
        frame = connection.execute(query, window).df()
        earliest = start - timedelta(days=REFERENCE_DAYS)
        if suite in LARGE_SUITES:
            stored = StoredReference(
                connection,
                TABLES[table],
                QUALITY_SUITES[suite].columns,
                earliest,
                start,
                GATED_ROWS.get(table, "true"),
            )
            return frame, stored if len(stored) else None
        window |= {"after": earliest, "before": start}
        earlier = connection.execute(query, window).df()
        return frame, None if earlier.empty else earlier
    column = {"daily": "as_of", "hourly": "known_on", "realized": "known_on"}[table]
    frame = connection.execute(
        f"SELECT * FROM features.{table} WHERE {column} BETWEEN ? AND ? ORDER BY asset, {column}",
        [from_as_of, to_as_of],
    ).df()
    reference: pd.DataFrame | None = None
    if table == "daily":
        reference = connection.execute(
            "SELECT * FROM features.daily WHERE as_of >= CAST(? AS DATE) - CAST(? AS INTEGER) AND as_of < ?",
            [from_as_of, REFERENCE_DAYS, from_as_of],
        ).df()
    return frame, None if reference is None or reference.empty else reference


def _expected_assets(
    connection: duckdb.DuckDBPyConnection, settings: Settings, as_of: date
) -> set[str]:
    """Coins that must be there: those that have ever had a bar by then, and those that VOLCAST_ASSETS names."""
    rows = connection.execute(
        "SELECT DISTINCT split_part(symbol, '/', 1) FROM raw.ohlcv WHERE known_at <= ?",
        [settings.decision_time(as_of)],
    ).fetchall()
    arrived = {str(row[0]) for row in rows}
    return arrived | set(settings.assets or ())


def _quarantine_result(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    suite: str,
    from_as_of: date,
    to_as_of: date,
) -> Result | None:
    if not suite.startswith("raw."):
        return None
    row = connection.execute(
        "SELECT coalesce(sum(rows_quarantined), 0), coalesce(sum(rows_offered), 0) FROM raw.batches "
        "WHERE table_name = ? AND known_until >= ? AND known_until < ?",
        [
            suite,
            settings.decision_time(from_as_of),
            settings.decision_time(to_as_of + timedelta(days=1)),
        ],
    ).fetchone()
    refused, offered = (int(row[0]), int(row[1])) if row else (0, 0)
    share = refused / offered if offered else 0.0
    return Result(
        suite=suite,
        expectation="quarantined_share",
        column=None,
        severity="critical" if share > MAX_QUARANTINED_SHARE else "warning",
        success=refused == 0,
        observed=f"{refused} of {offered} rows refused ({share:.2%})",
        message="look at quarantine.rows: its reason column says what is wrong with each row",
        failing_rows=[],
    )
