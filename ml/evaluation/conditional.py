"""What a comparison of averages leaves out: Giacomini-White and forecast encompassing.

In: losses or errors of two forecasters on successive days, and what was known when they forecast.
Out: a statistic, a p-value, the number of days. Never: a p-value from too few days; it is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from scipy.stats import t as student

from ml.evaluation.comparison import (
    TestResult,
    autocovariances,
    bartlett_variance,
    fewest_days,
    small_sample_factor,
)

Floats = NDArray[np.float64]


def giacomini_white(
    loss: ArrayLike,
    benchmark_loss: ArrayLike,
    horizon: int = 1,
    instruments: ArrayLike | None = None,
) -> TestResult:
    r"""Equal conditional predictive ability: can the loss difference be foretold from what was known? chi squared of q.

    .. math:: GW = n \, \bar z' \hat\Omega^{-1} \bar z, \quad z_t = x_t d_t

    d (n,) the loss difference of the forecast made on day t, x_t (q,) known on that day: a constant and, by default, the
    newest loss difference whose horizon was over then, d_{t-h}. Omega: the long-run covariance of z over h-1
    lags, the span in which horizons overlap (Bartlett weights where it is not positive definite). A small p-value says that one forecaster can be preferred in advance, on average or in some states.
    Unlike Diebold-Mariano's it is a statement about the method with its window, estimation noise included.

    `instruments` (n, k) replace the default beside the constant. Days with a NaN in any of them are left out.
    Source: Giacomini and White (2006), Econometrica 74, theorems 1 and 3.
    """
    difference = (np.asarray(loss, np.float64) - np.asarray(benchmark_loss, np.float64)).ravel()
    if instruments is None:
        known = np.full((len(difference), 1), np.nan)
        known[horizon:, 0] = difference[:-horizon] if horizon < len(difference) else np.nan
    else:
        known = np.asarray(instruments, np.float64)
        if known.ndim != 2 or len(known) != len(difference):
            raise ValueError(
                f"instruments of shape {known.shape}: expected ({len(difference)}, number of instruments)"
            )
    kept = np.isfinite(difference) & np.isfinite(known).all(axis=1)
    difference, known = difference[kept], known[kept]
    n = len(difference)
    if n < fewest_days(horizon):
        return TestResult(np.nan, np.nan, n)
    if not difference.any():
        return TestResult(0.0, 1.0, n)
    scale = np.abs(known).mean(axis=0)  # leaves the statistic alone and keeps Omega well scaled
    x = np.column_stack([np.ones(n), known / np.where(scale > 0, scale, 1.0)])
    z = x * difference[:, None] / np.abs(difference).mean()
    omega = _long_run(z, horizon, np.ones(horizon))
    if np.linalg.eigvalsh(omega)[0] <= 0 and horizon > 1:
        omega = _long_run(z, horizon, 1.0 - np.arange(horizon) / horizon)
    mean = z.mean(axis=0)
    statistic = float(n * mean @ np.linalg.pinv(omega) @ mean)
    return TestResult(statistic, float(chi2.sf(statistic, int(np.linalg.matrix_rank(x)))), n)


def _long_run(z: Floats, horizon: int, weights: Floats) -> Floats:
    """(q, q) sum of the autocovariances of z (n, q), not centred, over h-1 lags with weights (h,)."""
    n = len(z)
    total = np.asarray(z.T @ z / n, dtype=np.float64)
    for lag in range(1, horizon):
        crossed = z[lag:].T @ z[:-lag] / n
        total += weights[lag] * (crossed + crossed.T)
    return total


def encompassing(error: ArrayLike, rival_error: ArrayLike, horizon: int = 1) -> TestResult:
    r"""Whether the rival adds anything to a forecast: one-sided, a small p-value says that it does.

    .. math:: ENC = \kappa \, \bar c / \sqrt{\hat V / n}, \quad c_t = e_t (e_t - r_t)

    e (n,) or (n, N) errors of the forecast on days (and coins), r those of the rival; coins are averaged by day. Under the null the best combination gives the rival no weight,
    and the mean of c is 0; positive means that a part of the rival would have helped. V is the long-run variance over
    h-1 lags (Bartlett weights where it is not positive), kappa the small-sample factor; Student t of n-1.

    Errors of log variance behave; those of variance are ruled by a few days. Days with a NaN are left out.
    Source: Harvey, Leybourne and Newbold (1998), "Tests for forecast encompassing", JBES 16, eq. 3 and section 4.
    """
    own, rival = np.asarray(error, np.float64), np.asarray(rival_error, np.float64)
    if own.shape != rival.shape:
        raise ValueError(f"rival errors of shape {rival.shape}: expected {own.shape}")
    gain = (own * (own - rival)).reshape(len(own), -1)  # (n, N)
    known = np.isfinite(gain)
    days = known.any(axis=1)
    gain = np.where(known, gain, 0.0)[days].sum(axis=1) / known[days].sum(axis=1)
    n = len(gain)
    if n < fewest_days(horizon):
        return TestResult(np.nan, np.nan, n)
    if not gain.any():
        return TestResult(0.0, 0.5, n)
    covariances = autocovariances(gain, horizon - 1)
    long_run = float(covariances[0] + 2.0 * covariances[1:].sum())
    if long_run <= 0:
        long_run = bartlett_variance(gain, horizon - 1)
    statistic = float(small_sample_factor(n, horizon) * gain.mean() / np.sqrt(long_run / n))
    return TestResult(statistic, float(student.sf(statistic, n - 1)), n)
