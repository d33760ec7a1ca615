"""Losses of one forecast: a page of formulas, elementwise; averaging is in `aggregation`.

In: realised and forecast values of the same shape. Out: a loss of that shape.
Never: averaging, or accepting a value for which the formula has no meaning.
"""

from __future__ import annotations

import numpy as np
import scoringrules as sr
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
    value, probability = np.asarray(realized, dtype=np.float64)[..., None], _levels(levels)
    return np.asarray(sr.quantile_score(value, np.asarray(quantiles), probability).mean(axis=-1))


def crps(realized: ArrayLike, quantiles: ArrayLike) -> Floats:
    """CRPS with the quantiles as an equally weighted ensemble: realized (...,), quantiles (..., Q) -> (...,).

    0 means a point mass on the value. Meant for evenly spaced levels; for others use `pinball`.
    """
    return np.asarray(
        sr.crps_ensemble(np.asarray(realized, dtype=np.float64), np.asarray(quantiles))
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
