"""What the measured systems share; standard library, numpy and pandas only, so that it runs in every environment.

In: the task as JSON on the command line. Out: one line of JSON on standard output, last. A peer's script is started by its path, with this folder first on
sys.path.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """The same for every system."""

    length: int  # time steps in the input window
    covariates: int  # beside the series itself
    batch: int  # samples in an optimiser step
    outputs: int  # forecast steps
    levels: list[float]  # quantile levels of each
    threads: int
    steps: int  # timed optimiser steps
    warmup: int  # steps before them
    parameters: int  # of the network, as near as its sizes allow
    d_model: int  # of ours; the peers' widths follow from `parameters`
    layers: int


def read_task() -> Task:
    return Task(**json.loads(sys.argv[1]))


@dataclass
class Stopwatch:
    """Wall and processor seconds of the steps after the warm-up; `step` is called when one is done."""

    task: Task
    done: int = 0
    _started: tuple[float, float] = field(default=(0.0, 0.0))
    wall: float = 0.0
    cpu: float = 0.0

    def step(self) -> None:
        self.done += 1
        now = (time.perf_counter(), time.process_time())
        if self.done == self.task.warmup:
            self._started = now
        if self.done == self.task.warmup + self.task.steps:
            self.wall, self.cpu = now[0] - self._started[0], now[1] - self._started[1]

    def report(self, parameters: int, width: int, **versions: str) -> None:
        """Print the figures; RuntimeError when the system made fewer steps than it was asked for."""
        if not self.wall:
            raise RuntimeError(
                f"{self.done} steps were made: expected {self.task.warmup + self.task.steps}"
            )
        samples = self.task.steps * self.task.batch
        figures: dict[str, Any] = {
            "samples_per_second": samples / self.wall,
            "samples_per_cpu_second": samples / self.cpu,
            "parameters": parameters,
            "width": width,
            "versions": versions,
        }
        print(json.dumps(figures), flush=True)


def nearest_width(count: Callable[[int], int], wanted: int, widths: range) -> int:
    """The width whose network has the number of parameters nearest to the wanted one."""
    return min(widths, key=lambda width: abs(count(width) - wanted))


def long_frame(task: Task, series: int = 4, days: int = 1000) -> Any:
    """unique_id, ds, y and covariates x0 .. of random series, seeded; float32."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(7)
    frames = []
    for number in range(series):
        columns = random.standard_normal((days, 1 + task.covariates)).astype(np.float32)
        frame = pd.DataFrame(columns, columns=["y", *(f"x{k}" for k in range(task.covariates))])
        frame.insert(0, "unique_id", f"s{number}")
        frame.insert(1, "ds", pd.date_range("2020-01-01", periods=days, freq="D"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
