"""Stored advice and what followed -> rows of evaluation.leverage_backtest, as at Sundays.

In: forecasts.risk, features.realized as known on the Sunday. Out: for each model and horizon, what following its advice for up to a year would have
given, per coin and in equal parts, beside a constant and an EWMA leverage on the same days. An advice of as_of D is held from the close of D, half
an hour before its decision time, to the close of D+1. Never: a price that was not known on the Sunday, or an advice of the Sunday itself, which has
not been held for a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.risk.leverage_backtest import (
    DEFAULT_COST,
    LEAST_FIT_DAYS,
    constant_leverage,
    equal_weights,
    ewma_leverage,
    follow_weights,
    held,
    performance,
    returns_of,
)
from ml.risk.leverage_path import LONGEST_GAP_DAYS
from orchestration.settings import Settings

WINDOW_DAYS = 365
LEAST_DAYS = 20
"""Days held below which there is no row: of fewer, a realised volatility says nothing."""
HISTORY_DAYS = 1500
"""Days before the first advice that the constant leverage is fitted on, at the most, and that EWMA starts from."""
PORTFOLIO = "PORTFOLIO"
Floats = NDArray[np.float64]


def sundays_due(connection: duckdb.DuckDBPyConnection, last: date) -> list[date]:
    """Sundays up to ``last`` that have enough days of advice behind them and no rows yet, in order."""
    days = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT as_of FROM forecasts.risk WHERE as_of < ? ORDER BY as_of", [last]
        ).fetchall()
    ]
    if not days:
        return []
    made = {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT as_of FROM evaluation.leverage_backtest"
        ).fetchall()
    }
    sunday = days[0] + timedelta(days=(6 - days[0].weekday()) % 7)
    found = []
    while sunday <= last:
        window = [day for day in days if sunday - timedelta(days=WINDOW_DAYS) <= day < sunday]
        if sunday not in made and len(window) >= LEAST_DAYS:
            found.append(sunday)
        sunday += timedelta(days=7)
    return found


def backtest_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, sunday: date
) -> pd.DataFrame:
    """Rows of one Sunday, for every model and horizon with at least 20 days of advice in the year before it."""
    advice = _advice(connection, sunday)
    if advice.empty:
        return pd.DataFrame()
    first = advice["as_of"].min().date()
    market = _market(connection, settings, first, sunday)
    if market is None:
        return pd.DataFrame()
    rows = [
        {
            "source": str(own["source"].iloc[0]),
            "as_of": sunday,
            "model": str(key[0]),
            "horizon": int(str(key[1])),
            "target_volatility": settings.target_volatility,
            "cost": DEFAULT_COST,
            **row,
        }
        for key, own in advice.groupby(["model", "horizon"], sort=True)
        for row in _strategies(own, market, settings)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Market:
    """Prices and variances of the coins as known on a Sunday, days down, coins across."""

    days: NDArray[np.datetime64]  # (T,) from the start of the history to the Sunday
    assets: tuple[str, ...]
    close: Floats  # (T, N), the newest version known on the Sunday; NaN = none
    variance: Floats  # (T, N) as known on the day itself; NaN = not known then
    smoothed: Floats  # (T, N) leverage by EWMA of these


def _strategies(
    advice: pd.DataFrame, market: _Market, settings: Settings
) -> Iterator[dict[str, Any]]:
    assets = tuple(sorted(set(advice["asset"].astype(str)) & set(market.assets)))
    columns = [market.assets.index(asset) for asset in assets]
    first = int(np.searchsorted(market.days, advice["as_of"].min().to_datetime64()))
    days = market.days[first:-1]  # the last day's advice has not been held yet
    if len(days) < LEAST_DAYS or not assets:
        return
    advised = held(
        advice.pivot(index="as_of", columns="asset", values="advised_leverage")
        .reindex(index=pd.DatetimeIndex(days), columns=list(assets))
        .to_numpy(np.float64),
        LONGEST_GAP_DAYS,
    )
    returns = returns_of(market.close[:, columns])[first:]  # row t: close of day t to the next
    past = market.variance[: first + 1, columns]  # the first day's is known when it is over
    limits = settings.target_volatility, settings.max_leverage
    constant = np.full(advised.shape, np.nan)
    for column in range(len(assets)):
        if np.isfinite(past[:, column]).sum() >= LEAST_FIT_DAYS:
            constant[:, column] = constant_leverage(past[:, column], *limits)
    smoothed = market.smoothed[first:-1, columns]
    given = np.isfinite(advised)  # all strategies on the same days
    common = np.isfinite(constant) & np.isfinite(smoothed)
    for name, leverage in (("advised", advised), ("constant", constant), ("ewma", smoothed)):
        kept = np.where(given & common, leverage, np.nan)
        for column, asset in enumerate(assets):
            yield from _row(name, asset, days, kept[:, [column]], returns[:, [column]])
        yield from _row(name, PORTFOLIO, days, kept, returns)


def _row(
    strategy: str, asset: str, days: NDArray[np.datetime64], leverage: Floats, returns: Floats
) -> Iterator[dict[str, Any]]:
    """The row of ``asset`` from leverage and returns (T, N) of the coins that make it up; none where it has too few days."""
    given = np.flatnonzero(np.isfinite(leverage).any(axis=1))
    if len(given) < LEAST_DAYS:
        return
    span = slice(given[0], given[-1] + 1)
    days = days[span]
    weights = equal_weights(leverage[span])
    found = performance(follow_weights(weights, returns[span], DEFAULT_COST))
    yield {
        "strategy": strategy,
        "asset": asset,
        "first_as_of": days[0].item(),
        "days": found.days,
        "realised_volatility": found.realised_volatility,
        "worst_drawdown": found.worst_drawdown,
        "turnover_per_year": found.turnover_per_year,
        "mean_leverage": found.mean_leverage,
    }


def _advice(connection: duckdb.DuckDBPyConnection, sunday: date) -> pd.DataFrame:
    """Advice of the year before the Sunday; of several versions that gave one for a day, the newest's."""
    rows = connection.execute(
        """
        SELECT r.source, r.model, r.horizon, r.asset, r.as_of, r.advised_leverage
        FROM forecasts.risk r LEFT JOIN models.registry m USING (model, model_version)
        WHERE r.as_of >= ? AND r.as_of < ? AND r.advised_leverage IS NOT NULL
        QUALIFY row_number() OVER (
            PARTITION BY r.asset, r.as_of, r.horizon, r.model ORDER BY m.created_at DESC NULLS LAST, r.model_version
        ) = 1
        ORDER BY r.model, r.horizon, r.as_of, r.asset
        """,
        [sunday - timedelta(days=WINDOW_DAYS), sunday],
    ).df()
    return rows.assign(as_of=pd.to_datetime(rows["as_of"]))


def _market(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, sunday: date
) -> _Market | None:
    start = first - timedelta(days=HISTORY_DAYS)
    realized = connection.execute(
        """
        SELECT asset, day, arg_max(close, known_on) FILTER (close > 0) AS close,
            any_value(realized_variance) FILTER (complete AND known_on <= day AND realized_variance > 0) AS variance
        FROM features.realized WHERE day BETWEEN ? AND ? AND known_on <= ? GROUP BY asset, day ORDER BY day, asset
        """,
        [start, sunday, sunday],
    ).df()
    if realized.empty:
        return None
    days = np.arange(
        np.datetime64(realized["day"].min(), "D"), np.datetime64(sunday) + 1, dtype="datetime64[D]"
    )
    wide = realized.assign(day=pd.to_datetime(realized["day"])).pivot(index="day", columns="asset")
    wide = wide.reindex(pd.DatetimeIndex(days))
    close = wide["close"]
    variance = wide["variance"][close.columns].to_numpy(np.float64)
    smoothed = ewma_leverage(variance, settings.target_volatility, settings.max_leverage)
    assets = tuple(str(name) for name in close.columns)
    return _Market(days, assets, close.to_numpy(np.float64), variance, smoothed)
