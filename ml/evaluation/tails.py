"""Whether VaR and ES forecasts hold: Kupiec, Christoffersen, dynamic quantile, Acerbi-Szekely.

In: breaches, VaR, ES and returns of successive, non-overlapping periods of one coin. Out: a statistic and a p-value.
Never: a p-value from fewer than 30 periods.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import chi2

from ml.evaluation.comparison import TestResult

Floats = NDArray[np.float64]

MIN_PERIODS = 30
DQ_LAGS = 4
SIMULATIONS = 2000
SIMULATION_SEED = 20240101


def kupiec(breaches: ArrayLike, level: float) -> TestResult:
    r"""Unconditional coverage: the share of breaches (n,) against 1 - level; chi squared of 1.

    .. math:: LR = -2 \log \frac{(1-p)^{n-x} p^x}{(1-x/n)^{n-x} (x/n)^x}

    0 means exactly the promised share. Source: Kupiec (1995), Journal of Derivatives 3.
    """
    hits, probability = _hits(breaches), _probability(level)
    n, x = len(hits), int(hits.sum())
    if n < MIN_PERIODS:
        return TestResult(np.nan, np.nan, n)
    statistic = 2.0 * (_bernoulli(n, x, x / n) - _bernoulli(n, x, probability))
    return _chi_squared(statistic, 1, n)


def christoffersen(breaches: ArrayLike, level: float) -> TestResult:
    """Conditional coverage: the right share of breaches, and none the likelier after another; chi squared of 2.

    LR of `kupiec` plus LR of independence against a first-order Markov chain.
    Source: Christoffersen (1998), International Economic Review 39.
    """
    hits = _hits(breaches)
    coverage = kupiec(hits, level)
    if np.isnan(coverage.statistic):
        return coverage
    return _chi_squared(coverage.statistic + independence(hits), 2, len(hits))


def independence(hits: ArrayLike) -> float:
    """Likelihood ratio of a first-order Markov chain against independent breaches (n,); 0 when none follows another
    more or less often than it should."""
    series = _hits(hits)
    before, after = series[:-1], series[1:]
    calm, calm_hits = int((~before).sum()), int((~before & after).sum())
    breached, breached_hits = int(before.sum()), int((before & after).sum())
    chain = _bernoulli(calm, calm_hits, calm_hits / calm if calm else 0.0) + _bernoulli(
        breached, breached_hits, breached_hits / breached if breached else 0.0
    )
    n, x = len(after), int(after.sum())
    return 2.0 * (chain - _bernoulli(n, x, x / n))


def dynamic_quantile(breaches: ArrayLike, value_at_risk: ArrayLike, level: float) -> TestResult:
    r"""Breaches cannot be foretold from the four before or from the VaR itself; chi squared of 6.

    .. math:: DQ = \frac{\hat\beta' X'X \hat\beta}{p (1-p)}, \quad Hit_t = I_t - p = X_t \beta + u_t

    X: a constant, Hit of the last four periods, the VaR of t. Source: Engle and Manganelli (2004), JBES 22, eq. 10.
    """
    hits, probability = _hits(breaches), _probability(level)
    risk = np.asarray(value_at_risk, dtype=np.float64).ravel()
    if risk.shape != hits.shape:
        raise ValueError(f"VaR of shape {risk.shape}: expected {hits.shape}, one for each breach")
    n = len(hits) - DQ_LAGS
    if n < MIN_PERIODS:
        return TestResult(np.nan, np.nan, len(hits))
    centred = hits - probability
    lagged = [centred[DQ_LAGS - lag : len(hits) - lag] for lag in range(1, DQ_LAGS + 1)]
    x = np.column_stack([np.ones(n), *lagged, risk[DQ_LAGS:] / risk[DQ_LAGS:].mean()])
    projected = x @ (np.linalg.pinv(x) @ centred[DQ_LAGS:])
    statistic = float(projected @ projected / (probability * (1.0 - probability)))
    return _chi_squared(statistic, int(np.linalg.matrix_rank(x)), len(hits))


def acerbi_szekely(
    returns: ArrayLike,
    value_at_risk: ArrayLike,
    expected_shortfall: ArrayLike,
    level: float = 0.975,
) -> TestResult:
    r"""The second test of Acerbi and Szekely: whether losses beyond VaR are as many and as large as ES says.

    .. math:: Z_2 = \sum_t \frac{X_t I_t}{n\,\alpha\,ES_t} + 1, \quad I_t = 1\{X_t < -VaR_t\}, \quad \alpha = 1 - level

    X simple returns, VaR and ES positive fractions, all (n,). 0 is what a right forecast gives on average; negative
    means that risk was understated: -1 is twice the shortfall promised. The p-value is one-sided, from 2,000 samples
    in which breaches come with probability alpha and losses beyond VaR are Pareto with tail index ES/(ES - VaR), the
    one that has this VaR and this ES; one fixed seed.

    Source: Acerbi and Szekely (2014), "Backtesting expected shortfall", Risk, eq. 6.
    """
    x, risk, shortfall = (
        np.asarray(values, dtype=np.float64).ravel()
        for values in (returns, value_at_risk, expected_shortfall)
    )
    n, alpha = len(x), _probability(level)
    wrong = ~((risk > 0) & (shortfall >= risk * (1.0 - 1e-9)))
    if wrong.any():
        raise ValueError(
            f"VaR {risk[wrong][0]} with ES {shortfall[wrong][0]}: expected 0 < VaR <= ES on every day"
        )
    if n < MIN_PERIODS:
        return TestResult(np.nan, np.nan, n)
    statistic = float((x * (x < -risk) / shortfall).sum() / (n * alpha) + 1.0)
    sample, day, depth = _simulated_breaches(n, alpha)
    exponent = np.maximum(shortfall - risk, 0.0) / shortfall  # one over the tail index
    losses = (risk / shortfall)[day] * np.exp(exponent[day] * depth)
    simulated = 1.0 - np.bincount(sample, losses, SIMULATIONS) / (n * alpha)
    return TestResult(statistic, float((1 + (simulated <= statistic).sum()) / (1 + SIMULATIONS)), n)


@lru_cache(maxsize=32)
def _simulated_breaches(
    n: int, alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Samples, periods and depths (exponential of 1) of breaches that come with probability alpha in 2,000 samples of n periods.

    One long row of trials, drawn by the gaps between its breaches: geometric, so that only breaches cost time.
    """
    generator = np.random.default_rng(SIMULATION_SEED)
    trials = SIMULATIONS * n
    expected = trials * alpha
    draws = int(expected + 10.0 * np.sqrt(expected) + 100.0)  # beyond the last trial
    place = np.cumsum(generator.geometric(alpha, draws)) - 1
    place = place[place < trials]
    return place // n, place % n, generator.standard_exponential(len(place))


def _hits(breaches: ArrayLike) -> NDArray[np.bool_]:
    hits = np.asarray(breaches).ravel()
    if not np.isin(hits, (0, 1)).all():
        raise ValueError(f"breach {hits[~np.isin(hits, (0, 1))][0]}: expected True or False")
    return hits.astype(bool)


def _probability(level: float) -> float:
    if not 0.5 < level < 1:
        raise ValueError(f"level {level}: expected above 0.5 and below 1, as 0.99")
    return round(1.0 - level, 12)


def _bernoulli(n: int, x: int, probability: float) -> float:
    """Log likelihood of x breaches in n."""
    return float(xlogy(x, probability) + xlogy(n - x, 1.0 - probability))


def _chi_squared(statistic: float, degrees: int, n: int) -> TestResult:
    bounded = max(0.0, statistic)
    return TestResult(bounded, float(chi2.sf(bounded, degrees)), n)
