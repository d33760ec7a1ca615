"""volcast's training loop on random samples: whole epochs, with their batches, dropped tokens, optimiser and averaged weights."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.training_systems.measure import Stopwatch, Task, read_task
from ml.attention.loop import train
from ml.attention.network import AttentionNetwork, NetworkConfig, TokenShape
from ml.attention.training import Samples, TrainingConfig


def network_of(task: Task) -> AttentionNetwork:
    """A token per time step, every field with its missing flag, as the product reads them."""
    config = NetworkConfig(
        d_model=task.d_model,
        n_heads=4,
        n_layers=task.layers,
        head_scales=("daily", "daily", "all", "all"),
    )
    shapes = {
        "calendar": TokenShape(1, 2, "forecast"),
        "price_daily": TokenShape(task.length, 2 * (1 + task.covariates), "daily"),
    }
    return AttentionNetwork(config, shapes, task.outputs, len(task.levels))


def parameters_of(task: Task) -> int:
    return sum(value.numel() for value in network_of(task).parameters())


def samples_of(task: Task, number: int) -> Samples:
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return Samples(
        {
            "calendar": normal(number, 1, 2),
            "price_daily": normal(number, task.length, 2 * (1 + task.covariates)),
        },
        torch.ones(number, 1 + task.length, dtype=torch.bool),
        normal(number, task.outputs),
        normal(number, task.outputs),
        torch.ones(number),
    )


def measured(task: Task, precision: str) -> Stopwatch:
    """Epochs of `steps` steps: the first is the warm-up, the second is timed, its validation (one batch) included."""
    watch = Stopwatch(task)
    ends: list[tuple[float, float]] = []
    config = TrainingConfig(
        batch_size=task.batch,
        epochs=2,
        min_steps=2 * task.steps,
        patience=9,
        precision=precision,
        horizon_weights=(1.0,) * task.outputs,
    )
    train(
        network_of(task),
        samples_of(task, task.steps * task.batch),
        samples_of(task, task.batch),
        torch.tensor(task.levels),
        slice(0, 0),
        replace(config, modality_dropout=0.0),
        seed=0,
        progress=lambda epoch, metrics: ends.append((time.perf_counter(), time.process_time())),
    )
    watch.done = task.warmup + task.steps
    watch.wall, watch.cpu = (after - before for before, after in zip(ends[1], ends[2], strict=True))
    return watch


def main(precision: str) -> None:
    task = read_task()
    torch.set_num_threads(task.threads)
    measured(task, precision).report(parameters_of(task), task.d_model, torch=torch.__version__)


if __name__ == "__main__":
    import sys

    main(sys.argv[2])
