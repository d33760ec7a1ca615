"""Training speed against neuralforecast and pytorch-forecasting: samples per second at equal input, batch and number of parameters, in one run.

Every system trains on random series in a process of its own; a peer has an environment of its own, made by this benchmark under a cache folder when it is
not there. A step is all that the system does for a batch: reading it, forward, backward, optimiser. Ours also keeps averaged weights and judges a
batch of validation samples. A peer that cannot be installed is named with the reason, and the others are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.training_systems.measure import Task
from ml.forecasts import QUANTILE_LEVELS

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS_FOLDER = Path(__file__).resolve().parent / "training_systems"
TORCH = "torch==2.13.0"
"""Named, or an installer takes a build with several GB of CUDA."""
TIMEOUT_SECONDS = 1800


class SystemFailed(RuntimeError):
    """A system could not be installed or did not finish; the message is its last line."""


@dataclass(frozen=True)
class System:
    """What is measured: which script, with which argument, in which environment."""

    name: str
    script: str
    argument: str
    requirement: str = ""  # of its own environment; '' = this one


SYSTEMS = (
    System("volcast", "ours.py", "float32"),
    System("volcast, bfloat16", "ours.py", "bfloat16"),
    System("neuralforecast TFT", "neuralforecast_models.py", "TFT", "neuralforecast==3.3.0"),
    System(
        "neuralforecast TSMixerx", "neuralforecast_models.py", "TSMixerx", "neuralforecast==3.3.0"
    ),
    System(
        "pytorch-forecasting TFT", "pytorch_forecasting_tft.py", "TFT", "pytorch-forecasting==1.8.0"
    ),
)
OURS = SYSTEMS[0].name


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "volcast" / "peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=int, default=64, help="time steps of the input window")
    parser.add_argument("--covariates", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30, help="timed optimiser steps")
    parser.add_argument("--d-model", type=int, default=64, help="width of our network")
    parser.add_argument("--layers", type=int, default=2, help="layers of our network")
    parser.add_argument(
        "--repeats", type=int, default=3, help="the fastest counts, of every system"
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="peers' environments")
    parser.add_argument(
        "--systems", nargs="+", default=[s.name for s in SYSTEMS], choices=[s.name for s in SYSTEMS]
    )


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    from benchmarks.training_systems.ours import parameters_of

    task = Task(
        length=options.length,
        covariates=options.covariates,
        batch=options.batch,
        outputs=3,
        levels=list(QUANTILE_LEVELS),
        threads=options.threads,
        steps=options.steps,
        warmup=3,
        parameters=0,
        d_model=options.d_model,
        layers=options.layers,
    )
    task = replace(task, parameters=parameters_of(task))
    chosen = [system for system in SYSTEMS if system.name in {*options.systems, OURS}]
    found: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    pythons: dict[str, str] = {}
    for _ in range(options.repeats):  # in turn: a busy minute of the machine hits them alike
        for system in chosen:
            if system.name in failures:
                continue
            try:
                if system.requirement not in pythons:
                    pythons[system.requirement] = python_of(system, options.cache)
                figures = measure(system, pythons[system.requirement], task)
            except SystemFailed as error:
                failures[system.name] = str(error)
                print(f"{system.name}: not measured: {error}")
                continue
            before = found.get(system.name)
            if before is None or figures["samples_per_second"] > before["samples_per_second"]:
                found[system.name] = figures
    return _figures(task, found, failures), [_table(task, found)]


def python_of(system: System, cache: Path) -> str:
    """The interpreter of the system's environment, made and filled where there is none. Raises SystemFailed with pip's last line."""
    if not system.requirement:
        return sys.executable
    folder = cache / system.requirement.partition("==")[0]
    python = folder / "bin" / "python"
    ready = folder / "installed.txt"
    if ready.exists() and ready.read_text() == system.requirement:
        return str(python)
    print(f"{system.name}: installing {system.requirement} into {folder}", flush=True)
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", system.requirement, TORCH]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemFailed(f"{system.requirement} cannot be installed: {_last_line(done.stderr)}")
    ready.write_text(system.requirement)
    return str(python)


def measure(system: System, python: str, task: Task) -> dict[str, Any]:
    """The figures that the system's script prints last. Raises SystemFailed."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(task.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if system.requirement:
        start = [python, str(SYSTEMS_FOLDER / system.script)]
        environment.pop("PYTHONPATH", None)
    else:
        start = [python, "-m", f"benchmarks.training_systems.{Path(system.script).stem}"]
    command = [*start, json.dumps(asdict(task)), system.argument]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SystemFailed(f"not done after {TIMEOUT_SECONDS} s") from None
    if done.returncode:
        raise SystemFailed(_last_line(done.stderr))
    figures: dict[str, Any] = json.loads(_last_line(done.stdout))
    return figures


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def _figures(
    task: Task, found: dict[str, dict[str, Any]], failures: dict[str, str]
) -> dict[str, Any]:
    ours = found.get(OURS, {}).get("samples_per_second")
    peers = {s.name for s in SYSTEMS if s.requirement}
    return {
        "task": asdict(task),
        "samples_per_second": {name: item["samples_per_second"] for name, item in found.items()},
        "samples_per_cpu_second": {
            name: item["samples_per_cpu_second"] for name, item in found.items()
        },
        "parameters": {name: item["parameters"] for name, item in found.items()},
        "versions": {name: item["versions"] for name, item in found.items()},
        "ratio": {
            name: ours / item["samples_per_second"]
            for name, item in found.items()
            if name in peers and ours
        },
        "ratio_cpu": {
            name: found[OURS]["samples_per_cpu_second"] / item["samples_per_cpu_second"]
            for name, item in found.items()
            if name in peers and ours
        },
        "not_measured": failures,
    }


def _table(task: Task, found: dict[str, dict[str, Any]]) -> tuple[str, list[str], list[list[Any]]]:
    ours = found.get(OURS, {}).get("samples_per_second")
    rows = [
        [
            name,
            item["parameters"],
            item["width"],
            item["samples_per_second"],
            item["samples_per_cpu_second"],
            ours / item["samples_per_second"] if ours else "",
            found[OURS]["samples_per_cpu_second"] / item["samples_per_cpu_second"] if ours else "",
            ", ".join(f"{key} {value}" for key, value in item["versions"].items()),
        ]
        for name, item in found.items()
    ]
    title = f"training, window {task.length}, {task.covariates} covariates, batch {task.batch}, {task.threads} threads"
    header = [
        "system",
        "parameters",
        "width",
        "samples/s",
        "samples/cpu-s",
        "ours / it",
        "versions",
    ]
    return title, header, rows
