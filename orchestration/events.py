"""Columns of features.daily -> named events; events, forecasts and outcomes -> their effects.

In: features, stored forecasts and events. Out: rows of ``forecasts.events`` and ``evaluation.event_effects``. Effects of a Sunday are those of what was
known on it: events to that day, outcomes as first known by then, of a day that two versions forecast the newer.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.evaluation.outcomes import first_known_outcomes
from ml.events.catalog import COLUMNS, DETECTORS
from ml.events.detector import NEEDED_DAYS, Floats, detect, missing
from ml.events.effects import Effect, event_effect
from ml.forecasts import HORIZONS
from orchestration.monthly import SUNDAY, missing_days, read_columns
from orchestration.settings import Settings

BEYOND, MOVE = "outcome_beyond_forecast", "forecast_move"
EVIDENCE_DAYS = 730
"""Days of forecasts before a Sunday that count: two years, so that an episode is not forgotten at once and an old market is."""


def event_rows(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> pd.DataFrame:
    """Rows of forecasts.events for the coins and days of first .. last that lack them."""
    wanted = missing_days(connection, "forecasts.events", first, last)
    if not wanted:
        return pd.DataFrame()
    panel = read_columns(
        connection, COLUMNS, min(wanted) - timedelta(days=NEEDED_DAYS), max(wanted)
    )
    columns = {name: panel.feature(name) for name in COLUMNS}
    at = panel.rows(list(wanted))
    revised = columns["onchain_flows_revised"]
    rows = []
    for detector in DETECTORS.values():
        found = detect(detector, columns, at)
        for place, (day, coins) in enumerate(wanted.items()):
            for asset in coins:
                coin = panel.assets.index(asset)
                score = found.score[place, coin]
                judged = bool(np.isfinite(score))
                active = bool(found.active[place, coin])
                inputs: dict[str, Any] = {
                    name: round(float(z[place, coin]), 6) if np.isfinite(z[place, coin]) else None
                    for name, z in found.signals.items()
                }
                if "onchain_flows_revised" in detector.needs:
                    inputs["flows_revised"] = bool(revised[at[place], coin] == 1)
                absent = missing(found.signals, place, coin)
                rows.append(
                    {
                        "asset": asset,
                        "as_of": pd.Timestamp(day),
                        "event": detector.name,
                        "score": score,
                        "threshold": detector.threshold,
                        "release": detector.release,
                        "active": active if judged else None,
                        "running_days": int(found.running_days[place, coin]) if active else None,
                        "inputs": json.dumps(inputs),
                        "status": _status(judged, absent),
                    }
                )
    return pd.DataFrame(rows).astype({"active": "boolean", "running_days": "Int64"})


def _status(judged: bool, absent: list[str]) -> str:
    if not judged:
        return f"not judged: {', '.join(absent)} missing or without half a year of past"
    return f"ok, without {', '.join(absent)}" if absent else "ok"


def effect_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, sunday: date
) -> pd.DataFrame:
    """Rows of evaluation.event_effects of one Sunday; none where there is no forecast yet."""
    if sunday.weekday() != SUNDAY:
        raise ValueError(f"{sunday}: expected a Sunday")
    first = sunday - timedelta(days=EVIDENCE_DAYS)
    forecasts = _forecasts(connection, settings, first, sunday)
    if forecasts.empty:
        return pd.DataFrame()
    realized = connection.execute(
        "SELECT * FROM features.realized WHERE known_on <= ? AND day >= ? ORDER BY asset, day, known_on",
        [sunday, first],
    ).df()
    outcomes = first_known_outcomes(realized, HORIZONS).astype(
        {"as_of": "datetime64[s]", "horizon": "int64", "asset": "str"}
    )
    events = connection.execute(
        "SELECT asset, as_of, event, active, running_days FROM forecasts.events WHERE as_of BETWEEN ? AND ?",
        [first, sunday],
    ).df()
    scored = forecasts.merge(outcomes, on=["asset", "as_of", "horizon"], how="left")
    days = pd.date_range(forecasts["as_of"].min(), forecasts["as_of"].max(), freq="D")
    coins = sorted(forecasts["asset"].unique())
    switches = {
        str(event): (_grid(own, own["active"], days, coins), _begins(own, days, coins))
        for event, own in events.groupby("event")
    }
    rows = []
    for (model, horizon), own in scored.groupby(["model", "horizon"], sort=True):
        log_forecast = np.log(own["variance"].to_numpy(np.float64))
        error = np.log(own["realized_variance"].to_numpy(np.float64)) - log_forecast
        level = _grid(own, log_forecast, days, coins)
        move = np.full(level.shape, np.nan)
        move[1:] = level[1:] - level[:-1]
        missed = _grid(own, error, days, coins)
        for event, (active, begins) in switches.items():
            for measure, values, on, h in (
                (BEYOND, missed, active, int(str(horizon))),
                (MOVE, move, begins, 1),
            ):
                found = event_effect(values, on, h)
                given = np.flatnonzero((np.isfinite(values) & np.isfinite(on)).any(axis=1))
                rows.append(
                    {
                        "as_of": pd.Timestamp(sunday),
                        "event": event,
                        "horizon": int(str(horizon)),
                        "model": str(model),
                        "measure": measure,
                        "estimate": found.estimate,
                        "low_95": found.low_95,
                        "high_95": found.high_95,
                        "episodes": found.episodes,
                        "active_coin_days": found.active_coin_days,
                        "quiet_coin_days": found.quiet_coin_days,
                        "first_as_of": days[given[0]] if len(given) else None,
                        "last_as_of": days[given[-1]] if len(given) else None,
                        "verdict": verdict(found, measure),
                    }
                )
    frame = pd.DataFrame(rows)
    for name in ("first_as_of", "last_as_of"):  # a column of nothing but None has no type
        frame[name] = pd.to_datetime(frame[name])
    return frame


def verdict(effect: Effect, measure: str) -> str:
    """The effect in words."""
    if not effect.judged:
        return f"not judged: {effect.episodes} episode{'' if effect.episodes == 1 else 's'} in the evidence"
    if effect.low_95 <= 0 <= effect.high_95:
        return "no effect seen"
    rises = effect.estimate > 0
    if measure == MOVE:
        return f"forecasts {'rise' if rises else 'fall'} when it begins"
    return f"outcomes lie {'above' if rises else 'below'} forecasts while it is on"


def _forecasts(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date
) -> pd.DataFrame:
    return (
        connection.execute(
            """
            SELECT f.asset, f.as_of, f.horizon, f.model, f.variance
            FROM forecasts.volatility f LEFT JOIN models.registry m USING (model, model_version)
            WHERE f.as_of BETWEEN ? AND ? AND list_contains(?, f.model)
            QUALIFY row_number() OVER (
                PARTITION BY f.model, f.asset, f.as_of, f.horizon ORDER BY m.created_at DESC NULLS LAST, f.model_version
            ) = 1
            ORDER BY f.model, f.horizon, f.as_of, f.asset
            """,
            [first, last, list(settings.models)],
        )
        .df()
        .astype({"as_of": "datetime64[s]", "horizon": "int64", "asset": "str"})
    )


def _grid(own: pd.DataFrame, values: Any, days: pd.DatetimeIndex, coins: list[str]) -> Floats:
    """(T, N) of the rows' values, NaN where there is no row."""
    filled = pd.Series(
        np.asarray(pd.array(values, dtype="Float64").to_numpy(np.float64, na_value=np.nan))
    )
    row = days.get_indexer(pd.DatetimeIndex(own["as_of"]))
    column = pd.Index(coins).get_indexer(pd.Index(own["asset"].astype(str)))
    inside = (row >= 0) & (column >= 0)
    grid = np.full((len(days), len(coins)), np.nan)
    grid[row[inside], column[inside]] = filled.to_numpy()[inside]
    return grid


def _begins(own: pd.DataFrame, days: pd.DatetimeIndex, coins: list[str]) -> Floats:
    """(T, N) 1 on the first day of an event, 0 on other judged days."""
    starts = (own["running_days"] == 0).fillna(False).astype("boolean")
    return _grid(own, starts.where(own["active"].notna()), days, coins)
