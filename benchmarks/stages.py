"""One `volcast` command in a process of its own: its wall time, processor time, peak memory, and the same for each stage of the run.

In: a command and an environment. Out: ``Timed``, with a ``Stage`` for each group of Dagster steps. A stage's processor time and memory are those of the
whole process tree (dbt and workers included) between the first and the last sample within a step's start and end in the event log; what lies
outside of all steps is the start of the process, Dagster's plan and the end of the run. Never: a stage's time from anything but the event log.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.1
STAGES = {
    "raw__": "ingest",
    "_gate": "gates",
    "dbt_features": "features (dbt)",
    "models__registry": "training",
    "volatility_forecasts": "forecasts",
    "forecasts__attention_weights": "attention",
    "explanations": "attention",
    "models__explanation_checks": "attention",
    "forecasts__risk": "risk",
    "forecasts__correlations": "risk",
    "portfolio": "risk",
    "tails": "risk",
    "regimes": "regimes and events",
    "jumps": "regimes and events",
    "forecasts__events": "regimes and events",
    "evaluation__": "evaluation",
    "learning": "learning",
    "models__spurious_checks": "learning",
    "published__report": "report and cards",
    "published__model_cards": "report and cards",
    "published__snapshot": "publish",
}
"""Stage of a step by how its key begins, or ends where the name begins with an underscore; the first that fits."""
OUTSIDE = "start, plan and end"


@dataclass
class Stage:
    """Seconds of wall and processor time, and the peak of memory in MiB."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0


@dataclass
class Timed:
    """A finished command: seconds of wall and processor time of its process tree, peak MiB, and its stages."""

    wall: float
    cpu: float
    peak: float
    stages: dict[str, Stage] = field(default_factory=dict)

    def sum_of_steps(self) -> float:
        return sum(stage.wall for name, stage in self.stages.items() if name != OUTSIDE)


def stage_of(step: str) -> str:
    """The stage that a step belongs to; one that no rule knows is a stage of its own."""
    for name, stage in STAGES.items():
        if step.endswith(name) if name.startswith("_") else step.startswith(name):
            return stage if not step.endswith("_gate") else "gates"
    return step


def timed(command: Sequence[str], environment: dict[str, str]) -> Timed:
    """Run to the end and measure; raises SystemExit where it fails."""
    began_at, began = time.time(), time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    samples: list[tuple[float, float, float]] = []  # (instant, processor seconds, MiB)
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, samples, stop))
    sampler.start()
    code = process.wait()
    wall = time.monotonic() - began
    stop.set()
    sampler.join()
    if code != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {code}")
    done = Timed(wall, samples[-1][1], max(memory for *_, memory in samples))
    steps = steps_since(Path(environment["VOLCAST_HOME"]), began_at)
    done.stages = by_stage(steps, samples)
    inside = sum(stage.cpu for stage in done.stages.values())
    done.stages[OUTSIDE] = Stage(wall - done.sum_of_steps(), max(done.cpu - inside, 0.0), 0.0)
    return done


def _sample(pid: int, samples: list[tuple[float, float, float]], stop: threading.Event) -> None:
    """Processor time of the tree: what lives, and what each process that has ended had used when it was last seen."""
    used: dict[tuple[int, float], float] = {}
    while True:
        memory = 0.0
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            tree = []
        for member in tree:
            try:
                times = member.cpu_times()
                used[member.pid, member.create_time()] = times.user + times.system
                memory += member.memory_info().rss / 2**20
            except psutil.Error:
                continue
        samples.append((time.time(), sum(used.values()), memory))
        if stop.wait(SAMPLE_SECONDS):
            return


def steps_since(home: Path, began: float) -> list[tuple[str, float, float]]:
    """(step, start, end) of every step of the runs of a home that began after ``began``, by Dagster's event log."""
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    import dagster as dg

    found = []
    with dg.DagsterInstance.get() as instance:
        for record in instance.get_run_records():
            if record.create_timestamp.timestamp() >= began - 1:
                for step in instance.get_run_step_stats(record.dagster_run.run_id):
                    if step.start_time and step.end_time:
                        found.append((step.step_key, step.start_time, step.end_time))
    return found


def by_stage(
    steps: Sequence[tuple[str, float, float]], samples: Sequence[tuple[float, float, float]]
) -> dict[str, Stage]:
    """Wall, processor time and peak memory of each stage: samples counted to the step in which they fall."""
    stages: dict[str, Stage] = {}
    for step, start, end in steps:
        stage = stages.setdefault(stage_of(step), Stage())
        stage.wall += end - start
        stage.cpu += _used_at(samples, end) - _used_at(samples, start)
        inside = [memory for instant, _, memory in samples if start <= instant <= end]
        stage.peak = max([stage.peak, *inside])
    return stages


def _used_at(samples: Sequence[tuple[float, float, float]], instant: float) -> float:
    """Processor seconds used by then, between two samples as a straight line."""
    before = (samples[0][0], 0.0)
    for at, used, _ in samples:
        if at >= instant:
            share = (instant - before[0]) / (at - before[0]) if at > before[0] else 1.0
            return before[1] + max(share, 0.0) * (used - before[1])
        before = (at, used)
    return before[1]
