"""Losses of one forecast: a page of formulas, elementwise; averaging is in `aggregation`.

In: realised and forecast values of the same shape. Out: a loss of that shape.
Never: averaging, or accepting a value for which the formula has no meaning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ROBUST_TO_NOISY_PROXY: dict[str, bool] = {
    "qlike": True,
    "squared_error": True,
    "absolute_error": False,
    "log_error": False,
}
"""Whether a loss ranks forecasts by a noisy, unbiased proxy as it would by the variance itself.

Realised variance is such a proxy. Patton (2011, Journal of Econometrics 160) shows that among the usual losses only
QLIKE and the squared error of variance do; with squared daily normal returns as the proxy the absolute error is least
at 0.45 of the variance and the squared log error at 0.28 of it. Rankings and tests of this project go by QLIKE.
"""


def qlike(realized: ArrayLike, forecast: ArrayLike) -> Floats:
    r"""QLIKE, zero-centred: y/f - log(y/f) - 1.

    0 means a perfect variance forecast. It ranks forecasts rightly even when y is a noisy, unbiased proxy of the
    variance (Patton 2011, Journal of Econometrics 160, "Volatility forecast comparison using imperfect volatility
    proxies"), and punishes under- more than over-forecasting.
    """
    ratio = _positive("realised variance", realized) / _positive("forecast variance", forecast)
    return np.asarray(ratio - np.log(ratio) - 1.0)


def squared_error(realized: ArrayLike, forecast: ArrayLike) -> Floats:
    """(y - f)^2 in variance units squared; 0 is perfect. Robust to a noisy proxy as QLIKE is, but ruled by the
    largest days."""
    return np.square(_difference(realized, forecast))


def absolute_error(realized: ArrayLike, forecast: ArrayLike) -> Floats:
    """|y - f| in variance units; 0 is perfect. Minimised by the median, so it favours forecasts below the mean."""
    return np.abs(_difference(realized, forecast))


def log_error(realized: ArrayLike, forecast: ArrayLike) -> Floats:
    """(log y - log f)^2; 0 is perfect. Minimised by the exponential of the mean log, below the mean."""
    log_ratio = np.log(_positive("realised variance", realized)) - np.log(
        _positive("forecast variance", forecast)
    )
    return np.asarray(np.square(log_ratio))


def pinball(realized: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Floats:
    """Quantile loss, mean over levels: realized (...,), quantiles (..., Q), levels (Q,) -> (...,).

    (1{y < q} - p)(q - y) for each level p; 0 means that every quantile equals the value. Twice the mean over a dense
    even grid of levels is the CRPS (Gneiting and Raftery 2007, JASA 102).
    """
    above = np.asarray(realized, dtype=np.float64)[..., None] - np.asarray(quantiles, np.float64)
    probability = _levels(levels)
    return np.asarray(np.maximum(probability * above, (probability - 1.0) * above).mean(axis=-1))


def crps(realized: ArrayLike, quantiles: ArrayLike) -> Floats:
    """CRPS with the quantiles as an equally weighted ensemble: realized (...,), quantiles (..., Q) -> (...,).

    0 means a point mass on the value. Meant for evenly spaced levels; for others use `crps_of_quantiles`.
    """
    import scoringrules as sr  # it compiles kernels for seven seconds when it is imported

    return np.asarray(
        sr.crps_ensemble(np.asarray(realized, dtype=np.float64), np.asarray(quantiles))
    )


def crps_of_quantiles(realized: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Floats:
    r"""CRPS from quantiles at uneven levels: realized (...,), quantiles (..., Q), rising levels (Q,) -> (...,).

    .. math:: CRPS = 2 \int_0^1 (1\{y < q_p\} - p)(q_p - y) \, dp

    with q linear between levels and constant beyond the outermost ones, integrated exactly. 0 means a point mass on the
    value; unit of y. Source: Gneiting and Raftery (2007), JASA 102, eq. 21 and section 4.2 (the quantile decomposition).
    """
    y, q = np.asarray(realized, np.float64)[..., None], np.asarray(quantiles, np.float64)
    p = np.concatenate([[0.0], _levels(levels), [1.0]])
    ends = np.concatenate([q[..., :1], q, q[..., -1:]], axis=-1)  # (..., Q + 2)
    low, high = ends[..., :-1], ends[..., 1:]
    rise = high - low
    share = np.clip((y - low) / np.where(rise > 0, rise, 1.0), 0.0, 1.0)
    share = np.where(rise > 0, share, (y > low).astype(np.float64))
    crossing, at_crossing = p[:-1] + share * np.diff(p), low + share * rise  # where q passes y
    below = _simpson(p[:-1], crossing, p[:-1] * (y - low), crossing * (y - at_crossing),
                     0.5 * (p[:-1] + crossing) * (y - 0.5 * (low + at_crossing)))  # fmt: skip
    above = _simpson(crossing, p[1:], (1.0 - crossing) * (at_crossing - y), (1.0 - p[1:]) * (high - y),
                     (1.0 - 0.5 * (crossing + p[1:])) * (0.5 * (at_crossing + high) - y))  # fmt: skip
    return np.asarray(2.0 * (below + above).sum(axis=-1))


def _simpson(start: Floats, stop: Floats, first: Floats, last: Floats, middle: Floats) -> Floats:
    """Simpson's rule, which is exact for the parabolas that it is used on."""
    return np.asarray((stop - start) * (first + 4.0 * middle + last) / 6.0)


def interval_width(lower: ArrayLike, upper: ArrayLike) -> Floats:
    """upper - lower, elementwise, in their unit; of two intervals that cover alike the narrower one is better."""
    return np.asarray(np.asarray(upper, np.float64) - np.asarray(lower, np.float64))


def interval_score(
    realized: ArrayLike, lower: ArrayLike, upper: ArrayLike, coverage: float
) -> Floats:
    r"""Winkler's score of a central interval: its width, and a fine for values outside it; elementwise.

    .. math:: (u - l) + \frac{2}{\alpha} (l - y)_+ + \frac{2}{\alpha} (y - u)_+, \quad \alpha = 1 - coverage

    0 means an interval of no width on the value. Source: Gneiting and Raftery (2007), JASA 102, eq. 43.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage {coverage}: expected a number between 0 and 1")
    y, low, high = (np.asarray(values, np.float64) for values in (realized, lower, upper))
    outside = np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - coverage) * outside)


def pit(realized: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Floats:
    """Probability integral transform: realized (...,), rising quantiles (..., Q), levels (Q,) -> (...,) in (0, 1).

    The forecast distribution function at the value, linear between quantiles; beyond the outermost ones, of which the
    forecast says no more, the middle of what is left (0.005 and 0.995 for levels 0.01 to 0.99). Uniform when the
    distribution is right. Sources: Dawid (1984), JRSS A 147; Diebold, Gunther and Tay (1998), IER 39.
    """
    y, q, p = np.asarray(realized, np.float64), np.asarray(quantiles, np.float64), _levels(levels)
    above = (y[..., None] > q).sum(axis=-1)  # (...,) quantiles below the value
    left = np.clip(above - 1, 0, len(p) - 1)
    right = np.clip(above, 0, len(p) - 1)
    low = np.take_along_axis(q, left[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(q, right[..., None], axis=-1)[..., 0]
    width = np.where(high > low, high - low, 1.0)
    inside = p[left] + (p[right] - p[left]) * (y - low) / width
    beyond = np.where(above == 0, p[0] / 2.0, (1.0 + p[-1]) / 2.0)
    return np.asarray(np.where((above == 0) | (above == len(p)), beyond, inside))


def fissler_ziegel(
    returns: ArrayLike, value_at_risk: ArrayLike, expected_shortfall: ArrayLike, level: float
) -> Floats:
    r"""FZ0, the joint loss of VaR and ES whose differences do not depend on the unit; elementwise.

    .. math:: L = -\frac{1\{x \le v\}(v - x)}{\alpha e} + \frac{v}{e} + \log(-e) - 1, \quad
        v = -VaR, \; e = -ES, \; \alpha = 1 - level

    `returns` x of a long position, VaR and ES positive fractions with VaR <= ES. Its expectation is least at the true
    pair, where it is log(ES) for a continuous distribution; it has no zero. Source: Patton, Ziegel and Chen (2019),
    "Dynamic semiparametric models for expected shortfall (and value-at-risk)", Journal of Econometrics 211, eq. 6,
    of the class of Fissler and Ziegel (2016), Annals of Statistics 44.
    """
    if not 0.5 < level < 1:
        raise ValueError(f"level {level}: expected above 0.5 and below 1, as 0.975")
    x, risk, shortfall = (
        np.asarray(values, np.float64) for values in (returns, value_at_risk, expected_shortfall)
    )
    wrong = np.atleast_1d(~((risk > 0) & (shortfall >= risk * (1.0 - 1e-9))))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        pair = (np.atleast_1d(risk).flat[first], np.atleast_1d(shortfall).flat[first])
        raise ValueError(f"VaR {pair[0]} with ES {pair[1]}: expected 0 < VaR <= ES")
    beyond = np.maximum(-risk - x, 0.0)
    return np.asarray(
        beyond / ((1.0 - level) * shortfall) + risk / shortfall + np.log(shortfall) - 1.0
    )


def covered(realized: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.bool_]:
    """Whether lower <= y <= upper; its mean should be the interval's nominal probability."""
    return np.asarray((np.asarray(realized) >= lower) & (np.asarray(realized) <= upper))


def _difference(realized: ArrayLike, forecast: ArrayLike) -> Floats:
    return np.asarray(np.asarray(realized, np.float64) - np.asarray(forecast, np.float64))


def _positive(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        raise ValueError(f"{name} {array[wrong].flat[0]}: expected a positive finite number")
    return array


def _levels(levels: ArrayLike) -> Floats:
    array = np.asarray(levels, dtype=np.float64)
    wrong = ~((array > 0) & (array < 1))
    if wrong.any():
        raise ValueError(
            f"quantile level {array[wrong].flat[0]}: expected a number between 0 and 1"
        )
    return array
