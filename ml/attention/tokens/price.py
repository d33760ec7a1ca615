"""Price tokens: hours, days and weeks of one coin, and one token per other coin.

In: a panel cut to the rows that the samples read, sample rows and columns. Out: arrays (sample, token, field), NaN = missing.
What depends on the panel's row alone is computed once a row and then gathered. Every sum runs over a window of its own, oldest
day first: a day's numbers do not depend on where the panel begins or which days are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.attention.tokens.layout import (
    ASSET_FIELDS,
    CHANGE_DAYS,
    DAILY_FIELDS,
    HOURLY_FIELDS,
    WEEK,
    WEEKLY_FIELDS,
    TokenConfig,
    TokenSlots,
)
from ml.panel import Panel

FloatArray = NDArray[np.float64]
Index = NDArray[np.int64]
TINY = 1e-3
"""Of an hour's usual variance: an hour without any move is 7 log units below an average one, not minus infinity."""


def feature(panel: Panel, name: str) -> FloatArray:
    """(T, N); all missing when the panel has no such column."""
    found = panel.features.get(name)
    return np.full((len(panel.days), len(panel.assets)), np.nan) if found is None else found


def safe_log(values: FloatArray) -> FloatArray:
    """log, NaN where the value is not positive."""
    return np.log(np.where(values > 0, values, np.nan))


def price_present(panel: Panel) -> NDArray[np.bool_]:
    """(T, N): the row holds a complete price day of its own, not the copy of an older one."""
    if "rv_d" not in panel.features:
        raise ValueError("the panel has no feature 'rv_d': expected the columns of features.daily")
    fresh = np.nan_to_num(feature(panel, "price_age_days"), nan=0.0) == 0
    return np.asarray((panel.features["rv_d"] > 0) & fresh, dtype=bool)


def price_share(panel: Panel, config: TokenConfig) -> FloatArray:
    """(T, N): share of the days of the daily price tokens that are there."""
    here = price_present(panel)
    total: FloatArray = np.zeros((len(here) + 1, here.shape[1]))
    total[1:] = np.cumsum(here, axis=0)
    stop = np.arange(1, len(here) + 1)
    days = config.daily_days
    return (total[stop] - total[np.maximum(stop - days, 0)]) / days


@dataclass(frozen=True)
class PriceRows:
    """What price tokens read of each panel row, (T, N) each; NaN where the row has no complete price day of its own."""

    log_rv: FloatArray
    over_sd: FloatArray  # return over the square root of the day's RV
    log_range: FloatArray  # 2 log(high/low range) - log RV
    log_volume_ratio: FloatArray
    market_log_rv: FloatArray
    btc_log_rv: FloatArray
    log_return: FloatArray
    level: FloatArray  # log mean RV of the level's days
    market_level: FloatArray  # mean of market_log_rv over the same days
    btc_level: FloatArray

    @classmethod
    def of(cls, panel: Panel, config: TokenConfig) -> PriceRows:
        here = price_present(panel)
        rv = np.where(here, panel.features["rv_d"], np.nan)
        log_rv = safe_log(rv)
        returns = np.where(here, feature(panel, "return_d"), np.nan)
        market = np.where(here, feature(panel, "market_log_rv_d"), np.nan)
        btc = np.where(here, safe_log(feature(panel, "btc_rv_d")), np.nan)
        ranges = safe_log(np.where(here, feature(panel, "high_low_range_d"), np.nan))
        return cls(
            log_rv=log_rv,
            over_sd=returns / np.sqrt(rv),
            log_range=2 * ranges - log_rv,
            log_volume_ratio=np.where(here, feature(panel, "log_volume_ratio_22d"), np.nan),
            market_log_rv=market,
            btc_log_rv=btc,
            log_return=returns,
            level=safe_log(trailing_mean(rv, config.level_days)),
            market_level=trailing_mean(market, config.level_days),
            btc_level=trailing_mean(btc, config.level_days),
        )


def trailing_sum(values: FloatArray, days: int) -> tuple[FloatArray, FloatArray]:
    """(T, N) -> sum and number of the known values of the `days` rows up to each row."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    total, count = np.zeros((2, *values.shape))
    for back in range(min(days, len(values)) - 1, -1, -1):
        stop = len(values) - back
        total[back:] += filled[:stop]
        count[back:] += known[:stop]
    return total, count


def trailing_mean(values: FloatArray, days: int) -> FloatArray:
    """(T, N): mean of the known values of the `days` rows up to each row; NaN where there are none."""
    total, count = trailing_sum(values, days)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def gather(array: FloatArray, rows: Index, columns: Index, lags: Index) -> FloatArray:
    """(T, N) -> (S, L): each sample's column at its own row less each lag; NaN before the panel."""
    index = rows[:, None] - lags
    inside = index >= 0
    found = array[np.where(inside, index, 0), columns[:, None]]
    if not inside.all():
        found[~inside] = np.nan
    return found


def daily_tokens(
    prices: PriceRows, rows: Index, columns: Index, config: TokenConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (S, tokens, patch * fields), day by day within a patch, oldest first, and presence (S, tokens)."""
    lags = np.arange(config.daily_days - 1, -1, -1)

    def at(array: FloatArray) -> FloatArray:
        return gather(array, rows, columns, lags)

    log_rv, over_sd = at(prices.log_rv), at(prices.over_sd)
    fields = (
        log_rv - prices.level[rows, columns][:, None],
        over_sd,
        np.minimum(over_sd, 0.0),
        at(prices.log_range),
        at(prices.log_volume_ratio),
        at(prices.market_log_rv) - prices.market_level[rows, columns][:, None],
        at(prices.btc_log_rv) - prices.btc_level[rows, columns][:, None],
    )
    values = np.empty((len(rows), config.daily_days, len(DAILY_FIELDS)), dtype=np.float32)
    for position, column in enumerate(fields):
        values[..., position] = column
    shape = (len(rows), config.daily_tokens, config.daily_patch)
    present = np.isfinite(log_rv).reshape(shape).any(axis=2)
    width = config.daily_patch * len(DAILY_FIELDS)
    return values.reshape(*shape[:2], width), np.asarray(present, dtype=bool)


def weekly_tokens(
    prices: PriceRows, rows: Index, columns: Index, config: TokenConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (S, tokens, fields), oldest first, and presence (S, tokens): aggregates of the known days of 7.

    Log RV is the mean of the log RVs less the level, the return is the sum over the square root of the days' level, the range is the
    mean; `share_known` says how many of the 7 days are behind them. A week without a known day is not there.
    """
    mean, count = trailing_sum(prices.log_rv, WEEK)
    known = np.maximum(count, 1)
    mean = np.where(count > 0, mean / known, np.nan)
    square, _ = trailing_sum(prices.log_rv**2, WEEK)
    sd = np.where(count > 1, np.sqrt(np.maximum(square / known - mean**2, 0.0)), np.nan)
    returns, returns_known = trailing_sum(prices.log_return, WEEK)
    returns = np.where(returns_known > 0, returns / np.sqrt(np.maximum(returns_known, 1)), np.nan)
    newest = config.daily_days + WEEK * np.arange(config.weekly_tokens - 1, -1, -1)
    level = prices.level[rows, columns][:, None]
    log_rv = gather(mean, rows, columns, newest) - level
    present = np.isfinite(log_rv)
    share = gather(count, rows, columns, newest) / WEEK
    fields = (
        log_rv,
        gather(sd, rows, columns, newest),
        gather(returns, rows, columns, newest) / np.exp(level / 2),
        gather(trailing_mean(prices.log_range, WEEK), rows, columns, newest),
        share,
    )
    values = np.empty((len(rows), config.weekly_tokens, len(WEEKLY_FIELDS)), dtype=np.float32)
    for position, column in enumerate(fields):
        values[..., position] = column
    values[~present] = np.nan
    return values, present


def hourly_tokens(
    panel: Panel, prices: PriceRows, rows: Index, columns: Index, config: TokenConfig
) -> NDArray[np.float32]:
    """(S, tokens, patch * fields): the newest hours up to the end of the as_of day, hour by hour within a patch."""
    shape = (len(rows), config.hourly_tokens, config.hourly_patch * len(HOURLY_FIELDS))
    days = -(-config.hourly_hours // 24)
    index = rows[:, None] - np.arange(days - 1, -1, -1)  # (S, days)
    inside = index >= 0
    variance = np.exp(prices.level[rows, columns])[:, None] / 24  # an average hour's share
    values = np.full((len(rows), days * 24, len(HOURLY_FIELDS)), np.nan, dtype=np.float32)
    for position, name in enumerate(HOURLY_FIELDS):
        if name not in panel.hourly_fields:
            continue
        source = panel.hourly[..., panel.hourly_fields.index(name)]  # (T, 24, N)
        block = source.transpose(0, 2, 1)[np.where(inside, index, 0), columns[:, None]]
        block[~inside] = np.nan  # (S, days, 24)
        hours: FloatArray = block.reshape(len(rows), days * 24).astype(np.float64)
        if name == "log_return":
            hours = hours / np.sqrt(variance)
        elif name == "realized_variance":
            hours = np.log(hours / variance + TINY)
        elif name == "high_low_range":
            hours = np.log(hours / np.sqrt(variance) + TINY)
        values[..., position] = hours
    return values[:, -config.hourly_hours :].reshape(shape)


def asset_tokens(
    panel: Panel, prices: PriceRows, rows: Index, columns: Index, slots: TokenSlots, count: int
) -> NDArray[np.float32]:
    """(S, count, fields): the last day of the coin in each slot relative to its own level; NaN where the panel has no such coin
    or no price of it, and for the sample's own coin.
    """
    change = prices.log_rv - _shifted(prices.log_rv, CHANGE_DAYS)
    fields = (
        prices.log_rv - prices.level,
        prices.log_return / np.exp(prices.level / 2),
        prices.log_range,
        prices.log_volume_ratio,
        change,
    )
    values = np.full((len(rows), count, len(ASSET_FIELDS)), np.nan, dtype=np.float32)
    for slot, name in enumerate(slots.assets[:count]):
        if name not in panel.assets:
            continue
        column = panel.assets.index(name)
        table = np.stack([field[:, column] for field in fields], axis=-1)  # (T, fields)
        values[:, slot] = table[rows]
        values[columns == column, slot] = np.nan
    return values


def _shifted(values: FloatArray, days: int) -> FloatArray:
    """(T, N): the values of `days` rows before; NaN before the panel."""
    moved = np.full_like(values, np.nan)
    moved[days:] = values[: max(len(values) - days, 0)]
    return moved
