"""Stored advice and what followed -> rows of evaluation.leverage_backtest, as at Sundays.

In: forecasts.risk, features.realized and features.hourly as known on the Sunday. Out: for each model and horizon, what following its advice for up to a
year would have given, per coin and in equal parts, beside a constant and an EWMA leverage on the same days. An advice of as_of D is decided at D+1 00:30,
traded at D+1 01:00, the close of the first hour that ends after that, and held to D+2 01:00. Never: a price from before the decision, a price that was not
known on the Sunday, or advice of the Sunday and the day before it, which has not been held for a day. A coin without a price at a trade keeps its leverage.
"""

from __future__ import annotations

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
    LeveragePath,
    carried,
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
        window = [day for day in days if _first_advice(sunday) <= day <= _last_advice(sunday)]
        if sunday not in made and len(window) >= LEAST_DAYS:
            found.append(sunday)
        sunday += timedelta(days=7)
    return found


def _last_advice(sunday: date) -> date:
    """The newest advice that was held for a day by the Sunday's decision time: it is traded on the Saturday at 01:00."""
    return sunday - timedelta(days=2)


def _first_advice(sunday: date) -> date:
    return _last_advice(sunday) - timedelta(days=WINDOW_DAYS - 1)


def backtest_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, sunday: date
) -> pd.DataFrame:
    """Rows of one Sunday, for every model and horizon with at least 20 days of advice in the year before it."""
    advice = _advice(connection, sunday)
    if advice.empty:
        return pd.DataFrame()
    market = _market(connection, settings, advice["as_of"].min().date(), sunday)
    if market is None:
        return pd.DataFrame()
    heads, leverages = [], []
    for key, own in advice.groupby(["model", "horizon"], sort=True):
        for strategy, leverage in _strategies(own, market, settings).items():
            heads.append(
                {
                    "source": str(own["source"].iloc[0]),
                    "as_of": sunday,
                    "model": str(key[0]),
                    "horizon": int(str(key[1])),
                    "strategy": strategy,
                    "target_volatility": settings.target_volatility,
                    "cost": DEFAULT_COST,
                }
            )
            leverages.append(leverage)
    stacked = np.stack(leverages, axis=1)  # (T, head, N)
    every = np.broadcast_to(market.returns[:, None, :], stacked.shape)
    single = follow_weights(equal_weights(stacked[..., None]), every[..., None], DEFAULT_COST)
    whole = follow_weights(equal_weights(stacked), every, DEFAULT_COST)
    rows = []
    for place, head in enumerate(heads):
        mine = stacked[:, place]
        for column, asset in enumerate(market.assets):
            rows += _row(head, asset, market.held_days, mine[:, [column]], single, place, column)
        rows += _row(head, PORTFOLIO, market.held_days, mine, whole, place)
    return pd.DataFrame(rows)


def _row(
    head: dict[str, Any],
    asset: str,
    days: NDArray[np.datetime64],
    leverage: Floats,
    path: LeveragePath,
    *strategy: int,
) -> list[dict[str, Any]]:
    """The row of ``asset``, of which ``leverage`` (T, coins) says when it was held; none where that was on too few days."""
    given = np.flatnonzero(np.asarray(np.isfinite(leverage).any(axis=1)))
    if len(given) < LEAST_DAYS:
        return []
    first, last = int(given[0]), int(given[-1])
    found = performance(path.part(first, last, *strategy))
    return [
        {
            **head,
            "asset": asset,
            "first_as_of": days[first].item(),
            "days": found.days,
            "realised_volatility": found.realised_volatility,
            "worst_drawdown": found.worst_drawdown,
            "turnover_per_year": found.turnover_per_year,
            "mean_leverage": found.mean_leverage,
        }
    ]


@dataclass(frozen=True)
class _Market:
    """Prices and variances of N coins as known on a Sunday."""

    assets: tuple[str, ...]
    held_days: NDArray[
        np.datetime64
    ]  # (T,) as_of days of the window whose advice has been held, the first row F of the history
    returns: Floats  # (T, N) from the trade of each to that of the next
    priced: NDArray[np.bool_]  # (T, N) there is a price at the trade
    variance: (
        Floats  # (F + T + 1, N) of the history, as known on the day itself; NaN = not known then
    )
    smoothed: Floats  # (F + T + 1, N) leverage by EWMA of these

    @property
    def first_row(self) -> int:
        return len(self.variance) - 1 - len(self.held_days)


def _strategies(advice: pd.DataFrame, market: _Market, settings: Settings) -> dict[str, Floats]:
    """(T, N) leverage by strategy, on the days and coins that all three have; NaN on others."""
    wide = advice.pivot(index="as_of", columns="asset", values="advised_leverage")
    index = pd.DatetimeIndex(market.held_days)
    advised = wide.reindex(index=index, columns=list(market.assets)).to_numpy(np.float64)
    first = market.first_row + int(np.flatnonzero(index >= wide.index.min())[0])
    past = market.variance[: first + 1]  # the first day's is known when it is over
    constant = np.full(advised.shape, np.nan)
    for column in range(len(market.assets)):
        if np.isfinite(past[:, column]).sum() >= LEAST_FIT_DAYS:
            constant[:, column] = constant_leverage(
                past[:, column], settings.target_volatility, settings.max_leverage
            )
    found = {
        "advised": held(advised, LONGEST_GAP_DAYS),
        "constant": constant,
        "ewma": market.smoothed[market.first_row : -1],
    }
    common = np.logical_and.reduce([np.isfinite(leverage) for leverage in found.values()])
    return {
        name: carried(np.where(common, leverage, np.nan), market.priced, LONGEST_GAP_DAYS)
        for name, leverage in found.items()
    }


def _advice(connection: duckdb.DuckDBPyConnection, sunday: date) -> pd.DataFrame:
    """Advice of the year before the Sunday; of several versions that gave one for a day, the newest's."""
    rows = connection.execute(
        """
        SELECT r.source, r.model, r.horizon, r.asset, r.as_of, r.advised_leverage
        FROM forecasts.risk r LEFT JOIN models.registry m USING (model, model_version)
        WHERE r.as_of BETWEEN ? AND ? AND r.advised_leverage IS NOT NULL
        QUALIFY row_number() OVER (
            PARTITION BY r.asset, r.as_of, r.horizon, r.model ORDER BY m.created_at DESC NULLS LAST, r.model_version
        ) = 1
        ORDER BY r.model, r.horizon, r.as_of, r.asset
        """,
        [_first_advice(sunday), _last_advice(sunday)],
    ).df()
    return rows.assign(as_of=pd.to_datetime(rows["as_of"]))


def _market(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, sunday: date
) -> _Market | None:
    start, last = first - timedelta(days=HISTORY_DAYS), sunday - timedelta(days=1)
    realized = connection.execute(
        """
        SELECT asset, day, arg_max(close, known_on) FILTER (close > 0) AS close,
            any_value(realized_variance) FILTER (complete AND known_on <= day AND realized_variance > 0) AS variance
        FROM features.realized WHERE day BETWEEN ? AND ? AND known_on <= ? GROUP BY asset, day ORDER BY day, asset
        """,
        [start, last, sunday],
    ).df()
    if realized.empty:
        return None
    days = np.arange(
        np.datetime64(realized["day"].min(), "D"), np.datetime64(sunday), dtype="datetime64[D]"
    )
    wide = realized.assign(day=pd.to_datetime(realized["day"])).pivot(index="day", columns="asset")
    wide = wide.reindex(pd.DatetimeIndex(days))
    close = wide["close"]
    variance = wide["variance"][close.columns].to_numpy(np.float64)
    begin = int(np.searchsorted(days, np.datetime64(first)))
    after = _first_hours(connection, first, sunday).reindex(index=close.index[begin:], columns=close.columns)  # fmt: skip
    prices = close.to_numpy(np.float64)[begin:] * np.exp(after.to_numpy(np.float64))
    return _Market(
        assets=tuple(str(name) for name in close.columns),
        held_days=days[begin:-1],
        returns=returns_of(prices),
        priced=np.isfinite(prices[:-1]),
        variance=variance,
        smoothed=ewma_leverage(variance, settings.target_volatility, settings.max_leverage),
    )


def _first_hours(connection: duckdb.DuckDBPyConnection, first: date, sunday: date) -> pd.DataFrame:
    """Log returns from the close of day D to D+1 01:00, D down from ``first`` on, coins across; NaN where one of the hours around midnight is missing.

    Without the last hour of D the first of D+1 starts at its own open, and what lies between the close and that would be lost.
    """
    rows = connection.execute(
        """
        SELECT h.asset, h.ts::DATE - 1 AS day, h.log_return
        FROM features.hourly h JOIN features.hourly b ON b.asset = h.asset AND b.ts = h.ts - INTERVAL 1 HOUR
        WHERE h.ts::DATE BETWEEN ? AND ? AND hour(h.ts) = 0 AND h.known_on <= ? AND b.known_on <= h.known_on
        ORDER BY h.ts, h.asset
        """,
        [first + timedelta(days=1), sunday, sunday],
    ).df()
    return rows.assign(day=pd.to_datetime(rows["day"])).pivot(index="day", columns="asset", values="log_return")  # fmt: skip
