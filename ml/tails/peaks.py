r"""Peaks over threshold: extreme quantiles of standardised returns by a generalised Pareto tail, with a likelihood interval.

.. math:: P(Z > u + y) = \zeta_u \left(1 + \xi y / \beta\right)^{-1/\xi}, \quad
    z_p = u + \frac{\beta}{\xi}\left(\left(p / \zeta_u\right)^{-\xi} - 1\right)

u the threshold, zeta its exceedance probability (the share seen), xi the shape (its inverse is the tail index), beta the scale. The return of the next h days
has the quantile z_p sqrt(h F), F the forecast mean daily variance. Source: McNeil and Frey (2000), "Estimation of tail-related risk measures
for heteroscedastic financial time series", Journal of Empirical Finance 7, section 2.2.

In: the largest standardised losses of one side. Out: a `ParetoTail`. Never: a quantile inside the threshold, or one without its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PROBABILITIES: tuple[float, ...] = (0.001, 0.005, 0.01)
"""Probabilities of a worse outcome, the farthest first."""
FEWEST_EXCEEDANCES = 15
"""A shape from fewer is the prior's: its standard error, (1 + xi) / sqrt(n), passes 0.3 there (Smith 1987, Annals of Statistics 15)."""
FEW_INDEPENDENT = 10.0
"""Below so many exceedances that do not overlap, the interval rests on the bounds of the shape and says so."""
LEVEL = 0.95
SHAPES: tuple[float, float] = (-0.5, 0.95)
"""Below -0.5 the likelihood has no interior maximum (Smith 1985); from 1 on the mean is infinite."""
_GRID = np.linspace(*SHAPES, 59)
_GRID = np.where(np.abs(_GRID) < 1e-9, 1e-9, _GRID)
_HALVINGS = 18
_PARTS = np.sin(np.linspace(0.0, 0.5 * math.pi, 12))
"""Of the way to the last scale that is not rejected: where likelihoods are parabolas, equal steps on their ellipse."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class ParetoTail:
    """One side's tail; quantiles are positive distances from 0 in units of sqrt(h F), in the order of `PROBABILITIES`."""

    observations: int
    exceedances: int
    independent: float  # exceedances / h: overlapping horizons repeat each other
    threshold: float
    shape: float
    scale: float
    quantiles: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def fit_pareto(largest: Sequence[float], observations: int, horizon: int) -> ParetoTail:
    """The tail beyond the least of the `largest` losses, which is the threshold; maximum likelihood, profile-likelihood interval of 95 %.

    The likelihood of the interval is that of the exceedances times the binomial one of their number (Coles 2001, An Introduction to Statistical
    Modeling of Extreme Values, section 4.3.3): how many losses pass the threshold is as uncertain as how far they go. It ends at the threshold.

    `largest` are sorted, largest first, of `observations` successive standardised returns over `horizon` days. Of overlapping horizons each
    exceedance repeats h - 1 others, so the log likelihood is divided by h: intervals are those of every h-th return, no narrower.
    Raises ValueError with fewer than 15 exceedances, more losses than observations, or a loss that is not finite.
    """
    losses = np.asarray(largest, dtype=np.float64)
    count = len(losses) - 1
    if count < FEWEST_EXCEEDANCES:
        raise ValueError(
            f"{max(count, 0)} exceedances: expected at least {FEWEST_EXCEEDANCES} to fit a tail"
        )
    if horizon < 1 or len(losses) > observations:
        raise ValueError(
            f"{len(losses)} losses of {observations} returns over {horizon} days: expected no more losses than returns and a positive horizon"
        )
    if not np.isfinite(losses).all() or (np.diff(losses) > 0).any():
        raise ValueError(f"losses {losses[:3]}...: expected finite numbers, largest first")
    threshold = float(losses[-1])
    peaks = losses[:-1] - threshold
    if not peaks[0] > 0:
        raise ValueError(f"all losses are {threshold}: expected them to differ")
    size = float(peaks.mean())
    shape, scale = maximum_likelihood(peaks / size)
    exceeded = count / observations
    found = [threshold + size * float(_beyond(shape, scale, p / exceeded)) for p in PROBABILITIES]
    low, high = _interval(peaks / size, shape, scale, horizon, observations)
    return ParetoTail(
        observations=observations,
        exceedances=count,
        independent=count / horizon,
        threshold=threshold,
        shape=shape,
        scale=size * scale,
        quantiles=tuple(found),
        low=tuple(min(x, threshold + size * y) for x, y in zip(found, low, strict=True)),
        high=tuple(max(x, threshold + size * y) for x, y in zip(found, high, strict=True)),
    )


def maximum_likelihood(peaks: Floats) -> tuple[float, float]:
    """Shape in [-0.5, 0.95] and scale of exceedances (n,) above 0.

    Along theta = xi / beta the best shape is the mean of log(1 + theta y), which leaves one number to search for:
    Grimshaw (1993), Technometrics 35. The search starts between the neighbours of the best shape of a grid.
    """
    scales = _best_scale(_GRID, peaks)
    at = int(np.argmax(_likelihood(_GRID, scales, peaks)))
    if at in (0, len(_GRID) - 1):
        return float(_GRID[at]), float(scales[at])
    left, right = (_GRID[place] / scales[place] for place in (at - 1, at + 1))
    for _ in range(50):
        near, far = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
        left, right = (left, far) if _profile(near, peaks) > _profile(far, peaks) else (near, right)
    theta = 0.5 * (left + right)
    shape = float(np.log1p(theta * peaks).mean())
    if abs(shape) < 1e-9:
        return 1e-9, float(peaks.mean())
    return shape, shape / theta


def _profile(theta: float, peaks: Floats) -> float:
    """Log likelihood per exceedance, less a constant, of the best shape for theta."""
    shape = float(np.log1p(theta * peaks).mean())
    scale = shape / theta if abs(theta) > 1e-12 else float(peaks.mean())
    return -math.log(scale) - shape


def _interval(
    peaks: Floats, shape: float, scale: float, horizon: int, observations: int
) -> tuple[list[float], list[float]]:
    """Least and largest quantile among all (shape, scale, zeta) that the likelihood does not reject at 5 %.

    A quantile rises with the scale and with zeta. So for each shape scales are taken from the best to the last that is not rejected,
    and with each the farthest zeta that the rest of the allowed loss of likelihood pays for.
    """
    best = float(_likelihood(np.array([shape]), np.array([scale]), peaks)[0])
    from scipy.stats import chi2  # half a second: only when there is work

    least = best - 0.5 * float(chi2.ppf(LEVEL, 1)) * horizon
    shapes = np.append(_GRID, shape)
    scales = _best_scale(shapes, peaks)
    kept = _likelihood(shapes, scales, peaks) >= least
    shapes, scales = shapes[kept], scales[kept]
    ends: list[list[float]] = []
    for side, outside, extreme in ((-1, -7.0, np.min), (1, 9.0, np.max)):
        near, far = np.log(scales), np.log(scales) + outside
        for _ in range(_HALVINGS):
            middle = 0.5 * (near + far)
            inside = _likelihood(shapes, np.exp(middle), peaks) >= least
            near, far = np.where(inside, middle, near), np.where(inside, far, middle)
        tried = np.exp(np.log(scales) + _PARTS[:, None] * (near - np.log(scales)))  # (parts, S)
        every = np.tile(shapes, len(_PARTS))
        left = np.maximum(_likelihood(every, tried.ravel(), peaks) - least, 0.0)
        zeta = _farthest_share(left, len(peaks), observations, side)
        ends.append(
            [
                float(extreme(_beyond(every, tried.ravel(), np.minimum(p / zeta, 1.0))))
                for p in PROBABILITIES
            ]
        )
    return ends[0], ends[1]


def _farthest_share(loss: Floats, count: int, observations: int, side: int) -> Floats:
    """(K,) probability below (side -1) or above (1) count / observations whose binomial log likelihood is less by `loss` (K,).

    Between points that are dense in the log odds, by the root of the loss, which is nearly a straight line in them.
    """
    rest = observations - count
    centre, step = math.log(count / rest), 6.0 / math.sqrt(count)
    best = count * math.log(count / observations) + rest * math.log(rest / observations)
    while True:
        odds = centre + side * np.linspace(0.0, step, 200)
        likelihood = count * odds - observations * np.logaddexp(0.0, odds)
        if best - likelihood[-1] >= loss.max():
            break
        step *= 2.0
    root = np.sqrt(np.maximum(best - likelihood, 0.0))
    return np.asarray(1.0 / (1.0 + np.exp(-np.interp(np.sqrt(loss), root, odds))))


def _beyond(shape: Floats | float, scale: Floats | float, share: Floats | float) -> Floats:
    """Distance beyond the threshold that a share of the exceedances passes."""
    return np.asarray(scale * np.expm1(-np.asarray(shape) * np.log(share)) / shape)


def _likelihood(shape: Floats, scale: Floats, peaks: Floats) -> Floats:
    """(S,) log likelihood of exceedances (n,) for S pairs; -inf where a peak lies beyond the end of the tail."""
    inside = 1.0 + (shape / scale)[:, None] * peaks  # (S, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(inside).sum(axis=1)
    value = -len(peaks) * np.log(scale) - (1.0 + 1.0 / shape) * logs
    return np.where((inside > 0).all(axis=1), value, -np.inf)


def _best_scale(shape: Floats, peaks: Floats) -> Floats:
    """(S,) scale that maximises the likelihood for each shape: the root of (1 + xi) sum y / (beta + xi y) = n, by bisection."""
    low = np.maximum(-shape * peaks.max(), 0.0) * (1.0 + 1e-12) + 1e-9
    high = np.full(len(shape), 4.0 * peaks.max() + 1.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        more = (1.0 + shape) * (peaks / (middle[:, None] + shape[:, None] * peaks)).sum(axis=1)
        low, high = (
            np.where(more > len(peaks), middle, low),
            np.where(more > len(peaks), high, middle),
        )
    return np.asarray(0.5 * (low + high))
