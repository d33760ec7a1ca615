r"""The recursions of GARCH(1,1), GJR-GARCH(1,1,1) and EGARCH(1,1,1), for many series (or parameter sets) at once.

In: returns in percent and parameters. Out: conditional variances in percent squared, forecasts, log likelihoods.
Never: fitting. A missing return (NaN) leaves the variance as it was, as if the day had not been.

With :math:`e_t = r_t - \mu`, :math:`z_t = e_t / \sigma_t` and Student t innovations of unit variance:

.. math::
    \text{GARCH, GJR:}\quad & \sigma^2_{t+1} = \omega + (\alpha + \gamma 1\{e_t < 0\}) e_t^2 + \beta \sigma^2_t \\
    \text{EGARCH:}\quad & \log \sigma^2_{t+1} = \omega + \alpha (|z_t| - \sqrt{2/\pi}) + \gamma z_t + \beta \log \sigma^2_t

Sources: Bollerslev (1987), Glosten, Jagannathan and Runkle (1993), Nelson (1991); start value, parametrisation and
signs are those of arch 8 (arch/univariate/recursions_python.py), which the tests compare with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

PARAMETERS: tuple[str, ...] = ("mu", "omega", "alpha", "gamma", "beta", "nu")
"""Order of the first axis of every parameter array; gamma is 0 in GARCH."""
SQRT_2_OVER_PI = float(np.sqrt(2.0 / np.pi))
BACKCAST_DAYS = 75


def backcast(returns: Floats) -> float:
    """The variance before the first day: weights 0.94 ** k over the first 75 squared demeaned returns (n,)."""
    squared = np.square(returns - returns.mean())[:BACKCAST_DAYS]
    weights = 0.94 ** np.arange(len(squared))
    return float(weights @ squared / weights.sum())


def first_variance(parameters: Floats, initial: Floats, exponential: bool) -> Floats:
    """Variance of the first day, (L,), from parameters (6, L) and the backcast (L,)."""
    _, omega, alpha, gamma, beta, _ = parameters
    if exponential:
        return np.asarray(np.exp(omega + beta * np.log(initial)))
    return np.asarray(omega + (alpha + 0.5 * gamma + beta) * initial)


def filter_variance(
    returns: Floats, parameters: Floats, first: Floats, exponential: bool
) -> Floats:
    """(T, L) returns -> (T+1, L): row t is the variance of day t given the days before it; row T is tomorrow's."""
    mu, omega, alpha, gamma, beta, _ = parameters
    residuals = returns - mu
    known = np.isfinite(residuals)
    variance = np.empty((len(residuals) + 1, len(first)))
    variance[0] = first
    if exponential:
        logs = np.log(variance[0])
        for day, residual in enumerate(residuals):
            z = residual * np.exp(-0.5 * logs)
            following = omega + alpha * (np.abs(z) - SQRT_2_OVER_PI) + gamma * z + beta * logs
            logs = np.where(known[day], following, logs)
            variance[day + 1] = np.exp(logs)
        return variance
    shocks = omega + (alpha + gamma * (residuals < 0)) * np.square(residuals)
    for day in range(len(residuals)):
        following = shocks[day] + beta * variance[day]
        variance[day + 1] = np.where(known[day], following, variance[day])
    return variance


def log_likelihoods(
    returns: Floats, parameters: Floats, initial: float, exponential: bool
) -> Floats:
    """(n,) returns without gaps and parameters (6, L) -> (n, L) log densities under the standardised Student t."""
    lanes = parameters.shape[1]
    first = first_variance(parameters, np.full(lanes, initial), exponential)
    repeated = np.repeat(returns[:, None], lanes, axis=1)
    variance = filter_variance(repeated, parameters, first, exponential)[:-1]
    nu = parameters[5]
    constant = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * np.log(np.pi * (nu - 2))
    scaled = np.square(repeated - parameters[0]) / (variance * (nu - 2))
    return np.asarray(constant - 0.5 * np.log(variance) - 0.5 * (nu + 1) * np.log1p(scaled))


def mean_variance(next_variance: Floats, parameters: Floats, horizons: Sequence[int]) -> Floats:
    """GARCH and GJR: (D, L) variance of the first day ahead -> (D, L, H) mean over each horizon.

    E sigma^2_{k+1} = omega + (alpha + gamma/2 + beta) E sigma^2_k, as half the innovations are negative.
    """
    _, omega, alpha, gamma, beta, _ = parameters
    daily = [next_variance]
    for _ in range(1, max(horizons)):
        daily.append(omega + (alpha + 0.5 * gamma + beta) * daily[-1])
    return _horizon_means(daily, horizons)


def mean_variance_exponential(
    next_variance: Floats, parameters: Floats, factors: Floats, horizons: Sequence[int]
) -> Floats:
    r"""EGARCH: (D, L) variance of the first day ahead -> (D, L, H), with `factors` (L, 22) of `shock_factors`.

    .. math:: E\,\sigma^2_{k} = M_k \exp\Big(\omega \sum_{j=0}^{k-2} \beta^j + \beta^{k-1} \log \sigma^2_1\Big)
    """
    _, omega, _, _, beta, _ = parameters
    logs = np.log(next_variance)
    daily = [next_variance]
    for day in range(1, max(horizons)):
        logs = omega + beta * logs
        daily.append(np.exp(logs) * factors[:, day])
    return _horizon_means(daily, horizons)


def shock_factors(parameters: Floats, innovations: Floats, days: int) -> Floats:
    r"""EGARCH: (6,) and past innovations z (n,) -> (days,): the factors M_k that shocks add to the forecast variance.

    .. math:: M_k = \prod_{j=0}^{k-2} \frac1n \sum_i e^{\beta^j g(z_i)}, \quad g(z) = \alpha(|z| - \sqrt{2/\pi}) + \gamma z

    The log variance k days ahead is linear in k-1 independent shocks, so this is the exact mean of a simulation that
    draws past innovations (arch: method='bootstrap'), without random numbers. Draws from the Student t will not do:
    E exp(alpha |z|) does not exist under it (Nelson 1991 therefore took the GED), and the mean of a simulation hangs
    on the number of draws (ETC as of 2022-01-01, nu 2.6: M_22 is 0.6, 1.1 and 349 with 1,000, 4,096 and 16,384).
    """
    _, _, alpha, gamma, beta, _ = parameters
    shocks = alpha * (np.abs(innovations) - SQRT_2_OVER_PI) + gamma * innovations
    means = [np.exp(beta**lag * shocks).mean() for lag in range(days - 1)]
    return np.concatenate([[1.0], np.cumprod(means)])


def _horizon_means(daily: list[Floats], horizons: Sequence[int]) -> Floats:
    means, total = {}, np.zeros_like(daily[0])
    for day, variance in enumerate(daily, start=1):
        total = total + variance
        means[day] = total / day
    return np.ascontiguousarray(np.stack([means[horizon] for horizon in horizons], axis=-1))
