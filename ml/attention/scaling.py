"""Scaling: unscaled tokens go in, what the network reads comes out.

`Scaler` is fitted on training samples alone. It clips at quantiles, standardises, and puts a missing flag beside every value.
Nothing is imputed silently: a missing value enters as 0 with flag 1, and a token without any value is masked from attention,
as is a modality that training hardly saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.attention.network import TokenShape
from ml.attention.tokens import CONTEXT_FIELDS, GROUPS, SCALES, TokenConfig, Tokens

FloatArray = NDArray[np.float64]


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
        for group in GROUPS:
            values = tokens.values[group].astype(np.float64)
            flat = values.reshape(-1, values.shape[-1])
            columns = [_field_statistics(column, config) for column in flat.T]
            statistics[group] = np.column_stack(columns)
        return cls(statistics)

    def shapes(self, config: TokenConfig) -> dict[str, TokenShape]:
        """What the network reads of each group: every field and its missing flag."""
        counts = config.token_counts()
        return {
            group: TokenShape(counts[group], 2 * self.statistics[group].shape[1], SCALES[group])
            for group in GROUPS
        }

    def apply(self, tokens: Tokens) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Scaled inputs, group -> (S, tokens, 2 * fields): values, then missing flags; and the token mask."""
        inputs, masks = {}, []
        for group in GROUPS:
            low, high, mean, sd, seen = self.statistics[group].astype(np.float32)
            values = tokens.values[group]
            known = np.isfinite(values) & (seen > 0)
            scaled = np.where(known, (np.clip(values, low, high) - mean) / sd, np.float32(0))
            own = (
                known[..., :-1] if group in CONTEXT_FIELDS else known
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
            {group: np.asarray(tensors[f"scaler.{group}"], dtype=np.float64) for group in GROUPS}
        )


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
