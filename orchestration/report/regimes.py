"""Published tables -> the rows of the sections about regimes, rare days, tails and events.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, as ``queries.py`` gives them. Never writes.
"""

from __future__ import annotations

from datetime import date

import duckdb

from orchestration.report.queries import COINS_FIRST, HISTORY_DAYS, Row, rows


def regimes(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The day's filtered probabilities, the market first."""
    return rows(
        connection,
        f"""
        SELECT asset, p_calm, p_normal, p_turbulent, regime, expected_days_left, carried_days, fitted_as_of, status
        FROM forecasts.regimes WHERE as_of = $as_of ORDER BY asset = 'MARKET' DESC, {COINS_FIRST.format("")}
        """,
        as_of=as_of,
    )


def regime_history(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The market's probabilities of the last days, each as known on its own day."""
    return rows(
        connection,
        """
        SELECT as_of, p_calm, p_normal, p_turbulent, regime FROM forecasts.regimes
        WHERE asset = 'MARKET' AND as_of <= $as_of AND as_of > CAST($as_of AS DATE) - CAST($days AS INTEGER)
            AND p_calm IS NOT NULL
        ORDER BY as_of
        """,
        as_of=as_of,
        days=HISTORY_DAYS,
    )


def rare_days(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Probability of a jump and of a crash by coin and horizon, beside the base rate and with its skill."""
    return rows(
        connection,
        f"""
        SELECT asset, horizon, jump_probability, jump_base_rate, jump_skill, jump_today, crash_probability, crash_base_rate,
            crash_skill, crash_today, fitted_as_of, status
        FROM forecasts.jumps WHERE as_of = $as_of ORDER BY {COINS_FIRST.format("")}, horizon
        """,
        as_of=as_of,
    )


def tails(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """Extreme quantiles of a model's returns with their intervals; of two versions the newer."""
    return rows(
        connection,
        f"""
        SELECT * EXCLUDE (source, run_id, created_at) FROM forecasts.tails t WHERE as_of = $as_of AND model = $model
        QUALIFY row_number() OVER (PARTITION BY asset, horizon ORDER BY created_at DESC, model_version DESC) = 1
        ORDER BY {COINS_FIRST.format("")}, horizon
        """,
        as_of=as_of,
        model=model,
    )


def events(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The day's events that are on, then those nearest to their threshold."""
    return rows(
        connection,
        f"""
        SELECT asset, as_of, event, score, threshold, release, active, running_days, inputs, status
        FROM forecasts.events WHERE as_of = $as_of AND score IS NOT NULL
        ORDER BY active DESC, score / threshold DESC, {COINS_FIRST.format("")}, event LIMIT 30
        """,
        as_of=as_of,
    )


def event_effects(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """What each event did to the model's forecasts and to what they missed, as at the last Sunday judged."""
    return rows(
        connection,
        """
        SELECT as_of, event, horizon, measure, estimate, low_95, high_95, episodes, active_coin_days, quiet_coin_days,
            first_as_of, last_as_of, verdict
        FROM evaluation.event_effects
        WHERE model = $model AND as_of = (SELECT max(as_of) FROM evaluation.event_effects WHERE as_of <= $as_of)
        ORDER BY event, measure DESC, horizon
        """,
        as_of=as_of,
        model=model,
    )
