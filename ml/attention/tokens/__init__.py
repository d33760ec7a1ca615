"""Tokens: a panel and (day, coin) pairs go in, arrays that the network reads come out.

One sequence holds price at several scales (hours, days, weeks), one context token per modality, one funding token per venue and
one token per other coin. Every group is an array (sample, token, field), NaN where a value is missing, and every token has a
presence flag. Price fields are relative to the sample's own level (its mean RV), so coins share one scale, and a coin that
training never saw has tokens like any other.
Nothing here fills a missing value, or reads a row after the sample's own day.
"""

from ml.attention.tokens.layout import (
    ASSET_FIELDS,
    ASSET_GROUP,
    CONTEXT_FIELDS,
    CONTEXT_GROUPS,
    DAILY_FIELDS,
    GROUPS,
    HOURLY_FIELDS,
    MAX_LOOKBACK_DAYS,
    PRICE_GROUPS,
    SCALES,
    WEEKLY_FIELDS,
    TokenConfig,
    TokenSlots,
)
from ml.attention.tokens.making import Tokens, make_tokens
from ml.attention.tokens.price import price_present, price_share
from ml.attention.tokens.slots import fit_slots, unread_venues

__all__ = [
    "ASSET_FIELDS",
    "ASSET_GROUP",
    "CONTEXT_FIELDS",
    "CONTEXT_GROUPS",
    "DAILY_FIELDS",
    "GROUPS",
    "HOURLY_FIELDS",
    "MAX_LOOKBACK_DAYS",
    "PRICE_GROUPS",
    "SCALES",
    "WEEKLY_FIELDS",
    "TokenConfig",
    "TokenSlots",
    "Tokens",
    "fit_slots",
    "make_tokens",
    "price_present",
    "price_share",
    "unread_venues",
]
