"""Training: scaled samples of a training and a validation block go in, a trained network and its history come out.

Loss per sample and horizon, with e = log realised - log forecast and u = log realised - log quantile(p):

    QLIKE = exp(e) - e - 1                       (zero-centred; Patton 2011)
    pinball = mean over p of max(p u, (p - 1) u)  (on the log scale)
    tail = -log density of e under the skewed t   (tails.py)

Samples are weighted by age (half-life) and horizons by setting. The untrained network, which is the anchor, is epoch 0:
if no epoch beats it on the validation block, it is what comes out. Context tokens are dropped at random in training, so
that the network works without any of them. The seed is the only randomness; the global generator is left as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ml.attention.network import AttentionNetwork
from ml.attention.tails import negative_log_likelihood

Progress = Callable[[int, Mapping[str, float]], None]
"""progress(epoch, metrics)"""
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

    def __post_init__(self) -> None:
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

    def take(self, index: Tensor) -> Samples:
        return Samples(
            {group: values[index] for group, values in self.inputs.items()},
            self.mask[index],
            self.anchor[index],
            self.target[index],
            self.weight[index],
        )


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
    """Residuals (S, H), quantile offsets (S, H, Q) and tails (S, H, 4), in evaluation mode and without gradients."""
    network.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            inputs = {group: values[part] for group, values in samples.inputs.items()}
            parts.append(network(inputs, samples.mask[part]))
    residual, offsets, tails = (torch.cat(part) for part in zip(*parts, strict=True))
    return residual, offsets, tails


def train(
    network: AttentionNetwork,
    training: Samples,
    validation: Samples,
    levels: Tensor,
    context_tokens: slice,
    config: TrainingConfig,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train in place and leave the network at its best validation epoch; returns one record per epoch.

    levels (Q,): quantile levels. context_tokens: where tokens that may be dropped stand in the token order.
    The best epoch has the least `selection_loss`: the validation loss where no horizon counts worse than it began, since
    a horizon that the network harms will be given the anchor.
    """
    device = training.mask.device
    optimiser = _optimiser(network, config)
    per_epoch = -(-len(training) // config.batch_size)
    epochs = max(config.epochs, -(-config.min_steps // per_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _learning_rate(step, per_epoch, per_epoch * epochs)
    )
    averaged = copy.deepcopy(network)
    shuffle = torch.Generator().manual_seed(seed)
    drop = torch.Generator().manual_seed(seed + 1)
    history: list[dict[str, float]] = []
    start = _validation_loss(averaged, validation, levels)

    def record(epoch: int, training_loss: float) -> float:
        loss = _validation_loss(averaged, validation, levels)
        metrics = {
            "training_loss": training_loss,
            "validation_loss": float(loss.total(config)),
            "selection_loss": float(loss.no_worse_than(start, config).total(config)),
            **{f"validation_qlike_{k}": float(value) for k, value in enumerate(loss.qlike)},
        }
        if not math.isfinite(metrics["validation_loss"]):
            raise FloatingPointError(
                f"validation loss {metrics['validation_loss']} in epoch {epoch}:"
                f" lower learning_rate {config.learning_rate}"
            )
        history.append({"epoch": float(epoch), **metrics})
        if progress is not None:
            progress(epoch, metrics)
        return metrics["selection_loss"]

    best = record(0, float(_validation_loss(network, training, levels).total(config)))
    best_epoch, best_weights = 0, _copy_of(averaged)
    steps = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 2)  # the network's own dropout
        for epoch in range(1, epochs + 1):
            network.train()
            total = 0.0
            for index in torch.randperm(len(training), generator=shuffle).split(config.batch_size):  # type: ignore[no-untyped-call]
                batch = training.take(index.to(device))
                mask = _drop_tokens(batch.mask, context_tokens, config.modality_dropout, drop)
                outputs: Outputs = network(batch.inputs, mask)
                loss = loss_of(*outputs, batch, levels).total(config)
                loss = loss + config.gate_penalty * network.gate_penalty()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
                optimiser.step()
                schedule.step()
                steps += 1
                _average_into(averaged, network, min(config.averaging_decay, steps / (steps + 10)))
                total += float(loss.detach()) * len(index)
            current = record(epoch, total / len(training))
            if current < best:
                best, best_epoch, best_weights = current, epoch, _copy_of(averaged)
            elif epoch - best_epoch >= config.patience and steps >= config.min_steps:
                break
    network.load_state_dict(best_weights)
    network.eval()
    return history


def _validation_loss(network: AttentionNetwork, samples: Samples, levels: Tensor) -> Loss:
    return loss_of(*predict(network, samples), samples, levels)


def _optimiser(network: AttentionNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    matrices = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _average_into(averaged: AttentionNetwork, network: AttentionNetwork, decay: float) -> None:
    """averaged = decay * averaged + (1 - decay) * network; the decay starts low, so the start is forgotten soon."""
    with torch.no_grad():
        for mean, current in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(current, 1 - decay)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one CPU thread, then as before.

    Sums are then added in the same order on any number of cores, so that the artefact hash is the same; matrices of this
    size gain nothing from a second thread, and lose much when another process wants it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copy_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _learning_rate(step: int, warmup: int, total: int) -> float:
    """Share of the peak: linear over `warmup` steps, then half a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _drop_tokens(mask: Tensor, tokens: slice, share: float, generator: torch.Generator) -> Tensor:
    """A copy of the mask in which each of those tokens is gone with that chance."""
    if share == 0:
        return mask
    mask = mask.clone()
    part = mask[:, tokens]
    keep = (
        torch.rand(part.shape, generator=generator) >= share
    )  # drawn on the CPU: the same on every device
    mask[:, tokens] = part & keep.to(mask.device)
    return mask
