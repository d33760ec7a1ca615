r"""The anchor: the forecast that attention corrects, behind one seam.

In: a `Panel` and the last day that a fit may use. Out: log variance per day, coin and horizon with a status, forecasts of the
training window that did not see their own target, and a state of named arrays.
Never: a row or a target after the as_of day, or a forecast without a status that says where it comes from.

`harx_cal` is a regression for each coin: a coin that it was not fitted on is refused. `har_pooled` is fitted on all coins at
once; a coin without a regression of its own gets the slopes of the panel and a level from its own past:

    log variance_{D,h} = x_D' b_h + n / (n + k_h) * mean_{t <= D - h} (log y_t - x_t' b_h + log s_h)

b_h the panel's coefficients with the smearing s_h in the intercept, n the number of targets without overlap among the coin's
last `LEVEL_DAYS` days, k_h = (variance of a coin's error) / (variance of the level between coins), both of the training panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ml.baselines.har import HarxCal, complete_stretch
from ml.baselines.pooled import (
    COMPLETE_DAYS,
    MIN_POOLED_ROWS,
    PooledHar,
    shrunk_coefficients,
)
from ml.baselines.regressors import REGRESSORS, design
from ml.calibration import PointForecastModel, gives_forecasts
from ml.forecasts import HORIZONS
from ml.model import ModelState
from ml.panel import Panel

FloatArray = NDArray[np.float64]
LEVEL_DAYS = 250
"""Days up to the as_of day whose errors say how far a coin's level is from the panel's."""
MIN_LEVEL_TARGETS = 22
"""Days with every regressor and a known target that a coin needs before it is forecast by the panel's slopes."""
BORROWED = "fallback: no regression of its own (too young, or not in training): the panel's slopes and the coin's level"


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


class _ModelAnchor:
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


class HarxCalAnchor(_ModelAnchor):
    """HARX-cal, coin by coin. Source: see `ml.baselines.har`."""

    name = "harx_cal"
    lookback_days = HarxCal.lookback_days
    made_by = HarxCal


@dataclass(frozen=True)
class _PanelFit:
    """What a coin without a regression of its own is forecast by."""

    coefficients: FloatArray  # (H, P) the intercept first, the smearing in it; NaN = too few rows
    log_smearing: FloatArray  # (H,)
    level_worth: FloatArray  # (H,) k: targets without overlap that the panel's level is worth


class PooledAnchor(_ModelAnchor):
    """HARX-cal's regressors with slopes shrunk to the panel's; also for a coin that training never saw.

    A coin that training refused for its few days is treated as one that it never saw.
    """

    name = "har_pooled"
    lookback_days = max(PooledHar.lookback_days, LEVEL_DAYS)
    made_by = PooledHar

    def __init__(self) -> None:
        super().__init__()
        self._panel: _PanelFit | None = None

    def fit(self, panel: Panel, trained_as_of: date, window_days: int, seed: int) -> None:
        super().fit(panel, trained_as_of, window_days, seed)
        known = panel.until(trained_as_of).window(window_days + PooledHar.lookback_days)
        first = max(0, len(known.days) - window_days)
        strengths = self._model.state().meta["shrinkage"]
        self._panel = _fit_panel(known, first, strengths)

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> tuple[FloatArray, NDArray[Any]]:
        log_variance, status = super().forecast(panel, as_of)
        fitted = self._model.state().meta["status"]
        borrowing = [
            column
            for column, asset in enumerate(panel.assets)
            if not gives_forecasts(fitted.get(asset, ""))
        ]
        for position, day in enumerate(as_of if borrowing else ()):
            known = panel.until(day).window(LEVEL_DAYS)
            log_variance[position, borrowing], status[position, borrowing] = self._borrow(
                known, borrowing
            )
        return log_variance, status

    def _borrow(self, known: Panel, columns: list[int]) -> tuple[FloatArray, list[str]]:
        """Log variance (C, H) and status of some coins on the last day of `known`."""
        fit = self._panel_fit()
        x = design(known, REGRESSORS)[:, columns]  # (T, C, P)
        fitted = (x[:, :, None, :] * fit.coefficients).sum(axis=-1)  # (T, C, H)
        level = np.empty(fitted.shape[1:])
        fewest = np.full(len(columns), len(x))
        for column, horizon in enumerate(HORIZONS):
            target = known.target(horizon)[:, columns]
            error = np.log(np.where(target > 0, target, np.nan)) - fitted[..., column]
            error += fit.log_smearing[column]
            count = np.isfinite(error).sum(axis=0)
            mean = np.nansum(error, axis=0) / np.maximum(count, 1)
            level[:, column] = mean * count / (count + horizon * fit.level_worth[column])
            fewest = np.minimum(fewest, count)
        found = fitted[-1] + level
        status = []
        for place, count in enumerate(fewest.tolist()):
            absent = ~np.isfinite(x[-1, place, 1:])
            if not np.isfinite(fit.coefficients).all():
                status.append(f"the panel's slopes need {MIN_POOLED_ROWS} rows of all coins")
            elif absent.any():
                columns_read = REGRESSORS[int(absent.argmax())].columns
                status.append(f"{' or '.join(columns_read)} is missing or 0")
            elif count < MIN_LEVEL_TARGETS:
                status.append(
                    f"not in the training data: needs {MIN_LEVEL_TARGETS} days with every regressor and a known target"
                    f" among the last {LEVEL_DAYS}, has {count}"
                )
            else:
                status.append(BORROWED)
                continue
            found[place] = np.nan
        return found, status

    def _panel_fit(self) -> _PanelFit:
        if self._panel is None:
            raise RuntimeError("har_pooled has no state yet: call fit first")
        return self._panel

    def state(self) -> ModelState:
        state, panel = self._model.state(), self._panel_fit()
        tensors = {
            **state.tensors,
            "panel_coefficients": panel.coefficients,
            "panel_log_smearing": panel.log_smearing,
            "panel_level_worth": panel.level_worth,
        }
        status = dict(state.meta["status"])
        if np.isfinite(panel.coefficients).all():
            status = {a: t if gives_forecasts(t) else BORROWED for a, t in status.items()}
        return ModelState(tensors=tensors, meta={**state.meta, "status": status})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        status = {
            asset: "no regression of its own" if text == BORROWED else text
            for asset, text in state.meta["status"].items()
        }
        anchor = super().from_state(ModelState(state.tensors, {**state.meta, "status": status}))
        anchor._panel = _PanelFit(
            state.tensors["panel_coefficients"],
            state.tensors["panel_log_smearing"],
            state.tensors["panel_level_worth"],
        )
        return anchor


def _fit_panel(known: Panel, first: int, strengths: dict[str, float]) -> _PanelFit:
    """The panel's coefficients and how much its level is worth, on rows first .. T-1."""
    x = design(known, REGRESSORS)[first:]
    x[~complete_stretch(known, COMPLETE_DAYS)[first:]] = np.nan
    nobody = np.full((len(x), 1, x.shape[-1]), np.nan)
    shape = (len(HORIZONS), x.shape[-1])
    coefficients, smearing, worth = np.full(shape, np.nan), *np.zeros((2, len(HORIZONS)))
    for column, horizon in enumerate(HORIZONS):
        if str(horizon) not in strengths:
            continue
        target = known.target(horizon)[first:]
        y = np.log(np.where(target > 0, target, np.nan))
        usable = np.isfinite(x).all(axis=-1) & np.isfinite(y)
        # A coin without a row has the panel's slopes around the panel's means.
        everyone = np.concatenate([x, nobody], axis=1)
        rows = np.pad(usable, ((0, 0), (0, 1)))
        own = np.pad(y, ((0, 0), (0, 1)), constant_values=np.nan)
        coefficients[column] = shrunk_coefficients(everyone, own, rows, strengths[str(horizon)])[-1]
        error = np.where(usable, y - (x * coefficients[column]).sum(axis=-1), np.nan)
        smearing[column] = -np.nanmean(error)
        worth[column] = _level_worth(error, horizon)
    return _PanelFit(coefficients, smearing, worth)


def _level_worth(error: FloatArray, horizon: int) -> float:
    """k of the module's formula from the errors (T, N), NaN = not used, of targets that overlap for `horizon` days."""
    count = np.isfinite(error).sum(axis=0)
    error, count = error[:, count > 0], count[count > 0]
    level = np.nanmean(error, axis=0)
    noise = float(np.nanmean((error - level) ** 2))
    between = float(np.var(level) - np.mean(noise * horizon / count))
    return noise / max(between, 0.01 * noise)


ANCHORS: dict[str, type[Anchor]] = {
    "harx_cal": HarxCalAnchor,
    "har_pooled": PooledAnchor,
}


def anchor_class(name: str) -> type[Anchor]:
    """The anchor of that name; ValueError that lists the known ones."""
    if name not in ANCHORS:
        raise ValueError(f"anchor {name!r}: expected one of {', '.join(ANCHORS)}")
    return ANCHORS[name]


def gives_anchor(status: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether forecasts of this status (any shape) have an anchor: 'ok' or a fallback."""
    found = np.fromiter(map(gives_forecasts, status.ravel()), dtype=bool, count=status.size)
    return found.reshape(status.shape)
