r"""The recursions of the family: log conditional variance and its sensitivity to every parameter, forward in time.

In: residuals, and how they move with the mean's parameters. Out: :math:`v_t = \log h_t` for t = 1 .. n+1 (the last is the day after
the sample) and :math:`\partial v_t / \partial\theta`. Never: fitting, or a look at a residual before its day.

| code | recursion for t+1 | source |
|---|---|---|
| GARCH | :math:`h' = \omega + \alpha e^2 + \beta h + \pi'x` | Bollerslev (1986) |
| GJR | :math:`h' = \omega + (\alpha + \gamma 1\{e < 0\}) e^2 + \beta h + \pi'x` | Glosten, Jagannathan, Runkle (1993) |
| EGARCH | :math:`\log h' = \omega + \alpha(\lvert z\rvert - \sqrt{2/\pi}) + \gamma z + \beta \log h + \pi'x` | Nelson (1991) |
| APARCH | :math:`\sigma'^{\delta} = \omega + \alpha(\lvert e\rvert - \gamma e)^\delta + \beta\sigma^\delta` | Ding, Granger, Engle (1993) |
| REALIZED | :math:`\log h' = \omega + \beta\log h + \gamma\log x_0 + \pi'x` (measurement: `ml.garch.likelihood`) | Hansen, Huang, Shek (2012) |
| COMPONENT | :math:`q' = \omega + \rho q + \phi(e^2 - h),\ h' = q' + \alpha(e^2 - q) + \beta(h - q)` | Engle and Lee (1999) |
| FIGARCH | :math:`h' = \omega/(1-\beta) + \sum_{i<1000} \lambda_i(\phi, d, \beta) e_{t-i}^2` | Baillie, Bollerslev, Mikkelsen (1996) |

Days before the sample count as in arch 8: squared residuals and variances equal the backcast, shocks of EGARCH are zero; an
exogenous term x before the sample is that of the first day.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel

Floats = NDArray[np.float64]

GARCH, GJR, EGARCH, APARCH, REALIZED, COMPONENT, FIGARCH = 0, 1, 2, 3, 4, 5, 6
SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
TRUNCATION = 1000
"""Lags of FIGARCH, as in arch."""


@kernel
def variance_path(
    variance: int,
    residuals: Floats,
    slopes: Floats,
    terms: Floats,
    measure: Floats,
    theta: Floats,
    backcast: float,
    path: Floats,
    sensitivity: Floats,
) -> None:
    """Fill `path` (n + 1,) and `sensitivity` (n + 1, k) of log variance.

    `slopes` (n, m): derivatives of the residuals by the mean's parameters; `terms` (n, x) exogenous; `measure` (n,) log of
    the realised measure. `theta`: the variance's parameters, then the coefficients of the terms; k = m + len(theta).
    """
    if variance == COMPONENT:
        _component(residuals, slopes, theta, backcast, path, sensitivity)
    elif variance == FIGARCH:
        _figarch(residuals, slopes, theta, backcast, path, sensitivity)
    else:
        _markov(variance, residuals, slopes, terms, measure, theta, backcast, path, sensitivity)


@kernel
def _markov(
    variance: int,
    residuals: Floats,
    slopes: Floats,
    terms: Floats,
    measure: Floats,
    theta: Floats,
    backcast: float,
    path: Floats,
    sensitivity: Floats,
) -> None:
    """One state s a day: h, log h, or sigma ** delta; s' depends on s, the residual and what was observed."""
    days, mean, extra = len(residuals), slopes.shape[1], terms.shape[1]
    own = len(theta) - extra
    size = mean + own + extra
    state, partial = np.zeros(size), np.zeros(own)
    omega, s = theta[0], 0.0
    if variance == GARCH:
        s = omega + (theta[1] + theta[2]) * backcast
        partial[0], partial[1], partial[2] = 1.0, backcast, backcast
    elif variance == GJR:
        s = omega + (theta[1] + 0.5 * theta[2] + theta[3]) * backcast
        partial[0], partial[1], partial[2], partial[3] = 1.0, backcast, 0.5 * backcast, backcast
    elif variance == EGARCH:
        s = omega + theta[3] * math.log(backcast)
        partial[0], partial[3] = 1.0, math.log(backcast)
    elif variance == APARCH:
        start = backcast ** (0.5 * theta[4])
        s = omega + (theta[1] + theta[3]) * start
        partial[0], partial[1], partial[3] = 1.0, start, start
        partial[4] = (theta[1] + theta[3]) * start * 0.5 * math.log(backcast)
    else:
        s = omega + (theta[1] + theta[2]) * math.log(backcast)
        partial[0], partial[1], partial[2] = 1.0, math.log(backcast), math.log(backcast)
    for j in range(own):
        state[mean + j] = partial[j]
    for j in range(extra):
        s += theta[own + j] * terms[0, j]
        state[mean + own + j] = terms[0, j]
    for t in range(days + 1):
        if variance <= GJR:
            path[t] = math.log(s)
            for j in range(size):
                sensitivity[t, j] = state[j] / s
        elif variance == APARCH:
            path[t] = 2.0 / theta[4] * math.log(s)
            for j in range(size):
                sensitivity[t, j] = 2.0 / theta[4] * state[j] / s
            sensitivity[t, mean + 4] -= path[t] / theta[4]
        else:
            path[t] = s
            for j in range(size):
                sensitivity[t, j] = state[j]
        if t == days:
            return
        e = residuals[t]
        if variance <= GJR:
            place = 2 if variance == GARCH else 3
            c, carry = theta[1], theta[place]
            partial[1], partial[place] = e * e, s
            if variance == GJR:
                partial[2] = e * e if e < 0.0 else 0.0
                if e < 0.0:
                    c += theta[2]
            push = 2.0 * c * e
            s = omega + c * e * e + carry * s
        elif variance == EGARCH:
            inverse = math.exp(-0.5 * s)
            z = e * inverse
            tilt = theta[1] * (1.0 if z >= 0.0 else -1.0) + theta[2]
            carry, push = theta[3] - 0.5 * z * tilt, tilt * inverse
            partial[1], partial[2], partial[3] = abs(z) - SQRT_2_OVER_PI, z, s
            s = omega + theta[1] * (abs(z) - SQRT_2_OVER_PI) + theta[2] * z + theta[3] * s
        elif variance == APARCH:
            delta, carry = theta[4], theta[3]
            x = max(abs(e) - theta[2] * e, 1e-10)
            power = x**delta
            lever = theta[1] * delta * power / x
            push = lever * ((1.0 if e >= 0.0 else -1.0) - theta[2])
            partial[1], partial[2], partial[3] = power, -lever * e, s
            partial[4] = theta[1] * power * math.log(x)
            s = omega + theta[1] * power + theta[3] * s
        else:
            carry, push = theta[1], 0.0
            partial[1], partial[2] = s, measure[t]
            s = omega + theta[1] * s + theta[2] * measure[t]
        for j in range(mean):
            state[j] = carry * state[j] + push * slopes[t, j]
        for j in range(own):
            state[mean + j] = carry * state[mean + j] + partial[j]
        for j in range(extra):
            s += theta[own + j] * terms[t, j]
            state[mean + own + j] = carry * state[mean + own + j] + terms[t, j]


@kernel
def _component(
    residuals: Floats,
    slopes: Floats,
    theta: Floats,
    backcast: float,
    path: Floats,
    sensitivity: Floats,
) -> None:
    """theta: omega, rho, phi, alpha, beta."""
    days, mean = len(residuals), slopes.shape[1]
    size = mean + 5
    omega, rho, phi, alpha, beta = theta[0], theta[1], theta[2], theta[3], theta[4]
    trend, total = np.zeros(size), np.zeros(size)
    q = omega + rho * backcast
    h = q
    trend[mean], trend[mean + 1] = 1.0, backcast
    total[mean], total[mean + 1] = 1.0, backcast
    for t in range(days + 1):
        path[t] = math.log(h)
        for j in range(size):
            sensitivity[t, j] = total[j] / h
        if t == days:
            return
        e = residuals[t]
        e2 = e * e
        following = omega + rho * q + phi * (e2 - h)
        for j in range(size):
            push = 2.0 * e * slopes[t, j] if j < mean else 0.0
            moved = rho * trend[j] + phi * (push - total[j])
            if j == mean:
                moved += 1.0
            elif j == mean + 1:
                moved += q
            elif j == mean + 2:
                moved += e2 - h
            changed = moved + alpha * (push - trend[j]) + beta * (total[j] - trend[j])
            if j == mean + 3:
                changed += e2 - q
            elif j == mean + 4:
                changed += h - q
            trend[j], total[j] = moved, changed
        q, h = following, following + alpha * (e2 - q) + beta * (h - q)


@kernel
def figarch_weights(phi: float, d: float, beta: float, weights: Floats) -> None:
    """Fill `weights` (4, L): lambda of the ARCH(infinity) form, and its derivatives by phi, d and beta."""
    delta, slope = d, 1.0
    weights[0, 0], weights[1, 0], weights[2, 0], weights[3, 0] = phi - beta + d, 1.0, 1.0, -1.0
    for i in range(1, weights.shape[1]):
        before, slope_before = delta, slope
        delta = (i - d) / (i + 1.0) * before
        slope = (i - d) / (i + 1.0) * slope_before - before / (i + 1.0)
        weights[0, i] = beta * weights[0, i - 1] + delta - phi * before
        weights[1, i] = beta * weights[1, i - 1] - before
        weights[2, i] = beta * weights[2, i - 1] + slope - phi * slope_before
        weights[3, i] = beta * weights[3, i - 1] + weights[0, i - 1]


@kernel
def _figarch(
    residuals: Floats,
    slopes: Floats,
    theta: Floats,
    backcast: float,
    path: Floats,
    sensitivity: Floats,
) -> None:
    """theta: omega, phi, d, beta."""
    days, mean = len(residuals), slopes.shape[1]
    omega, beta = theta[0], theta[3]
    weights = np.empty((4, TRUNCATION))
    figarch_weights(theta[1], theta[2], beta, weights)
    tails = np.zeros(4)
    for row in range(4):
        for i in range(TRUNCATION):
            tails[row] += weights[row, i] * backcast
    # Newest first, so that the convolution walks both arrays forward.
    squares, pushes = np.empty(days), np.empty((mean, days))
    for t in range(days):
        squares[days - 1 - t] = residuals[t] * residuals[t]
        for j in range(mean):
            pushes[j, days - 1 - t] = 2.0 * residuals[t] * slopes[t, j]
    for t in range(days + 1):
        lags, shift = min(t, TRUNCATION), days - t
        if 0 < t <= TRUNCATION:
            for row in range(4):
                tails[row] -= weights[row, t - 1] * backcast
        h, h_phi, h_d, h_beta = tails[0] + omega / (1.0 - beta), tails[1], tails[2], tails[3]
        if lags == TRUNCATION:
            h, h_phi, h_d, h_beta = omega / (1.0 - beta), 0.0, 0.0, 0.0
        for i in range(lags):
            e2 = squares[shift + i]
            h += weights[0, i] * e2
            h_phi += weights[1, i] * e2
            h_d += weights[2, i] * e2
            h_beta += weights[3, i] * e2
        for j in range(mean):
            h_mean = 0.0
            for i in range(lags):
                h_mean += weights[0, i] * pushes[j, shift + i]
            sensitivity[t, j] = h_mean / h
        path[t] = math.log(h)
        sensitivity[t, mean] = 1.0 / (1.0 - beta) / h
        sensitivity[t, mean + 1] = h_phi / h
        sensitivity[t, mean + 2] = h_d / h
        sensitivity[t, mean + 3] = (h_beta + omega / (1.0 - beta) ** 2) / h
