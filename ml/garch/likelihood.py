r"""The likelihood of any member of the family, with its score and expected information, at given parameters.

In: a window cut out by `prepare`, natural parameters, a member's layout. Out: log likelihood, score, information, daily scores.
Never: a search; `ml.garch.generic` climbs.

With :math:`z_t = e_t / \sqrt{h_t}`, :math:`v_t = \log h_t` and density f, a day's score is

.. math::
    \partial\ell_t = \tfrac{\partial\log f}{\partial\eta} - \tfrac12 (1 + z_t \tfrac{f'}{f})\, \partial v_t
                     + \tfrac{f'}{f} \tfrac{1}{\sqrt{h_t}} \partial e_t

and the expected information follows from that of (v, e, eta) under f. Realized GARCH adds its measurement equation
:math:`\log x_t = \xi + \varphi v_t + \tau_1 z_t + \tau_2 (z_t^2 - 1) + u_t,\ u_t \sim N(0, \sigma_u^2)`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.densities import CONSTANTS, constants, expected_information, log_density
from ml.garch.jit import kernel
from ml.garch.paths import variance_path
from ml.garch.quadratic import cholesky, solve_cholesky
from ml.garch.small import assign, clear, congruence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VARIANCE, DENSITY, MEAN, LAGS, OWN, TERMS, MEASURE, SHAPE = 0, 1, 2, 3, 4, 5, 6, 7
"""Places in a layout (8,): two codes, then counts of parameters (LAGS: of the mean's autoregressive ones)."""
EWMA_BACKCAST, SAMPLE_BACKCAST = 0, 1
"""Variance before the sample: arch's, fixed; or the mean squared residual of the current parameters (Fiorentini et al.)."""


@kernel
def likelihood(
    layout: Ints,
    returns: Floats,
    slopes: Floats,
    terms: Floats,
    measure: Floats,
    theta: Floats,
    backcast: float,
    initial: int,
    path: Floats,
    sensitivity: Floats,
    score: Floats,
    information: Floats,
    daily: Floats,
) -> float:
    """Log likelihood at natural parameters theta (k,); fills `score` (k,), `information` (k, k) and `daily` (n, k), these two unless empty."""
    days, mean, own, measured = (
        len(returns),
        layout[MEAN],
        layout[OWN] + layout[TERMS],
        layout[MEASURE],
    )
    moving, size = mean + own, len(theta)
    shape_at = size - layout[SHAPE]
    residuals = np.empty(days)
    for t in range(days):
        residuals[t] = returns[t]
        for j in range(mean):
            residuals[t] += slopes[t, j] * theta[j]
    if initial == SAMPLE_BACKCAST:
        backcast = 0.0
        for t in range(days):
            backcast += residuals[t] * residuals[t] / days
    variance_path(
        layout[VARIANCE],
        residuals,
        slopes,
        terms,
        measure,
        theta[mean:moving],
        backcast,
        path,
        sensitivity,
    )
    if initial == SAMPLE_BACKCAST:
        _follow_backcast(
            residuals, slopes, theta[mean:moving], path, sensitivity, mean, layout[VARIANCE]
        )
    fixed, slope, expected = np.zeros(CONSTANTS), np.zeros(3), np.empty((4, 4))
    shape = theta[shape_at:]
    constants(layout[DENSITY], shape, fixed)
    if len(information) > 0:
        expected_information(layout[DENSITY], shape, fixed, expected)
    for j in range(size):
        score[j] = 0.0
    clear(information)
    own_score, to_u = np.zeros(size), np.zeros(size)
    total = 0.0
    for t in range(days):
        v = path[t]
        inverse = math.exp(-0.5 * v)
        z = residuals[t] * inverse
        total += log_density(layout[DENSITY], shape, fixed, z, slope) - 0.5 * v
        by_variance, by_place = -0.5 * (1.0 + z * slope[0]), slope[0] * inverse
        for j in range(moving):
            place = slopes[t, j] * inverse if j < mean else 0.0
            d = sensitivity[t, j]
            own_score[j] = by_variance * d + (by_place * slopes[t, j] if j < mean else 0.0)
            if len(information) == 0:
                continue
            for i in range(j + 1):
                other = slopes[t, i] * inverse if i < mean else 0.0
                information[j, i] += (
                    expected[0, 0] * d * sensitivity[t, i]
                    + expected[1, 1] * place * other
                    + expected[0, 1] * (-d * other - place * sensitivity[t, i])
                )
            for i in range(layout[SHAPE]):
                information[shape_at + i, j] += expected[0, 2 + i] * d - expected[1, 2 + i] * place
        for i in range(layout[SHAPE]):
            own_score[shape_at + i] = slope[1 + i]
        if measured > 0:
            total += _measurement(
                measure[t], theta[moving : moving + measured], v, z, inverse, slopes[t], sensitivity[t],
                mean, moving, own_score, to_u, information,
            )  # fmt: skip
        for j in range(size):
            score[j] += own_score[j]
            if len(daily) > 0:
                daily[t, j] = own_score[j]
    if len(information) == 0:
        return total
    for i in range(layout[SHAPE]):
        for j in range(i + 1):
            information[shape_at + i, shape_at + j] = days * expected[2 + i, 2 + j]
    for i in range(size):
        for j in range(i):
            information[j, i] = information[i, j]
    return total


@kernel
def _follow_backcast(
    residuals: Floats,
    slopes: Floats,
    theta: Floats,
    path: Floats,
    sensitivity: Floats,
    mean: int,
    variance: int,
) -> None:
    """Add what a backcast that moves with the mean does to log h: its weight in h fades by beta a day (GARCH, GJR)."""
    days = len(residuals)
    carry = theta[2] if variance == 0 else theta[3]
    weight = theta[1] + carry if variance == 0 else theta[1] + 0.5 * theta[2] + carry
    for j in range(mean):
        moved, left = 0.0, weight
        for t in range(days):
            moved += 2.0 * residuals[t] * slopes[t, j] / days
        for t in range(days + 1):
            sensitivity[t, j] += left * moved / math.exp(path[t])
            left *= carry
            if left < 1e-14:
                break


@kernel
def _measurement(
    observed: float,
    theta: Floats,
    v: float,
    z: float,
    inverse: float,
    slopes: Floats,
    sensitivity: Floats,
    mean: int,
    moving: int,
    score: Floats,
    to_u: Floats,
    information: Floats,
) -> float:
    """Log density of a day's realised measure, its score and Gauss-Newton information added. theta: xi, phi, tau1, tau2, sigma_u."""
    xi, phi, tau1, tau2, sigma = theta[0], theta[1], theta[2], theta[3], theta[4]
    u = observed - xi - phi * v - tau1 * z - tau2 * (z * z - 1.0)
    tilt = tau1 + 2.0 * tau2 * z
    for j in range(moving):
        place = slopes[j] * inverse if j < mean else 0.0
        to_u[j] = -phi * sensitivity[j] - tilt * (place - 0.5 * z * sensitivity[j])
    to_u[moving], to_u[moving + 1], to_u[moving + 2], to_u[moving + 3] = -1.0, -v, -z, 1.0 - z * z
    weight = 1.0 / (sigma * sigma)
    for j in range(moving + 4):
        if j < moving:
            score[j] -= u * weight * to_u[j]
        else:
            score[j] = -u * weight * to_u[j]
        for i in range(min(j + 1, len(information))):
            information[j, i] += weight * to_u[j] * to_u[i]
    score[moving + 4] = (u * u * weight - 1.0) / sigma
    if len(information) > 0:
        information[moving + 4, moving + 4] += 2.0 * weight
    return float(-0.5 * math.log(2.0 * math.pi) - math.log(sigma) - 0.5 * u * u * weight)


@kernel
def prepare(
    layout: Ints,
    values: Floats,
    all_terms: Floats,
    all_measure: Floats,
    offset: int,
    length: int,
    returns: Floats,
    slopes: Floats,
    terms: Floats,
    measure: Floats,
) -> float:
    """Cut a window out: the days after the mean's lags. Returns the backcast: arch's, of least-squares residuals."""
    mean, lags = layout[MEAN], layout[LAGS]
    days = length - lags
    for t in range(days):
        place = offset + lags + t
        returns[t] = values[place]
        for j in range(mean):
            slopes[t, j] = -1.0 if j == 0 else -values[place - j]
        for j in range(terms.shape[1]):
            terms[t, j] = all_terms[place, j]
        if layout[MEASURE] > 0:
            measure[t] = all_measure[place]
    normal, ahead = np.zeros((mean, mean)), np.zeros(mean)
    for t in range(days):
        for j in range(mean):
            ahead[j] -= slopes[t, j] * returns[t]
            for i in range(mean):
                normal[j, i] += slopes[t, j] * slopes[t, i]
    if mean > 0 and cholesky(normal, mean):
        solve_cholesky(normal, ahead, mean)
    backcast, weights, weight = 0.0, 0.0, 1.0
    for t in range(min(75, days)):
        residual = returns[t]
        for j in range(mean):
            residual += slopes[t, j] * ahead[j]
        backcast += weight * residual * residual
        weights += weight
        weight *= 0.94
    return max(backcast / weights, 1e-300)


@kernel
def to_natural(mixing: Floats, logs: Floats, shifts: Floats, point: Floats, theta: Floats) -> None:
    """theta = M u with u = shift + exp(coordinate) where `logs` says so, else the coordinate."""
    for i in range(len(theta)):
        theta[i] = 0.0
        for j in range(len(point)):
            if mixing[i, j] != 0.0:
                theta[i] += mixing[i, j] * (
                    shifts[j] + math.exp(point[j]) if logs[j] > 0.0 else point[j]
                )


@kernel
def chain_rule(
    mixing: Floats, logs: Floats, point: Floats, score: Floats, information: Floats, work: Floats
) -> None:
    """Score and information by the coordinates instead of theta, in place."""
    size = len(point)
    turned, moved = np.empty(size), np.empty((size, size))
    for j in range(size):
        factor = math.exp(point[j]) if logs[j] > 0.0 else 1.0
        for i in range(size):
            work[i, j] = mixing[i, j] * factor
    congruence(work, information, moved)
    for j in range(size):
        turned[j] = 0.0
        for i in range(size):
            turned[j] += work[i, j] * score[i]
            information[i, j] = moved[i, j]
    assign(score, turned)
