"""Curvature of the likelihood at a fitted point, in kernels: what `ml.garch.inference` turns into standard errors.

In: windows and their parameters in the optimiser's coordinates. Out: robust, Hessian and outer-product standard deviations.
Never: a standard deviation along a bound that binds (0), or from a curvature that is not definite (left NaN).

`generic_curvatures` takes differences of the score of any member; `fast_curvatures` does the same for GARCH-t and GJR-t with the
shifted points side by side in the lanes of `ml.garch.lanes`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch import fast
from ml.garch.jit import kernel
from ml.garch.lanes import INPUTS, STATE, advance_garch, advance_gjr
from ml.garch.likelihood import (
    LAGS,
    MEAN,
    OWN,
    TERMS,
    VARIANCE,
    chain_rule,
    likelihood,
    prepare,
    to_natural,
)
from ml.garch.paths import APARCH, EGARCH
from ml.garch.quadratic import cholesky, solve_cholesky
from ml.garch.simd import LANES
from ml.garch.small import assign, congruence, variance_of
from ml.garch.special import digamma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 1e-4
"""Of the central differences, in standard deviations of a coordinate."""
KINK_STEP = 0.2
"""For the mean of EGARCH and APARCH, whose likelihood has a kink at every return: wide enough to average over them."""
BINDING = 1e-6
"""Slack under which a bound binds."""
WALL = 1e8
NONE = 1e-10
"""Share of its variance without bounds under which a parameter has none left."""


@kernel
def generic_curvatures(
    layout: Ints,
    values: Floats,
    all_terms: Floats,
    all_measure: Floats,
    offsets: Ints,
    lengths: Ints,
    points: Floats,
    chain_first: Ints,
    chain_stop: Ints,
    mixing: Floats,
    logs: Floats,
    shifts: Floats,
    normals: Floats,
    limits: Floats,
    limit_scales: Floats,
    initial: int,
    found: Floats,
    definite: NDArray[np.bool_],
    binding: NDArray[np.bool_],
) -> None:
    """Any member: `points` (P, k) coordinates; fills `found` (3, P, k), `definite` (P,) and `binding` (P, m)."""
    size = points.shape[1]
    theta, score, information = np.zeros(size), np.zeros(size), np.zeros((size, size))
    moved, jacobian = np.zeros(size), np.zeros((size, size))
    hessian, outer = np.zeros((size, size)), np.zeros((size, size))
    nothing, products = np.zeros((0, size)), np.zeros((size, size))
    widths = np.zeros(size)
    kinked = layout[VARIANCE] == EGARCH or layout[VARIANCE] == APARCH
    for chain in range(len(chain_first)):
        for problem in range(chain_first[chain], chain_stop[chain]):
            days = lengths[problem] - layout[LAGS]
            returns, slopes = np.empty(days), np.empty((days, layout[MEAN]))
            terms, measure = np.empty((days, layout[TERMS])), np.zeros(days)
            path = np.empty(days + 1)
            sensitivity = np.empty((days + 1, layout[MEAN] + layout[OWN] + layout[TERMS]))
            daily = np.empty((days, size))
            backcast = prepare(
                layout, values, all_terms, all_measure, offsets[problem], lengths[problem],
                returns, slopes, terms, measure,
            )  # fmt: skip
            to_natural(mixing, logs, shifts, points[problem], theta)
            value = likelihood(
                layout, returns, slopes, terms, measure, theta, backcast, initial,
                path, sensitivity, score, information, daily,
            )  # fmt: skip
            chain_rule(mixing, logs, points[problem], score, information, jacobian)
            if not math.isfinite(value):
                continue
            scale = math.log(max(variance_of(returns), 1e-300))
            for i in range(size):
                for j in range(i + 1):
                    total = 0.0
                    for t in range(days):
                        total += daily[t, i] * daily[t, j]
                    products[i, j] = products[j, i] = total
            congruence(jacobian, products, outer)
            for i in range(size):
                widths[i] = 1.0 / math.sqrt(max(information[i, i], 1e-300))
            for i in range(size):
                step = widths[i] * (KINK_STEP if kinked and i < layout[MEAN] else STEP)
                for sign in (1.0, -1.0):
                    assign(moved, points[problem])
                    moved[i] += sign * step
                    to_natural(mixing, logs, shifts, moved, theta)
                    likelihood(
                        layout, returns, slopes, terms, measure, theta, backcast, initial,
                        path, sensitivity, score, nothing, nothing,
                    )  # fmt: skip
                    for j in range(size):  # score by coordinate j at the moved point
                        total = 0.0
                        for row in range(size):
                            total += mixing[row, j] * score[row]
                        factor = math.exp(moved[j]) if logs[j] > 0.0 else 1.0
                        change = -sign * total * factor / (2.0 * step) * widths[i] * widths[j]
                        hessian[i, j] = change if sign > 0.0 else hessian[i, j] + change
            definite[problem] = sandwich(
                points[problem], hessian, outer, widths, jacobian, normals, limits, limit_scales, scale,
                found[:, problem], binding[problem],
            )  # fmt: skip


@kernel
def sandwich(
    point: Floats,
    hessian: Floats,
    outer: Floats,
    widths: Floats,
    jacobian: Floats,
    normals: Floats,
    limits: Floats,
    limit_scales: Floats,
    log_variance: float,
    found: Floats,
    binding: NDArray[np.bool_],
) -> bool:
    """Standard deviations `found` (3, k) and the bounds that bind, from curvatures; False when these are not definite.

    `hessian` (k, k) is of coordinates in units of `widths` (k,), `outer` (k, k) of coordinates, `jacobian` that of natural
    parameters by coordinates. All three are overwritten.
    """
    size = len(point)
    wall, products, inverse = np.zeros((size, size)), np.zeros((size, size)), np.zeros((size, size))
    for row in range(len(limits)):
        slack = -limits[row] - limit_scales[row] * log_variance
        length = 0.0
        for i in range(size):
            slack += normals[row, i] * point[i]
            length += (normals[row, i] * widths[i]) ** 2
        if slack < BINDING:
            binding[row] = True
            for i in range(size):
                for j in range(size):
                    wall[i, j] += (
                        WALL * normals[row, i] * widths[i] * normals[row, j] * widths[j] / length
                    )
    for i in range(size):
        for j in range(size):
            outer[i, j] *= widths[i] * widths[j]
            products[i, j] = 0.5 * (hessian[i, j] + hessian[j, i]) + wall[i, j]
            jacobian[i, j] *= widths[j]
    if not _invert(products, inverse):
        return False
    congruence(inverse, outer, products)
    _deviations(jacobian, products, found[0])
    _deviations(jacobian, inverse, found[1])
    for i in range(size):
        for j in range(size):
            outer[i, j] += wall[i, j]
    if _invert(outer, inverse):
        _deviations(jacobian, inverse, found[2])
    return True


@kernel
def _invert(matrix: Floats, inverse: Floats) -> bool:
    """Write the inverse of a positive definite matrix, which is destroyed; False when it is not."""
    size = len(matrix)
    if not cholesky(matrix, size):
        return False
    for i in range(size):
        for j in range(size):
            inverse[i, j] = 1.0 if i == j else 0.0
        solve_cholesky(matrix, inverse[i], size)
    return True


@kernel
def _deviations(to_theta: Floats, covariance: Floats, found: Floats) -> None:
    """Standard deviations of natural parameters; 0 where a bound leaves no variance."""
    size = len(found)
    for i in range(size):
        variance, free = 0.0, 0.0
        for j in range(size):
            free += to_theta[i, j] ** 2
            for k in range(size):
                variance += to_theta[i, j] * covariance[j, k] * to_theta[i, k]
        found[i] = math.sqrt(variance) if variance > NONE * free else 0.0


@kernel
def fast_curvatures(
    values: Floats,
    offsets: Ints,
    lengths: Ints,
    parameters: Floats,
    points: Floats,
    tied: bool,
    free_mean: bool,
    chain_first: Ints,
    chain_stop: Ints,
    mixing: Floats,
    logs: Floats,
    normals: Floats,
    limits: Floats,
    limit_scales: Floats,
    found: Floats,
    definite: NDArray[np.bool_],
    binding: NDArray[np.bool_],
) -> None:
    """GARCH-t and GJR-t: `parameters` (P, 6) natural as `ml.garch.fast` has them, `points` (P, k) the member's coordinates.

    The coordinates of both engines are the same but for the scale of mu and omega; omega's is a logarithm, so mu's alone matters.
    """
    size, lanes = points.shape[1], 5 if tied else 6
    skip = lanes - size  # 1 without a mean
    longest = 0
    for problem in range(len(lengths)):
        longest = max(longest, lengths[problem])
    series, facts = np.zeros(LANES * longest), np.zeros(3)
    inputs, state = np.zeros(INPUTS * LANES), np.zeros(STATE * LANES)
    centre, moved = np.zeros(lanes), np.zeros(lanes)
    score, information = np.zeros(lanes), np.zeros((lanes, lanes))
    widths, hessian = np.zeros(size), np.zeros((size, size))
    outer, products, jacobian = (
        np.zeros((size, size)),
        np.zeros((size, size)),
        np.zeros((size, size)),
    )
    for chain in range(len(chain_first)):
        for problem in range(chain_first[chain], chain_stop[chain]):
            days = lengths[problem]
            for lane in range(LANES):
                fast.load_series(
                    values, offsets[problem], days, series, lane, LANES, free_mean, facts
                )
            fast.to_coordinates(parameters[problem], facts[0], tied, centre)
            first = -1  # then, in turn, the shifted points
            while first < 2 * size:
                for lane in range(LANES):
                    assign(moved, centre)
                    shift = first + lane
                    if first >= 0 and shift < 2 * size:
                        place = shift // 2
                        unit = facts[0] if skip + place == 0 else 1.0
                        moved[skip + place] += (
                            (1.0 - 2.0 * (shift % 2)) * STEP * widths[place] / unit
                        )
                    fast.set_inputs(moved, tied, inputs, state, lane, LANES, facts[2])
                if tied:
                    advance_garch(series, inputs, state, longest - longest, days)
                else:
                    advance_gjr(series, inputs, state, longest - longest, days)
                for lane in range(LANES):
                    shift = first + lane
                    if (first < 0 and lane > 0) or shift >= 2 * size:
                        break
                    fast.lane_result(
                        state, inputs, lane, LANES, days, tied, free_mean, score, information
                    )
                    if first < 0:
                        for i in range(size):
                            unit = facts[0] if skip + i == 0 else 1.0
                            widths[i] = unit / math.sqrt(
                                max(information[skip + i, skip + i], 1e-300)
                            )
                        continue
                    place, sign = shift // 2, 1.0 - 2.0 * (shift % 2)
                    for j in range(size):
                        unit = facts[0] if skip + j == 0 else 1.0
                        change = -sign * score[skip + j] / unit / (2.0 * STEP) * widths[j]
                        hessian[place, j] = change if sign > 0.0 else hessian[place, j] + change
                first = 0 if first < 0 else first + LANES
            log_variance = math.log(
                max(variance_of(values[offsets[problem] : offsets[problem] + days]), 1e-300)
            )
            for j in range(size):
                factor = math.exp(points[problem, j]) if logs[j] > 0.0 else 1.0
                for i in range(size):
                    jacobian[i, j] = mixing[i, j] * factor
            _outer_product(
                values, offsets[problem], days, parameters[problem], facts, tied, skip, products
            )
            congruence(jacobian, products, outer)
            definite[problem] = sandwich(
                points[problem], hessian, outer, widths, jacobian, normals, limits, limit_scales,
                log_variance, found[:, problem], binding[problem],
            )  # fmt: skip


@kernel
def _outer_product(
    values: Floats,
    offset: int,
    days: int,
    parameters: Floats,
    facts: Floats,
    tied: bool,
    skip: int,
    outer: Floats,
) -> None:
    """Sum of outer products of the daily scores by (mu, omega, alpha, [gamma,] beta, nu); see `ml.garch.lanes`."""
    mu, omega, alpha, gamma, beta, nu = (
        parameters[0], parameters[1], parameters[2], parameters[3], parameters[4], parameters[5],
    )  # fmt: skip
    backcast = facts[2] * facts[0] * facts[0]
    nu_at = 4 if tied else 5
    beta_at = nu_at - 1
    s, g, sums = np.zeros(6), np.zeros(6), np.zeros((6, 6))
    h = omega + (alpha + 0.5 * gamma + beta) * backcast
    s[1], s[2], s[3], s[beta_at] = 1.0, backcast, 0.5 * backcast, backcast
    inverse = 1.0 / (nu - 2.0)
    slope = 0.5 * (digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu)) - 0.5 * inverse
    for t in range(days):
        e = values[offset + t] - mu
        e2 = e * e
        q = e2 * inverse
        w = q / (h + q)
        pull = 0.5 * ((nu + 1.0) * w - 1.0) / h
        for i in range(nu_at):
            g[i] = pull * s[i]
        g[0] += (nu + 1.0) * inverse * e / (h + q)
        g[nu_at] = slope - 0.5 * math.log1p(q / h) + 0.5 * (nu + 1.0) * inverse * w
        for i in range(nu_at + 1):
            for j in range(i + 1):
                sums[i, j] += g[i] * g[j]
        c = alpha + gamma if e < 0.0 else alpha
        for i in range(nu_at):
            s[i] *= beta
        s[0] -= 2.0 * c * e
        s[1] += 1.0
        s[2] += e2
        if not tied and e < 0.0:
            s[3] += e2
        s[beta_at] += h
        h = omega + c * e2 + beta * h
    for i in range(len(outer)):
        for j in range(len(outer)):
            outer[i, j] = sums[max(i, j) + skip, min(i, j) + skip]
