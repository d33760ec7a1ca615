"""Random walk: tomorrow is as today.

In: rv_d, rv_5d, rv_22d of features.daily. Out: forecasts. Never: a fitted parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel

COLUMNS: dict[int, str] = {1: "rv_d", 5: "rv_5d", 22: "rv_22d"}


class RandomWalk(PointForecastModel):
    r"""Mean realised variance of the last h days, for the next h.

    .. math:: \\hat\\sigma^2_{D,h} = \\frac{1}{h} \\sum_{i=0}^{h-1} RV_{D-i}

    Its residuals are all out of sample, as nothing is fitted.
    """

    name = "random_walk"
    out_of_sample_residuals = True

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        return PointFit(self._variance(panel, np.arange(len(panel.days)))[0])

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        variance = np.stack(
            [panel.feature(COLUMNS[horizon])[rows] for horizon in HORIZONS], axis=-1
        )
        reason = np.full(variance.shape[:2], "", dtype=object)
        for column, horizon in reversed(list(enumerate(HORIZONS))):
            reason[np.isnan(variance[:, :, column])] = f"{COLUMNS[horizon]} is missing"
            reason[variance[:, :, column] <= 0] = f"{COLUMNS[horizon]} is 0: no price moved"
        return variance, reason
