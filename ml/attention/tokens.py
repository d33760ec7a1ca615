"""Tokens: a panel and (day, coin) pairs go in, arrays that the network reads come out.

Every token group is an array (sample, token, field), NaN where a value is missing, and every token has a presence flag.
Price fields are relative to the sample's own level (the mean RV of its daily tokens), so coins share one scale.
Nothing here fills a missing value, or reads a row after the sample's own day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.panel import Panel

FloatArray = NDArray[np.float64]

CONTEXT_FIELDS: dict[str, tuple[str, ...]] = {
    "funding": ("funding_rate_d", "funding_rate_7d", "funding_dispersion_d"),
    "open_interest": ("open_interest_change_1d", "open_interest_change_7d"),
    "implied_volatility": (
        "implied_volatility",
        "implied_volatility_market",
        "implied_volatility_change_1d",
        "implied_volatility_change_5d",
    ),
    "onchain": (
        "active_addresses_change_7d",
        "transactions_change_7d",
        "fees_change_7d",
        "hash_rate_change_7d",
        "mvrv",
        "exchange_netflow_ratio",
        "exchange_flow_change_7d",
    ),
    "stablecoin": ("stablecoin_growth_1d", "stablecoin_growth_7d", "stablecoin_growth_30d"),
    "sentiment": (
        "fear_greed",
        "fear_greed_change_7d",
        "news_tone",
        "news_count_log",
        "headline_tone",
        "headline_count_log",
        "social_volume_change_7d",
    ),
}
"""Columns of features.daily in each modality's context token; its age comes last."""
LEVEL_FIELDS = ("implied_volatility", "implied_volatility_market")
"""Annualised fractions, entered as log daily variance relative to the sample's own level."""
REVISED_FLOWS = ("exchange_netflow_ratio", "exchange_flow_change_7d")
DAILY_FIELDS = (
    "log_rv",
    "return_over_sd",
    "leverage",
    "log_range",
    "log_volume_ratio",
    "market_log_rv",
    "btc_log_rv",
)
HOURLY_FIELDS = ("log_return", "realized_variance", "high_low_range", "log_volume_ratio")
GROUPS = ("calendar", "price_daily", "price_hourly", *CONTEXT_FIELDS)
PRICE_GROUPS = ("price_daily", "price_hourly")
SCALES = {
    "calendar": "forecast",
    "price_daily": "daily",
    "price_hourly": "hourly",
    **dict.fromkeys(CONTEXT_FIELDS, "context"),
}
"""The scale that each group's tokens belong to."""
CALENDAR_WIDTH = (
    9  # weekday of the first target day, one-hot; weekend share of the next 5 and 22 days
)


@dataclass(frozen=True)
class TokenConfig:
    """Which tokens are made, and how their values are scaled."""

    daily_tokens: int = 32  # daily price tokens, the as_of day and those before it
    hourly_hours: int = 48  # hours of price history before the decision
    hourly_patch: int = 4  # hours in one hourly token; must divide hourly_hours
    min_price_share: float = 0.8  # share of daily price tokens below which a forecast is refused
    clip_quantile: float = 0.005  # training values are clipped at this quantile and its mirror
    min_group_samples: int = 250  # a field with fewer training values than this is never read
    use_revised_flows: bool = False  # read exchange flows that are revised later: a leak

    def __post_init__(self) -> None:
        for name in ("daily_tokens", "hourly_hours", "hourly_patch", "min_group_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive integer")
        if self.hourly_hours % self.hourly_patch:
            raise ValueError(
                f"hourly_patch {self.hourly_patch}: must divide hourly_hours {self.hourly_hours}"
            )
        if not 0 < self.min_price_share <= 1:
            raise ValueError(f"min_price_share {self.min_price_share}: expected a share in (0, 1]")
        if not 0 <= self.clip_quantile < 0.5:
            raise ValueError(f"clip_quantile {self.clip_quantile}: expected a share in [0, 0.5)")

    @property
    def hourly_tokens(self) -> int:
        return self.hourly_hours // self.hourly_patch

    @property
    def lookback_days(self) -> int:
        """Rows that a sample reads, the as_of day included."""
        return max(self.daily_tokens, -(-self.hourly_hours // 24))

    def token_counts(self) -> dict[str, int]:
        """group -> tokens, in token order."""
        counts = dict.fromkeys(GROUPS, 1)
        return counts | {"price_daily": self.daily_tokens, "price_hourly": self.hourly_tokens}


@dataclass(frozen=True)
class Tokens:
    """Unscaled tokens of S samples."""

    values: dict[str, NDArray[np.float32]]  # group -> (S, tokens, fields), NaN = missing
    present: dict[str, NDArray[np.bool_]]  # group -> (S, tokens)

    def mask(self) -> NDArray[np.bool_]:
        """(S, token)"""
        return np.concatenate([self.present[group] for group in GROUPS], axis=1)


def _feature(panel: Panel, name: str) -> FloatArray:
    """(T, N); all missing when the panel has no such column."""
    found = panel.features.get(name)
    return np.full((len(panel.days), len(panel.assets)), np.nan) if found is None else found


def _window(
    array: FloatArray, rows: NDArray[np.int64], assets: NDArray[np.int64], length: int
) -> FloatArray:
    """(T, N) -> (S, length): the rows up to and including each sample's own, oldest first; NaN before the panel."""
    index = rows[:, None] - np.arange(length - 1, -1, -1)  # (S, length)
    values = array[np.maximum(index, 0), assets[:, None]]
    return np.where(index >= 0, values, np.nan)


def _log(values: FloatArray) -> FloatArray:
    """log, NaN where the value is not positive."""
    return np.log(np.where(values > 0, values, np.nan))


def _row_mean(values: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
    """(S, L) -> (S, 1): mean of present finite values, NaN where there are none."""
    good = present & np.isfinite(values)
    count = good.sum(axis=1, keepdims=True)
    total = np.where(good, values, 0.0).sum(axis=1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def price_present(panel: Panel) -> NDArray[np.bool_]:
    """(T, N): the row holds a complete price day of its own, not the copy of an older one."""
    if "rv_d" not in panel.features:
        raise ValueError("the panel has no feature 'rv_d': expected the columns of features.daily")
    fresh = np.nan_to_num(_feature(panel, "price_age_days"), nan=0.0) == 0
    return np.asarray((panel.features["rv_d"] > 0) & fresh, dtype=bool)


def price_share(panel: Panel, config: TokenConfig) -> FloatArray:
    """(T, N): share of the daily price tokens that are there."""
    here = price_present(panel)
    total: FloatArray = np.zeros((len(here) + 1, here.shape[1]))
    total[1:] = np.cumsum(here, axis=0)
    stop = np.arange(1, len(here) + 1)
    return (total[stop] - total[np.maximum(stop - config.daily_tokens, 0)]) / config.daily_tokens


def make_tokens(
    panel: Panel, rows: NDArray[np.int64], assets: NDArray[np.int64], config: TokenConfig
) -> Tokens:
    """Tokens of the samples (panel row, panel column); each reads rows up to its own only."""
    values: dict[str, NDArray[np.float32]] = {"calendar": _calendar(panel.days[rows])}
    present: dict[str, NDArray[np.bool_]] = {"calendar": np.ones((len(rows), 1), dtype=bool)}
    daily, here, level = _daily_tokens(panel, rows, assets, config.daily_tokens)
    values["price_daily"], present["price_daily"] = daily, here
    values["price_hourly"] = _hourly_tokens(panel, rows, assets, config, level)
    present["price_hourly"] = np.any(np.isfinite(values["price_hourly"]), axis=2)
    for group in CONTEXT_FIELDS:
        fields, age = _context_fields(panel, rows, assets, group, level, config.use_revised_flows)
        present[group] = np.any(np.isfinite(fields), axis=1, keepdims=True)
        values[group] = np.column_stack([fields, np.log1p(age)])[:, None].astype(np.float32)
    return Tokens(values=values, present=present)


def _calendar(days: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """(S, 1, CALENDAR_WIDTH), from the date alone: the same for every coin."""
    number = days.astype("datetime64[D]").astype(np.int64)
    weekday = (
        number[:, None] + np.arange(1, 23) + 3
    ) % 7  # (S, 22), 0 = Monday; 1970-01-01 was a Thursday
    weekend = weekday >= 5
    one_hot = weekday[:, :1] == np.arange(7)
    shares = [weekend[:, :5].mean(axis=1), weekend.mean(axis=1)]
    return np.column_stack([one_hot, *shares]).astype(np.float32)[:, None]


def _daily_tokens(
    panel: Panel, rows: NDArray[np.int64], assets: NDArray[np.int64], length: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], FloatArray]:
    """Values (S, length, fields), presence (S, length) and the level, log mean RV of present tokens (S, 1)."""
    window = {
        name: _window(_feature(panel, name), rows, assets, length)
        for name in (
            "rv_d",
            "return_d",
            "high_low_range_d",
            "log_volume_ratio_22d",
            "market_log_rv_d",
            "btc_rv_d",
        )
    }
    fresh = _window(price_present(panel).astype(np.float64), rows, assets, length)
    present = np.nan_to_num(fresh, nan=0.0).astype(bool)
    rv = window["rv_d"]
    level = _log(_row_mean(rv, present))  # (S, 1)
    over_sd = window["return_d"] / np.sqrt(np.where(rv > 0, rv, np.nan))
    btc = _log(window["btc_rv_d"])
    fields = [
        _log(rv) - level,
        over_sd,
        np.minimum(over_sd, 0.0),
        2 * _log(window["high_low_range_d"]) - _log(rv),
        window["log_volume_ratio_22d"],
        window["market_log_rv_d"] - _row_mean(window["market_log_rv_d"], present),
        btc - _row_mean(btc, present),
    ]
    values = np.stack(fields, axis=2)  # (S, length, fields)
    values[~present] = np.nan
    return values.astype(np.float32), present, level


def _hourly_tokens(
    panel: Panel,
    rows: NDArray[np.int64],
    assets: NDArray[np.int64],
    config: TokenConfig,
    level: FloatArray,
) -> NDArray[np.float32]:
    """(S, tokens, patch * fields): the newest hours up to the end of the as_of day, hour by hour within a patch."""
    shape = (len(rows), config.hourly_tokens, config.hourly_patch * len(HOURLY_FIELDS))
    if not set(HOURLY_FIELDS) <= set(panel.hourly_fields):
        return np.full(shape, np.nan, dtype=np.float32)
    n_days = -(-config.hourly_hours // 24)
    index = rows[:, None] - np.arange(n_days - 1, -1, -1)  # (S, days)
    columns = [panel.hourly_fields.index(name) for name in HOURLY_FIELDS]
    block = panel.hourly[np.maximum(index, 0), :, assets[:, None]][..., columns].astype(np.float64)
    block[index < 0] = np.nan  # (S, days, 24, fields)
    hours = block.reshape(len(rows), n_days * 24, len(columns))[:, -config.hourly_hours :]
    variance = np.exp(level) / 24  # (S, 1): an average hour's share of the level
    tiny = 1e-3  # an hour without any move is 7 log units below an average one, not minus infinity
    scaled = np.stack(
        [
            hours[..., 0] / np.sqrt(variance),
            np.log(hours[..., 1] / variance + tiny),
            np.log(hours[..., 2] / np.sqrt(variance) + tiny),
            hours[..., 3],
        ],
        axis=2,
    )  # (S, hours, fields)
    return scaled.reshape(shape).astype(np.float32)


def _context_fields(
    panel: Panel,
    rows: NDArray[np.int64],
    assets: NDArray[np.int64],
    group: str,
    level: FloatArray,
    use_revised_flows: bool,
) -> tuple[FloatArray, FloatArray]:
    """Values (S, fields) of one modality on the as_of day, and its age in days (S,)."""
    columns = []
    for name in CONTEXT_FIELDS[group]:
        column = _feature(panel, name)[rows, assets]
        if name in LEVEL_FIELDS:
            column = _log(column**2 / 365) - level[:, 0]
        if name in REVISED_FLOWS and not use_revised_flows:
            revised = (
                np.nan_to_num(_feature(panel, "onchain_flows_revised")[rows, assets], nan=0.0) > 0
            )
            column = np.where(revised, np.nan, column)
        columns.append(column)
    age = np.maximum(_feature(panel, f"{group}_age_days")[rows, assets], 0.0)
    return np.column_stack(columns), age
