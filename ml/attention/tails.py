r"""Tails: a skewed t distribution of the forecast's log error, and what it says of the outermost quantiles.

    e = log(realised / forecast) = location + exp(log_scale) z,   z of mean 0 and variance 1 with density

    f(z) = b c (1 + w^2 / (nu - 2))^(-(nu + 1) / 2),   w = (b z + a) / (1 - lambda)  for z < -a / b,  (b z + a) / (1 + lambda)  otherwise
    c = Gamma((nu + 1) / 2) / (sqrt(pi (nu - 2)) Gamma(nu / 2)),  a = 4 lambda c (nu - 2) / (nu - 1),  b^2 = 1 + 3 lambda^2 - a^2

Source: Hansen (1994), "Autoregressive conditional density estimation", equations 10 to 13.

In: tail parameters (.., 4): location, log scale, degrees of freedom nu >= 2.1, skew |lambda| <= 0.8. Out: likelihoods, quantiles.
The quantiles of `OUTER_LEVELS` are polynomials in 1 / nu and lambda, so that an exported graph has them: see `outer_quantiles`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, special, stats
from torch import Tensor

from ml.forecasts import QUANTILE_LEVELS

FloatArray = NDArray[np.float64]
OUTER = 2
"""Levels on each side that the tails may give: 0.01, 0.025 and 0.975, 0.99."""
OUTER_LEVELS = (*QUANTILE_LEVELS[:OUTER], *QUANTILE_LEVELS[-OUTER:])
LEAST_DEGREES, MOST_SKEW = 2.1, 0.8
NORMAL = (0.0, math.log(0.6), 100.0, 0.0)
"""Tails where there are too few errors to fit any: nearly normal with sd 0.6."""
MIN_ERRORS = 100
DEGREES, SKEWS = 10, 20
"""Terms of the polynomials in 1 / nu and in lambda."""
QUANTILE_ACCURACY = 1e-6
"""Largest error of an outer quantile of z, over all nu >= 2.1 and |lambda| <= 0.8; measured 4.6e-7."""


def moved(base: Tensor, raw: Tensor) -> Tensor:
    """base tails (H, 4) moved by free numbers (.., H, 4): by at most 1 in location and log scale, a factor of 4.5 in nu - 2.1.

    raw = 0 gives the base.
    """
    location, log_scale, degrees, skew = base.unbind(-1)
    by = torch.tanh(raw).unbind(-1)
    return torch.stack(
        [
            location + by[0],
            log_scale + by[1],
            LEAST_DEGREES + (degrees - LEAST_DEGREES) * torch.exp(1.5 * by[2]),
            skew + torch.where(by[3] > 0, MOST_SKEW - skew, MOST_SKEW + skew) * by[3],
        ],
        dim=-1,
    )


def negative_log_likelihood(error: Tensor, tails: Tensor) -> Tensor:
    """-log density of errors (..) under tails (.., 4)."""
    location, log_scale, nu, skew = tails.unbind(-1)
    log_c = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * torch.log(math.pi * (nu - 2))
    a = 4 * skew * torch.exp(log_c) * (nu - 2) / (nu - 1)
    b = torch.sqrt(1 + 3 * skew**2 - a**2)
    shifted = b * (error - location) * torch.exp(-log_scale) + a
    w = shifted / torch.where(shifted < 0, 1 - skew, 1 + skew)
    kernel = (nu + 1) / 2 * torch.log1p(w**2 / (nu - 2))
    return log_scale - torch.log(b) - log_c + kernel


def fit_tails(errors: FloatArray) -> FloatArray:
    """(4,) maximum-likelihood tails of the finite ones among errors (S,); `NORMAL` where there are fewer than 100."""
    known = errors[np.isfinite(errors)]
    if len(known) < MIN_ERRORS or known.std() == 0:
        return np.array(NORMAL)
    given = torch.tensor(known, dtype=torch.float64)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        tails = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        value = negative_log_likelihood(given, tails).mean()
        (gradient,) = torch.autograd.grad(value, tails)
        return float(value.detach()), gradient.numpy()

    start = np.array([known.mean(), math.log(known.std()), 8.0, 0.0])
    bounds = [(None, None), (None, None), (LEAST_DEGREES + 0.05, 50.0), (-0.7, 0.7)]
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    if not found.success and found.fun > loss(start)[0]:
        raise FloatingPointError(f"tails of {len(known)} errors: {found.message}")
    return np.asarray(found.x, dtype=np.float64)


def standardised_quantile(level: float, nu: FloatArray, skew: FloatArray) -> FloatArray:
    """Exact quantile of z in double precision; nu and skew of one shape."""
    c = np.exp(special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2)) / np.sqrt(np.pi * (nu - 2))
    a = 4 * skew * c * (nu - 2) / (nu - 1)
    b = np.sqrt(1 + 3 * skew**2 - a**2)
    below = level < (1 - skew) / 2
    side = np.where(below, 1 - skew, 1 + skew)
    share = np.where(below, level / side, 0.5 + (level - (1 - skew) / 2) / side)
    student = np.sqrt((nu - 2) / nu) * stats.t.ppf(share, nu)
    return np.asarray((side * student - a) / b, dtype=np.float64)


def outer_quantiles(tails: Tensor) -> Tensor:
    """Quantiles of e at `OUTER_LEVELS`, (.., 4), of tails (.., 4); rising, to within `QUANTILE_ACCURACY` of a scale.

    Divided by sqrt(1 - 2 / nu) they are smooth in 1 / nu and lambda: Chebyshev polynomials of degree 9 and 19.
    """
    location, log_scale, nu, skew = tails.unbind(-1)
    coefficients = torch.from_numpy(_coefficients()).to(tails)
    in_degrees = _chebyshev(2 * LEAST_DEGREES / nu - 1, DEGREES)
    in_skew = _chebyshev(skew / MOST_SKEW, SKEWS)  # (.., SKEWS)
    by_degrees = (in_skew @ coefficients).view(*nu.shape, len(OUTER_LEVELS), DEGREES)
    z: Tensor = (by_degrees * in_degrees[..., None, :]).sum(-1) * torch.sqrt(1 - 2 / nu)[..., None]
    return location[..., None] + torch.exp(log_scale)[..., None] * z


def splice(quantiles: Tensor, outer: Tensor) -> Tensor:
    """Quantiles (.., Q) with the two lowest and the two highest replaced by `outer` (.., 4), never inside the others."""
    inner = quantiles[..., OUTER:-OUTER]
    low = torch.minimum(outer[..., :OUTER], inner[..., :1])
    high = torch.maximum(outer[..., OUTER:], inner[..., -1:])
    return torch.cat([low, inner, high], dim=-1)


def _chebyshev(x: Tensor, terms: int) -> Tensor:
    """T_0(x) .. T_{terms-1}(x), (.., terms)."""
    order = torch.arange(terms, dtype=x.dtype, device=x.device)
    return torch.cos(order * torch.arccos(x.clamp(-1.0, 1.0))[..., None])


@cache
def _coefficients() -> FloatArray:
    """(SKEWS, level * DEGREES): interpolation at Chebyshev nodes of 1 / nu in (0, 1 / 2.1) and lambda in (-0.8, 0.8)."""
    nodes = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (DEGREES, SKEWS)]
    inverse = np.broadcast_to((nodes[0] + 1)[:, None] / (2 * LEAST_DEGREES), (DEGREES, SKEWS))
    skew = np.broadcast_to(MOST_SKEW * nodes[1], (DEGREES, SKEWS))
    t = [np.cos(np.outer(np.arange(len(n)), np.arccos(n))) for n in nodes]
    tables = []
    for level in OUTER_LEVELS:
        smooth = standardised_quantile(level, 1 / inverse, skew) / np.sqrt(1 - 2 * inverse)
        table = 4 / (DEGREES * SKEWS) * t[0] @ smooth @ t[1].T  # (DEGREES, SKEWS)
        table[0] /= 2
        table[:, 0] /= 2
        tables.append(table)
    return np.ascontiguousarray(np.concatenate(tables).T)
