"""Which tokens there are: groups, their fields and scales, how many of each by setting, and which venue or coin has which slot.

In: settings. Out: names, counts and places. Never: a value of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT_FIELDS: dict[str, tuple[str, ...]] = {
    "funding": ("funding_rate_d", "funding_rate_7d", "funding_deviation_d"),
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
    "order_book": (
        "book_imbalance_10_d",
        "book_imbalance_50bp_d",
        "book_microprice_offset_bps_d",
        "book_spread_bps_d",
        "book_depth_50bp_usd_d",
    ),
}
"""Columns in each modality's context token, its age comes last: of features.funding_venues for funding, which has a token per
venue, of features.daily for the others."""
CONTEXT_GROUPS: tuple[str, ...] = tuple(CONTEXT_FIELDS)
DAILY_FIELDS = (
    "log_rv",
    "return_over_sd",
    "leverage",
    "log_range",
    "log_volume_ratio",
    "market_log_rv",
    "btc_log_rv",
)
WEEKLY_FIELDS = ("log_rv", "log_rv_sd", "return_over_sd", "log_range", "share_known")
HOURLY_FIELDS = (
    "log_return",
    "realized_variance",
    "high_low_range",
    "log_volume_ratio",
    "signed_volume_share",
)
ASSET_FIELDS = ("log_rv", "return_over_sd", "log_range", "log_volume_ratio", "log_rv_change_5d")
PRICE_GROUPS = ("price_daily", "price_hourly", "price_weekly")
ASSET_GROUP = "asset"
GROUPS = ("calendar", *PRICE_GROUPS, *CONTEXT_GROUPS, ASSET_GROUP)
"""In token order; a group whose setting is 0 tokens is left out."""
SCALES = {
    "calendar": "forecast",
    "price_daily": "daily",
    "price_hourly": "hourly",
    "price_weekly": "weekly",
    **dict.fromkeys(CONTEXT_GROUPS, "context"),
    ASSET_GROUP: "asset",
}
"""The scale that each group's tokens belong to."""
CALENDAR_WIDTH = (
    9  # weekday of the first target day, one-hot; weekend share of the next 5 and 22 days
)
WEEK = 7
LEVEL_DAYS = 22
"""Days up to and including the as_of day whose mean RV is a coin's level; at most the days that daily tokens cover."""
CHANGE_DAYS = 5
MAX_LOOKBACK_DAYS = 750
"""The most days that settings may ask for: a year of days and a year of weeks before it."""


@dataclass(frozen=True)
class TokenConfig:
    """Which tokens are made, and how their values are scaled. The default gives 61 tokens."""

    daily_tokens: int = 22  # daily price tokens: the newest ends with the as_of day
    daily_patch: int = 1  # days in one daily token
    hourly_hours: int = (
        48  # hours of price history before the decision; 0 for none, 8640 = 360 days
    )
    hourly_patch: int = 4  # hours in one hourly token; must divide hourly_hours
    weekly_tokens: int = (
        8  # weeks before the daily tokens, each the aggregate of 7 days; 0 for none
    )
    funding_venues: int = 4  # slots for venues' funding, filled by coverage in training; 0 for none
    asset_tokens: int = (
        8  # slots for other coins: BTC, ETH, then by coverage and volume; 0 for none
    )
    min_price_share: float = 0.8  # share of daily price tokens below which a forecast is refused
    clip_quantile: float = 0.005  # training values are clipped at this quantile and its mirror
    min_group_samples: int = 250  # a field with fewer training values than this is never read
    use_revised_flows: bool = False  # read exchange flows that are revised later: a leak

    def __post_init__(self) -> None:
        for name in ("daily_tokens", "daily_patch", "hourly_patch", "min_group_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive integer")
        for name in ("hourly_hours", "weekly_tokens", "funding_venues", "asset_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 or a positive integer")
        if self.hourly_hours % self.hourly_patch:
            raise ValueError(
                f"hourly_patch {self.hourly_patch}: must divide hourly_hours {self.hourly_hours}"
            )
        if not 0 < self.min_price_share <= 1:
            raise ValueError(f"min_price_share {self.min_price_share}: expected a share in (0, 1]")
        if not 0 <= self.clip_quantile < 0.5:
            raise ValueError(f"clip_quantile {self.clip_quantile}: expected a share in [0, 0.5)")
        if self.lookback_days > MAX_LOOKBACK_DAYS:
            raise ValueError(
                f"tokens that read {self.lookback_days} days: expected at most {MAX_LOOKBACK_DAYS}"
            )

    @property
    def hourly_tokens(self) -> int:
        return self.hourly_hours // self.hourly_patch

    @property
    def daily_days(self) -> int:
        """Days that the daily tokens cover."""
        return self.daily_tokens * self.daily_patch

    @property
    def level_days(self) -> int:
        return min(LEVEL_DAYS, self.daily_days)

    @property
    def lookback_days(self) -> int:
        """Rows that a sample reads, the as_of day included."""
        hours = -(-self.hourly_hours // 24)
        return max(
            self.daily_days + WEEK * self.weekly_tokens, hours, self.level_days + CHANGE_DAYS
        )

    def token_counts(self) -> dict[str, int]:
        """group -> tokens, in token order; groups without a token are left out."""
        counts = dict.fromkeys(GROUPS, 1) | {
            "price_daily": self.daily_tokens,
            "price_hourly": self.hourly_tokens,
            "price_weekly": self.weekly_tokens,
            "funding": self.funding_venues,
            ASSET_GROUP: self.asset_tokens,
        }
        return {group: count for group, count in counts.items() if count}

    def widths(self) -> dict[str, int]:
        """group -> values of one token."""
        widths = {
            "calendar": CALENDAR_WIDTH,
            "price_daily": self.daily_patch * len(DAILY_FIELDS),
            "price_hourly": self.hourly_patch * len(HOURLY_FIELDS),
            "price_weekly": len(WEEKLY_FIELDS),
            **{group: len(fields) + 1 for group, fields in CONTEXT_FIELDS.items()},
            ASSET_GROUP: len(ASSET_FIELDS),
        }
        return {group: widths[group] for group in self.token_counts()}

    def token_groups(self) -> tuple[str, ...]:
        """The group of every token."""
        return tuple(group for group, count in self.token_counts().items() for _ in range(count))

    def tokens_of(self, *groups: str) -> slice:
        """Where the tokens of these groups stand; they must stand side by side, as the context groups do."""
        place = [position for position, own in enumerate(self.token_groups()) if own in groups]
        return slice(place[0], place[-1] + 1) if place else slice(0, 0)

    def context_presence(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(S, token) -> (S, group) by `CONTEXT_GROUPS`: the sample has a token of the group."""
        here = [mask[:, self.tokens_of(group)].any(axis=1) for group in CONTEXT_GROUPS]
        return np.stack(here, axis=1)

    @property
    def droppable(self) -> slice:
        """Tokens that a forecast can do without: context, venues and other coins."""
        return self.tokens_of(*CONTEXT_GROUPS, ASSET_GROUP)


@dataclass(frozen=True)
class TokenSlots:
    """Which venue and which coin stands in which slot, by name; fitted in training, in force for good.

    A slot without a name is masked. A venue or coin that came later has no slot: it is not read.
    """

    venues: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()

    def names(self, group: str) -> tuple[str, ...]:
        """Names of the group's slots; () for a group that has none."""
        return {"funding": self.venues, ASSET_GROUP: self.assets}.get(group, ())

    def as_mapping(self) -> dict[str, list[str]]:
        """JSON-ready; `from_mapping` of it gives the same slots."""
        return {"venues": list(self.venues), "assets": list(self.assets)}

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> TokenSlots:
        return cls(tuple(found["venues"]), tuple(found["assets"]))
