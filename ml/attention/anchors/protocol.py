"""The anchor: the forecast that attention corrects, behind one seam.

In: a `Panel` and the last day that a fit may use. Out: log variance per day, coin and horizon with a status, forecasts of the
training window that did not see their own target, and a state of named arrays.
Never: a row or a target after the as_of day, or a forecast without a status that says where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ml.baselines.har import HarxCal
from ml.calibration import PointForecastModel, gives_forecasts
from ml.model import ModelState
from ml.panel import Panel

FloatArray = NDArray[np.float64]


class Anchor(Protocol):
    """What the attention model asks of its anchor."""

    name: ClassVar[str]
    """Its key in `ANCHORS`."""
    lookback_days: ClassVar[int]
    """Days up to and including an as_of that a forecast for it reads."""

    def fit(self, panel: Panel, trained_as_of: date, window_days: int, seed: int) -> None:
        """Fit on the last `window_days` days of `panel.until(trained_as_of)`."""
        ...

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> tuple[FloatArray, NDArray[Any]]:
        """Log variance (D, N, H), NaN = refused, and status (D, N): 'ok', 'fallback: ...' or why it is refused.

        A day gives the same numbers alone and in a block, and with or without later rows in the panel.
        """
        ...

    def cross_fitted(
        self, panel: Panel, before: date, window_days: int
    ) -> tuple[NDArray[np.datetime64], FloatArray]:
        """Days (W,) of the window that ends on `before`, and variance (W, N, H) made without the target of its own day; NaN =
        not used. Leaves this anchor as it is.
        """
        ...

    def state(self) -> ModelState:
        """Arrays, and meta with at least `model`, `assets` and `status` {asset: text}; RuntimeError before `fit`."""
        ...

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """The anchor that gave this state."""
        ...


class ModelAnchor:
    """An anchor that is one of the platform's own point models, unchanged."""

    name: ClassVar[str]
    lookback_days: ClassVar[int]
    made_by: ClassVar[type[PointForecastModel]]

    def __init__(self) -> None:
        self._model = self.made_by()

    def fit(self, panel: Panel, trained_as_of: date, window_days: int, seed: int) -> None:
        self._model.fit(panel, trained_as_of, {"window_days": window_days}, seed)

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> tuple[FloatArray, NDArray[Any]]:
        forecasts = self._model.forecast(panel, as_of)
        return np.log(forecasts.variance), forecasts.status.astype(object)

    def cross_fitted(
        self, panel: Panel, before: date, window_days: int
    ) -> tuple[NDArray[np.datetime64], FloatArray]:
        model = self.made_by()
        model.fit(panel, before, {"window_days": window_days}, 0)
        held_out = model.held_out
        if held_out is None:
            raise ValueError(
                f"anchor {self.name!r}: its window's forecasts have seen their targets"
            )
        return held_out

    def state(self) -> ModelState:
        return self._model.state()

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        anchor = cls()
        anchor._model = cls.made_by.from_state(state)
        return anchor


class HarxCalAnchor(ModelAnchor):
    """HARX-cal, coin by coin: one that it was not fitted on is refused. Source: see `ml.baselines.har`."""

    name = "harx_cal"
    lookback_days = HarxCal.lookback_days
    made_by = HarxCal


def gives_anchor(status: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether forecasts of this status (any shape) have an anchor: 'ok' or a fallback."""
    found = np.fromiter(map(gives_forecasts, status.ravel()), dtype=bool, count=status.size)
    return found.reshape(status.shape)
