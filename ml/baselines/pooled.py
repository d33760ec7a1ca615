"""HARX-cal pooled over coins: slopes of the whole panel, drawn back to each coin as far as its own data speak.

In: features.daily of all coins. Out: forecasts, also for coins too young for a regression of their own.
Never: a held-out forecast from rows of any coin whose targets overlap its own: coins share their shocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.baselines.har import complete_stretch
from ml.baselines.regressors import REGRESSORS, design
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel
from ml.risk.tails import MIN_OBSERVATIONS

COMPLETE_DAYS = 22
"""As HARX-cal: no training row within 22 days of a day without complete bars."""
MIN_POOLED_ROWS = 180
RIDGE = 1e-2
FOLDS = 5
STRENGTHS: tuple[float, ...] = (0.0, 50.0, 150.0, 500.0, 1500.0, 5000.0, 1e9)
"""Pooled rows that the panel's slopes are worth against a coin's own, to choose from: 0 = each coin by itself."""


class PooledHar(PointForecastModel):
    r"""Regression of log mean realised variance ahead on HARX-cal's regressors, slopes shrunk from coin to panel.

    .. math:: \hat\beta_i = (G_i + \kappa \bar G)^{-1} (g_i + \kappa \bar G \hat\beta), \quad
        \hat\beta = (\sum_i G_i + 0.01 I)^{-1} \sum_i g_i, \quad \bar G = \sum_i G_i / \sum_i n_i

    G_i = X'X and g_i = X'y of coin i after its own means are taken out, so that levels stay the coin's. It is the
    posterior mean when a coin's slopes are drawn around the panel's with kappa rows' worth of trust (the fixed-effects
    pool of Bollerslev, Hood, Huss and Pedersen 2018, Review of Financial Studies 31, "Risk everywhere", as one end, and
    single regressions as the other; shrinkage as in Maddala, Trost, Li and Joutz 1997, JBES 15). kappa, one a horizon, is
    the one of `STRENGTHS` with the least squared error on 5 blocks of days in turn held out for all coins at once.
    Smearing (Duan 1983) per coin, drawn to the panel's by the same kappa.
    """

    name = "har_pooled"
    lookback_days = COMPLETE_DAYS
    out_of_sample_residuals = True

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        x = design(panel, REGRESSORS)[first:]  # (T, N, 1 + P)
        x[~complete_stretch(panel, COMPLETE_DAYS)[first:]] = np.nan
        shape = (len(panel.assets), len(HORIZONS))
        coefficients = np.full((*shape, x.shape[-1]), np.nan)
        held_out = np.full((len(panel.days), *shape), np.nan)
        status: dict[str, str] = {}
        strengths = {}
        for column, horizon in enumerate(HORIZONS):
            target = panel.target(horizon)[first:]
            y = np.log(np.where(target > 0, target, np.nan))
            usable, refused = usable_rows(x, y, panel.assets, horizon, MIN_POOLED_ROWS)
            status |= {asset: status.get(asset, reason) for asset, reason in refused.items()}
            if not usable.any():
                continue
            strength, predicted = choose_strength(x, y, usable, horizon)
            strengths[str(horizon)] = strength
            coefficients[:, column] = shrunk_coefficients(x, y, usable, strength)
            held_out[first:, :, column] = np.exp(predicted)
        return PointFit(
            window_variance=held_out,
            tensors={"coefficients": coefficients},
            meta={
                "regressors": ["intercept", *(r.name for r in REGRESSORS)],
                "shrinkage": strengths,
            },
            status=status,
        )

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        x = design(panel, REGRESSORS, rows)  # (D, N, P)
        # Not a matrix product: BLAS may round a block of days otherwise than a single day.
        fitted = (x[:, :, None, :] * self._aligned(panel, "coefficients")).sum(axis=-1)
        reason = np.full(x.shape[:2], "", dtype=object)
        for position in reversed(range(len(REGRESSORS))):
            absent = ~np.isfinite(x[:, :, 1 + position])
            reason[absent] = f"{' or '.join(REGRESSORS[position].columns)} is missing or 0"
        return np.exp(fitted), reason


def usable_rows(
    x: Floats, y: Floats, assets: tuple[str, ...], horizon: int, least: int
) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Rows (T, N) to fit a panel on, and why coins are refused; none where all coins together have fewer than `least`.

    x (T, N, P) regressors, y (T, N) log target; a coin needs `MIN_OBSERVATIONS` rows of its own.
    """
    usable = np.isfinite(x).all(axis=-1) & np.isfinite(y)
    rows = usable.sum(axis=0)
    few = rows < MIN_OBSERVATIONS
    refused = {
        assets[index]: f"needs {MIN_OBSERVATIONS} days with every regressor and a known target, "
        f"has {rows[index]} at {horizon} days"
        for index in np.flatnonzero(few)
    }
    usable[:, few] = False
    total = int(usable.sum())
    if total < least:
        reason = f"needs {least} rows of all coins, has {total}"
        refused |= {asset: refused.get(asset, reason) for asset in assets}
        usable[:] = False
    return usable, refused


def choose_strength(
    x: Floats, y: Floats, usable: NDArray[np.bool_], horizon: int
) -> tuple[float, Floats]:
    """The best of `STRENGTHS` and its held-out log forecasts (T, N); x (T, N, P), y and usable (T, N)."""
    predicted = np.full((len(STRENGTHS), *y.shape), np.nan)
    for block in np.array_split(np.arange(len(y)), FOLDS):
        kept = usable.copy()
        kept[max(0, block[0] - horizon + 1) : block[-1] + horizon] = False
        if kept.sum() < MIN_POOLED_ROWS // 2:
            continue
        for place, strength in enumerate(STRENGTHS):
            beta = shrunk_coefficients(x, y, kept, strength)
            fitted = (x[block] * beta).sum(axis=-1)  # (B, N)
            predicted[place, block] = np.where(usable[block], fitted, np.nan)
    errors = np.nanmean(_squared(predicted, y), axis=(1, 2))
    best = int(np.argmin(errors))
    return STRENGTHS[best], predicted[best]


def shrunk_coefficients(x: Floats, y: Floats, usable: NDArray[np.bool_], strength: float) -> Floats:
    """(N, P) log-linear coefficients, the intercept first and with the smearing in it; a coin without rows has the panel's
    slopes around the panel's means."""
    count = usable.sum(axis=0)  # (N,)
    values = np.where(usable[..., None], x[..., 1:], 0.0)  # (T, N, P - 1)
    targets = np.where(usable, y, 0.0)
    total = max(int(count.sum()), 1)
    mean_x = _mean(values.sum(axis=0), count, values.sum(axis=(0, 1)) / total)
    mean_y = _mean(targets.sum(axis=0), count, targets.sum() / total)
    centred = np.where(usable[..., None], values - mean_x, 0.0)
    deviation = np.where(usable, targets - mean_y, 0.0)
    gram = np.einsum("tnp,tnq->npq", centred, centred, optimize=True)
    moment = np.einsum("tnp,tn->np", centred, deviation, optimize=True)
    ridge = RIDGE * np.eye(gram.shape[-1])
    pooled = np.linalg.solve(gram.sum(axis=0) + ridge, moment.sum(axis=0))
    typical = gram.sum(axis=0) / total
    prior = strength * typical + ridge
    slopes = np.linalg.solve(gram + prior, (moment + prior @ pooled)[..., None])[..., 0]
    residual = np.where(usable, deviation - (centred * slopes).sum(axis=-1), 0.0)
    spread = np.where(usable, np.exp(residual), 0.0)
    trust = min(strength, total)
    common = spread.sum() / total
    weight = np.where(count + trust > 0, trust, 1.0)
    smearing = (spread.sum(axis=0) + weight * common) / (count + weight)
    intercept = mean_y - (mean_x * slopes).sum(axis=-1) + np.log(smearing)
    return np.concatenate([intercept[:, None], slopes], axis=-1)


def _mean(total: Floats, count: NDArray[np.int64], otherwise: Any) -> Floats:
    """total / count over the first axis, `otherwise` where the count is 0."""
    shape = count.reshape(-1, *([1] * (total.ndim - 1)))
    return np.asarray(np.where(shape > 0, total / np.maximum(shape, 1), otherwise))


def _squared(predicted: Floats, y: Floats) -> Floats:
    """Squared errors, NaN where any strength has none, so that all are judged on the same rows."""
    errors = (predicted - y) ** 2
    return np.where(np.isfinite(errors).all(axis=0), errors, np.nan)
