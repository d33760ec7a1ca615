"""The training loop: a network that is the anchor and scaled samples go in, the network of the best epoch and its record come out.

The untrained network, which is the anchor, is epoch 0: if no epoch beats it on the validation block, it is what comes out. Context tokens
are dropped at random in training, so that the network works without any of them. The seed is the only randomness; the global generator is
left as it was.

A training that is killed goes on from its newest checkpoint (after every epoch) and ends with the same bytes. Where the device has not memory
enough for a batch, it is halved until it fits; the gradient is still that of the whole batch. How a step runs is in execution.py.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ml.attention.checkpoints import Slot
from ml.attention.execution import (
    Execution,
    batches,
    generator_states,
    release,
    set_generator_states,
)
from ml.attention.network import AttentionNetwork
from ml.attention.training import Samples, TrainingConfig, device_of, in_float32, loss_of, loss_over

log = logging.getLogger("ml.attention")

Progress = Callable[[int, Mapping[str, float]], None]
"""progress(epoch, metrics)"""


@dataclass
class TrainingRecord:
    """What happened in one training; all of it is the same when the training was killed on the way and went on."""

    history: list[dict[str, float]] = field(default_factory=list)  # one record per epoch, from 0
    precision: str = "float32"
    compiled: bool = False
    warm: bool = False  # started from an earlier version's weights
    batch_in_memory: int = (
        0  # samples that a step holds at once; less than the batch after a halving
    )
    out_of_memory: list[str] = field(default_factory=list)  # a line for each halving

    def facts(self) -> dict[str, Any]:
        """All but the history, for the fit's record."""
        facts = asdict(self)
        del facts["history"]
        return facts


def train(
    network: AttentionNetwork,
    training: Samples,
    validation: Samples,
    levels: Tensor,
    context_tokens: slice,
    config: TrainingConfig,
    seed: int,
    progress: Progress | None = None,
    *,
    slot: Slot | None = None,
    earlier: Mapping[str, Tensor] | None = None,
) -> TrainingRecord:
    """Train in place and leave the network at its best validation epoch.

    network: untrained, the anchor. levels (Q,): quantile levels. context_tokens: where tokens that may be dropped stand in the
    token order. slot: where checkpoints go, and what a killed training goes on from. earlier: weights to start from, for a warm start; the
    anchor is epoch 0 all the same. The best epoch has the least `selection_loss`: the validation loss where no horizon counts
    worse than it began, since a horizon that the network harms will be given the anchor.

    Raises FloatingPointError when the validation loss is no number, torch.OutOfMemoryError when not even one sample fits.
    """
    if earlier is not None:
        config = config.warmed()
    run = _Training(network, training, validation, levels, context_tokens, config, seed, progress)
    saved = None if slot is None else slot.load()
    with run.generators():
        if saved is None:
            run.start(earlier)
        else:
            run.restore(saved.tensors, saved.facts)
            log.info("training goes on after epoch %d, from %s", run.epoch, slot and slot.uri)
        while not run.finished:
            run.next_epoch()
            if slot is not None:
                slot.save(run.tensors(), run.facts())
    run.leave_best()
    return run.record


class _Training:
    """One training as it stands after an epoch: what `tensors` and `facts` hold is all that the next epoch depends on."""

    def __init__(
        self,
        network: AttentionNetwork,
        training: Samples,
        validation: Samples,
        levels: Tensor,
        context_tokens: slice,
        config: TrainingConfig,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.network, self.training, self.validation = network, training, validation
        self.levels, self.context_tokens, self.config = levels, context_tokens, config
        self.seed, self.progress = seed, progress
        self.device = device_of(network)
        self.per_epoch = -(-len(training) // config.batch_size)
        self.epochs = max(config.epochs, -(-config.min_steps // self.per_epoch))
        self.execution = Execution.of(config, self.device, self.per_epoch * self.epochs)
        self.step_network: nn.Module = self.execution.prepare(network)
        self.optimiser = _optimiser(network, config)
        self.averaged = copy.deepcopy(network)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.drop = torch.Generator().manual_seed(seed + 1)
        self.untrained = loss_over(network, validation, levels)  # the anchor's
        self.best, self.best_epoch, self.best_weights = math.inf, 0, _copy_of(network)
        self.epoch = self.steps = 0
        self.finished = False
        self.record = TrainingRecord(
            precision=self.execution.precision,
            compiled=self.execution.compiled,
            batch_in_memory=min(config.batch_size, len(training)),
        )

    @contextmanager
    def generators(self) -> Iterator[None]:
        """Torch's own generators (the network's dropout) seeded, then as they were before."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed + 2)
            yield

    def start(self, earlier: Mapping[str, Tensor] | None) -> None:
        """Epoch 0: the anchor; then the weights to start from."""
        loss = loss_over(self.network, self.training, self.levels).total(self.config)
        self.best = self._judge(float(loss))
        if earlier is not None:
            self.network.load_state_dict(dict(earlier))
            self.averaged.load_state_dict(dict(earlier))
            self.record.warm = True

    def next_epoch(self) -> None:
        self.epoch += 1
        self.network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        order = torch.randperm(len(self.training), generator=self.shuffle)
        splits = order.split(self.config.batch_size)  # type: ignore[no-untyped-call]
        for batch in batches(self.training, splits, self.device):
            dropped = _drop_tokens(
                batch.mask, self.context_tokens, self.config.modality_dropout, self.drop
            )
            total += self._step(replace(batch, mask=dropped)).double() * len(batch)
        current = self._judge(float(total) / len(self.training))
        if current < self.best:
            self.best, self.best_epoch = current, self.epoch
            self.best_weights = _copy_of(self.averaged)
        patient = self.epoch - self.best_epoch < self.config.patience
        enough = self.steps >= self.config.min_steps
        self.finished = self.epoch >= self.epochs or (not patient and enough)

    def _step(self, batch: Samples) -> Tensor:
        """One optimiser step; the batch's loss. Too large a batch is halved for this and all later steps."""
        share = _learning_rate(self.steps, self.per_epoch, self.per_epoch * self.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * share
        while (loss := self._gradient(batch)) is None:
            self._halve(len(batch))
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        self.steps += 1
        decay = min(self.config.averaging_decay, self.steps / (self.steps + 10))
        _average_into(self.averaged, self.network, decay)
        return loss

    def _gradient(self, batch: Samples) -> Tensor | None:
        """The batch's loss, its gradient left in the parameters; None, and all as before, when memory ran out."""
        before = generator_states(self.device)
        self.optimiser.zero_grad(set_to_none=True)
        try:
            return self._accumulate(batch)
        except torch.OutOfMemoryError:
            if self.record.batch_in_memory == 1:
                raise
        self.optimiser.zero_grad(set_to_none=True)
        set_generator_states(before, self.device)
        return None

    def _accumulate(self, batch: Samples) -> Tensor:
        total = torch.zeros((), device=self.device)
        whole = weight_of(batch).to(self.device)
        for start in range(0, len(batch), self.record.batch_in_memory):
            part = batch.take(slice(start, start + self.record.batch_in_memory)).to(self.device)
            with self.execution.autocast():
                outputs = self.step_network(part.inputs, part.mask)
            loss = loss_of(*in_float32(outputs), part, self.levels)
            # Means over the whole batch: a part counts by its share of the batch's weight, per horizon.
            share = 1.0 if len(part) == len(batch) else weight_of(part) / whole.clamp_min(1e-12)
            value = loss.scaled(share).total(self.config)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        if self.config.gate_penalty and self.network.config.modality_gates:
            penalty = self.config.gate_penalty * self.network.gate_penalty()
            penalty.backward()  # type: ignore[no-untyped-call]
            total += penalty.detach()
        return total

    def _halve(self, samples: int) -> None:
        release(self.device)
        tried = self.record.batch_in_memory
        self.record.batch_in_memory = -(-min(tried, samples) // 2)
        line = (
            f"epoch {self.epoch}: no memory for {min(tried, samples)} samples at once,"
            f" now {self.record.batch_in_memory}; gradients are added up to batches of {self.config.batch_size}"
        )
        self.record.out_of_memory.append(line)
        log.warning("%s", line)

    def _judge(self, training_loss: float) -> float:
        """Append the epoch to the history, report it, and return its selection loss."""
        loss = loss_over(self.averaged, self.validation, self.levels)
        metrics = {
            "training_loss": training_loss,
            "validation_loss": float(loss.total(self.config)),
            "selection_loss": float(
                loss.no_worse_than(self.untrained, self.config).total(self.config)
            ),
            **{f"validation_qlike_{k}": float(value) for k, value in enumerate(loss.qlike)},
        }
        if not math.isfinite(metrics["validation_loss"]):
            raise FloatingPointError(
                f"validation loss {metrics['validation_loss']} in epoch {self.epoch}:"
                f" lower learning_rate {self.config.learning_rate}"
            )
        self.record.history.append({"epoch": float(self.epoch), **metrics})
        if self.progress is not None:
            self.progress(self.epoch, metrics)
        return metrics["selection_loss"]

    def leave_best(self) -> None:
        self.network.load_state_dict(self.best_weights)
        self.network.eval()

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: weights, averaged and best weights, optimiser and generator states."""
        found = {
            f"{name}.{key}": value
            for name, state in (
                ("network", self.network.state_dict()),
                ("averaged", self.averaged.state_dict()),
                ("best", self.best_weights),
            )
            for key, value in state.items()
        }
        for index, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{index}.{key}": value for key, value in moments.items()}
        found |= {
            f"generator.{name}": state for name, state in generator_states(self.device).items()
        }
        found["generator.shuffle"] = self.shuffle.get_state()
        found["generator.drop"] = self.drop.get_state()
        return found

    def facts(self) -> dict[str, Any]:
        """For a checkpoint: the counters and the record so far."""
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "finished": self.finished,
            "record": asdict(self.record),
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """The state that gave these tensors and facts."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            parts.setdefault(part, {})[key] = value
        self.network.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        self.best_weights = {key: value.to(self.device) for key, value in parts["best"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts.get("optimiser", {}).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        set_generator_states(parts["generator"], self.device)
        self.shuffle.set_state(parts["generator"]["shuffle"])
        self.drop.set_state(parts["generator"]["drop"])
        self.epoch, self.steps = facts["epoch"], facts["steps"]
        self.best, self.best_epoch = facts["best"], facts["best_epoch"]
        self.finished = facts["finished"]
        self.record = TrainingRecord(**facts["record"])


def weight_of(part: Samples) -> Tensor:
    """(H,) weight of the samples whose target is known."""
    return (torch.isfinite(part.target) * part.weight[:, None]).sum(0)


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
        for held, fixed in zip(averaged.buffers(), network.buffers(), strict=True):
            held.copy_(fixed)


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
