"""What is trained on: the settings of a training, its samples and their loss. The loop itself is in loop.py.

Loss per sample and horizon, with e = log realised - log forecast and u = log realised - log quantile(p):

    QLIKE = exp(e) - e - 1                       (zero-centred; Patton 2011)
    pinball = mean over p of max(p u, (p - 1) u)  (on the log scale)
    tail = -log density of e under the skewed t   (tails.py)

Samples are weighted by age (half-life) and horizons by setting.
In: scaled samples and a network's outputs. Out: losses per horizon. Never: a target that is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import cast

import torch
from torch import Tensor, nn

from ml.attention.execution import COMPILE, PRECISIONS
from ml.attention.network import AttentionNetwork
from ml.attention.tails import negative_log_likelihood

Outputs = tuple[Tensor, Tensor, Tensor]
"""A network's residual (B, H), quantile offsets (B, H, Q) and tails (B, H, 4)."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained."""

    batch_size: int = 128  # samples per step
    epochs: int = 20  # passes over the training block at most; more where `min_steps` needs them
    min_steps: int = 400  # optimiser steps before it may stop: a small panel gets more epochs
    patience: int = 5  # epochs without a better validation loss before stopping
    learning_rate: float = 1e-3  # peak; linear warm-up over the first epoch, then a cosine to zero
    weight_decay: float = 0.1  # AdamW, on matrices only
    gradient_clip: float = 1.0  # largest gradient norm
    modality_dropout: float = 0.2  # chance that a context token is masked in a training sample
    pinball_weight: float = 1.0  # of the quantile loss against QLIKE
    tail_weight: float = 0.05  # of the skewed t's negative log likelihood against QLIKE
    gate_penalty: float = 0.01  # on the sum of the modality gates, where the network has them
    horizon_weights: tuple[float, ...] = (1.0, 1.0, 1.0)  # of horizons 1, 5 and 22
    half_life_days: float = 730.0  # a sample this old counts half
    averaging_decay: float = 0.98  # a step, of the averaged weights that are kept; 0 = no averaging
    precision: str = "auto"  # of the training step: float32, bfloat16; auto = bfloat16 on CUDA
    compile: str = "auto"  # torch.compile of the training step; auto = on CUDA, where it is long
    resident_share: float = 0.5  # of the device's free memory that samples may take; else streamed
    warm_start: bool = False  # start from the networks of the version before, where there is one
    warm_share: float = 0.3  # of `epochs` and `min_steps` that a warm start takes
    warm_rate: float = 0.3  # of `learning_rate` that a warm start takes

    def warmed(self) -> TrainingConfig:
        """The same, for a network that starts from an earlier version's weights."""
        return replace(
            self,
            epochs=math.ceil(self.warm_share * self.epochs),
            min_steps=math.ceil(self.warm_share * self.min_steps),
            learning_rate=self.warm_rate * self.learning_rate,
        )

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("compile", COMPILE)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r}: expected one of {', '.join(known)}"
                )
        for name in ("resident_share", "warm_share", "warm_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a share in (0, 1]")
        for name in (
            "batch_size",
            "epochs",
            "min_steps",
            "patience",
            "learning_rate",
            "gradient_clip",
            "half_life_days",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")
        for name in ("weight_decay", "pinball_weight", "tail_weight", "gate_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number >= 0")
        if not 0 <= self.modality_dropout < 1:
            raise ValueError(
                f"modality_dropout {self.modality_dropout}: expected a share in [0, 1)"
            )
        if not 0 <= self.averaging_decay < 1:
            raise ValueError(f"averaging_decay {self.averaging_decay}: expected a share in [0, 1)")
        if min(self.horizon_weights, default=-1) < 0 or sum(self.horizon_weights) <= 0:
            raise ValueError(
                f"horizon_weights {self.horizon_weights}: expected numbers >= 0, not all 0"
            )


@dataclass(frozen=True)
class Samples:
    """Scaled samples on one device."""

    inputs: dict[str, Tensor]  # group -> (S, tokens, width)
    mask: Tensor  # (S, token) bool
    anchor: Tensor  # (S, H) log variance
    target: Tensor  # (S, H) log realised mean variance; NaN where it is unknown or purged
    weight: Tensor  # (S,)

    def __len__(self) -> int:
        return int(self.mask.shape[0])

    def take(self, index: Tensor | slice) -> Samples:
        return self.map(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Samples:
        """On that device; from pinned memory without waiting."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Samples:
        """In page-locked memory of the host, from where a GPU copies without waiting."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self, action: Callable[[Tensor], Tensor]) -> Samples:
        """Every tensor through `action`."""
        return Samples(
            {group: action(values) for group, values in self.inputs.items()},
            action(self.mask),
            action(self.anchor),
            action(self.target),
            action(self.weight),
        )

    def tensors(self) -> list[Tensor]:
        return [*self.inputs.values(), self.mask, self.anchor, self.target, self.weight]

    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


@dataclass(frozen=True)
class Loss:
    """Weighted means over samples, per horizon (H,)."""

    qlike: Tensor
    pinball: Tensor
    tail: Tensor  # negative log likelihood of the skewed t

    def total(self, config: TrainingConfig) -> Tensor:
        weights = self.qlike.new_tensor(config.horizon_weights)
        return (self.by_horizon(config) * weights).sum() / weights.sum()

    def by_horizon(self, config: TrainingConfig) -> Tensor:
        return self.qlike + config.pinball_weight * self.pinball + config.tail_weight * self.tail

    def scaled(self, share: Tensor | float) -> Loss:
        """The part of a mean over more samples: times their share (H,) of the weight."""
        return Loss(*(getattr(self, item.name) * share for item in fields(self)))

    def no_worse_than(self, other: Loss, config: TrainingConfig) -> Loss:
        """This loss on horizons where it is the lower one, `other` elsewhere."""
        better = self.by_horizon(config) < other.by_horizon(config)
        return Loss(
            torch.where(better, self.qlike, other.qlike),
            torch.where(better, self.pinball, other.pinball),
            torch.where(better, self.tail, other.tail),
        )


def sample_weights(age_days: Tensor, half_life_days: float) -> Tensor:
    """0.5 ** (age / half-life)."""
    return torch.exp(-math.log(2) * age_days / half_life_days)


def loss_of(
    residual: Tensor, offsets: Tensor, tails: Tensor, samples: Samples, levels: Tensor
) -> Loss:
    """residual (B, H), quantile offsets (B, H, Q) and tails (B, H, 4) against the samples' targets; unknown targets count nothing."""
    known = torch.isfinite(samples.target)
    forecast = samples.anchor + residual
    error = torch.where(known, samples.target - forecast, 0.0)  # (B, H)
    weight = known * samples.weight[:, None]
    weight = weight / weight.sum(0).clamp_min(1e-12)
    qlike = torch.exp(error) - error - 1
    under = error[..., None] - offsets  # (B, H, Q)
    pinball = torch.maximum(levels * under, (levels - 1) * under).mean(-1)
    tail = negative_log_likelihood(error, tails)
    return Loss((weight * qlike).sum(0), (weight * pinball).sum(0), (weight * tail).sum(0))


def predict(network: AttentionNetwork, samples: Samples, batch_size: int = 1024) -> Outputs:
    """Residuals (S, H), quantile offsets (S, H, Q) and tails (S, H, 4), in evaluation mode, float32 and without gradients."""
    network.eval()
    device = device_of(network)
    parts = []
    start = 0
    with torch.no_grad():
        while start < len(samples):
            batch = samples.take(slice(start, start + batch_size))
            try:
                batch = batch.to(device)
                parts.append(network(batch.inputs, batch.mask))
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size //= 2
            else:
                start += batch_size
    residual, offsets, tails = (torch.cat(part) for part in zip(*parts, strict=True))
    return residual, offsets, tails


def in_float32(outputs: Outputs) -> Outputs:
    """Autocast leaves outputs in bfloat16, in which no loss is taken."""
    return cast(Outputs, tuple(output.float() for output in outputs))


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters are."""
    return next(network.parameters()).device


def loss_over(network: AttentionNetwork, samples: Samples, levels: Tensor) -> Loss:
    """The loss of all samples, in evaluation mode."""
    return loss_of(*predict(network, samples), samples, levels)
