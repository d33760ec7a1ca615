"""Scaling: unscaled tokens go in, what the network reads comes out.

`Scaler` is fitted on training samples alone. It clips at quantiles, standardises, and puts a missing flag beside every value.
Nothing is imputed silently: a missing value enters as 0 with flag 1, and a token without any value is masked from attention,
as is a modality that training hardly saw.
Long sequences are made and scaled in chunks of samples: beside what the network reads no more than a chunk is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.attention.network import TokenShape
from ml.attention.tokens import (
    CONTEXT_GROUPS,
    GROUPS,
    SCALES,
    TokenConfig,
    Tokens,
    TokenSlots,
    make_tokens,
)
from ml.panel import Panel

FloatArray = NDArray[np.float64]
Index = NDArray[np.int64]
CHUNK_NUMBERS = 8_000_000
"""Token values made at a time: 32 MB, and a few times that while they are made."""
FIT_NUMBERS = 100_000_000
"""Token values that a scaler is fitted on at most: above it every k-th sample speaks for all."""


@dataclass(frozen=True)
class Scaler:
    """Clipping bounds, mean and sd per group and field, from training samples only."""

    statistics: dict[
        str, FloatArray
    ]  # group -> (5, fields): low, high, mean, sd, values seen in training

    @classmethod
    def fit(cls, tokens: Tokens, config: TokenConfig) -> Scaler:
        """Fields with fewer than `min_group_samples` values are marked unseen and never read."""
        statistics = {}
        for group, values in tokens.values.items():
            flat = values.reshape(-1, values.shape[-1])
            columns = [_field_statistics(column.astype(np.float64), config) for column in flat.T]
            statistics[group] = np.column_stack(columns)
        return cls(statistics)

    def shapes(self, config: TokenConfig) -> dict[str, TokenShape]:
        """What the network reads of each group: every field and its missing flag."""
        counts = config.token_counts()
        return {
            group: TokenShape(counts[group], 2 * self.statistics[group].shape[1], SCALES[group])
            for group in counts
        }

    def apply(self, tokens: Tokens) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Scaled inputs, group -> (S, tokens, 2 * fields): values, then missing flags; and the token mask."""
        inputs, masks = {}, []
        for group in tokens.values:
            low, high, mean, sd, seen = self.statistics[group].astype(np.float32)
            values = tokens.values[group]
            known = np.isfinite(values) & (seen > 0)
            scaled = np.where(known, (np.clip(values, low, high) - mean) / sd, np.float32(0))
            own = (
                known[..., :-1] if group in CONTEXT_GROUPS else known
            )  # an age alone is no information
            here = tokens.present[group] & own.any(axis=2)
            flags = np.where(here[..., None], ~known, False)
            inputs[group] = np.concatenate([scaled * here[..., None], flags], axis=2).astype(
                np.float32
            )
            masks.append(here)
        return inputs, np.concatenate(masks, axis=1)

    def tensors(self) -> dict[str, FloatArray]:
        """For the model state: scaler.<group> -> (5, fields)."""
        return {f"scaler.{group}": array for group, array in self.statistics.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.generic]]) -> Scaler:
        return cls(
            {
                group: np.asarray(tensors[f"scaler.{group}"], dtype=np.float64)
                for group in GROUPS
                if f"scaler.{group}" in tensors
            }
        )


def fit_scaler(
    panel: Panel, rows: Index, assets: Index, config: TokenConfig, slots: TokenSlots
) -> Scaler:
    """Fit on the samples (panel row, panel column); on every k-th where there are more than `FIT_NUMBERS` values."""
    step = -(-len(rows) * numbers_per_sample(config) // FIT_NUMBERS)
    part = slice(None, None, max(1, step))
    return Scaler.fit(make_tokens(panel, rows[part], assets[part], config, slots), config)


def encode(
    panel: Panel,
    rows: Index,
    assets: Index,
    config: TokenConfig,
    slots: TokenSlots,
    scaler: Scaler,
    chunk: int | None = None,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Scaled inputs, group -> (S, tokens, 2 * fields), and the mask (S, token) of the samples, made `chunk` samples at a time."""
    size = chunk or max(1, CHUNK_NUMBERS // numbers_per_sample(config))
    if len(rows) <= size:
        return scaler.apply(make_tokens(panel, rows, assets, config, slots))
    shapes = scaler.shapes(config)
    inputs = {
        group: np.empty((len(rows), shape.tokens, shape.width), dtype=np.float32)
        for group, shape in shapes.items()
    }
    mask = np.empty((len(rows), sum(shape.tokens for shape in shapes.values())), dtype=bool)
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        made = make_tokens(panel, rows[part], assets[part], config, slots)
        values, mask[part] = scaler.apply(made)
        for group, array in values.items():
            inputs[group][part] = array
    return inputs, mask


def numbers_per_sample(config: TokenConfig) -> int:
    """Token values of one sample."""
    return sum(config.token_counts()[group] * width for group, width in config.widths().items())


def _field_statistics(
    column: FloatArray, config: TokenConfig
) -> tuple[float, float, float, float, float]:
    """(low, high, mean, sd, number of values); (0, 0, 0, 1, 0) for a field hardly ever there."""
    values = column[np.isfinite(column)]
    if len(values) < config.min_group_samples:
        return 0.0, 0.0, 0.0, 1.0, 0.0
    low, high = np.quantile(values, [config.clip_quantile, 1 - config.clip_quantile])
    clipped = np.clip(values, low, high)
    sd = float(clipped.std())
    return (
        float(low),
        float(high),
        float(clipped.mean()),
        sd if sd > 1e-8 else 1.0,
        float(len(values)),
    )
