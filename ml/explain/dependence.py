r"""Tests of a mean from days that depend on each other, and of many such tests at once.

In: daily series, p-values. Out: a mean with its standard error and degrees of freedom; p-values adjusted for their number.
Never: a p-value for independent days. Coins are clusters of a day: they are summed before they come here.

The long-run variance is the mean of the first B cosine transforms, squared (equal-weighted cosines, EWC):

.. math:: \hat\Omega = \frac1B \sum_{j=1}^B \Lambda_j^2, \quad
    \Lambda_j = \sqrt{\tfrac2n} \sum_{t=1}^n u_t \cos\bigl(\pi j (t - \tfrac12) / n\bigr), \quad B = 0.4 \, n^{2/3}

and the statistic is held against Student t of B degrees of freedom, which keeps its size where Newey-West with normal
critical values does not. Source: Lazarus, Lewis, Stock and Watson (2018), "HAR inference: recommendations for practice",
JBES 36, equations 4 and 10 with the rule of their section 3.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]


def dependent_mean(values: Floats) -> tuple[Floats, Floats, int]:
    """Mean (K,), its standard error (K,) and the degrees of freedom of K series in columns (n, K), every value finite.

    Raises ValueError with fewer than 8 days.
    """
    n = len(values)
    if n < 8:
        raise ValueError(f"{n} days: expected at least 8 for a long-run variance")
    basis = _cosines(n)
    transformed = np.sqrt(2.0 / n) * (basis.T @ values)  # (B, K)
    long_run = (transformed**2).mean(axis=0)
    return values.mean(axis=0), np.sqrt(long_run / n), basis.shape[1]


def t_statistics(values: Floats) -> tuple[Floats, int]:
    """t of a zero mean of K series (n, K); 0 for a series that is all zeros. And the degrees of freedom."""
    mean, error, degrees = dependent_mean(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(error > 0, mean / error, 0.0), degrees


def two_sided(statistic: Floats, degrees: int) -> Floats:
    """p-values of t statistics."""
    return np.asarray(2.0 * student.sf(np.abs(statistic), degrees))


def holm(p_values: ArrayLike) -> Floats:
    """p-values (m,) adjusted so that rejecting below a level keeps the family-wise error at it; NaN = no test, not counted.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    p = np.asarray(p_values, np.float64).ravel()
    adjusted = np.full(len(p), np.nan)
    given = np.flatnonzero(np.isfinite(p))
    order = given[np.argsort(p[given], kind="stable")]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps * p[order]), 1.0)
    return adjusted


def variance_inflation(x: Floats, y: Floats) -> float:
    r"""By how much dependence over days inflates the variance of the correlation of two unrelated series (T, N), NaN = missing.

    .. math:: 1 + 2 \sum_k (1 - k/T) \hat\rho_x(k) \hat\rho_y(k)

    up to the first lag at which either autocorrelation falls below 2/sqrt(T). 1 = as if days were independent.
    Source: Bartlett (1935), "Some aspects of the time-correlation problem", JRSS 98.
    """
    first, second = _autocorrelations(x), _autocorrelations(y)
    n = len(x)
    faded = np.flatnonzero(np.minimum(first, second)[1:] < 2.0 / np.sqrt(n))
    last = int(faded[0]) if len(faded) else n - 2
    lags = np.arange(1, last + 1)
    return float(1.0 + 2.0 * ((1.0 - lags / n) * first[lags] * second[lags]).sum())


def naive_size(inflation: float) -> float:
    """How often a 5 % test for independent days rejects for unrelated series whose variance is so inflated."""
    return float(2.0 * student.sf(1.959963984540054 / np.sqrt(max(inflation, 1.0)), np.inf))


def _autocorrelations(values: Floats) -> Floats:
    """(T,) of series that each have their own mean, pooled over columns; missing days count for nothing."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, values, 0.0) - np.where(known, values, 0.0).sum(axis=0) / count
    centred[~known] = 0.0
    size = 2 * len(values)
    spectrum = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    covariance = np.fft.irfft(spectrum, size, axis=0)[: len(values)].sum(axis=1)
    return np.asarray(covariance / covariance[0] if covariance[0] > 0 else 0.0 * covariance)


@lru_cache(maxsize=64)
def _cosines(n: int) -> Floats:
    """(n, B)."""
    number = max(int(0.4 * n ** (2 / 3)), 2)
    day = (np.arange(n) + 0.5) / n
    return np.asarray(np.cos(np.pi * day[:, None] * np.arange(1, number + 1)))
