"""Realised measures of one day's bars, as plain numpy: the reference that the SQL features are tested against.

In: arrays of bars or days, shape (bars,) for one day or (T, bars) for T days of equally many bars; the last axis is reduced.
Out: float64 measures, a scalar for (bars,) and shape (T,) for (T, bars). Never reads data, fills gaps or annualises.

Units: returns are natural-log returns of a bar; every variance is in squared daily log-return units, so ``sqrt(365 * value)`` is an
annualised volatility. Prices are positive. Bars that are missing are left out by the caller, not passed as NaN: a NaN anywhere
makes that day's measure NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MU_1 = float(np.sqrt(2.0 / np.pi))
"""Mean absolute value of a standard normal variate."""

AMIHUD_SCALE = 1e6
"""Amihud's ratio is quoted per million units of the quote currency."""


def log_returns(close: ArrayLike, open_: ArrayLike, previous_close: ArrayLike) -> FloatArray:
    """Log return of each bar, ``ln(close_i / start_i)``, shape as ``close``.

    ``previous_close`` is the close of the bar that ends at each bar's open, NaN where there is none (a gap or the first bar of all);
    the return then starts at the bar's own ``open_``.
    """
    close_, start = _positive("close", close), np.asarray(previous_close, dtype=np.float64)
    start = np.where(np.isnan(start), _positive("open", open_), start)
    return np.asarray(np.log(close_ / start), dtype=np.float64)


def realized_variance(returns: ArrayLike) -> FloatArray:
    r"""Realised variance, :math:`RV = \sum_{i=1}^n r_i^2`.

    Source: Andersen, Bollerslev, Diebold and Labys (2003), Modeling and Forecasting Realized Volatility, Econometrica 71.
    """
    r = _bars("returns", returns)
    return np.asarray(np.sum(r**2, axis=-1))


def bipower_variation(returns: ArrayLike) -> FloatArray:
    r"""Bipower variation, :math:`BV = \frac{\pi}{2}\,\frac{n}{n-1} \sum_{i=2}^n |r_i|\,|r_{i-1}|`: variance without jumps.

    The factor n/(n-1) makes up for the n-1 products. NaN for fewer than two bars.
    Source: Barndorff-Nielsen and Shephard (2004), Power and Bipower Variation, Journal of Financial Econometrics 2.
    """
    r = np.abs(_bars("returns", returns))
    n = r.shape[-1]
    if n < 2:
        return np.full(r.shape[:-1], np.nan)
    return np.asarray(MU_1**-2 * n / (n - 1) * np.sum(r[..., 1:] * r[..., :-1], axis=-1))


def jump_variation(returns: ArrayLike) -> FloatArray:
    r"""Jump part of the realised variance, :math:`J = \max(RV - BV, 0)`.

    Source: Andersen, Bollerslev and Diebold (2007), Roughing It Up, Review of Economics and Statistics 89.
    """
    return np.asarray(np.maximum(realized_variance(returns) - bipower_variation(returns), 0.0))


def realized_quarticity(returns: ArrayLike) -> FloatArray:
    r"""Realised quarticity, :math:`RQ = \frac{n}{3} \sum_{i=1}^n r_i^4`, which estimates the variance of RV (units: variance squared).

    Source: Barndorff-Nielsen and Shephard (2002), Econometric Analysis of Realized Volatility, JRSS B 64.
    """
    r = _bars("returns", returns)
    return np.asarray(r.shape[-1] / 3.0 * np.sum(r**4, axis=-1))


def semivariances(returns: ArrayLike) -> tuple[FloatArray, FloatArray]:
    r"""Negative and positive semivariance, :math:`\sum r_i^2 1(r_i<0)` and :math:`\sum r_i^2 1(r_i>0)`; they add up to RV.

    Source: Barndorff-Nielsen, Kinnebrock and Shephard (2010), Measuring Downside Risk: Realised Semivariance.
    """
    r = _bars("returns", returns)
    negative = np.sum(np.minimum(r, 0.0) ** 2, axis=-1)
    positive = np.sum(np.maximum(r, 0.0) ** 2, axis=-1)
    return np.asarray(negative), np.asarray(positive)


def parkinson(high: ArrayLike, low: ArrayLike) -> FloatArray:
    r"""Parkinson's range variance of each day, :math:`\frac{\ln(H/L)^2}{4 \ln 2}`; shape as ``high``.

    Source: Parkinson (1980), The Extreme Value Method for Estimating the Variance of the Rate of Return, Journal of Business 53.
    """
    return np.asarray(_log_ratio("high", high, "low", low) ** 2 / (4.0 * np.log(2.0)))


def garman_klass(open_: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike) -> FloatArray:
    r"""Garman-Klass variance of each day, :math:`\frac12 \ln(H/L)^2 - (2\ln 2 - 1) \ln(C/O)^2`; shape as ``open_``.

    May be slightly negative when a day closes near its extreme far from its open.
    Source: Garman and Klass (1980), On the Estimation of Security Price Volatilities from Historical Data, Journal of Business 53.
    """
    range_ = _log_ratio("high", high, "low", low)
    move = _log_ratio("close", close, "open", open_)
    return np.asarray(0.5 * range_**2 - (2.0 * np.log(2.0) - 1.0) * move**2)


def rogers_satchell(
    open_: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike
) -> FloatArray:
    r"""Rogers-Satchell variance of each day, :math:`\ln\frac HC \ln\frac HO + \ln\frac LC \ln\frac LO`; drift does not bias it.

    Source: Rogers and Satchell (1991), Estimating Variance from High, Low and Closing Prices, Annals of Applied Probability 1.
    """
    up = _log_ratio("high", high, "close", close) * _log_ratio("high", high, "open", open_)
    down = _log_ratio("low", low, "close", close) * _log_ratio("low", low, "open", open_)
    return np.asarray(up + down)


def yang_zhang(
    open_: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    close: ArrayLike,
    overnight: ArrayLike | None = None,
) -> FloatArray:
    r"""Yang-Zhang variance over a window of n days on the last axis, (n,) or (T, n).

    :math:`\sigma^2 = \sigma_o^2 + k\,\sigma_c^2 + (1-k)\,\overline{RS}` with :math:`k = 0.34 / (1.34 + \frac{n+1}{n-1})`, where
    :math:`\sigma_o^2` and :math:`\sigma_c^2` are the sample variances of the overnight and open-to-close log returns. ``overnight``
    is ``ln(open_t / close_{t-1})`` per day, 0 where the day before is missing; left out, it is taken within the window, with 0 for
    the first day. NaN for fewer than two days.
    Source: Yang and Zhang (2000), Drift-Independent Volatility Estimation, Journal of Business 73.
    """
    opens, closes = _positive("open", open_), _positive("close", close)
    n = opens.shape[-1]
    if n < 2:
        return np.full(opens.shape[:-1], np.nan)
    if overnight is None:
        night = np.zeros_like(opens)
        night[..., 1:] = np.log(opens[..., 1:] / closes[..., :-1])
    else:
        night = np.asarray(overnight, dtype=np.float64)
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    return np.asarray(
        np.var(night, axis=-1, ddof=1)
        + k * np.var(np.log(closes / opens), axis=-1, ddof=1)
        + (1.0 - k) * np.mean(rogers_satchell(open_, high, low, close), axis=-1)
    )


def corwin_schultz(high: ArrayLike, low: ArrayLike, close: ArrayLike) -> FloatArray:
    r"""Corwin-Schultz bid-ask spread of two consecutive days on the last axis, shape (2,) or (T, 2), as a fraction of the price.

    :math:`\beta = \sum_{j=0}^1 \ln(H_j/L_j)^2`, :math:`\gamma = \ln(\max H / \min L)^2`,
    :math:`\alpha = \frac{\sqrt{2\beta}-\sqrt\beta}{3-2\sqrt2} - \sqrt{\frac{\gamma}{3-2\sqrt2}}`,
    :math:`S = \frac{2(e^\alpha-1)}{1+e^\alpha}`, negative values set to 0. The second day is first shifted by the gap between its range
    and the first day's ``close``, as the authors do for overnight moves. The second day's close is not read.
    Source: Corwin and Schultz (2012), A Simple Way to Estimate Bid-Ask Spreads from Daily High and Low Prices, Journal of Finance 67.
    """
    highs, lows = _positive("high", high), _positive("low", low)
    closes = _positive("close", close)
    if highs.shape[-1] != 2:
        raise ValueError(f"high of shape {highs.shape}: expected two days on the last axis")
    first_close = closes[..., 0]
    gap = np.maximum(lows[..., 1] - first_close, 0.0) + np.minimum(highs[..., 1] - first_close, 0.0)
    second_high, second_low = highs[..., 1] - gap, lows[..., 1] - gap
    beta = np.log(highs[..., 0] / lows[..., 0]) ** 2 + np.log(second_high / second_low) ** 2
    widest = np.maximum(highs[..., 0], second_high) / np.minimum(lows[..., 0], second_low)
    gamma = np.log(widest) ** 2
    scale = 3.0 - 2.0 * np.sqrt(2.0)
    alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / scale - np.sqrt(gamma / scale)
    return np.asarray(np.maximum(2.0 * (np.exp(alpha) - 1.0) / (1.0 + np.exp(alpha)), 0.0))


def amihud(returns: ArrayLike, quote_volume: ArrayLike) -> FloatArray:
    r"""Amihud illiquidity over the days of the last axis, :math:`\frac{10^6}{n}\sum_t |r_t| / V_t` with V in quote currency.

    ``returns`` are daily log returns. A day without volume makes the result NaN.
    Source: Amihud (2002), Illiquidity and Stock Returns, Journal of Financial Markets 5.
    """
    r, volume = _bars("returns", returns), np.asarray(quote_volume, dtype=np.float64)
    if r.shape != volume.shape:
        raise ValueError(
            f"quote_volume of shape {volume.shape}: expected that of returns, {r.shape}"
        )
    ratio = np.full(r.shape, np.nan)
    np.divide(np.abs(r), volume, out=ratio, where=volume > 0)
    return np.asarray(AMIHUD_SCALE * np.mean(ratio, axis=-1))


def _bars(name: str, values: Any) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ValueError(f"{name} of shape {array.shape}: expected (bars,) or (T, bars), not empty")
    return array


def _positive(name: str, values: Any) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    bad = array[array <= 0]
    if bad.size:
        raise ValueError(f"{name} {bad.flat[0]:g}: expected positive prices")
    return array


def _log_ratio(over_name: str, over: ArrayLike, under_name: str, under: ArrayLike) -> FloatArray:
    return np.asarray(np.log(_positive(over_name, over) / _positive(under_name, under)))
