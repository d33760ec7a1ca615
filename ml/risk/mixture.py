r"""Value at risk and expected shortfall from the model's own distribution: a normal return with a random variance.

In: the 11 quantiles of realised volatility that a forecast states, a horizon, if asked, the scale c of returns given realised variance.
Out: VaR and ES, long and short, named as the columns of forecasts.risk with the prefix mixture_.
Never: a past return, a simulation, an ES below its VaR.

Returns given their own realised variance are near normal (Andersen, Bollerslev, Diebold and Ebens 2001, "The distribution
of realized stock return volatility", Journal of Financial Economics 61), so the log return over h days is

.. math:: r = c \sqrt{h V}\, z, \quad z \sim N(0, 1), \quad V \sim Q,

with Q the stated quantile function of the mean daily variance. log Q is linear between the stated levels on the scale of
normal scores, is continued beyond 1 % and 99 % with the slope between 5 % and 1 % (95 % and 99 %), to no more than three
times the 99 % volatility, and stays flat beyond 0.1 % and 99.9 %: with an unbounded log-normal variance E[exp(r)] would be infinite and
a short position would have no ES.
All integrals over Q are Gauss-Legendre sums between the levels, the same nodes for every row. c is 1: returns over the root
of their own RV have a spread of about 0.9 in the archive, but they are widest on the days of largest V, which an independent z
leaves out, and with c = 0.9 breaches are a fifth too many (docs/risk.md; `python -m benchmarks covariance`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from ml.forecasts import DAYS_PER_YEAR, QUANTILE_COLUMNS, QUANTILE_LEVELS
from ml.risk.var_es import RISK_COLUMNS, SUFFIXES

Floats = NDArray[np.float64]

PREFIX = "mixture_"
MIXTURE_COLUMNS: tuple[str, ...] = tuple(PREFIX + name for name in RISK_COLUMNS)
"""mixture_var_95 .. mixture_es_99 of a long position, then mixture_short_var_95 .. mixture_short_es_99."""
OUTERMOST = 0.001
"""Probability on either side beyond which the variance no longer changes."""
LARGEST_CONTINUATION = 3.0
"""Of volatility, from 99 % to 99.9 %; forecasts of the archive come to 2.7. A quantile that one outcome has torn away goes no further."""
SEGMENT_NODES = 8
_NEWTON_STEPS = 100
_TOLERANCE = 1e-13
_ROWS_AT_ONCE = 4096


def _quadrature() -> tuple[Floats, Floats, Floats]:
    """Normal scores of the 13 points of log Q, of the K nodes, and the probabilities (K,) of the nodes.

    The first and last node carry the flat ends; every segment between has `SEGMENT_NODES` nodes and its exact probability.
    """
    levels = np.array([OUTERMOST, *QUANTILE_LEVELS, 1.0 - OUTERMOST])
    points = ndtri(levels)
    at, weight = np.polynomial.legendre.leggauss(SEGMENT_NODES)
    half, centre = np.diff(points) / 2.0, (points[1:] + points[:-1]) / 2.0
    nodes = centre[:, None] + half[:, None] * at  # (segment, node)
    density = weight * np.exp(-0.5 * nodes**2)
    share = density / density.sum(axis=1, keepdims=True) * np.diff(levels)[:, None]
    return (
        points,
        np.concatenate([points[:1], nodes.ravel(), points[-1:]]),
        np.concatenate([[OUTERMOST], share.ravel(), [OUTERMOST]]),
    )


_POINTS, _NODES, PROBABILITIES = _quadrature()
"""PROBABILITIES (K,): weight of each node of `variance_nodes`; they sum to 1."""
_LEFT = np.clip(np.searchsorted(_POINTS, _NODES, side="right") - 1, 0, len(_POINTS) - 2)
_FRACTION = (_NODES - _POINTS[_LEFT]) / (_POINTS[_LEFT + 1] - _POINTS[_LEFT])
_FIFTH, _LOW_END = QUANTILE_COLUMNS.index("q05"), QUANTILE_COLUMNS.index("q01")
_NINETY_FIFTH, _HIGH_END = QUANTILE_COLUMNS.index("q95"), QUANTILE_COLUMNS.index("q99")


def variance_nodes(volatility_quantiles: ArrayLike) -> Floats:
    """(..., 11) quantiles q01 .. q99 of annualised volatility -> (..., K) mean daily variances with `PROBABILITIES`.

    Raises ValueError on a quantile that is not positive, or quantiles that fall.
    """
    quantiles = np.asarray(volatility_quantiles, dtype=np.float64)
    if quantiles.shape[-1:] != (len(QUANTILE_LEVELS),):
        raise ValueError(
            f"quantiles of shape {quantiles.shape}: expected {len(QUANTILE_LEVELS)} on the last axis"
        )
    wrong = ~(np.isfinite(quantiles) & (quantiles > 0))
    if wrong.any():
        raise ValueError(
            f"volatility quantile {quantiles[wrong].flat[0]}: expected a positive number"
        )
    falling = (np.diff(quantiles, axis=-1) < 0).any(axis=-1)
    if falling.any():
        raise ValueError(
            f"volatility quantiles {quantiles[falling][0].tolist()}: expected rising ones"
        )
    logs = 2.0 * np.log(quantiles) - np.log(DAYS_PER_YEAR)
    scores = _POINTS[1:-1]
    below, above = (
        logs[..., end]
        + (logs[..., end] - logs[..., inner])
        / (scores[end] - scores[inner])
        * (_POINTS[outer] - scores[end])
        for end, inner, outer in ((_LOW_END, _FIFTH, 0), (_HIGH_END, _NINETY_FIFTH, -1))
    )
    above = np.minimum(above, logs[..., _HIGH_END] + 2.0 * np.log(LARGEST_CONTINUATION))
    known = np.concatenate([below[..., None], logs, above[..., None]], axis=-1)
    left, right = (np.take(known, places, axis=-1) for places in (_LEFT, _LEFT + 1))
    # rows one after the other in memory, so that a row sums in one order alone and in a block
    return np.ascontiguousarray(np.exp(left * (1.0 - _FRACTION) + right * _FRACTION))


def tail_point(scales: Floats, level: float) -> Floats:
    """(R, K) standard deviations of the nodes -> (R,) x > 0 with P(y < -x) = 1 - level for y the mixture.

    Newton's method from the left: beyond 0 the tail probability is convex in x, so no step passes the root. Each row is
    solved by itself, whatever the others are. Raises ValueError unless 0.5 < level < 1.
    """
    if not 0.5 < level < 1.0:
        raise ValueError(f"level {level}: expected above 0.5 and below 1, as 0.99")
    beyond = 1.0 - level
    guess = -ndtri(beyond) * scales[:, len(PROBABILITIES) // 2]
    root = np.where(tail_probability(scales, guess) >= beyond, guess, 0.0)
    open_ = np.arange(len(root))
    for _ in range(_NEWTON_STEPS):
        mine = scales[open_]
        ratio = root[open_, None] / mine
        density = (PROBABILITIES * np.exp(-0.5 * ratio**2) / mine).sum(axis=-1)
        excess = (PROBABILITIES * ndtr(-ratio)).sum(axis=-1) - beyond
        step = excess / (density / np.sqrt(2.0 * np.pi))
        root[open_] += step
        open_ = open_[np.abs(step) > _TOLERANCE * root[open_]]
        if not len(open_):
            break
    return root


def tail_probability(scales: Floats, threshold: Floats) -> Floats:
    """(R, K), (R,) -> (R,) P(y < -threshold)."""
    return np.asarray((PROBABILITIES * ndtr(-threshold[:, None] / scales)).sum(axis=-1))


def tail_exponential(scales: Floats, threshold: Floats, slope: ArrayLike) -> Floats:
    r"""(R, K), (R,), slope that broadcasts to (R,) -> (R,) :math:`E[e^{b y}; y < -x]`.

    .. math:: \sum_k p_k\, e^{b^2 s_k^2 / 2}\, \Phi(-x / s_k - b s_k)
    """
    tilt = np.asarray(slope, dtype=np.float64)[..., None] * scales
    return np.asarray(
        (PROBABILITIES * np.exp(0.5 * tilt**2) * ndtr(-threshold[:, None] / scales - tilt)).sum(
            axis=-1
        )
    )


def mixture_var_es(
    volatility_quantiles: ArrayLike, horizon: ArrayLike, return_scale: ArrayLike = 1.0
) -> dict[str, Floats]:
    """VaR and ES at 95, 97.5 and 99 % of R forecasts, columns `MIXTURE_COLUMNS`, each (R,), fractions of the position.

    volatility_quantiles (R, 11): annualised q01 .. q99; horizon, in days, and return_scale (c above) broadcast to (R,).
    Losses are simple returns, as in `ml.risk.var_es`: 1 - exp(r) long, exp(r) - 1 short; ES is exact given Q.
    Raises ValueError on quantiles, a horizon or a scale that cannot be.
    """
    variance = variance_nodes(np.atleast_2d(np.asarray(volatility_quantiles, dtype=np.float64)))
    days, scale = (
        np.broadcast_to(np.asarray(values, dtype=np.float64), len(variance))
        for values in (horizon, return_scale)
    )
    for name, values in (("horizon", days), ("return scale", scale)):
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            raise ValueError(f"{name} {values[wrong][0]:g}: expected a positive number")
    deviations = scale[:, None] * np.sqrt(days[:, None] * variance)  # (R, K)
    found = {name: np.empty(len(variance)) for name in MIXTURE_COLUMNS}
    for start in range(0, len(variance), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        for level, suffix in SUFFIXES.items():
            point = tail_point(deviations[rows], level)
            mass = 1.0 - level
            found[f"{PREFIX}var_{suffix}"][rows] = -np.expm1(-point)
            found[f"{PREFIX}short_var_{suffix}"][rows] = np.expm1(point)
            for side, slope, sign in (("", 1.0, -1.0), ("short_", -1.0, 1.0)):
                mean = tail_exponential(deviations[rows], point, slope) / mass
                found[f"{PREFIX}{side}es_{suffix}"][rows] = sign * (mean - 1.0)
    return found
