"""From a point forecast of variance to a distribution: what every model without its own quantiles shares.

In: a model's variance forecasts for the rows of its training window. Out: residual quantiles, standardised-return
tails and in-window losses per asset and horizon; `PointForecastModel`, which turns them into `Forecasts`.
Never: a residual whose target ends after the last row of the panel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.losses import qlike
from ml.forecasts import HORIZONS, OK, QUANTILE_LEVELS, Forecasts
from ml.model import ModelState, window_days
from ml.panel import Panel
from ml.risk.tails import MIN_OBSERVATIONS, fit_tail

Floats = NDArray[np.float64]
PerAsset = dict[str, dict[str, Any]]
"""{asset: {horizon as text: value}}."""


@dataclass(frozen=True)
class Calibration:
    """How forecasts of the training window compare with what followed."""

    quantiles: Floats  # (N, H, Q) of log target - log forecast; NaN with fewer than 60 residuals
    observations: PerAsset  # residuals
    in_window: PerAsset  # {'qlike': mean, 'n': n}
    tail: PerAsset  # TailFit as dict; absent with fewer than 60 standardised returns


def calibrate(panel: Panel, variance: Floats) -> Calibration:
    """Compare `variance` (T, N, H), NaN where a row is not to be used, with the targets and returns of `panel`."""
    quantiles = np.full((len(panel.assets), len(HORIZONS), len(QUANTILE_LEVELS)), np.nan)
    observations: PerAsset = {asset: {} for asset in panel.assets}
    in_window: PerAsset = {asset: {} for asset in panel.assets}
    tail: PerAsset = {asset: {} for asset in panel.assets}
    for column, horizon in enumerate(HORIZONS):
        target, returns = panel.target(horizon), panel.horizon_return(horizon)
        for index, asset in enumerate(panel.assets):
            forecast, realized = variance[:, index, column], target[:, index]
            usable = (forecast > 0) & (realized > 0)
            count = int(usable.sum())
            observations[asset][str(horizon)] = count
            if count >= MIN_OBSERVATIONS:
                residuals = np.log(realized[usable]) - np.log(forecast[usable])
                quantiles[index, column] = np.quantile(residuals, QUANTILE_LEVELS)
                loss = float(qlike(realized[usable], forecast[usable]).mean())
                in_window[asset][str(horizon)] = {"qlike": loss, "n": count}
            standardised = returns[:, index] / np.sqrt(horizon * forecast)
            standardised = standardised[np.isfinite(standardised)]
            if len(standardised) >= MIN_OBSERVATIONS:
                tail[asset][str(horizon)] = fit_tail(standardised).to_dict()
    return Calibration(quantiles, observations, in_window, tail)


@dataclass(frozen=True)
class PointFit:
    """What a subclass of `PointForecastModel` learnt."""

    window_variance: (
        Floats  # (T, N, H) forecasts for the window's rows, for calibration; NaN = row not used
    )
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    status: dict[str, str] = field(
        default_factory=dict
    )  # for assets that are refused, or have a fallback


class PointForecastModel(ABC):
    """A model that gives a variance; its quantiles are those of its own past log residuals.

    log quantile p = log variance + quantile p of (log target - log variance) over the training window.
    """

    name: str
    lookback_days: ClassVar[int] = 1
    out_of_sample_residuals: ClassVar[bool]
    """Whether `PointFit.window_variance` was made without the target that it is compared with."""
    config_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.device = "cpu"
        self._state: ModelState | None = None
        self._held_out: tuple[NDArray[np.datetime64], Floats] | None = None

    @property
    def held_out(self) -> tuple[NDArray[np.datetime64], Floats] | None:
        """Days (W,) and variance (W, N, H) of the window as forecast without their own targets, NaN = not used.

        Right after `fit` only, and None for a model whose residuals are in-sample: it is no part of the state.
        """
        return self._held_out

    @abstractmethod
    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        """Fit on rows first .. T-1 of a panel that ends on the training day (earlier rows are history only)."""

    @abstractmethod
    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        """(D, N, H) variance for some rows of any panel, NaN = none, and why not: (D, N) of text, '' = no reason."""

    def fit(self, panel: Panel, trained_as_of: date, config: Mapping[str, Any], seed: int) -> None:
        days = window_days(config, self.config_keys)
        known = panel.until(trained_as_of).window(days + self.lookback_days)
        first = max(0, len(known.days) - days)
        found = self._fit(known, first, config, seed)
        in_window = np.arange(len(known.days)) >= first
        window_variance = np.where(in_window[:, None, None], found.window_variance, np.nan)
        calibration = calibrate(known, window_variance)
        if self.out_of_sample_residuals:
            self._held_out = known.days[first:], window_variance[first:]
        status = {asset: found.status.get(asset, OK) for asset in known.assets}
        for asset, counts in calibration.observations.items():
            fewest = min(counts.values())
            if gives_forecasts(status[asset]) and fewest < MIN_OBSERVATIONS:
                status[asset] = (
                    f"needs {MIN_OBSERVATIONS} days with a forecast and a known target, has {fewest}"
                )
        self._state = ModelState(
            tensors={**found.tensors, "residual_quantiles": calibration.quantiles},
            meta={
                "model": self.name,
                "assets": list(known.assets),
                "horizons": list(HORIZONS),
                "config": {**dict(config), "window_days": days},
                "seed": seed,
                "trained_as_of": trained_as_of.isoformat(),
                "train_start": str(known.days[first]),
                "train_end": str(known.days[-1]),
                "observations": calibration.observations,
                "status": status,
                "in_window": calibration.in_window,
                "tail": calibration.tail,
                **found.meta,
            },
        )

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> Forecasts:
        rows = panel.rows(as_of)
        variance, reason = self._variance(panel, rows)
        quantiles = self._aligned(panel, "residual_quantiles")
        trained: dict[str, str] = self.state().meta["status"]
        status = np.array(
            [trained.get(a, f"{a} was not in the training data") for a in panel.assets],
            dtype=object,
        )
        usable = np.array([gives_forecasts(text) for text in status], dtype=bool)
        valid = (np.isfinite(variance) & (variance > 0)).all(axis=-1)  # (D, N)
        reason = np.where(reason == "", "the model gave no positive variance", reason)
        variance = np.where((valid & usable)[..., None], variance, np.nan)
        return Forecasts(
            model=self.name,
            days=panel.days[rows],
            assets=panel.assets,
            horizons=HORIZONS,
            variance=variance,
            log_quantiles=np.log(variance)[..., None] + quantiles,
            calibrated=np.full(quantiles.shape[:2], self.out_of_sample_residuals),
            status=np.where(valid | ~usable, status, reason),
        )

    def _aligned(self, panel: Panel, tensor: str) -> NDArray[Any]:
        """A tensor whose first axis is the fitted assets, for the panel's assets; NaN for those not fitted."""
        state = self.state()
        stored = state.tensors[tensor]
        fitted: list[str] = state.meta["assets"]
        aligned = np.full((len(panel.assets), *stored.shape[1:]), np.nan)
        for column, asset in enumerate(panel.assets):
            if asset in fitted:
                aligned[column] = stored[fitted.index(asset)]
        return aligned

    def state(self) -> ModelState:
        if self._state is None:
            raise RuntimeError(f"{self.name} has no state yet: call fit first")
        return self._state

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        model = cls()
        if state.meta["model"] != model.name:
            raise ValueError(f"state of model {state.meta['model']!r}: expected {model.name!r}")
        model._state = state
        return model


def gives_forecasts(status: str) -> bool:
    """Whether a coin of this status is forecast: 'ok' or a fallback."""
    return status == OK or status.startswith("fallback: ")
