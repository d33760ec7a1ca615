"""A forecaster whose log variance and whose attention are known in closed form.

In: the weight of each group on the forecast, and the attention that it claims. Out: a `TokenForecaster`, and batches for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ml.explain.protocol import TokenBatch
from ml.panel import Panel

GROUPS = {"calendar": 1, "price": 2, "funding": 1, "onchain": 1, "sentiment": 1, "asset": 2}


@dataclass
class Stated:
    """log variance = anchor + sum over groups of weight * mean of its unmasked inputs ** power; attention as stated."""

    weights: dict[str, float]
    attention: dict[str, float] = field(default_factory=dict)  # of each token of the group
    power: int = 1
    residual: tuple[float, float] = (1.0, 1.0)
    name: str = "stated"
    horizons: tuple[int, ...] = (1, 5)
    always_present: tuple[str, ...] = ("calendar", "price")

    def encode(self, panel: Panel, as_of: Sequence[date]) -> TokenBatch:
        raise NotImplementedError

    def forward_tokens(self, batch: TokenBatch) -> Tensor:
        total = batch.anchor
        for group, weight in self.weights.items():
            here = batch.mask[:, batch.token_slice(group)]
            x = batch.inputs[group].mean(dim=-1)
            mean = (x * here).sum(1) / here.sum(1).clamp_min(1)
            total = total + weight * mean[:, None] ** self.power * torch.tensor(self.residual)
        return total

    def attention_layers(self, batch: TokenBatch) -> list[Tensor]:
        own = torch.tensor([self.attention.get(g, 1.0) for g in batch.token_groups])
        weights = own * batch.mask
        return [(weights / weights.sum(1, keepdim=True))[:, None, None].double()]

    def residual_weight(self) -> np.ndarray:
        return np.array(self.residual)


def batch(size: int = 3, seed: int = 0) -> TokenBatch:
    """Inputs around 1, so that a group's effect on a linear forecaster is near its weight."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        group: 1 + 0.1 * torch.randn(size, tokens, 3, generator=generator, dtype=torch.float64)
        for group, tokens in GROUPS.items()
    }
    mask = torch.ones(size, sum(GROUPS.values()), dtype=torch.bool)
    days = np.datetime64("2022-01-01") + np.arange(size)
    anchor = torch.zeros(size, 2, dtype=torch.float64)
    return TokenBatch(inputs, mask, anchor, days, np.zeros(size, dtype=np.int64))


@dataclass
class Swapped:
    """A forecaster of which two groups of one token each exchange their attention; what they do to the forecast stays."""

    model: Any
    left: str
    right: str
    name: str = "attention"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def attention_layers(self, batch: TokenBatch) -> list[Tensor]:
        order = np.arange(batch.mask.shape[1])
        left, right = batch.token_slice(self.left), batch.token_slice(self.right)
        order[left], order[right] = np.arange(len(order))[right], np.arange(len(order))[left]
        layers: list[Tensor] = self.model.attention_layers(batch)
        return [layer[..., order] for layer in layers]
