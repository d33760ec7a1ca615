"""The panel HAR: one ridge regression for all coins on HARX-cal's regressors, realised ranges and volatility of volatility.

In: features.daily and features.hourly of all coins. Out: forecasts of variance. Never: a held-out forecast from rows of any coin whose
targets overlap its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml.baselines.har import complete_stretch
from ml.baselines.panel_regressors import (
    LOOKBACK_DAYS,
    NAMES,
    READS_HOURLY,
    panel_design,
    realised_range,
)
from ml.baselines.pooled import usable_rows
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel, mean_ahead

COMPLETE_DAYS = 22
MIN_PANEL_ROWS = 500
MIN_LEVEL_ROWS = 60
PENALTIES: tuple[float, ...] = (0.03, 0.1, 0.3)
"""Ridge penalties on standardised regressors, to choose from by held-out squared error."""
LEVEL_PENALTY = 0.1
"""Penalty a horizon day on the correction for the level: at 22 days it hardly moves."""
FOLDS = 5


@dataclass(frozen=True)
class Regression:
    """One horizon's fit: log variance = x' slopes + intercept + correction of (x' slopes + intercept - mean_level)."""

    slopes: Floats  # (P,)
    intercept: Floats  # (N,) smearing in it; NaN for a coin without rows
    mean_level: Floats  # (N,) mean log target of the coin
    correction: Floats  # (5,): a0, a1, a2, and the levels between which it was fitted

    def predict(self, x: Floats) -> Floats:
        """(D, N, P) -> (D, N) log variance."""
        # Not a matrix product: BLAS may round a block of days otherwise than a single day.
        fitted = (x * self.slopes).sum(axis=-1) + self.intercept
        return corrected(fitted, self.mean_level, self.correction)


class PanelHar(PointForecastModel):
    r"""Ridge regression of the log variance ahead, slopes common to all coins, levels their own.

    .. math:: \hat f_{i,D,h} = a_{i,h} + x_{i,D}' \beta_h, \qquad
        \log \hat\sigma^2_{i,D,h} = \hat f + g_h(\hat f - \bar y_i)

    The regression's target is the mean of the logarithms of realised variance and realised range ahead: the range is measured with less
    noise, so that the slopes are. The intercept a makes the forecast one of realised variance: the coin's mean and its
    smearing (Duan 1983). g is a quadratic, fitted by QLIKE with a ridge: the mean of exp(error) is not the same in calm and in turbulent
    times. The penalty of the slopes, one a horizon, is the one of `PENALTIES` with the least squared error on 5 blocks of days in
    turn held out for all coins at once.

    Sources: Bollerslev, Hood, Huss and Pedersen (2018), Review of Financial Studies 31 (the panel); Christensen and Podolskij (2007),
    Journal of Econometrics 141 (realised range); Corsi, Mittnik, Pigorsch and Pigorsch (2008), Econometric Reviews 27 (volatility of
    realised volatility); Patton (2011), Journal of Econometrics 160 (QLIKE).
    """

    name = "har_panel"
    lookback_days = LOOKBACK_DAYS
    out_of_sample_residuals = True

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        n_assets = len(panel.assets)
        shape = (len(panel.days), n_assets, len(HORIZONS))
        held_out = np.full(shape, np.nan)
        tensors = _empty_tensors(n_assets)
        missing = missing_hours(panel)
        if missing:
            status = dict.fromkeys(panel.assets, missing)
            return PointFit(held_out, tensors, {"regressors": list(NAMES)}, status)
        x = panel_design(panel)[first:]
        x[~complete_stretch(panel, COMPLETE_DAYS)[first:]] = np.nan
        ranges = realised_range(panel)
        status = {}
        penalties = {}
        for column, horizon in enumerate(HORIZONS):
            target = panel.target(horizon)[first:]
            y = np.log(np.where(target > 0, target, np.nan))
            smooth = 0.5 * (y + np.log(mean_ahead(ranges, horizon)[first:]))
            smooth = np.where(np.isfinite(smooth), smooth, y)
            usable, refused = usable_rows(x, y, panel.assets, horizon, MIN_PANEL_ROWS)
            status |= {asset: status.get(asset, reason) for asset, reason in refused.items()}
            if not usable.any():
                continue
            penalty, predicted = choose_penalty(x, y, smooth, usable, horizon)
            penalties[str(horizon)] = penalty
            found = fit_regression(x, y, smooth, usable, penalty, horizon)
            for name, value in vars(found).items():
                tensors[name][..., column] = value
            held_out[first:, :, column] = np.exp(predicted)
        meta = {"regressors": list(NAMES), "penalty": penalties}
        return PointFit(held_out, tensors, meta, status)

    def regression(self, panel: Panel, column: int) -> Regression:
        """The fit of one horizon, for the panel's coins."""
        tensors = self.state().tensors
        return Regression(
            tensors["slopes"][:, column],
            self._aligned(panel, "intercept")[:, column],
            self._aligned(panel, "mean_level")[:, column],
            tensors["correction"][:, column],
        )

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        missing = missing_hours(panel)
        if missing:
            shape = (len(rows), len(panel.assets))
            nothing = np.full((*shape, len(HORIZONS)), np.nan)
            return nothing, np.full(shape, missing, dtype=object)
        start = max(0, int(rows.min()) - LOOKBACK_DAYS)
        near = panel.rows_between(start, int(rows.max()) + 1)
        x = panel_design(near)[rows - start]  # (D, N, P)
        columns = range(len(HORIZONS))
        variance = np.stack(
            [np.exp(self.regression(panel, column).predict(x)) for column in columns], axis=-1
        )
        reason = np.full(x.shape[:2], "", dtype=object)
        for position in reversed(range(len(NAMES))):
            reason[~np.isfinite(x[..., position])] = f"regressor {NAMES[position]} is missing"
        return variance, reason


def missing_hours(panel: Panel) -> str:
    """Why the panel cannot be read; '' when it can."""
    missing = [name for name in READS_HOURLY if name not in panel.hourly_fields]
    return f"needs features.hourly, has no {missing[0]}" if missing else ""


def corrected(fitted: Floats, mean_level: Floats, correction: Floats) -> Floats:
    """fitted (..., N) log variance with the quadratic of its distance from the coins' mean levels (N,) added."""
    constant, linear, square, low, high = correction
    level = np.clip(fitted - mean_level, low, high)
    return np.asarray(fitted + constant + linear * level + square * level**2)


def _empty_tensors(n_assets: int) -> dict[str, NDArray[Any]]:
    shapes = {
        "slopes": (len(NAMES),),
        "intercept": (n_assets,),
        "mean_level": (n_assets,),
        "correction": (5,),
    }
    return {name: np.full((*shape, len(HORIZONS)), np.nan) for name, shape in shapes.items()}


def choose_penalty(
    x: Floats, y: Floats, smooth: Floats, usable: NDArray[np.bool_], horizon: int
) -> tuple[float, Floats]:
    """The best of `PENALTIES` and its held-out log forecasts (T, N); x (T, N, P), y, smooth and usable (T, N)."""
    predicted = np.full((len(PENALTIES), *y.shape), np.nan)
    for block in np.array_split(np.arange(len(y)), FOLDS):
        kept = usable.copy()
        kept[max(0, block[0] - horizon + 1) : block[-1] + horizon] = False
        if kept.sum() < MIN_PANEL_ROWS // 2:
            continue
        moments = _Moments.of(x, smooth, kept)
        for place, penalty in enumerate(PENALTIES):
            found = _with_levels(_regression(moments, x, y, kept, penalty, horizon), kept)
            predicted[place, block] = np.where(usable[block], found.predict(x[block]), np.nan)
    errors = (predicted - y) ** 2
    errors[:, ~np.isfinite(errors).all(axis=0)] = np.nan
    best = int(np.argmin(np.nanmean(errors, axis=(1, 2))))
    return PENALTIES[best], predicted[best]


def _with_levels(found: Regression, kept: NDArray[np.bool_]) -> Regression:
    """A coin that has fewer than `MIN_LEVEL_ROWS` rows outside the held-out block gets the mean level of the others."""
    few = kept.sum(axis=0) < MIN_LEVEL_ROWS
    if not few.any() or few.all():
        return found
    intercept, mean_level = (
        np.where(few, own[~few].mean(), own) for own in (found.intercept, found.mean_level)
    )
    return replace(found, intercept=intercept, mean_level=mean_level)


def fit_regression(
    x: Floats,
    y: Floats,
    smooth: Floats,
    usable: NDArray[np.bool_],
    penalty: float,
    horizon: int,
) -> Regression:
    """x (T, N, P), log target y and the less noisy target `smooth` that slopes are fitted to (T, N)."""
    return _regression(_Moments.of(x, smooth, usable), x, y, usable, penalty, horizon)


@dataclass(frozen=True)
class _Moments:
    """Second moments of regressors and target about each coin's own means, over the rows used."""

    mean_x: Floats  # (N, P)
    gram: Floats  # (P, P)
    moment: Floats  # (P,)
    rows: int

    @classmethod
    def of(cls, x: Floats, y: Floats, usable: NDArray[np.bool_]) -> Self:
        count = usable.sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean_x = np.where(usable[..., None], x, 0.0).sum(axis=0) / count[:, None]
            mean_y = np.where(usable, y, 0.0).sum(axis=0) / count
        centred = (x - mean_x)[usable]
        return cls(mean_x, centred.T @ centred, centred.T @ (y - mean_y)[usable], int(usable.sum()))


def _regression(
    moments: _Moments,
    x: Floats,
    y: Floats,
    usable: NDArray[np.bool_],
    penalty: float,
    horizon: int,
) -> Regression:
    scale = np.sqrt(np.diag(moments.gram) / moments.rows)
    scale[scale < 1e-9] = 1.0
    gram = moments.gram / np.outer(scale, scale) / moments.rows
    target = moments.moment / scale / moments.rows
    slopes = np.linalg.solve(gram + (penalty + 1e-6) * np.eye(len(gram)), target) / scale
    count = usable.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_y = np.where(usable, y, 0.0).sum(axis=0) / count
        raw = (x * slopes).sum(axis=-1)
        offset = mean_y - np.where(usable, raw, 0.0).sum(axis=0) / count
        error = np.where(usable, y - raw - offset, 0.0)
        smearing = np.log(np.where(usable, np.exp(error), 0.0).sum(axis=0) / count)
    intercept = np.where(count > 0, offset + smearing, np.nan)
    fitted = raw + intercept
    correction = level_correction(
        (fitted - mean_y)[usable], (y - fitted)[usable], LEVEL_PENALTY * horizon
    )
    return Regression(slopes, intercept, np.where(count > 0, mean_y, np.nan), correction)


def level_correction(level: Floats, error: Floats, penalty: float) -> Floats:
    """(a0, a1, a2, low, high): the quadratic g of the level that minimises mean[exp(error - g) + g] and a ridge on its standardised terms.

    level, error (n,). The quadratic is to be held constant beyond low and high, the least and largest level fitted on.
    """
    terms = np.stack([level, level**2], axis=-1)
    mean, scale = terms.mean(axis=0), terms.std(axis=0)
    scale[scale < 1e-12] = 1.0
    z = np.column_stack([np.ones(len(level)), (terms - mean) / scale])
    ridge = np.array([0.0, penalty, penalty])

    def objective(at: Floats) -> float:
        fitted = z @ at
        return float(np.mean(np.exp(error - fitted) + fitted) + 0.5 * (ridge * at**2).sum())

    found = np.zeros(3)
    value = objective(found)
    for _ in range(50):
        weight = np.exp(error - z @ found)
        gradient = z.T @ (1 - weight) / len(z) + ridge * found
        hessian = (z * weight[:, None]).T @ z / len(z) + np.diag(ridge + 1e-10)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while objective(found - size * step) > value and size > 1e-6:
            size /= 2
        found = found - size * step
        new = objective(found)
        if value - new < 1e-12:
            break
        value = new
    slopes = found[1:] / scale
    return np.array([found[0] - slopes @ mean, *slopes, level.min(), level.max()])
