"""A tiny network and samples with a signal in them, for tests that train many times.

In: sizes, a seed. Out: network, training and validation samples, and one training of them.
"""

from __future__ import annotations

from typing import Any

import torch

from ml.attention.loop import TrainingRecord, train
from ml.attention.network import AttentionNetwork, NetworkConfig, TokenShape
from ml.attention.training import Samples, TrainingConfig
from ml.forecasts import HORIZONS, QUANTILE_LEVELS

SHAPES = {
    "calendar": TokenShape(1, 3, "forecast"),
    "price_daily": TokenShape(5, 4, "daily"),
    "onchain": TokenShape(1, 4, "context"),
}
CONTEXT = slice(6, 7)
LEVELS = torch.tensor(QUANTILE_LEVELS, dtype=torch.float32)
QUICK = TrainingConfig(batch_size=32, epochs=6, min_steps=1, patience=6, learning_rate=5e-3)


def small_network(dropout: float = 0.2) -> AttentionNetwork:
    config = NetworkConfig(
        d_model=8, n_heads=2, head_scales=("daily", "context"), dropout=dropout, n_layers=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AttentionNetwork(config, SHAPES, len(HORIZONS), len(QUANTILE_LEVELS))
    network.set_base_quantiles(0.5 * torch.linspace(-2, 2, len(LEVELS)).repeat(len(HORIZONS), 1))
    return network


def small_samples(number: int = 150, seed: int = 1) -> Samples:
    """The target follows the on-chain token; some targets are unknown, weights differ."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        group: torch.randn(number, shape.tokens, shape.width, generator=generator)
        for group, shape in SHAPES.items()
    }
    anchor = torch.randn(number, len(HORIZONS), generator=generator) - 7
    noise = 0.3 * torch.randn(number, len(HORIZONS), generator=generator)
    target = anchor + 0.4 * inputs["onchain"][:, 0, :1] + noise
    target[::7, 2] = float("nan")
    weight = torch.rand(number, generator=generator) + 0.1
    return Samples(inputs, torch.ones(number, 7, dtype=torch.bool), anchor, target, weight)


def trained(
    config: TrainingConfig = QUICK, network: AttentionNetwork | None = None, **more: Any
) -> tuple[dict[str, torch.Tensor], TrainingRecord]:
    """The weights and the record of one training."""
    network = small_network() if network is None else network
    record = train(
        network, small_samples(), small_samples(80, seed=2), LEVELS, CONTEXT, config, seed=3, **more
    )
    return network.state_dict(), record


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
