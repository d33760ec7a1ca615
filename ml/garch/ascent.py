"""The optimiser of the whole family: projected Fisher scoring with Levenberg and Marquardt's damping.

In: at each point the log likelihood, its score and an information matrix. Out: the next point to evaluate, or an end.
Never: a point outside the bounds, or a lower likelihood accepted.

It is a state machine, so that eight problems can share one pass (`ml.garch.fast`) and any other model can run alone
(`ml.garch.generic`). It ends when one more undamped step within the bounds would gain less than `tolerance` units of log
likelihood: half the squared norm of the projected score in the information metric.

Sources: Levenberg (1944), Marquardt (1963); Fisher scoring for GARCH: Fiorentini, Calzolari and Panattoni (1996), Journal of
Applied Econometrics 11, 399-417.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel
from ml.garch.quadratic import bounded_step

Floats = NDArray[np.float64]

RUNNING, CONVERGED, OUT_OF_EVALUATIONS, STUCK, NOT_FINITE = 0, 1, 2, 3, 4
ENDINGS = {
    RUNNING: "still running",
    CONVERGED: "converged",
    OUT_OF_EVALUATIONS: "evaluations used up",
    STUCK: "no step raises the likelihood",
    NOT_FINITE: "likelihood not finite at the start",
}
LIKELIHOOD, DAMPING, PREDICTED, GAIN, EVALUATIONS = 0, 1, 2, 3, 4
"""Places in a problem's `memo` (5,)."""
_MAX_DAMPING = 1e9
_ROUNDING = 1e-13
"""Relative error of a likelihood: a step that loses less than this has lost nothing."""


@kernel
def begin(memo: Floats) -> None:
    """Forget everything: the next evaluation is the first."""
    memo[LIKELIHOOD] = -np.inf
    memo[DAMPING] = 0.0
    memo[PREDICTED] = 0.0
    memo[GAIN] = np.inf
    memo[EVALUATIONS] = 0.0


@kernel
def advance(
    likelihood: float,
    trial_score: Floats,
    trial_information: Floats,
    point: Floats,
    score: Floats,
    information: Floats,
    trial: Floats,
    memo: Floats,
    normals: Floats,
    limits: Floats,
    reach: Floats,
    tolerance: float,
    max_evaluations: int,
    work: Floats,
) -> int:
    """Take in what was found at `trial`, and write the next `trial` or return how it ended.

    `point`, `score` and `information` (k,), (k,), (k, k) are those of the best point so far; bounds are
    normals @ x >= limits; `reach` (k,) is how far one step may move each coordinate.
    """
    size = len(point)
    memo[EVALUATIONS] += 1.0
    finite = math.isfinite(likelihood)
    for i in range(size):
        if not math.isfinite(trial_score[i]) or not math.isfinite(trial_information[i, i]):
            finite = False
    first = memo[LIKELIHOOD] == -np.inf
    if first and not finite:
        return NOT_FINITE
    rounding = _ROUNDING * abs(memo[LIKELIHOOD])
    if finite and (first or likelihood >= memo[LIKELIHOOD] - rounding):
        if not first:
            ratio = (likelihood - memo[LIKELIHOOD]) / max(memo[PREDICTED], 1e-300)
            if ratio > 0.5:
                memo[DAMPING] = memo[DAMPING] * 0.1 if memo[DAMPING] > 1e-3 else 0.0
            elif ratio < 0.2:
                memo[DAMPING] = max(3.0 * memo[DAMPING], 0.1)
        memo[LIKELIHOOD] = likelihood
        for i in range(size):
            point[i] = trial[i]
            score[i] = trial_score[i]
            for j in range(size):
                information[i, j] = trial_information[i, j]
    else:
        memo[DAMPING] = max(8.0 * memo[DAMPING], 0.1)
        if memo[DAMPING] > _MAX_DAMPING:
            return STUCK
    if memo[EVALUATIONS] >= max_evaluations:
        return OUT_OF_EVALUATIONS
    return _propose(point, score, information, trial, memo, normals, limits, reach, tolerance, work)


@kernel
def _propose(
    point: Floats,
    score: Floats,
    information: Floats,
    trial: Floats,
    memo: Floats,
    normals: Floats,
    limits: Floats,
    reach: Floats,
    tolerance: float,
    work: Floats,
) -> int:
    size, bounds = len(point), len(limits)
    slack, inner = work[0, :bounds], work[2:]
    step = work[1, :size]
    for row in range(bounds):
        slack[row] = -limits[row]
        for i in range(size):
            slack[row] += normals[row, i] * point[i]
        slack[row] = max(slack[row], 0.0)
    memo[GAIN] = bounded_step(score, information, normals, slack, 0.0, step, inner)
    if memo[GAIN] < tolerance:
        return CONVERGED
    if memo[DAMPING] > 0.0:
        bounded_step(score, information, normals, slack, memo[DAMPING], step, inner)
    shrink = 1.0
    for i in range(size):
        if abs(step[i]) * shrink > reach[i]:
            shrink = reach[i] / abs(step[i])
    linear, quadratic = 0.0, 0.0
    for i in range(size):
        trial[i] = point[i] + shrink * step[i]
        linear += score[i] * step[i]
        for j in range(size):
            quadratic += step[i] * information[i, j] * step[j]
    memo[PREDICTED] = shrink * linear - 0.5 * shrink * shrink * quadratic
    return RUNNING


def work_size(size: int, bounds: int) -> tuple[int, int]:
    """Shape of the scratch array that `advance` needs for k coordinates and m bounds."""
    return 3 * size + 2 * bounds + 8, max(size, bounds)
