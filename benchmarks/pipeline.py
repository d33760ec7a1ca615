"""The daily run of ten coins: wall and processor time and peak memory, in all and by stage; how much of it is orchestration and not work.

In: the simulated market. Out: five runs as a desk makes them: the first (history and a first training), the next day, the same day again, and a day
that trains. Orchestration is what a run costs that has nothing to do: imports, Dagster's plan and events, opening the warehouse, reading
fingerprints. There is no peer: no other tool does this job; the ratios are between our own runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.stages import OUTSIDE, Timed, timed

Tables = list[tuple[str, list[str], list[list[Any]]]]
COINS = "BTC,ETH,SOL,XRP,ADA,LTC,DOGE,LINK,DOT,AVAX"
SATURDAY = date(2024, 6, 29)
"""The day after the next one begins a week, whose first forecasts need new fits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, help="keep the home there; default: temporary")
    parser.add_argument("--coins", default=COINS, help="comma separated")
    parser.add_argument("--start", default="2022-01-01", help="first day of history")
    parser.add_argument("--days", type=int, default=28, help="days of forecasts before the first measured day")  # fmt: skip
    parser.add_argument("--models", help="comma separated; those of VOLCAST_MODELS by default")
    parser.add_argument("--epochs", type=int, default=20, help="most epochs of an attention fit")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    with tempfile.TemporaryDirectory() as temporary:
        home = (options.home or Path(temporary) / "home").resolve()
        environment = {
            **os.environ,
            "VOLCAST_HOME": str(home),
            "VOLCAST_SOURCE": "simulated",
            "VOLCAST_ASSETS": options.coins,
            "VOLCAST_SIMULATED_START": options.start,
            "VOLCAST_ATTENTION_EPOCHS": str(options.epochs),
            **({"VOLCAST_MODELS": options.models} if options.models else {}),
        }
        runs = {}
        for name, arguments in commands(options.days):
            runs[name] = timed([sys.executable, "-m", "orchestration.cli", *arguments], environment)
            print(f"{name}: {runs[name].wall:.0f} s", flush=True)
    return figures(runs), tables(runs, len(options.coins.split(",")))


def commands(days: int) -> list[tuple[str, list[str]]]:
    """The runs in their order, by name; a day is a Saturday where it trains nothing, a Monday where it does."""
    first, friday = SATURDAY - timedelta(days=days), SATURDAY - timedelta(days=1)
    return [
        ("first run", ["backfill", "--from", str(first), "--to", str(friday)]),
        ("next day", ["run", "--as-of", str(SATURDAY)]),
        ("the same day again", ["run", "--as-of", str(SATURDAY)]),
        ("a Sunday, with the learning loop", ["run", "--as-of", str(SATURDAY + timedelta(days=1))]),
        ("a Monday, with training", ["run", "--as-of", str(SATURDAY + timedelta(days=2))]),
    ]


def figures(runs: dict[str, Timed]) -> dict[str, Any]:
    return {
        name: {
            "wall_seconds": timed_run.wall,
            "cpu_seconds": timed_run.cpu,
            "peak_mebibytes": timed_run.peak,
            "stages": {stage: vars(found) for stage, found in timed_run.stages.items()},
        }
        for name, timed_run in runs.items()
    }


def tables(runs: dict[str, Timed], coins: int) -> Tables:
    idle = runs["the same day again"]
    total = [
        [
            name,
            found.wall,
            found.cpu,
            found.peak,
            f"{min(idle.cpu / found.cpu, 1.0):.0%}",
            found.wall / idle.wall,
        ]
        for name, found in runs.items()
    ]
    names = sorted(
        {stage for found in runs.values() for stage in found.stages if stage != OUTSIDE},
        key=lambda name: -max(_cpu(found, name) for found in runs.values()),
    )
    stages = [[name, *(_cell(found, name) for found in runs.values())] for name in (*names, OUTSIDE)]  # fmt: skip
    header = ["run", "wall s", "CPU s", "peak MiB of all processes", "orchestration", "wall / nothing to do"]  # fmt: skip
    return [
        (f"daily run of {coins} coins", header, total),
        ("wall s / CPU s by stage", ["stage", *runs], stages),
    ]


def _cpu(found: Timed, name: str) -> float:
    return found.stages[name].cpu if name in found.stages else 0.0


def _cell(found: Timed, name: str) -> str:
    stage = found.stages.get(name)
    return "" if stage is None else f"{stage.wall:.1f} / {stage.cpu:.1f}"
