"""Whether one forecaster is better than another: Diebold-Mariano, model confidence set, SPA, StepM, Mincer-Zarnowitz.

In: losses, or realised and forecast values, of successive days. Out: a statistic, a p-value, the number of days.
Never: a p-value from too few days; it is NaN, and the number says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import MCS, SPA
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from scipy.stats import t as student

Floats = NDArray[np.float64]

BOOTSTRAP_SEED = 20240101
BOOTSTRAP_REPETITIONS = 1000


@dataclass(frozen=True)
class TestResult:
    """A statistic with its p-value; both NaN when there are too few observations."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    statistic: float
    p_value: float
    observations: int


def fewest_days(horizon: int) -> int:
    """Days below which no test is made: 30, or three non-overlapping horizons."""
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    return max(30, 3 * horizon)


def diebold_mariano(loss: ArrayLike, benchmark_loss: ArrayLike, horizon: int = 1) -> TestResult:
    r"""Equal predictive ability, two-sided; a negative statistic means a smaller loss than the benchmark's.

    .. math:: DM = \sqrt{\frac{n + 1 - 2h + h(h-1)/n}{n}} \cdot \frac{\bar d}{\sqrt{\hat V / n}},\quad
        \hat V = \hat\gamma_0 + 2 \sum_{k=1}^{h-1} \hat\gamma_k

    with d the loss difference of each of n days (n,), compared with Student t of n-1 degrees of freedom. The sum is
    the long-run variance of errors that overlap for h-1 days; where it is not positive, Bartlett weights 1 - k/h take
    its place. Days on which either loss is NaN are left out.

    Sources: Diebold and Mariano (1995), JBES 13; Harvey, Leybourne and Newbold (1997), IJF 13, for the factor and t.
    """
    difference = (np.asarray(loss, np.float64) - np.asarray(benchmark_loss, np.float64)).ravel()
    difference = difference[~np.isnan(difference)]
    n = len(difference)
    if n < fewest_days(horizon):
        return TestResult(np.nan, np.nan, n)
    if not difference.any():
        return TestResult(0.0, 1.0, n)
    covariances = autocovariances(difference, horizon - 1)
    long_run = covariances[0] + 2.0 * covariances[1:].sum()
    if long_run <= 0:
        long_run = bartlett_variance(difference, horizon - 1)
    scale = small_sample_factor(n, horizon)
    statistic = float(scale * difference.mean() / np.sqrt(long_run / n))
    return TestResult(statistic, float(2.0 * student.sf(abs(statistic), n - 1)), n)


def panel_diebold_mariano(
    loss: ArrayLike, benchmark_loss: ArrayLike, horizon: int = 1
) -> TestResult:
    r"""Diebold-Mariano over a panel (T, N) of days and coins, clustered by date; NaN where there is no forecast.

    .. math:: DM = \kappa \, \bar d \Big/ \sqrt{\frac{1}{n^2} \sum_{|k|<h} \sum_t u_t u_{t-k}}, \quad
        u_t = \sum_i (d_{it} - \bar d)

    with n coin-days and kappa the small-sample factor of `diebold_mariano` in T days. Coins move together, so a day is
    one cluster, however many coins it has; each coin-day weighs the same, where `diebold_mariano` on daily means weighs
    each day the same. Bartlett weights take over where the sum is not positive.

    Sources: Driscoll and Kraay (1998), Review of Economics and Statistics 80 (covariance); Timmermann and Zhu (2019),
    "Comparing forecasting performance with panel data" (pooled average loss differences).
    """
    difference = np.asarray(loss, np.float64) - np.asarray(benchmark_loss, np.float64)
    if difference.ndim != 2:
        raise ValueError(f"losses of shape {difference.shape}: expected (days, coins)")
    given = np.isfinite(difference)
    difference, given = difference[given.any(axis=1)], given[given.any(axis=1)]
    days, count = len(difference), int(given.sum())
    if days < fewest_days(horizon):
        return TestResult(np.nan, np.nan, days)
    mean = float(difference[given].sum() / count)
    cluster = np.where(given, difference - mean, 0.0).sum(axis=1)  # (T,), sums to 0
    if not difference[given].any():
        return TestResult(0.0, 1.0, days)
    sums = autocovariances(cluster, horizon - 1)
    long_run = sums[0] + 2.0 * sums[1:].sum()
    if long_run <= 0:
        long_run = bartlett_variance(cluster, horizon - 1)
    statistic = float(small_sample_factor(days, horizon) * mean * count / np.sqrt(days * long_run))
    return TestResult(statistic, float(2.0 * student.sf(abs(statistic), days - 1)), days)


def small_sample_factor(n: int, horizon: int) -> float:
    """sqrt((n + 1 - 2h + h(h-1)/n) / n), by which Harvey, Leybourne and Newbold (1997) shrink the statistic."""
    return float(np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n))


def autocovariances(values: Floats, lags: int) -> Floats:
    """(lags+1,): (1/n) sum_t (x_t - mean)(x_{t-k} - mean) for k = 0 .. lags."""
    centred = values - values.mean()
    n = len(values)
    return np.array([centred[lag:] @ centred[: n - lag] / n for lag in range(lags + 1)])


def bartlett_variance(values: Floats, lags: int) -> float:
    """Newey-West long-run variance (Newey and West 1987, Econometrica 55): never negative."""
    covariances = autocovariances(values, lags)
    weights = 1.0 - np.arange(1, lags + 1) / (lags + 1)
    return float(covariances[0] + 2.0 * weights @ covariances[1:])


def model_confidence_set(
    losses: pd.DataFrame, horizon: int = 1, size: float = 0.1
) -> pd.Series[Any]:
    """MCS p-value of each model (column) from losses of the same days (rows); in the 1 - size set when p >= size.

    Range statistic, stationary bootstrap with mean block max(h, n^(1/3)), 1,000 repetitions, one fixed seed.
    Models whose losses are equal to another's on every day share its p-value. NaN with too few days.

    Source: Hansen, Lunde and Nason (2011), Econometrica 79; computed by arch.bootstrap.MCS.
    """
    if not 0 < size < 1:
        raise ValueError(f"size {size}: expected a number between 0 and 1")
    complete = losses.dropna()
    n = len(complete)
    if n < fewest_days(horizon) or complete.shape[1] == 0:
        return pd.Series(np.nan, index=losses.columns, name="p_value")
    distinct = complete.T.drop_duplicates().T
    p_values = pd.Series(1.0, index=distinct.columns)
    if distinct.shape[1] > 1:
        procedure = MCS(
            distinct,
            size=size,
            reps=BOOTSTRAP_REPETITIONS,
            block_size=block_size(n, horizon),
            seed=BOOTSTRAP_SEED,
        )
        procedure.compute()
        p_values = procedure.pvalues["Pvalue"]
    twin = {
        name: next(kept for kept in distinct.columns if complete[kept].equals(complete[name]))
        for name in losses.columns
    }
    return pd.Series(
        [p_values[twin[name]] for name in losses.columns], losses.columns, name="p_value"
    )


def superior_predictive_ability(
    benchmark_loss: ArrayLike, losses: ArrayLike, horizon: int = 1
) -> TestResult:
    r"""Whether any of k models (n, k) beats the benchmark (n,): a small p-value says that one does.

    .. math:: T = \max_k \sqrt n \, \bar d_k / \hat\omega_k, \quad d_k = L_0 - L_k

    with omega_k^2 the long-run variance of `stationary_variance`; p-value: the consistent one. Without dividing by omega
    the noisiest models would set the bar for all: arch 8 computes omega and does not divide by it, so it is given d/omega.
    Source: Hansen (2005), JBES 23, section 3; computed by arch.bootstrap.SPA with the settings of `model_confidence_set`.
    """
    base, others = np.asarray(benchmark_loss, np.float64), np.asarray(losses, np.float64)
    if others.ndim != 2 or len(others) != len(base):
        raise ValueError(
            f"losses of shape {others.shape}: expected ({len(base)}, number of models)"
        )
    gains, _ = _studentised_gains(base, others, horizon)
    n = len(gains)
    if n < fewest_days(horizon) or gains.shape[1] == 0:
        return TestResult(np.nan, np.nan, n)
    procedure = _spa(gains, horizon)
    statistic = float(np.sqrt(n) * gains.mean(axis=0).max())
    return TestResult(statistic, float(procedure.pvalues["consistent"]), n)


def stepwise_superior(
    benchmark_loss: ArrayLike, losses: pd.DataFrame, horizon: int = 1, size: float = 0.05
) -> list[str]:
    """The models (columns of (n, k) losses) that beat the benchmark (n,), at a family-wise error rate of `size`.

    Where `superior_predictive_ability` says whether any model beats it, this says which do: those above the critical value
    are set aside and the rest is judged again without them, until none is found. Empty with too few days, and for a
    benchmark that none beats; models whose loss never differs from the benchmark's are left out. The rounds are ours, as
    arch 8's own StepM stops with an error when every model turns out to be better over more than one round.
    Source: Romano and Wolf (2005), Econometrica 73, algorithm 4.1 (studentised); each round by arch.bootstrap.SPA.
    """
    if not 0 < size < 1:
        raise ValueError(f"size {size}: expected a number between 0 and 1")
    base = np.asarray(benchmark_loss, np.float64)
    if len(base) != len(losses):
        raise ValueError(
            f"losses of {len(losses)} days: expected {len(base)}, as the benchmark has"
        )
    gains, varies = _studentised_gains(base, losses.to_numpy(np.float64), horizon)
    if len(gains) < fewest_days(horizon) or gains.shape[1] == 0:
        return []
    procedure = _spa(gains, horizon)
    better = np.zeros(gains.shape[1], dtype=bool)
    while not better.all():
        found = procedure.better_models(size, "consistent")
        if len(found) == 0:
            break
        better[found] = True
        if not better.all():
            procedure.subset(~better)
            procedure.compute()
    names = losses.columns[varies]
    return [str(name) for name, superior in zip(names, better, strict=True) if superior]


def _studentised_gains(
    base: Floats, others: Floats, horizon: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """(n', k') gains over the benchmark in units of their long-run sd, of days without a gap and models that differ from
    the benchmark, and which of the k models these are."""
    kept = np.isfinite(base) & np.isfinite(others).all(axis=1)
    gains = base[kept, None] - others[kept]
    if len(gains) == 0:
        return gains, np.zeros(gains.shape[1], dtype=bool)
    varies = np.ptp(gains, axis=0) > 0
    gains = gains[:, varies]
    block = block_size(len(gains), horizon)
    variance = np.array([stationary_variance(column, block) for column in gains.T])
    return gains / np.sqrt(variance), np.asarray(varies)


def _spa(gains: Floats, horizon: int) -> Any:
    n = len(gains)
    procedure = SPA(
        np.zeros(n),
        -gains,
        reps=BOOTSTRAP_REPETITIONS,
        block_size=block_size(n, horizon),
        seed=BOOTSTRAP_SEED,
    )
    procedure.compute()
    return procedure


def stationary_variance(values: Floats, block: int) -> float:
    r"""Long-run variance that the stationary bootstrap of mean block b implies: never negative.

    .. math:: \hat\gamma_0 + 2 \sum_{i=1}^{n-1} \kappa_i \hat\gamma_i, \quad
        \kappa_i = \frac{n-i}{n} (1 - \tfrac1b)^i + \frac in (1 - \tfrac1b)^{n-i}

    Source: Politis and Romano (1994), JASA 89, as used by Hansen (2005), section 3.2.
    """
    n = len(values)
    covariances = autocovariances(values, n - 1)
    i = np.arange(1, n)
    stay = 1.0 - 1.0 / block
    kappa = (n - i) / n * stay**i + i / n * stay ** (n - i)
    return float(covariances[0] + 2.0 * kappa @ covariances[1:])


def block_size(days: int, horizon: int) -> int:
    """Mean block of the bootstraps: the overlap of the targets, or n^(1/3) where that is longer."""
    return max(horizon, round(float(np.cbrt(days))))


def mincer_zarnowitz(realized: ArrayLike, forecast: ArrayLike, horizon: int = 1) -> TestResult:
    r"""Unbiasedness: Wald test of a = 0 and b = 1 in y = a + b f + u, weighted by 1/f; chi squared of 2.

    .. math:: y_t / f_t = a / f_t + b + \varepsilon_t

    Dividing by the forecast keeps a few wild days from deciding (Patton and Sheppard 2009, "Evaluating volatility and
    correlation forecasts", section 4). Covariance: Newey-West with h-1 lags. A large statistic means biased forecasts.
    Source: Mincer and Zarnowitz (1969).
    """
    y, f = np.asarray(realized, np.float64).ravel(), np.asarray(forecast, np.float64).ravel()
    kept = np.isfinite(y) & (f > 0)
    y, f = y[kept], f[kept]
    n = len(y)
    if n < fewest_days(horizon):
        return TestResult(np.nan, np.nan, n)
    x = np.column_stack(
        [f.mean() / f, np.ones(n)]
    )  # the first column scaled: it does not change the test
    inverse = np.linalg.pinv(x.T @ x)
    estimate = inverse @ (x.T @ (y / f))
    moments = x * (y / f - x @ estimate)[:, None]
    meat = moments.T @ moments
    for lag in range(1, horizon):
        crossed = moments[lag:].T @ moments[:-lag]
        meat += (1.0 - lag / horizon) * (crossed + crossed.T)
    distance = estimate - np.array([0.0, 1.0])
    statistic = float(distance @ np.linalg.pinv(inverse @ meat @ inverse) @ distance)
    return TestResult(statistic, float(chi2.sf(statistic, 2)), n)
