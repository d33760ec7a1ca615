"""Hours -> rows of forecasts.correlations, by ml/risk/covariance.

In: features.hourly, each hour as it was known when its own day was over. Out: the correlation of every pair of coins, and a reason for every
coin without one. A row of day D is a function of the hours up to D: the fit is that of the last Sunday before D, whatever days a run has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.forecasts import HORIZONS
from ml.risk.correlations import HOURS
from ml.risk.covariance import (
    WINDOW_DAYS,
    CorrelationFit,
    CorrelationForecast,
    fit_correlations,
    forecast_correlations,
)

HISTORY_DAYS = 1500
"""How far back days with forecasts get correlations that they lack: what the simulation of a portfolio looks at."""
OK = "ok"


def last_sunday_before(day: date) -> date:
    """The newest Sunday strictly before ``day``: whose fit serves it."""
    return day - timedelta(days=(day.weekday() + 1) % 7 or 7)


def days_without_correlations(
    connection: duckdb.DuckDBPyConnection, first: date, last: date
) -> list[date]:
    """Days with volatility forecasts, of first .. last and of the 1,500 before, that have no correlations yet.

    A home from before this table gets its history: the rows are those that a run of that day would have made.
    """
    rows = connection.execute(
        "SELECT DISTINCT as_of FROM forecasts.volatility WHERE as_of BETWEEN ? AND ? "
        "AND as_of NOT IN (SELECT as_of FROM forecasts.correlations) ORDER BY as_of",
        [first - timedelta(days=HISTORY_DAYS), last],
    ).fetchall()
    return [day for (day,) in rows]


def correlation_rows(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> pd.DataFrame:
    """Rows of forecasts.correlations for some days in order, less source and run."""
    if not days:
        return pd.DataFrame()
    hours = _read_hours(
        connection, last_sunday_before(days[0]) - timedelta(days=WINDOW_DAYS - 1), days[-1]
    )
    parts: list[pd.DataFrame] = []
    fit: CorrelationFit | None = None
    for day in days:
        sunday = last_sunday_before(day)
        if fit is None or fit.fitted_as_of != sunday.isoformat():
            fit = fit_correlations(hours.until(sunday)[-WINDOW_DAYS:], hours.assets, str(sunday))
        known = hours.until(day)[-(WINDOW_DAYS + (day - sunday).days) :]
        seen = {column for column in range(len(hours.assets)) if np.isfinite(known[:, :, column]).any()}  # fmt: skip
        found = forecast_correlations(fit, known, str(day))
        parts += _rows_of_day(day, fit, found, hours.assets, seen)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


@dataclass(frozen=True)
class _Hours:
    """Hourly log returns (T, 24, N) of consecutive days from `first` on, NaN = missing or late."""

    first: date
    assets: tuple[str, ...]
    returns: NDArray[np.float64]

    def until(self, day: date) -> NDArray[np.float64]:
        return self.returns[: (day - self.first).days + 1]


def _read_hours(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> _Hours:
    frame = connection.execute(
        "SELECT asset, (ts::DATE - $first::DATE)::INTEGER AS day, hour(ts)::INTEGER AS hour, log_return FROM features.hourly "
        "WHERE ts::DATE BETWEEN $first AND $last AND known_on <= ts::DATE ORDER BY asset, ts",
        {"first": first, "last": last},
    ).df()
    assets = tuple(sorted(set(frame["asset"].astype(str))))
    returns = np.full(((last - first).days + 1, HOURS, len(assets)), np.nan)
    column = pd.Index(assets).get_indexer(pd.Index(frame["asset"].astype(str)))
    returns[frame["day"], frame["hour"], column] = frame["log_return"]
    return _Hours(first, assets, returns)


def _rows_of_day(
    day: date,
    fit: CorrelationFit,
    found: CorrelationForecast,
    assets: tuple[str, ...],
    seen: set[int],
) -> Iterator[pd.DataFrame]:
    refused = [(assets[column], found.refused[column]) for column in sorted(found.refused) if column in seen]  # fmt: skip
    names = [assets[column] for column in found.columns]
    row, other = np.triu_indices(len(names))
    for horizon in HORIZONS:
        weights = fit.weights.get(horizon, (np.nan,) * 3)
        matrix = found.matrices.get(horizon, np.empty((0, 0)))
        frame = pd.DataFrame(
            {
                "asset": [*(names[i] for i in row), *(asset for asset, _ in refused)],
                "other_asset": [*(names[i] for i in other), *(asset for asset, _ in refused)],
                "correlation": [*matrix[row, other].tolist(), *[np.nan] * len(refused)],
                "status": [*[OK] * len(row), *(reason for _, reason in refused)],
            }
        )
        if frame.empty:
            continue
        yield frame.assign(
            as_of=pd.Timestamp(day),
            horizon=horizon,
            fitted_as_of=pd.Timestamp(fit.fitted_as_of),
            fit_days=fit.days,
            weight_daily=weights[0],
            weight_weekly=weights[1],
            weight_monthly=weights[2],
            weight_unconditional=1.0 - sum(weights),
        )
