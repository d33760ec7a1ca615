"""Training of a small recurrent network on the residual of an anchor: samples go in, the network of the best epoch comes out.

In: sequences, log anchors and log targets of a training and a validation block. Out: a network, what happened, and how
much of its residual to use. Never: a validation sample in a gradient, or a draw from the global random generator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ml.calibration import Floats
from ml.forecasts import HORIZONS

Progress = Callable[[int, Mapping[str, float]], None]
"""progress(epoch, metrics)"""
Kind = Literal["lstm", "gru"]
ANCHORS = ("harx_cal", "none")
SHRINKAGE = np.arange(11) / 10.0


@dataclass(frozen=True)
class RecurrentConfig:
    """How a network is trained."""

    anchor: str = "harx_cal"
    hidden: int = 16  # width of the recurrent state
    epochs: int = 20  # passes over the training block at most
    patience: int = 4  # epochs without a better validation loss before stopping
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    validation_share: float = 0.15  # newest part of the window, kept from training
    validation_days: int = 112  # at least so many of it

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"anchor {self.anchor!r}: expected one of {', '.join(ANCHORS)}")
        for field in fields(self)[1:]:
            if getattr(self, field.name) <= 0:
                raise ValueError(
                    f"{field.name} {getattr(self, field.name)}: expected a positive number"
                )
        if self.validation_share > 0.5:
            raise ValueError(f"validation_share {self.validation_share}: expected at most 0.5")


class Network(nn.Module):
    """A recurrent layer and a linear head that starts at zero: the untrained network is the anchor."""

    def __init__(self, kind: Kind, inputs: int, hidden: int) -> None:
        super().__init__()
        layer = nn.LSTM if kind == "lstm" else nn.GRU
        self.recurrent = layer(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(HORIZONS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, days, inputs) -> (B, H) residual of log variance."""
        states, _ = self.recurrent(sequence)
        residual: Tensor = self.head(states[:, -1])
        return residual


@dataclass(frozen=True)
class Samples:
    """Rows (day, coin) of the window with their sequences, anchors and log targets."""

    sequence: Tensor  # (S, days, inputs)
    anchor: Tensor  # (S, H)
    target: Tensor  # (S, H), NaN where it is unknown or purged

    def take(self, index: Tensor) -> Samples:
        return Samples(self.sequence[index], self.anchor[index], self.target[index])


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine's cores; the setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def qlike(residual: Tensor, samples: Samples) -> Tensor:
    """(H,) mean zero-centred QLIKE of anchor + residual over the known targets."""
    known = torch.isfinite(samples.target)
    error = torch.where(known, samples.target - samples.anchor - residual, 0.0)
    loss = torch.exp(error) - error - 1.0
    return loss.sum(0) / known.sum(0).clamp_min(1)


def train(
    kind: Kind,
    samples: Samples,
    blocks: Mapping[str, Any],
    settings: RecurrentConfig,
    seed: int,
    device: str,
    progress: Progress | None,
) -> tuple[Network, dict[str, Any]]:
    """The network of the best epoch on the validation block; epoch 0 is the anchor."""
    training, validation = (samples.take(blocks[name]) for name in ("training", "validation"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(kind, samples.sequence.shape[-1], settings.hidden).to(device)
    generator = torch.Generator().manual_seed(seed)
    record: dict[str, Any] = {
        "training_samples": len(training.target),
        "validation_samples": len(validation.target),
        "best_epoch": 0,
        "validation_qlike": [],
    }
    if len(training.target) == 0 or len(validation.target) == 0:
        return network.cpu(), record
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    best, least = copy.deepcopy(network.state_dict()), _loss_on(network, validation, device)
    record["validation_qlike"].append(round(least, 6))
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(training.target), generator=generator)
        for index in torch.split(order, settings.batch_size):
            batch = training.take(index)
            batch = Samples(
                *(each.to(device) for each in (batch.sequence, batch.anchor, batch.target))
            )
            loss = qlike(network(batch.sequence), batch).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        found = _loss_on(network, validation, device)
        record["validation_qlike"].append(round(found, 6))
        if progress is not None:
            progress(epoch, {"validation_qlike": found})
        if found < least:
            best, least, record["best_epoch"] = copy.deepcopy(network.state_dict()), found, epoch
        elif epoch - record["best_epoch"] >= settings.patience:
            break
    network.load_state_dict(best)
    return network.cpu(), record


def _loss_on(network: Network, samples: Samples, device: str) -> float:
    residual = torch.tensor(predict(network, samples.sequence, device), dtype=torch.float32)
    return float(qlike(residual, samples).mean())


def predict(network: Network, sequence: Tensor, device: str) -> Floats:
    """(S, H) residuals of log variance."""
    network = network.to(device)
    with torch.no_grad():
        parts = [network(part.to(device)).cpu() for part in torch.split(sequence, 4096)]
    if not parts:
        return np.zeros((0, len(HORIZONS)))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def choose_shrinkage(network: Network, validation: Samples, device: str) -> Floats:
    """(H,) the share of the residual with the least QLIKE on the validation block."""
    if len(validation.target) == 0:
        return np.zeros(len(HORIZONS))
    residual = torch.tensor(predict(network, validation.sequence, device), dtype=torch.float32)
    losses = torch.stack([qlike(float(share) * residual, validation) for share in SHRINKAGE])
    return np.asarray(SHRINKAGE[losses.argmin(dim=0).numpy()], dtype=np.float64)
