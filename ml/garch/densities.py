r"""Innovation densities of unit variance: log density, its derivatives, and the expected information of scale, place and shape.

In: a standardised residual z and shape parameters. Out: numbers for `ml.garch.likelihood`. Never: a density whose variance is not 1.

| code | density | shape | source |
|---|---|---|---|
| NORMAL | standard normal | none | |
| STUDENT | standardised Student t | nu > 2 | Bollerslev (1987) |
| SKEWED | skewed t: :math:`f(z) = b c (1 + w^2 / (\nu - 2))^{-(\nu + 1)/2},\ w = (b z + a) / (1 \pm \lambda)` | nu > 2, -1 < lambda < 1 | Hansen (1994) |

with :math:`c = \Gamma(\tfrac{\nu+1}{2}) / (\sqrt{\pi(\nu-2)}\,\Gamma(\tfrac{\nu}{2}))`, :math:`a = 4 \lambda c (\nu-2)/(\nu-1)`,
:math:`b^2 = 1 + 3\lambda^2 - a^2` and the sign of :math:`b z + a`. Hansen: International Economic Review 35, 705-730.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel
from ml.garch.small import clear
from ml.garch.special import digamma, trigamma

Floats = NDArray[np.float64]

NORMAL, STUDENT, SKEWED = 0, 1, 2
CONSTANTS = 9
"""log c, d log c / d nu, a, da/dnu, da/dlambda, b, db/dnu, db/dlambda, nu."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


@kernel
def constants(density: int, shape: Floats, found: Floats) -> None:
    """What depends on the shape alone, once an evaluation."""
    if density == NORMAL:
        found[0] = -0.5 * math.log(2.0 * math.pi)
        return
    nu = shape[0]
    found[8] = nu
    found[0] = (
        math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * (nu - 2.0))
    )
    found[1] = 0.5 * (digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu)) - 0.5 / (nu - 2.0)
    if density == SKEWED:
        skew = shape[1]
        per_skew = 4.0 * math.exp(found[0]) * (nu - 2.0) / (nu - 1.0)
        a = per_skew * skew
        found[2] = a
        found[3] = a * (found[1] + 1.0 / (nu - 2.0) - 1.0 / (nu - 1.0))
        found[4] = per_skew
        b = math.sqrt(1.0 + 3.0 * skew * skew - a * a)
        found[5] = b
        found[6] = -a * found[3] / b
        found[7] = (3.0 * skew - a * per_skew) / b


@kernel
def log_density(density: int, shape: Floats, fixed: Floats, z: float, slopes: Floats) -> float:
    """log f(z); `slopes` (3,) becomes its derivatives by z, nu and lambda."""
    if density == NORMAL:
        slopes[0] = -z
        return float(fixed[0] - 0.5 * z * z)
    nu = fixed[8]
    power, inverse = 0.5 * (nu + 1.0), 1.0 / (nu - 2.0)
    if density == STUDENT:
        u = z * z * inverse
        log_term = math.log1p(u)
        slopes[0] = -2.0 * power * z * inverse / (1.0 + u)
        slopes[1] = fixed[1] - 0.5 * log_term + power * inverse * u / (1.0 + u)
        return float(fixed[0] - power * log_term)
    skew = shape[1]
    a, b = fixed[2], fixed[5]
    top = b * z + a
    sign = 1.0 if top >= 0.0 else -1.0
    width = 1.0 + sign * skew
    w = top / width
    u = w * w * inverse
    log_term = math.log1p(u)
    pull = power / (1.0 + u)
    slopes[0] = -pull * 2.0 * w * inverse * b / width
    w_nu = (fixed[6] * z + fixed[3]) / width
    w_skew = (fixed[7] * z + fixed[4]) / width - w * sign / width
    slopes[1] = (
        fixed[6] / b + fixed[1] - 0.5 * log_term - pull * (2.0 * w * w_nu * inverse - u * inverse)
    )
    slopes[2] = fixed[7] / b - pull * 2.0 * w * w_skew * inverse
    return float(math.log(b) + fixed[0] - power * log_term)


@kernel
def expected_information(density: int, shape: Floats, fixed: Floats, information: Floats) -> None:
    """(4, 4) mean outer product, under the density, of the scores by log variance, by place / sigma, by nu and by lambda."""
    clear(information)
    if density == NORMAL:
        information[0, 0], information[1, 1] = 0.5, 1.0
        return
    nu = fixed[8]
    if density == STUDENT:
        information[0, 0] = 0.5 * nu / (nu + 3.0)
        information[1, 1] = nu * (nu + 1.0) / ((nu - 2.0) * (nu + 3.0))
        information[0, 2] = 3.0 / ((nu + 1.0) * (nu - 2.0) * (nu + 3.0))
        information[2, 0] = information[0, 2]
        information[2, 2] = (
            0.25 * (trigamma(0.5 * nu) - trigamma(0.5 * (nu + 1.0)))
            - 1.0 / ((nu + 1.0) * (nu - 2.0))
            + nu / (2.0 * (nu - 2.0) ** 2 * (nu + 3.0))
        )
        return
    # w = sqrt(nu - 2) tan(angle) on each side, where angle has density proportional to cos(angle) ** (nu - 1).
    reach = min(0.5 * math.pi, 12.0 / math.sqrt(nu))
    slopes, scores = np.empty(3), np.empty(4)
    total = 0.0
    for node in range(len(_NODES)):
        angle = 0.5 * reach * (_NODES[node] + 1.0)
        total += _WEIGHTS[node] * math.cos(angle) ** (nu - 1.0)
    for node in range(len(_NODES)):
        angle = 0.5 * reach * (_NODES[node] + 1.0)
        weight = _WEIGHTS[node] * math.cos(angle) ** (nu - 1.0) / total
        for sign in (-1.0, 1.0):
            width = 1.0 + sign * shape[1]
            z = (sign * math.sqrt(nu - 2.0) * math.tan(angle) * width - fixed[2]) / fixed[5]
            log_density(density, shape, fixed, z, slopes)
            scores[0] = -0.5 * (1.0 + z * slopes[0])
            scores[1] = -slopes[0]
            scores[2], scores[3] = slopes[1], slopes[2]
            for i in range(4):
                for j in range(4):
                    information[i, j] += 0.5 * width * weight * scores[i] * scores[j]
