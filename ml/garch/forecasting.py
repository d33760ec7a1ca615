r"""Variance ahead of every member: exact where the expectation is a recursion, over past innovations elsewhere.

In: a member, its parameters and a coin's returns. Out: conditional variances day by day, and their mean over each horizon.
Never: a random number that depends on which days are asked for, or a return after the day that is forecast from.

| member | expectation of the variance k days ahead |
|---|---|
| GARCH, GJR | :math:`\omega + (\alpha + \kappa\gamma + \beta) h_k + \pi' E x_k`, :math:`\kappa` = share of :math:`z^2` below zero (1/2 if symmetric) |
| component | the same for trend and distance from it: :math:`q' = \omega + \rho q,\ h' - q' = (\alpha + \beta)(h - q)` |
| FIGARCH | ARCH(infinity) with expected squares in place of those to come |
| EGARCH, Realized | log-linear: exact mean over past innovations, a factor a day (see `shock_factors`) |
| APARCH | simulated over past innovations, by seed, on a grid of states that forecasts interpolate |

Under Student t innovations E exp(alpha |z|) does not exist (Nelson 1991 therefore took the GED), so the exponential members
average over the coin's own past innovations: arch's method 'bootstrap' with every draw taken.
An exogenous term returns to its mean as a first-order autoregression does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.garch import densities
from ml.garch.jit import kernel
from ml.garch.likelihood import prepare
from ml.garch.paths import SQRT_2_OVER_PI, TRUNCATION, figarch_weights, variance_path
from ml.garch.specification import Specification

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID, PATHS = 65, 2000
"""States and simulated paths of APARCH."""


@dataclass(frozen=True)
class Conditional:
    """What a member says about n days (after the mean's lags); row n of `log_variance` is the day after the last."""

    specification: Specification
    parameters: Floats  # (k,)
    backcast: float
    residuals: Floats  # (n,)
    log_variance: Floats  # (n + 1,)
    trend: Floats  # (n + 1,) long-run variance of component GARCH, else empty
    terms: Floats  # (n, x)
    log_measure: Floats  # (n,), zeros without a realised measure

    @property
    def innovations(self) -> Floats:
        """(n,) standardised residuals."""
        return np.asarray(self.residuals * np.exp(-0.5 * self.log_variance[:-1]))

    def value(self, name: str) -> float:
        return float(self.parameters[self.specification.place(name)])


def sample_backcast(specification: Specification, returns: Floats) -> float:
    """arch's variance before the sample, from least-squares residuals of the mean."""
    return _cut(specification, returns, None, None)[4]


def conditional(
    specification: Specification,
    parameters: Floats,
    backcast: float,
    returns: Floats,
    terms: Floats | None = None,
    measure: Floats | None = None,
) -> Conditional:
    """Filter (n + lags,) returns without gaps; `backcast` is that of the sample which was fitted."""
    cut, slopes, own_terms, log_measure, _ = _cut(specification, returns, terms, measure)
    mean = slopes.shape[1]
    residuals = cut + slopes @ parameters[:mean]
    count = mean + len(specification.variance_parameters) + len(specification.terms)
    path, sensitivity = np.empty(len(cut) + 1), np.empty((len(cut) + 1, count))
    variance_path(
        int(specification.layout[0]), residuals, slopes, own_terms, log_measure, parameters[mean:count], backcast,
        path, sensitivity,
    )  # fmt: skip
    trend = np.empty(0)
    if specification.variance == "component":
        omega, rho, phi = (
            float(parameters[specification.place(name)]) for name in ("omega", "rho", "phi")
        )
        trend = _trend(residuals, path, omega, rho, phi, backcast)
    return Conditional(
        specification, parameters, backcast, residuals, path, trend, own_terms, log_measure
    )


def _cut(
    specification: Specification, returns: Floats, terms: Floats | None, measure: Floats | None
) -> tuple[Floats, Floats, Floats, Floats, float]:
    days = len(returns) - specification.lags
    if days < 1:
        raise ValueError(
            f"{len(returns)} returns for {specification.name}: expected more than {specification.lags}"
        )
    all_terms = (
        np.empty((len(returns), 0))
        if terms is None
        else np.ascontiguousarray(terms, dtype=np.float64)
    )
    all_measure = np.empty(0) if measure is None else np.log(measure)
    cut, slopes = np.empty(days), np.empty((days, len(specification.mean_parameters)))
    own_terms, log_measure = np.empty((days, len(specification.terms))), np.zeros(days)
    backcast = prepare(
        specification.layout, np.ascontiguousarray(returns, dtype=np.float64), all_terms, all_measure,
        0, len(returns), cut, slopes, own_terms, log_measure,
    )  # fmt: skip
    return cut, slopes, own_terms, log_measure, backcast


@kernel
def _trend(
    residuals: Floats, path: Floats, omega: float, rho: float, phi: float, backcast: float
) -> Floats:
    trend = np.empty(len(residuals) + 1)
    trend[0] = omega + rho * backcast
    for t in range(len(residuals)):
        trend[t + 1] = omega + rho * trend[t] + phi * (residuals[t] ** 2 - math.exp(path[t]))
    return trend


@dataclass(frozen=True)
class Outlook:
    """What a member needs to look further ahead than a day, learnt from the sample it was fitted on."""

    negative_share: float  # kappa: share of z^2 that comes from z < 0
    term_mean: Floats  # (x,)
    term_decay: Floats  # (x,)
    factors: Floats  # (K,) of the exponential members, else ones
    grid: Floats  # (G,) log variance of the first day ahead, APARCH only
    grid_variance: Floats  # (G, K) log mean variance of day k given the state


def outlook(found: Conditional, days: int, seed: int) -> Outlook:
    """From the filtered sample; `days` is the longest horizon."""
    spec = found.specification
    factors, grid, values = np.ones(days), np.empty(0), np.empty((0, days))
    if spec.variance in ("egarch", "realized"):
        factors = shock_factors(found, days)
    elif spec.variance == "aparch":
        grid, values = _simulated_grid(found, days, seed)
    shape = found.parameters[len(found.parameters) - len(spec.shape_parameters) :]
    share = negative_share(shape) if spec.density == "skewt" else 0.5
    centred = found.terms - found.terms.mean(axis=0)
    total = np.square(centred).sum(axis=0)
    decay = np.where(
        total > 0, (centred[1:] * centred[:-1]).sum(axis=0) / np.where(total > 0, total, 1.0), 0.0
    )
    return Outlook(
        share, found.terms.mean(axis=0), np.clip(decay, 0.0, 0.999), factors, grid, values
    )


def daily_variance(found: Conditional, ahead: Outlook, places: Ints, days: int) -> Floats:
    """(D,) places in `found.log_variance` -> (D, K) expected variance of the first .. K-th day from there on."""
    spec, first = found.specification, np.exp(found.log_variance[places])
    daily = np.empty((len(places), days))
    daily[:, 0] = first
    match spec.variance:
        case "garch" | "gjr":
            gamma = found.value("gamma") if spec.variance == "gjr" else 0.0
            carry = found.value("alpha") + ahead.negative_share * gamma + found.value("beta")
            for day in range(1, days):
                daily[:, day] = (
                    found.value("omega")
                    + carry * daily[:, day - 1]
                    + _terms(found, ahead, places, day)
                )
        case "component":
            trend, carry = found.trend[places], found.value("alpha") + found.value("beta")
            for day in range(1, days):
                distance = carry * (daily[:, day - 1] - trend)
                trend = found.value("omega") + found.value("rho") * trend
                daily[:, day] = trend + distance
        case "figarch":
            weights = np.empty((4, TRUNCATION))
            figarch_weights(found.value("phi"), found.value("d"), found.value("beta"), weights)
            level = found.value("omega") / (1.0 - found.value("beta"))
            _figarch_ahead(
                np.square(found.residuals), weights[0], level, found.backcast, places, daily
            )
        case "aparch":
            for day in range(1, days):
                daily[:, day] = np.exp(
                    np.interp(found.log_variance[places], ahead.grid, ahead.grid_variance[:, day])
                )
        case _:
            logs, level, carry = (
                found.log_variance[places],
                found.value("omega"),
                found.value("beta"),
            )
            if spec.variance == "realized":
                level += found.value("gamma") * found.value("xi")
                carry += found.value("gamma") * found.value("phi_u")
            for day in range(1, days):
                logs = level + carry * logs + _terms(found, ahead, places, day)
                daily[:, day] = np.exp(logs) * ahead.factors[day]
    return daily


def mean_variance(
    found: Conditional, ahead: Outlook, places: Ints, horizons: Sequence[int]
) -> Floats:
    """(D,) places -> (D, H) mean variance over each horizon."""
    daily = daily_variance(found, ahead, places, max(horizons))
    totals = np.cumsum(daily, axis=1)
    return np.stack([totals[:, horizon - 1] / horizon for horizon in horizons], axis=-1)


def _terms(found: Conditional, ahead: Outlook, places: Ints, day: int) -> Floats:
    """(D,) what exogenous terms add to the state of the day after `day` days ahead; the newest known are those of the day before."""
    if not found.specification.terms:
        return np.zeros(len(places))
    newest = found.terms[np.maximum(places - 1, 0)]
    expected = ahead.term_mean + ahead.term_decay**day * (newest - ahead.term_mean)
    coefficients = [found.value(name) for name in found.specification.term_parameters]
    total = np.zeros(len(places))
    for column, coefficient in enumerate(
        coefficients
    ):  # elementwise: a day sums alike alone and in a block
        total += coefficient * expected[:, column]
    return total


def shock_factors(found: Conditional, days: int) -> Floats:
    r"""(K,): the factor M_k by which shocks raise the expected variance of day k above that of the mean path.

    .. math:: M_k = \prod_{j=0}^{k-2} \frac1n \sum_i e^{\beta^j g_i}

    with g the shock to log variance: :math:`\alpha(|z| - \sqrt{2/\pi}) + \gamma z` in EGARCH, :math:`\gamma w` with w the
    measurement's departure from :math:`\xi + \varphi\log h`, and :math:`\beta + \gamma\varphi` in place of beta, in Realized GARCH.
    """
    if found.specification.variance == "egarch":
        z, carry = found.innovations, found.value("beta")
        shocks = found.value("alpha") * (np.abs(z) - SQRT_2_OVER_PI) + found.value("gamma") * z
    else:
        carry = found.value("beta") + found.value("gamma") * found.value("phi_u")
        departure = (
            found.log_measure - found.value("xi") - found.value("phi_u") * found.log_variance[:-1]
        )
        shocks = found.value("gamma") * departure
    means = [np.exp(carry**lag * shocks).mean() for lag in range(days - 1)]
    return np.concatenate([[1.0], np.cumprod(means)])


def _simulated_grid(found: Conditional, days: int, seed: int) -> tuple[Floats, Floats]:
    """States from a ninth of the lowest variance seen to nine times the highest, all under the same draws."""
    logs = found.log_variance[np.isfinite(found.log_variance)]
    grid = np.linspace(logs.min() - math.log(9.0), logs.max() + math.log(9.0), GRID)
    z = np.random.default_rng(seed).choice(found.innovations, (days, PATHS))
    omega, alpha, gamma, beta, delta = (
        found.value(name) for name in ("omega", "alpha", "gamma", "beta", "delta")
    )
    shocks = alpha * np.power(np.abs(z) - gamma * z, delta) + beta  # (K, paths)
    state = np.repeat(np.exp(0.5 * delta * grid)[:, None], PATHS, axis=1)
    values = np.empty((GRID, days))
    values[:, 0] = grid
    for day in range(1, days):
        state = omega + shocks[day - 1] * state
        values[:, day] = np.log(np.power(state, 2.0 / delta).mean(axis=1))
    return grid, values


@kernel
def _figarch_ahead(
    squares: Floats, weights: Floats, level: float, backcast: float, places: Ints, daily: Floats
) -> None:
    days, lags = daily.shape[1], len(weights)
    for row in range(len(places)):
        known = places[
            row
        ]  # squares[:known] are known; squares before the sample count as the backcast
        for day in range(1, days):
            total = level
            for lag in range(lags):
                back = day - 1 - lag
                if back >= 0:
                    total += weights[lag] * daily[row, back]
                elif known + back >= 0:
                    total += weights[lag] * squares[known + back]
                else:
                    total += weights[lag] * backcast
            daily[row, day] = total


def negative_share(shape: Floats) -> float:
    """E z^2 1{z < 0} of Hansen's skewed t with (nu, lambda); 1/2 at lambda 0.

    The half left of the mode -a/b in closed form, by the moments of a half t, and what lies between the mode and zero by
    quadrature.
    """
    nu, skew = float(shape[0]), float(shape[1])
    fixed, slopes = np.zeros(densities.CONSTANTS), np.zeros(3)
    densities.constants(densities.SKEWED, shape, fixed)
    a, b = fixed[2], fixed[5]
    mean = 2.0 * math.exp(fixed[0]) * (nu - 2.0) / (nu - 1.0)  # of |w|, w a t of unit variance
    left = 0.5 * (1.0 - skew) * ((1.0 - skew) ** 2 + 2.0 * a * (1.0 - skew) * mean + a * a) / b**2
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z = -0.5 * a / b * (1.0 - nodes)
    density = np.exp(
        [densities.log_density(densities.SKEWED, shape, fixed, value, slopes) for value in z]
    )
    return float(left + 0.5 * a / b * np.sum(weights * density * z**2))
