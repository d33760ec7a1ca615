"""Context tokens: the calendar, one token per modality on the as_of day, and one per venue for funding.

In: a panel, sample rows and columns. Out: arrays (sample, token, field), NaN = missing; a modality's age comes last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.attention.tokens.layout import CONTEXT_FIELDS, TokenConfig, TokenSlots
from ml.attention.tokens.price import FloatArray, Index, feature, safe_log
from ml.panel import FUNDING_FIELDS, Panel

LEVEL_FIELDS = ("implied_volatility", "implied_volatility_market")
"""Annualised fractions, entered as log daily variance relative to the sample's own level."""
LOG_FIELDS = ("book_spread_bps_d", "book_depth_50bp_usd_d")
"""Positive by nature, entered as logarithms."""
REVISED_FLOWS = ("exchange_netflow_ratio", "exchange_flow_change_7d")


def calendar_tokens(days: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """(S, 1, CALENDAR_WIDTH), from the date alone: the same for every coin."""
    number = days.astype("datetime64[D]").astype(np.int64)
    weekday = (
        number[:, None] + np.arange(1, 23) + 3
    ) % 7  # (S, 22), 0 = Monday; 1970-01-01 was a Thursday
    weekend = weekday >= 5
    one_hot = weekday[:, :1] == np.arange(7)
    shares = [weekend[:, :5].mean(axis=1), weekend.mean(axis=1)]
    return np.column_stack([one_hot, *shares]).astype(np.float32)[:, None]


def context_tokens(
    panel: Panel, rows: Index, columns: Index, group: str, level: FloatArray, config: TokenConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (S, 1, fields + 1) of one modality on the as_of day, and presence (S, 1). level: (S,) log mean RV."""
    fields = []
    for name in CONTEXT_FIELDS[group]:
        column = feature(panel, name)[rows, columns]
        if name in LEVEL_FIELDS:
            column = safe_log(column**2 / 365) - level
        if name in LOG_FIELDS:
            column = safe_log(column)
        if name in REVISED_FLOWS and not config.use_revised_flows:
            revised = np.nan_to_num(feature(panel, "onchain_flows_revised")[rows, columns], nan=0.0)
            column = np.where(revised > 0, np.nan, column)
        fields.append(column)
    present = np.any([np.isfinite(column) for column in fields], axis=0)[:, None]
    age = np.maximum(feature(panel, f"{group}_age_days")[rows, columns], 0.0)
    return np.column_stack([*fields, np.log1p(age)])[:, None].astype(np.float32), present


def funding_tokens(
    panel: Panel, rows: Index, columns: Index, slots: TokenSlots, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (S, count, fields + 1) of the venue in each slot on the as_of day, and presence (S, count).

    A venue of the panel that has no slot is not read.
    """
    values = np.full((len(rows), count, len(FUNDING_FIELDS)), np.nan, dtype=np.float32)
    if panel.funding is not None:
        for slot, name in enumerate(slots.venues[:count]):
            if name in panel.funding.venues:
                venue = panel.funding.venues.index(name)
                values[:, slot] = panel.funding.values[rows, columns, venue]
    values[..., -1] = np.log1p(np.maximum(values[..., -1], 0.0))
    return values, np.asarray(np.isfinite(values[..., :-1]).any(axis=2), dtype=bool)
