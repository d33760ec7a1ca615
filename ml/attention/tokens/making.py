"""All tokens of some samples, group by group.

In: a panel, (row, column) of each sample, settings and slots. Out: `Tokens`. Never: a row after a sample's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml.attention.tokens.context import calendar_tokens, context_tokens, funding_tokens
from ml.attention.tokens.layout import ASSET_GROUP, CONTEXT_GROUPS, TokenConfig, TokenSlots
from ml.attention.tokens.price import (
    PriceRows,
    asset_tokens,
    daily_tokens,
    hourly_tokens,
    weekly_tokens,
)
from ml.panel import Panel


@dataclass(frozen=True)
class Tokens:
    """Unscaled tokens of S samples, groups in token order."""

    values: dict[str, NDArray[np.float32]]  # group -> (S, tokens, fields), NaN = missing
    present: dict[str, NDArray[np.bool_]]  # group -> (S, tokens)

    def mask(self) -> NDArray[np.bool_]:
        """(S, token)"""
        return np.concatenate(list(self.present.values()), axis=1)


def make_tokens(
    panel: Panel,
    rows: NDArray[np.int64],
    assets: NDArray[np.int64],
    config: TokenConfig,
    slots: TokenSlots,
) -> Tokens:
    """Tokens of the samples (panel row, panel column); each reads `config.lookback_days` rows up to its own only."""
    counts = config.token_counts()
    panel, rows = _needed(panel, rows, config.lookback_days)
    prices = PriceRows.of(panel, config)
    level = prices.level[rows, assets]
    values: dict[str, NDArray[np.float32]] = {"calendar": calendar_tokens(panel.days[rows])}
    present: dict[str, NDArray[np.bool_]] = {"calendar": np.ones((len(rows), 1), dtype=bool)}
    values["price_daily"], present["price_daily"] = daily_tokens(prices, rows, assets, config)
    if "price_hourly" in counts:
        hours = hourly_tokens(panel, prices, rows, assets, config)
        values["price_hourly"], present["price_hourly"] = hours, _any_known(hours)
    if "price_weekly" in counts:
        weeks = weekly_tokens(prices, rows, assets, config)
        values["price_weekly"], present["price_weekly"] = weeks
    for group in (name for name in counts if name in CONTEXT_GROUPS):
        if group == "funding":
            found = funding_tokens(panel, rows, assets, slots, counts[group])
        else:
            found = context_tokens(panel, rows, assets, group, level, config)
        values[group], present[group] = found
    if ASSET_GROUP in counts:
        others = asset_tokens(panel, prices, rows, assets, slots, counts[ASSET_GROUP])
        values[ASSET_GROUP], present[ASSET_GROUP] = others, _any_known(others)
    return Tokens(values=values, present=present)


def _any_known(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(S, token, field) -> (S, token)"""
    return np.asarray(np.isfinite(values).any(axis=2), dtype=bool)


def _needed(
    panel: Panel, rows: NDArray[np.int64], lookback: int
) -> tuple[Panel, NDArray[np.int64]]:
    """The panel cut to the rows that the samples read, and the samples' rows in it."""
    if len(rows) == 0:
        return panel, rows
    first = max(0, int(rows.min()) - lookback + 1)
    part = slice(first, int(rows.max()) + 1)
    cut = replace(
        panel,
        days=panel.days[part],
        features={name: values[part] for name, values in panel.features.items()},
        hourly=panel.hourly[part],
        funding=None if panel.funding is None else panel.funding.cut(part),
    )
    return cut, rows - first
