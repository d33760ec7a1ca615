r"""The step of the optimiser: a small quadratic programme with linear bounds, for compiled kernels.

In: score g, information H, damping, and bounds :math:`A x \ge c` as their slack at the current point.
Out: the step d that maximises :math:`g'd - \tfrac12 d'(H + \lambda\,\mathrm{diag} H) d` with :math:`A(x + d) \ge c`.
Never: leaving the bounds, or failing on a singular information (a ridge of 1e-10 on the scaled matrix).

Most steps touch no bound and cost one Cholesky. Otherwise the dual active-set method of Goldfarb and Idnani (1983),
Mathematical Programming 27, 1-33, adds the worst bound, and drops those whose multiplier turns, until none is broken.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel

Floats = NDArray[np.float64]
_RIDGE = 1e-10
_EPSILON = 1e-11


@kernel
def cholesky(matrix: Floats, size: int) -> bool:
    """Lower triangle in place; False when the matrix is not positive definite."""
    for j in range(size):
        for k in range(j):
            for i in range(j, size):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
        if not matrix[j, j] > 0.0:
            return False
        root = math.sqrt(matrix[j, j])
        for i in range(j, size):
            matrix[i, j] /= root
    return True


@kernel
def solve_cholesky(lower: Floats, vector: Floats, size: int) -> None:
    """Overwrite `vector` with (L L')^-1 vector."""
    for i in range(size):
        for k in range(i):
            vector[i] -= lower[i, k] * vector[k]
        vector[i] /= lower[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            vector[i] -= lower[k, i] * vector[k]
        vector[i] /= lower[i, i]


@kernel
def bounded_step(
    score: Floats,
    information: Floats,
    normals: Floats,
    slack: Floats,
    damping: float,
    step: Floats,
    work: Floats,
) -> float:
    """Write the step d (k,) and return the gain :math:`g'd - \\tfrac12 d'Hd` that the undamped model expects of it.

    `normals` (m, k) are the rows of A, `slack` (m,) is A x - c; `work` holds at least (3 k + 2 m + 6, max(k, m)).
    NaN when score or information is not finite.
    """
    size, bounds = len(score), len(slack)
    lower, scaled, scale = work[:size], work[size : 2 * size], work[2 * size]
    for i in range(size):
        scale[i] = 1.0 / math.sqrt(max(information[i, i], 1e-300))
    for i in range(size):
        step[i] = score[i] * scale[i]
        for j in range(i + 1):
            lower[i, j] = information[i, j] * scale[i] * scale[j]
        lower[i, i] += damping + _RIDGE
    if not cholesky(lower, size):
        for i in range(size):  # rounding made it indefinite: fall back on the diagonal
            for j in range(i):
                lower[i, j] = 0.0
            lower[i, i] = math.sqrt(1.0 + damping)
    solve_cholesky(lower, step, size)
    broken = False
    for row in range(bounds):
        left = slack[row]
        for i in range(size):
            left += normals[row, i] * scale[i] * step[i]
        if left < -_EPSILON:
            broken = True
    if broken:
        _repair(lower, scale, normals, slack, step, work[2 * size + 1 :], size, bounds, scaled)
    gain = 0.0
    for i in range(size):
        step[i] *= scale[i]
        gain += score[i] * step[i]
    for i in range(size):
        for j in range(size):
            gain -= 0.5 * step[i] * step[j] * information[i, j]
    return gain


@kernel
def _repair(
    lower: Floats,
    scale: Floats,
    normals: Floats,
    slack: Floats,
    step: Floats,
    work: Floats,
    size: int,
    bounds: int,
    columns: Floats,
) -> None:
    """From the unconstrained step (in scaled units) to the constrained one."""
    active = np.empty(size, np.int64)
    multipliers = np.zeros(size + 1)
    count = 0
    direction, change, candidate = work[0], work[1], work[2]
    schur = work[3 : 3 + size]
    for _ in range(20 * bounds):
        worst, entering = -_EPSILON, -1
        for row in range(bounds):
            left = slack[row]
            for i in range(size):
                left += normals[row, i] * scale[i] * step[i]
            if left < worst:
                worst, entering = left, row
        if entering < 0:
            return
        multipliers[count] = 0.0
        left = worst
        while True:
            for i in range(size):
                candidate[i] = normals[entering, i] * scale[i]
                direction[i] = candidate[i]
            solve_cholesky(lower, direction, size)
            for a in range(count):
                for i in range(size):
                    columns[a, i] = normals[active[a], i] * scale[i]
                solve_cholesky(lower, columns[a], size)
            for a in range(count):
                change[a] = 0.0
                for i in range(size):
                    change[a] += normals[active[a], i] * scale[i] * direction[i]
                for b in range(a + 1):
                    schur[a, b] = 0.0
                    for i in range(size):
                        schur[a, b] += normals[active[a], i] * scale[i] * columns[b, i]
            if count and cholesky(schur, count):
                solve_cholesky(schur, change, count)
            for a in range(count):
                for i in range(size):
                    direction[i] -= change[a] * columns[a, i]
            curvature = 0.0
            for i in range(size):
                curvature += candidate[i] * direction[i]
            length, leaving = np.inf, -1
            for a in range(count):
                if change[a] > 1e-14 and multipliers[a] / change[a] < length:
                    length, leaving = multipliers[a] / change[a], a
            full = -left / curvature if curvature > 1e-14 and count < size else np.inf
            taken = min(length, full)
            if not taken < np.inf:
                return
            for a in range(count):
                multipliers[a] -= taken * change[a]
            multipliers[count] += taken
            if full < np.inf:
                for i in range(size):
                    step[i] += taken * direction[i]
                left += taken * curvature
            if full <= length:
                active[count] = entering
                count += 1
                break
            for a in range(leaving, count):  # the entering multiplier moves down as well
                multipliers[a] = multipliers[a + 1]
                if a + 1 < count:
                    active[a] = active[a + 1]
            count -= 1
