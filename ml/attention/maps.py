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

from ml.attention.tokens import CONTEXT_FIELDS, PRICE_GROUPS, SCALES, TokenConfig

MAP_COLUMNS = (
    "source",
    "asset",
    "as_of",
    "model",
    "model_version",
    "layer",
    "head",
    "token",
    "scale",
    "modality",
    "token_time",
    "lag_days",
    "weight",
)


@dataclass(frozen=True)
class TokenTable:
    """What each token of the order is."""

    scale: tuple[str, ...]  # 'forecast' | 'daily' | 'hourly' | 'context'
    modality: tuple[str, ...]  # 'calendar', 'price', or the context's own
    lag_days: NDArray[
        np.float64
    ]  # (token,) of price tokens; NaN for context tokens, whose age varies
    span_days: NDArray[np.float64]  # (token,) length of the interval that a token covers
    context: slice  # where the context tokens stand


def token_table(config: TokenConfig) -> TokenTable:
    """The table of the tokens that this config makes."""
    groups = [group for group, count in config.token_counts().items() for _ in range(count)]
    first = len(groups) - len(CONTEXT_FIELDS)
    patch = config.hourly_patch / 24
    lags = [
        np.zeros(1),
        np.arange(config.daily_tokens - 1, -1, -1, dtype=np.float64),
        np.arange(config.hourly_tokens - 1, -1, -1) * patch,
        np.full(len(CONTEXT_FIELDS), np.nan),
    ]
    spans = {"calendar": 0.0, "price_hourly": patch}
    return TokenTable(
        scale=tuple(SCALES[group] for group in groups),
        modality=tuple("price" if group in PRICE_GROUPS else group for group in groups),
        lag_days=np.concatenate(lags),
        span_days=np.array([spans.get(group, 1.0) for group in groups]),
        context=slice(first, len(groups)),
    )


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
    context_age_days: NDArray[np.float64]  # (D, N, context token), NaN = unknown

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
            "token": token,
            "scale": _labels(token, self.tokens.scale),
            "modality": _labels(token, self.tokens.modality),
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
