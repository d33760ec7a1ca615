"""EWMA of realised variance, as RiskMetrics has it for squared returns.

In: rv_d of features.daily on the days that were complete. Out: forecasts. Never: a fitted parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel

DECAY = 0.94
LOOKBACK_DAYS = 500
"""0.94 ** 500 < 1e-13: a longer history would not change a digit that is kept."""
MAX_AGE_DAYS = 3


def daily_values(panel: Panel, name: str) -> Floats:
    """(T, N) a `*_d` column of features.daily on the days it belongs to.

    The column repeats the newest complete day while a newer one is missing; such repeats are NaN here.
    """
    return np.where(panel.feature("price_age_days") == 0, panel.feature(name), np.nan)


def days_since_value(values: Floats) -> NDArray[np.int64]:
    """(T, N) -> (T, N): 0 where there is a value, else days since the last one (T where there never was one)."""
    rows = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(values), rows, -len(values)), axis=0)
    return np.asarray(np.minimum(rows - last, len(values)), dtype=np.int64)


def ewma_variance(
    panel: Panel, rows: NDArray[np.int64], decay: float
) -> tuple[Floats, NDArray[Any]]:
    """(D, N) exponentially weighted mean of the last 500 days of rv_d, and (D, N) reasons, '' = none.

    Weight of the day k days ago: decay ** k; missing days have none and the weights of the others sum to 1.
    """
    values = daily_values(panel, "rv_d")
    padded = np.concatenate([np.full((LOOKBACK_DAYS - 1, values.shape[1]), np.nan), values])
    known, filled = np.isfinite(padded).astype(np.float64), np.nan_to_num(padded)
    weighted, total = np.zeros((2, len(rows), values.shape[1]))
    for day in range(
        LOOKBACK_DAYS
    ):  # oldest first, elementwise: a day sums alike alone and in a block
        weight = decay ** (LOOKBACK_DAYS - 1 - day)
        weighted += weight * filled[rows + day]
        total += weight * known[rows + day]
    variance = weighted / np.where(total > 0, total, np.nan)
    stale = days_since_value(values)[rows] > MAX_AGE_DAYS
    reason = np.full(stale.shape, "", dtype=object)
    reason[stale] = f"no complete price day within {MAX_AGE_DAYS} days"
    return np.where(stale, np.nan, variance), reason


class Ewma(PointForecastModel):
    r"""Exponentially weighted mean of daily realised variance, the same at every horizon.

    .. math:: \\hat\\sigma^2_D = \\frac{\\sum_{k \\ge 0} \\lambda^k RV_{D-k}}{\\sum_{k \\ge 0} \\lambda^k}, \\lambda = 0.94

    Source: J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, 4th ed., section 5.2 (daily decay factor).
    Config: `decay` (default 0.94).
    """

    name = "ewma"
    lookback_days = LOOKBACK_DAYS
    out_of_sample_residuals = True
    config_keys = ("decay",)

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        decay = float(config.get("decay", DECAY))
        if not 0 < decay < 1:
            raise ValueError(f"decay {decay}: expected a number between 0 and 1")
        variance, _ = ewma_variance(panel, np.arange(len(panel.days)), decay)
        return PointFit(
            np.repeat(variance[..., None], len(HORIZONS), axis=-1), meta={"decay": decay}
        )

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        variance, reason = ewma_variance(panel, rows, self.state().meta["decay"])
        return np.repeat(variance[..., None], len(HORIZONS), axis=-1), reason
