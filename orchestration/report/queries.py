"""Published tables -> the rows of each section of the report: every number on the page comes from a query here.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, times as UTC datetimes, NaN as None. A table
or column that is not there yet gives ``NothingYet``. Never writes, and never does arithmetic that SQL can do.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

from orchestration.champion import champion_on

Row = dict[str, Any]
FALLBACK_CHAMPION = "harx_cal"
COINS_FIRST = "CASE {0}asset WHEN 'BTC' THEN 0 WHEN 'ETH' THEN 1 ELSE 2 END, {0}asset"
"""Order in which coins are listed: the two that everything else moves with, then by name."""
HISTORY_DAYS = 60
"""Days of realised volatility on the charts, and of ordinary feature moves to compare the last one with."""


class NothingYet(Exception):
    """A section has nothing to show; the message says why."""


def rows(connection: duckdb.DuckDBPyConnection, sql: str, **parameters: Any) -> list[Row]:
    """Run ``sql`` with the named parameters that it mentions."""
    used = {name: value for name, value in parameters.items() if f"${name}" in sql}
    try:
        cursor = connection.execute(sql, used)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        named = re.search(r'with name "?([\w.]+)"? does not exist', str(error))
        column = re.search(r'column "?(\w+)"? not found', str(error))
        if not named and not column:  # a fault of ours, not a table that is yet to come
            raise
        what = named[1] if named else f"column {column[1] if column else ''}"
        raise NothingYet(f"{what} is not there yet") from error
    except duckdb.InvalidInputException as error:
        # DuckDB looks for a missing table among Python's names, and may find one of ours.
        if "replacement scan" not in str(error):
            raise
        raise NothingYet("a table is not there yet") from error
    names = [column[0] for column in cursor.description or ()]
    return [
        {name: _plain(name, value) for name, value in zip(names, line, strict=True)}
        for line in cursor.fetchall()
    ]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if name.endswith("_us") and value is not None:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(value))
    return value


# One row a coin, horizon and model: the newest version that made a forecast.
FORECASTS = """
    SELECT * FROM forecasts.volatility WHERE as_of = $as_of
    QUALIFY row_number() OVER (
        PARTITION BY asset, horizon, model ORDER BY created_at DESC NULLS LAST, model_version DESC
    ) = 1
"""


def champion(connection: duckdb.DuckDBPyConnection, as_of: date) -> tuple[str, bool]:
    """(model that the summary shows, whether it is the champion of the day); HARX-cal where no champion is named."""
    try:
        return champion_on(connection, as_of).model, True
    except (LookupError, duckdb.CatalogException):  # a copy from before there were decisions
        pass
    try:
        named = rows(
            connection,
            """
            SELECT model FROM models.registry WHERE status = 'champion' AND trained_as_of <= $as_of
            ORDER BY trained_as_of DESC, created_at DESC NULLS LAST, model LIMIT 1
            """,
            as_of=as_of,
        )
    except NothingYet:
        named = []
    return (str(named[0]["model"]), True) if named else (FALLBACK_CHAMPION, False)


def header(connection: duckdb.DuckDBPyConnection, as_of: date) -> Row:
    """Source, decision time and what there is for the day."""
    found: Row = {"sources": [], "decision_time_us": None, "assets": 0}
    for table in ("features.daily", "forecasts.volatility"):
        try:
            row = rows(
                connection,
                f"""
                SELECT list(DISTINCT source ORDER BY source) AS sources, epoch_us(max(decision_time)) AS decision_time_us,
                    count(DISTINCT asset) AS assets
                FROM {table} WHERE as_of = $as_of
                """,
                as_of=as_of,
            )[0]
        except NothingYet:
            continue
        found = {
            "sources": sorted({*found["sources"], *(row["sources"] or [])}),
            "decision_time_us": row["decision_time_us"] or found["decision_time_us"],
            "assets": max(row["assets"], found["assets"]),
        }
    return found


def summary(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """Per coin and horizon: forecast, intervals, yesterday's forecast, implied volatility and risk."""
    optional = {
        "f": """(SELECT asset, implied_volatility, implied_volatility_age_days, implied_volatility_missing
                 FROM features.daily WHERE as_of = $as_of)""",
        "r": """(SELECT asset, horizon, var_975, es_975, short_var_975, short_es_975, uncertainty, advised_leverage,
                        reason, model_version
                 FROM forecasts.risk WHERE as_of = $as_of AND model = $model)""",
    }
    missing = {
        "f": """(SELECT NULL::VARCHAR AS asset, NULL::DOUBLE AS implied_volatility,
                        NULL::DOUBLE AS implied_volatility_age_days, NULL::BOOLEAN AS implied_volatility_missing)""",
        "r": """(SELECT NULL::VARCHAR AS asset, NULL::INTEGER AS horizon, NULL::DOUBLE AS var_975, NULL::DOUBLE AS es_975,
                        NULL::DOUBLE AS short_var_975, NULL::DOUBLE AS short_es_975, NULL::DOUBLE AS uncertainty,
                        NULL::DOUBLE AS advised_leverage, NULL::VARCHAR AS reason, NULL::VARCHAR AS model_version)""",
    }
    parts = {}
    for name, table in optional.items():
        try:
            rows(connection, f"SELECT * FROM {table} LIMIT 0", as_of=as_of, model=model)
            parts[name] = table
        except NothingYet:
            parts[name] = missing[name]
    return rows(
        connection,
        f"""
        WITH today AS ({FORECASTS}),
        yesterday AS ({FORECASTS.replace("$as_of", "CAST($as_of AS DATE) - 1")})
        SELECT t.asset, t.horizon, t.model, t.model_version, t.volatility, t.q01, t.q05, t.q10, t.q25, t.q50, t.q75,
            t.q90, t.q95, t.q99, t.calibrated, t.status,
            y.volatility AS volatility_yesterday, t.volatility - y.volatility AS change,
            CASE WHEN NOT coalesce(f.implied_volatility_missing, FALSE) THEN f.implied_volatility END AS implied,
            CASE WHEN NOT coalesce(f.implied_volatility_missing, FALSE) THEN f.implied_volatility - t.volatility END
                AS volatility_premium,
            CASE WHEN NOT coalesce(f.implied_volatility_missing, FALSE)
                THEN f.implied_volatility ** 2 - t.volatility ** 2 END AS variance_premium,
            r.var_975, r.es_975, r.short_var_975, r.short_es_975, r.uncertainty, r.advised_leverage, r.reason
        FROM today t
        LEFT JOIN yesterday y ON y.asset = t.asset AND y.horizon = t.horizon AND y.model = t.model
        LEFT JOIN {parts["f"]} f ON f.asset = t.asset
        LEFT JOIN {parts["r"]} r
            ON r.asset = t.asset AND r.horizon = t.horizon AND r.model_version = t.model_version
        WHERE t.model = $model
        ORDER BY t.horizon, {COINS_FIRST.format("t.")}
        """,
        as_of=as_of,
        model=model,
    )


def models_with_forecasts(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    return rows(
        connection,
        "SELECT DISTINCT model FROM forecasts.volatility WHERE as_of = $as_of ORDER BY model",
        as_of=as_of,
    )


def term_structures(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Every model's point forecast, for the thin lines beside the champion's fan."""
    return rows(
        connection,
        f"SELECT asset, model, horizon, volatility FROM ({FORECASTS}) ORDER BY asset, model, horizon",
        as_of=as_of,
    )


def realized_history(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Annualised realised volatility of the last days, newest version known on ``as_of``."""
    return rows(
        connection,
        """
        SELECT asset, day, sqrt(365 * realized_variance) AS volatility FROM features.realized
        WHERE known_on <= $as_of AND day <= $as_of AND day > CAST($as_of AS DATE) - CAST($days AS INTEGER)
            AND complete AND realized_variance IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY asset, day ORDER BY known_on DESC) = 1
        ORDER BY asset, day
        """,
        as_of=as_of,
        days=HISTORY_DAYS,
    )


def refusals(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Forecasts that a model declined to make."""
    return rows(
        connection,
        """
        SELECT model, reason, string_agg(DISTINCT asset, ', ' ORDER BY asset) AS assets FROM forecasts.refusals
        WHERE as_of = $as_of GROUP BY model, reason ORDER BY model, reason
        """,
        as_of=as_of,
    )


def forecast_moves(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """The largest relative moves of the champion's forecasts since the day before."""
    return rows(
        connection,
        f"""
        WITH today AS ({FORECASTS}), yesterday AS ({FORECASTS.replace("$as_of", "CAST($as_of AS DATE) - 1")})
        SELECT t.asset, t.horizon, y.volatility AS before, t.volatility AS after, t.volatility - y.volatility AS change,
            t.volatility / y.volatility - 1 AS relative, t.model_version != y.model_version AS refitted
        FROM today t JOIN yesterday y USING (asset, horizon, model)
        WHERE t.model = $model ORDER BY abs(ln(t.volatility / y.volatility)) DESC, t.asset, t.horizon LIMIT 8
        """,
        as_of=as_of,
        model=model,
    )
