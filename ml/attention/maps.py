"""Attention maps: the exact weights of the forecast token, with what each token is.

In: weights (D, N, layer, head, token) of some as_of days and coins, and their token table. Out: arrays, and a frame in the
layout of forecasts.attention_weights. Never: an approximation or a rescaling; masked tokens and those outside a head's
scale are exactly 0 and are left out of the frame, so that weights sum to 1 per layer and head there too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.attention.tokens import (
    CONTEXT_GROUPS,
    PRICE_GROUPS,
    SCALES,
    TokenConfig,
    TokenSlots,
)
from ml.panel import FUNDING_FIELDS, Panel

MAP_COLUMNS = (
    "source",
    "asset",
    "as_of",
    "model",
    "model_version",
    "layer",
    "head",
    "head_scale",
    "token",
    "scale",
    "modality",
    "provider",
    "token_time",
    "lag_days",
    "weight",
)


@dataclass(frozen=True)
class TokenTable:
    """What each token of the order is."""

    scale: tuple[str, ...]  # 'forecast' | 'daily' | 'hourly' | 'weekly' | 'context' | 'asset'
    modality: tuple[str, ...]  # 'calendar', 'price', 'asset', or the context's own
    slot: tuple[str, ...]  # the venue or the coin of the token's slot; '' where it has none
    lag_days: NDArray[
        np.float64
    ]  # (token,) of price and asset tokens; NaN for context tokens, whose age varies
    span_days: NDArray[np.float64]  # (token,) length of the interval that a token covers
    context: slice  # where the context tokens stand


def token_table(config: TokenConfig, slots: TokenSlots) -> TokenTable:
    """The table of the tokens that this config and these slots make."""
    groups = config.token_groups()
    hours = config.hourly_patch / 24
    spans = {
        "calendar": 0.0,
        "price_daily": float(config.daily_patch),
        "price_hourly": hours,
        "price_weekly": 7.0,
    }
    newest = {"price_weekly": float(config.daily_days)}
    lags, names = [], []
    for group, count in config.token_counts().items():
        steps = np.arange(count - 1, -1, -1) if group in PRICE_GROUPS else np.zeros(count)
        lag = newest.get(group, 0.0) + steps * spans.get(group, 1.0)
        lags.append(np.full(count, np.nan) if group in CONTEXT_GROUPS else lag)
        slot = slots.names(group)[:count]
        names += [*slot, *[""] * (count - len(slot))]
    return TokenTable(
        scale=tuple(SCALES[group] for group in groups),
        modality=tuple("price" if group in PRICE_GROUPS else group for group in groups),
        slot=tuple(names),
        lag_days=np.concatenate(lags),
        span_days=np.array([spans.get(group, 1.0) for group in groups]),
        context=config.tokens_of(*CONTEXT_GROUPS),
    )


def context_ages(panel: Panel, rows: NDArray[np.int64], table: TokenTable) -> NDArray[np.float64]:
    """(D, N, context token) ages in days on some rows; NaN = unknown."""
    unknown = np.full((len(rows), len(panel.assets)), np.nan)
    ages = []
    for group, venue in zip(table.modality[table.context], table.slot[table.context], strict=True):
        found = unknown
        if group != "funding" and f"{group}_age_days" in panel.features:
            found = panel.features[f"{group}_age_days"][rows]
        elif group == "funding" and panel.funding is not None and venue in panel.funding.venues:
            values = panel.funding.values[rows, :, panel.funding.venues.index(venue)]
            found = values[..., FUNDING_FIELDS.index("funding_age_days")].astype(np.float64)
        ages.append(found)
    return np.stack(ages, axis=-1) if ages else np.zeros((*unknown.shape, 0))


def token_providers(
    panel: Panel, rows: NDArray[np.int64], table: TokenTable
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Names, '' first, and codes (D, N, token) of who gave each token: the modality's provider, the venue, or the other coin."""
    names = {"": 0}
    codes = np.zeros((len(rows), len(panel.assets), len(table.scale)), dtype=np.int32)
    for token, (group, slot) in enumerate(zip(table.modality, table.slot, strict=True)):
        if slot:
            codes[..., token] = names.setdefault(slot, len(names))
        elif group in panel.providers:
            labels = panel.providers[group]
            own = np.array([names.setdefault(name, len(names)) for name in labels.names])
            codes[..., token] = own[labels.codes[rows]]
    return tuple(names), codes


@dataclass(frozen=True)
class AttentionMaps:
    """Weights of D days and N coins; refused forecasts are NaN throughout."""

    model: str
    source: str
    days: NDArray[np.datetime64]  # (D,) as_of
    assets: tuple[str, ...]  # (N,)
    weights: NDArray[
        np.float64
    ]  # (D, N, layer, head, token), 0 = masked, or not of the head's scale
    present: NDArray[np.bool_]  # (D, N, token)
    tokens: TokenTable
    head_scales: tuple[str, ...]  # (head,) what each head may read
    context_age_days: NDArray[np.float64]  # (D, N, context token), NaN = unknown
    provider_names: tuple[str, ...]  # the first is ''
    provider: NDArray[np.int32]  # (D, N, token) index into `provider_names`

    @property
    def lag_days(self) -> NDArray[np.float64]:
        """(D, N, token) from the end of the token's interval to the end of as_of; NaN = unknown."""
        lag = np.broadcast_to(self.tokens.lag_days, self.present.shape).copy()
        lag[..., self.tokens.context] = self.context_age_days
        return lag

    def token_time(self) -> NDArray[np.datetime64]:
        """(D, N, token) start of the interval that the token covers, UTC; NaT for the forecast token and unknown ages."""
        end = (self.days + np.timedelta64(1, "D")).astype("datetime64[us]")[:, None, None]
        back = self.lag_days + self.tokens.span_days
        known = np.isfinite(back) & (np.asarray(self.tokens.scale) != "forecast")
        micro = np.round(np.where(known, back, 0.0) * 86_400e6).astype("timedelta64[us]")
        return np.where(known, end - micro, np.datetime64("NaT", "us"))

    def to_frame(self, model_version: str = "") -> pd.DataFrame:
        """One row per forecast, layer, head and token with a weight above 0, columns `MAP_COLUMNS`."""
        kept = np.nonzero(self.weights > 0)
        d, n, layer, head, token = (index.astype(np.int32) for index in kept)
        columns = {
            "source": _labels(np.zeros(len(d), dtype=np.int32), (self.source,)),
            "asset": _labels(n, self.assets),
            "as_of": self.days.astype("datetime64[s]")[d],
            "model": _labels(np.zeros(len(d), dtype=np.int32), (self.model,)),
            "model_version": _labels(np.zeros(len(d), dtype=np.int32), (model_version,)),
            "layer": layer,
            "head": head,
            "head_scale": _labels(head, self.head_scales),
            "token": token,
            "scale": _labels(token, self.tokens.scale),
            "modality": _labels(token, self.tokens.modality),
            "provider": _labels(self.provider[d, n, token], self.provider_names),
            "token_time": pd.to_datetime(self.token_time()[d, n, token], utc=True),
            "lag_days": self.lag_days[d, n, token],
            "weight": self.weights[d, n, layer, head, token],
        }
        return pd.DataFrame(columns)[list(MAP_COLUMNS)]


def _labels(codes: NDArray[np.int32], names: tuple[str, ...]) -> pd.Categorical[str]:
    """Repeated strings as codes: a month of 20 coins stays small."""
    unique = list(dict.fromkeys(names))
    position = np.array([unique.index(name) for name in names], dtype=np.int32)
    return pd.Categorical.from_codes(position[codes], categories=pd.Index(unique))
