r"""Standard errors of fitted windows, and whether the likelihood curves down at what was found.

In: windows and their fitted parameters. Out: robust, Hessian and outer-product standard errors; a definite flag.
Never: a standard error from a curvature that is not that of a maximum (NaN then).

With H the observed information (central differences of the analytic score) and J the outer product of the daily scores:

.. math:: V_{robust} = H^{-1} J H^{-1},\quad V_{hessian} = H^{-1},\quad V_{outer} = J^{-1}

in the optimiser's coordinates, then by the delta method in natural ones. A bound that binds takes its direction out: no
curvature is asked along it and its variance is zero. Source of the sandwich: Bollerslev and Wooldridge (1992), Econometric
Reviews 11, 143-172.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.garch import generic
from ml.garch.estimation import Fits, arrays, over_chains
from ml.garch.generic import (
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
from ml.garch.jit import kernel
from ml.garch.paths import APARCH, EGARCH
from ml.garch.quadratic import cholesky, solve_cholesky
from ml.garch.small import assign, clear, congruence, variance_of
from ml.garch.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 1e-4
"""Of the central differences, in standard deviations of a coordinate."""
KINK_STEP = 0.2
"""For the mean of EGARCH and APARCH, whose likelihood has a kink at every return: wide enough to average over them."""
BINDING = 1e-6
"""Slack under which a bound binds."""
_WALL = 1e8
_NONE = 1e-10
"""Share of its variance without bounds under which a parameter has none left."""


@dataclass(frozen=True)
class StandardErrors:
    """Of P windows and k natural parameters; NaN where the curvature is not definite, 0 where a bound binds."""

    robust: Floats  # (P, k)
    hessian: Floats  # (P, k)
    outer: Floats  # (P, k)
    definite: NDArray[np.bool_]  # (P,)
    binding: NDArray[np.bool_]  # (P, m) bounds of specification.coordinates that bind


def standard_errors(
    fits: Fits, windows: Windows, threads: int = 1, initial: str = "ewma"
) -> StandardErrors:
    """Standard errors of all windows; `initial` as it was given to `fit`."""
    specification = fits.specification
    coordinates = specification.coordinates
    count, size = fits.parameters.shape
    points = np.ascontiguousarray(coordinates.from_natural(fits.parameters))
    terms, measure = arrays(specification, windows)
    found = np.full((3, count, size), np.nan)
    definite = np.zeros(count, dtype=np.bool_)
    binding = np.zeros((count, len(coordinates.limits)), dtype=np.bool_)
    mode = generic.EWMA_BACKCAST if initial == "ewma" else generic.SAMPLE_BACKCAST

    def run(first: Ints, stop: Ints) -> None:
        _curvatures(
            specification.layout, windows.values, terms, measure, windows.offsets, windows.lengths, points, first, stop,
            coordinates.mixing, coordinates.logs, coordinates.shifts, coordinates.normals, coordinates.limits,
            coordinates.limit_scales, mode, found, definite, binding,
        )  # fmt: skip

    over_chains(run, windows, threads)
    return StandardErrors(found[0], found[1], found[2], definite, binding)


@kernel
def _curvatures(
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
    size = points.shape[1]
    theta, score, information = np.zeros(size), np.zeros(size), np.zeros((size, size))
    moved, jacobian = np.zeros(size), np.zeros((size, size))
    hessian, outer = np.zeros((size, size)), np.zeros((size, size))
    nothing, wall = np.zeros((0, size)), np.zeros((size, size))
    products, inverse = np.zeros((size, size)), np.zeros((size, size))
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
                    products[i, j] = 0.0
                    for t in range(days):
                        products[i, j] += daily[t, i] * daily[t, j]
                    products[j, i] = products[i, j]
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
            clear(wall)
            for row in range(len(limits)):
                slack = -limits[row] - limit_scales[row] * scale
                length = 0.0
                for i in range(size):
                    slack += normals[row, i] * points[problem, i]
                    length += (normals[row, i] * widths[i]) ** 2
                if slack < BINDING:
                    binding[problem, row] = True
                    for i in range(size):
                        for j in range(size):
                            wall[i, j] += (
                                _WALL
                                * normals[row, i]
                                * widths[i]
                                * normals[row, j]
                                * widths[j]
                                / length
                            )
            for i in range(size):
                for j in range(size):
                    outer[i, j] *= widths[i] * widths[j]
            for i in range(size):
                for j in range(size):
                    products[i, j] = 0.5 * (hessian[i, j] + hessian[j, i]) + wall[i, j]
                    jacobian[i, j] *= widths[j]
            if not _invert(products, inverse):
                continue
            definite[problem] = True
            congruence(inverse, outer, products)
            _deviations(jacobian, products, found[0, problem])
            _deviations(jacobian, inverse, found[1, problem])
            for i in range(size):
                for j in range(size):
                    outer[i, j] += wall[i, j]
            if _invert(outer, inverse):
                _deviations(jacobian, inverse, found[2, problem])


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
        found[i] = math.sqrt(variance) if variance > _NONE * free else 0.0
