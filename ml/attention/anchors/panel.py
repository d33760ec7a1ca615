r"""Anchors with the panel's slopes, which also forecast coins that training never saw, or refused as too young.

A coin without a regression of its own gets the slopes of the panel and a level from its own past:

    log variance_{D,h} = x_D' b_h + n / (n + k_h) * mean_{t <= D - h} (log y_t - x_t' b_h + log s_h)

b_h the panel's coefficients with the smearing s_h in the intercept, n the number of targets without overlap among the coin's
last `LEVEL_DAYS` days, k_h = (variance of a coin's error) / (variance of the level between coins), both of the training panel.

In: a `Panel`. Out: as `Anchor`. Never: a level from a target that ends after the as_of day.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml.attention.anchors.protocol import FloatArray, ModelAnchor
from ml.baselines.har import complete_stretch
from ml.baselines.panel_har import MIN_PANEL_ROWS, PanelHar, corrected, missing_hours
from ml.baselines.panel_regressors import NAMES, panel_design
from ml.baselines.pooled import COMPLETE_DAYS, MIN_POOLED_ROWS, PooledHar, shrunk_coefficients
from ml.baselines.regressors import REGRESSORS, design
from ml.calibration import gives_forecasts
from ml.forecasts import HORIZONS
from ml.model import ModelState
from ml.panel import Panel

LEVEL_DAYS = 250
"""Days up to the as_of day whose errors say how far a coin's level is from the panel's."""
MIN_LEVEL_TARGETS = 22
"""Days with every regressor and a known target that a coin needs before it is forecast by the panel's slopes."""
BORROWED = "fallback: no regression of its own (too young, or not in training): the panel's slopes and the coin's level"


@dataclass(frozen=True)
class _Borrowed:
    """How a coin without a regression of its own finds its level."""

    log_smearing: FloatArray  # (H,)
    level_worth: FloatArray  # (H,) k: targets without overlap that the panel's level is worth


class _PanelAnchor(ModelAnchor, ABC):
    """An anchor whose slopes are the panel's, which also serves coins that training never saw or refused as too young."""

    def __init__(self) -> None:
        super().__init__()
        self._borrowed: _Borrowed | None = None

    @abstractmethod
    def _common(self, panel: Panel) -> FloatArray:
        """(T, N, H) log variance by the panel's slopes around the panel's level, the same function for every coin."""

    @abstractmethod
    def _missing(self, panel: Panel, column: int) -> str:
        """Why `_common` has nothing for a coin on the last day."""

    def _finished(
        self, fitted: FloatArray, log_target: FloatArray, horizon_column: int
    ) -> FloatArray:
        """(C,) log variance of coins with their own level, whose past log targets are (T, C)."""
        return fitted

    def fit(self, panel: Panel, trained_as_of: date, window_days: int, seed: int) -> None:
        super().fit(panel, trained_as_of, window_days, seed)
        known = panel.until(trained_as_of).window(window_days + self.made_by.lookback_days)
        first = max(0, len(known.days) - window_days)
        self._prepare(known, first)
        common = self._common(known)[first:]
        common[~complete_stretch(known, COMPLETE_DAYS)[first:]] = np.nan
        smearing, worth = np.zeros((2, len(HORIZONS)))
        for column, horizon in enumerate(HORIZONS):
            error = _log_target(known, horizon)[first:] - common[..., column]
            if np.isfinite(error).any():
                smearing[column] = -np.nanmean(error)
                worth[column] = _level_worth(error, horizon)
        self._borrowed = _Borrowed(smearing, worth)

    def _prepare(self, known: Panel, first: int) -> None:
        """Fit what `_common` needs beyond the model itself, on rows first .. T-1."""

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
        borrowed = self._borrowing()
        common = self._common(known)[:, columns]  # (T, C, H)
        found = np.empty(common.shape[1:])
        fewest = np.full(len(columns), len(common))
        for column, horizon in enumerate(HORIZONS):
            log_target = _log_target(known, horizon)[:, columns]
            error = log_target - common[..., column] + borrowed.log_smearing[column]
            count = np.isfinite(error).sum(axis=0)
            mean = np.nansum(error, axis=0) / np.maximum(count, 1)
            level = mean * count / np.maximum(count + horizon * borrowed.level_worth[column], 1)
            found[:, column] = self._finished(common[-1, :, column] + level, log_target, column)
            fewest = np.minimum(fewest, count)
        status = []
        for place, count in enumerate(fewest.tolist()):
            if not np.isfinite(common[-1, place]).all():
                status.append(self._missing(known, columns[place]))
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

    def _borrowing(self) -> _Borrowed:
        if self._borrowed is None:
            raise RuntimeError(f"{self.name} has no state yet: call fit first")
        return self._borrowed

    def state(self) -> ModelState:
        state, borrowed = self._model.state(), self._borrowing()
        tensors = {
            **state.tensors,
            "panel_log_smearing": borrowed.log_smearing,
            "panel_level_worth": borrowed.level_worth,
        }
        status = dict(state.meta["status"])
        if self._fitted_panel():
            status = {a: t if gives_forecasts(t) else BORROWED for a, t in status.items()}
        return ModelState(tensors=tensors, meta={**state.meta, "status": status})

    @abstractmethod
    def _fitted_panel(self) -> bool:
        """Whether there were rows enough for the panel's slopes at every horizon."""

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        status = {
            asset: "no regression of its own" if text == BORROWED else text
            for asset, text in state.meta["status"].items()
        }
        anchor = super().from_state(ModelState(state.tensors, {**state.meta, "status": status}))
        anchor._borrowed = _Borrowed(
            state.tensors["panel_log_smearing"], state.tensors["panel_level_worth"]
        )
        return anchor


class PooledAnchor(_PanelAnchor):
    """HARX-cal's regressors with slopes shrunk to the panel's. Source: see `ml.baselines.pooled`."""

    name = "har_pooled"
    lookback_days = max(PooledHar.lookback_days, LEVEL_DAYS)
    made_by = PooledHar

    def __init__(self) -> None:
        super().__init__()
        self._coefficients: FloatArray = np.empty((0, 0))  # (H, P) the intercept first

    def _prepare(self, known: Panel, first: int) -> None:
        strengths = self._model.state().meta["shrinkage"]
        self._coefficients = _panel_coefficients(known, first, strengths)

    def _common(self, panel: Panel) -> FloatArray:
        x = design(panel, REGRESSORS)
        return np.asarray((x[:, :, None, :] * self._coefficients).sum(axis=-1))

    def _missing(self, panel: Panel, column: int) -> str:
        absent = ~np.isfinite(design(panel.window(1), REGRESSORS)[0, column, 1:])
        if not absent.any():
            return f"the panel's slopes need {MIN_POOLED_ROWS} rows of all coins"
        return f"{' or '.join(REGRESSORS[int(absent.argmax())].columns)} is missing or 0"

    def _fitted_panel(self) -> bool:
        return bool(np.isfinite(self._coefficients).all())

    def state(self) -> ModelState:
        state = super().state()
        return ModelState({**state.tensors, "panel_coefficients": self._coefficients}, state.meta)

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        anchor = super().from_state(state)
        anchor._coefficients = state.tensors["panel_coefficients"]
        return anchor


class PanelHarAnchor(_PanelAnchor):
    """The panel HAR. Source: see `ml.baselines.panel_har`."""

    name = "har_panel"
    lookback_days = max(PanelHar.lookback_days, LEVEL_DAYS)
    made_by = PanelHar
    _model: PanelHar

    def _common(self, panel: Panel) -> FloatArray:
        tensors = self._model.state().tensors
        shape = (len(panel.days), len(panel.assets), len(HORIZONS))
        if not self._fitted_panel() or missing_hours(panel):
            return np.full(shape, np.nan)
        x = panel_design(panel)[:, :, None, :]  # (T, N, 1, P)
        level = np.nanmean(tensors["intercept"], axis=0)  # (H,)
        return np.asarray((x * tensors["slopes"].T).sum(axis=-1) + level)

    def _missing(self, panel: Panel, column: int) -> str:
        if missing_hours(panel):
            return missing_hours(panel)
        if not self._fitted_panel():
            return f"the panel's slopes need features.hourly and {MIN_PANEL_ROWS} rows of all coins"
        absent = ~np.isfinite(panel_design(panel)[-1, column])
        return f"regressor {NAMES[int(absent.argmax())]} is missing"

    def _finished(
        self, fitted: FloatArray, log_target: FloatArray, horizon_column: int
    ) -> FloatArray:
        known = np.isfinite(log_target)
        total = np.where(known, log_target, 0.0).sum(axis=0)
        correction = self._model.state().tensors["correction"][:, horizon_column]
        return corrected(fitted, total / np.maximum(known.sum(axis=0), 1), correction)

    def _fitted_panel(self) -> bool:
        return bool(np.isfinite(self._model.state().tensors["slopes"]).all())


def _log_target(panel: Panel, horizon: int) -> FloatArray:
    target = panel.target(horizon)
    return np.log(np.where(target > 0, target, np.nan))


def _panel_coefficients(known: Panel, first: int, strengths: dict[str, float]) -> FloatArray:
    """(H, P): the pooled HAR's coefficients for a coin without rows, fitted on rows first .. T-1; NaN without enough of them."""
    x = design(known, REGRESSORS)[first:]
    x[~complete_stretch(known, COMPLETE_DAYS)[first:]] = np.nan
    nobody = np.full((len(x), 1, x.shape[-1]), np.nan)
    coefficients = np.full((len(HORIZONS), x.shape[-1]), np.nan)
    for column, horizon in enumerate(HORIZONS):
        if str(horizon) not in strengths:
            continue
        y = _log_target(known, horizon)[first:]
        usable = np.isfinite(x).all(axis=-1) & np.isfinite(y)
        # A coin without a row has the panel's slopes around the panel's means.
        everyone = np.concatenate([x, nobody], axis=1)
        rows = np.pad(usable, ((0, 0), (0, 1)))
        own = np.pad(y, ((0, 0), (0, 1)), constant_values=np.nan)
        coefficients[column] = shrunk_coefficients(everyone, own, rows, strengths[str(horizon)])[-1]
    return coefficients


def _level_worth(error: FloatArray, horizon: int) -> float:
    """k of the module's formula from the errors (T, N), NaN = not used, of targets that overlap for `horizon` days."""
    count = np.isfinite(error).sum(axis=0)
    error, count = error[:, count > 0], count[count > 0]
    level = np.nanmean(error, axis=0)
    noise = float(np.nanmean((error - level) ** 2))
    between = float(np.var(level) - np.mean(noise * horizon / count))
    return noise / max(between, 0.01 * noise)
