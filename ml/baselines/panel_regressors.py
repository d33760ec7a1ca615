"""Regressors of the panel HAR: HARX-cal's, and what ranges, volatility of volatility, past returns and volume add to them.

In: columns of features.daily and the hourly bars of a panel. Out: the design matrix, days down and coins across.
Never: a value of a later day, or a window that depends on how much history the panel holds: each window has a fixed length, so a day
gives the same bits alone and among others. A day without complete bars repeats the newest complete one, up to 3 days old.

A few missing hours among the last count as their neighbours do; with more than a quarter of them missing the day before stands in.

The realised range of a day is the sum over its hours of log(high / low)^2 / (4 log 2): as an estimate of the day's variance about five
times as precise as the sum of squared returns of the same bars (Parkinson 1980, Journal of Business 53; Christensen and Podolskij 2007,
Journal of Econometrics 141).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ml.baselines.regressors import REGRESSORS, design
from ml.panel import Panel

Floats = NDArray[np.float64]

LOOKBACK_DAYS = 70
"""Days up to a row that its regressors read: windows of 66 days, of values up to 3 days old."""
FEWEST_HOURS = 20
STALE_DAYS = 3
RANGE_DAYS = (1, 2, 5, 22, 66)
LAST_HOURS = (1, 2, 4, 8, 12)
VOLATILITY_DAYS = (5, 22, 66)
TINY = 1e-9

NAMES: tuple[str, ...] = (
    *(regressor.name for regressor in REGRESSORS),
    *(f"range_{days}d" for days in RANGE_DAYS),
    "market_range_1d", "market_range_5d", "market_range_22d", "market_range_66d",
    *(f"range_last_{hours}h" for hours in LAST_HOURS),
    "quarticity", "quarticity_x_surprise", "quarticity_5d",
    *(f"volatility_of_volatility_{days}d" for days in VOLATILITY_DAYS), "market_volatility_of_volatility",
    "market_return", "market_leverage", "market_return_5d", "return_22d", "leverage_22d", "return_66d",
    "volume_5d", "market_volume", "market_volume_5d",
)  # fmt: skip
READS_HOURLY = ("high_low_range",)


def realised_range(panel: Panel) -> Floats:
    """(T, N) realised range of each day from its hours, scaled to 24 of them; NaN with fewer than 20, or a flat day."""
    hourly = _hourly_range_squared(panel)  # (T, 24, N)
    known = np.isfinite(hourly)
    count = known.sum(axis=1)
    total = np.where(known, hourly, 0.0).sum(axis=1)
    usable = (count >= FEWEST_HOURS) & (total > 0)
    return np.where(usable, total * 24 / np.maximum(count, 1), np.nan)


def panel_design(panel: Panel) -> Floats:
    """(T, N, P) regressors in the order of `NAMES`, without an intercept; NaN where one cannot be computed.

    ValueError when the panel has no hourly ranges.
    """
    classical = design(panel, REGRESSORS)[..., 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        extra = [
            *_ranges(panel),
            *_volatility_of_volatility(panel),
            *_returns(panel),
            *_volume(panel),
        ]
    found = np.concatenate([classical, np.stack(extra, axis=-1)], axis=-1)
    return np.ascontiguousarray(np.where(np.isfinite(found), found, np.nan))


def trailing_mean(values: Floats, days: int) -> Floats:
    """(T, N): mean of the known values of the last `days` days up to each row; NaN where fewer than 80 % are known."""
    window = _trailing(values, days)
    known = np.isfinite(window)
    count = known.sum(axis=-1)
    total = np.where(known, window, 0.0).sum(axis=-1)
    return np.where(count >= math.ceil(0.8 * days), total / np.maximum(count, 1), np.nan)


def _trailing(values: Floats, days: int) -> Floats:
    """(T, N) -> (T, N, days), oldest first; NaN before the panel."""
    padded = np.concatenate([np.full((days - 1, values.shape[1]), np.nan), values])
    return np.ascontiguousarray(sliding_window_view(padded, days, axis=0))


def _trailing_log_sd(values: Floats, days: int) -> Floats:
    mean = trailing_mean(values, days)
    deviations = (_trailing(values, days) - mean[..., None]) ** 2
    known = np.isfinite(deviations)
    total = np.where(known, deviations, 0.0).sum(axis=-1)
    return np.asarray(0.5 * np.log(total / np.maximum(known.sum(axis=-1) - 1, 1)))


def newest_known(values: Floats) -> Floats:
    """(T, ...) with a missing row taken from the newest known one, up to `STALE_DAYS` before it."""
    found = values.copy()
    for age in range(1, STALE_DAYS + 1):
        older = np.full_like(values, np.nan)
        older[age:] = values[:-age]
        found = np.where(np.isfinite(found), found, older)
    return found


def market_mean(values: Floats) -> Floats:
    """(T, N): the mean over the coins that have a value, the same for each."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.repeat(mean[:, None], values.shape[1], axis=1)


def _hourly_range_squared(panel: Panel) -> Floats:
    if "high_low_range" not in panel.hourly_fields:
        raise ValueError("the panel has no hourly high_low_range: read features.hourly with it")
    ranges = panel.hourly[..., panel.hourly_fields.index("high_low_range")].astype(np.float64)
    return np.asarray(ranges**2 / (4 * math.log(2)))


def _ranges(panel: Panel) -> list[Floats]:
    daily = newest_known(realised_range(panel))
    market = market_mean(np.log(daily))
    hourly = _hourly_range_squared(panel)
    complete = np.isfinite(realised_range(panel))
    last = []
    for hours in LAST_HOURS:
        known = np.isfinite(hourly[:, 24 - hours :])
        count = known.sum(axis=1)
        total = np.where(known, hourly[:, 24 - hours :], 0.0).sum(axis=1)
        usable = complete & (count >= math.ceil(0.75 * hours))
        scaled = np.where(usable, total * hours / np.maximum(count, 1), np.nan)
        last.append(np.log(newest_known(scaled) + TINY))
    return [
        *(np.log(trailing_mean(daily, days)) for days in RANGE_DAYS),
        market,
        *(trailing_mean(market, days) for days in (5, 22, 66)),
        *last,
    ]


def _volatility_of_volatility(panel: Panel) -> list[Floats]:
    log_rv = np.log(panel.feature("rv_d"))
    quarticity = 0.5 * np.log(panel.feature("quarticity_d")) - log_rv
    spread = [_trailing_log_sd(log_rv, days) for days in VOLATILITY_DAYS]
    return [
        quarticity,
        quarticity * (log_rv - trailing_mean(log_rv, 22)),
        trailing_mean(quarticity, 5),
        *spread,
        market_mean(spread[VOLATILITY_DAYS.index(22)]),
    ]


def _returns(panel: Panel) -> list[Floats]:
    log_return, variance = panel.feature("return_d"), panel.feature("rv_d")
    market = market_mean(log_return / np.sqrt(variance))
    month = np.sqrt(22) * trailing_mean(log_return, 22) / np.sqrt(panel.feature("rv_22d"))
    quarter = np.sqrt(66) * trailing_mean(log_return, 66) / np.sqrt(panel.feature("rv_66d"))
    return [
        market,
        np.minimum(market, 0.0),
        5 * trailing_mean(market, 5),
        month,
        np.minimum(month, 0.0),
        quarter,
    ]


def _volume(panel: Panel) -> list[Floats]:
    ratio = panel.feature("log_volume_ratio_22d")
    market = market_mean(ratio)
    return [trailing_mean(ratio, 5), market, trailing_mean(market, 5)]
