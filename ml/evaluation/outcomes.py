"""What followed a forecast, as it was first known: a realised value and the day on which anyone could have read it.

In: rows of features.realized, all versions. Out: one outcome per asset, as_of and horizon that is over.
Never: a later revision. What learns from outcomes day by day (`ml.conformal`) must learn the same when it is run again
after a revision; scores, which judge, take the newest version instead (`ml.evaluation.scores`).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.panel import TARGET_COVERAGE, Panel

COLUMNS: tuple[str, ...] = ("asset", "as_of", "horizon", "realized_variance", "known_on")
Floats = NDArray[np.float64]


def first_known_outcomes(realized: pd.DataFrame, horizons: tuple[int, ...]) -> pd.DataFrame:
    """asset, as_of, horizon, realized_variance, known_on; only variances above 0.

    `known_on` is the first day D on which as_of + h <= D and 80 % of the horizon's days had a complete version known;
    the variance is the mean of the newest versions known on that day. Equal to `Panel.until(D).target(h)` of that D.
    """
    if realized.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    days = realized[["source", "asset", "day"]].drop_duplicates().rename(columns={"day": "as_of"})
    panel = Panel.from_frames(days, realized)
    known = _first_known(panel, horizons)
    parts = []
    for horizon, (variance, on) in known.items():
        day, asset = np.nonzero(variance > 0)
        parts.append(
            pd.DataFrame(
                {
                    "asset": pd.Series(np.asarray(panel.assets, dtype=object)[asset], dtype="str"),
                    "as_of": panel.days.astype("datetime64[s]")[day],
                    "horizon": horizon,
                    "realized_variance": variance[day, asset],
                    "known_on": panel.days.astype("datetime64[s]")[on[day, asset]],
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _first_known(
    panel: Panel, horizons: tuple[int, ...]
) -> dict[int, tuple[Floats, NDArray[np.int64]]]:
    """Per horizon: (T, N) variance, NaN where it is not known by the last day, and (T, N) row of the day it was."""
    shape = (len(panel.days), len(panel.assets))
    versions = panel.realized.select(panel.realized.complete)
    day = _rows(panel, versions.day)
    learnt = np.maximum(_rows(panel, versions.known_on), day)
    order = np.lexsort((versions.known_on.astype(np.int64), learnt))
    starts = np.searchsorted(learnt[order], np.arange(shape[0] + 1))
    values = np.full(shape, np.nan)
    found = {
        horizon: (np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)) for horizon in horizons
    }
    for now in range(shape[0]):
        new = order[starts[now] : starts[now + 1]]
        values[day[new], versions.asset[new]] = versions.variance[new]  # the newest comes last
        late = np.unique(day[new][day[new] < now])
        for horizon, (variance, on) in found.items():
            for first in _ended(now, late, horizon):
                mean = _mean_of_enough(values[first + 1 : first + 1 + horizon])
                fresh = np.isnan(variance[first]) & np.isfinite(mean)
                variance[first, fresh], on[first, fresh] = mean[fresh], now
    return found


def _ended(now: int, late: NDArray[np.int64], horizon: int) -> list[int]:
    """Rows whose horizon ends today, or ended before and has a day that became known today."""
    reached = {now - horizon}
    for day in late.tolist():
        reached.update(range(day - horizon, day))
    return sorted(row for row in reached if 0 <= row <= now - horizon)


def _mean_of_enough(window: Floats) -> Floats:
    """(h, N) -> (N,) mean of the known days, NaN where fewer than 80 % of them are."""
    known = np.isfinite(window)
    count = known.sum(axis=0)
    mean = np.where(known, window, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count >= math.ceil(TARGET_COVERAGE * len(window)), mean, np.nan)


def _rows(panel: Panel, days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return np.asarray((days - panel.days[0]) / np.timedelta64(1, "D"), dtype=np.int64)
