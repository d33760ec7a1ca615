"""How the daily run grows: 10, 50 and 200 coins, hourly and 5-minute bars; time, processor time and memory of each stage, and fitted exponents.

In: the seeded random market of ``load.py``. Out: for each size one run of the day after all history was built, by stage; and the slope of log cost on log
size with its 95 % interval: cost = c * size ** slope. Short histories, so that it ends within minutes; a slope says what a larger size would cost
as long as the stage stays what it is. There is no peer.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.load import LAST, MODELS, write_market
from benchmarks.stages import OUTSIDE, Stage, Timed, timed

Tables = list[tuple[str, list[str], list[list[Any]]]]
BARS = {"1h": 24, "5m": 288}
LEAST_CPU = 0.3
"""A stage under so many seconds everywhere has no exponent worth a row."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coins", default="10,50,200", help="numbers of coins, comma separated")
    parser.add_argument("--days", type=int, default=120, help="days of history")
    parser.add_argument("--models", default=MODELS, help="comma separated")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2, 4 and 8 coins, 40 days, one model")
    parser.add_argument("--folder", type=Path, help="keep the homes there; default: temporary")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    if options.quick:
        options.coins, options.days, options.models = "2,4,8", 40, "ewma"
    coins = [int(number) for number in options.coins.split(",")]
    runs: dict[tuple[int, str], Timed] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        for number, bars in plan(coins):
            runs[number, bars] = next_day(folder / f"{number}-{bars}", number, bars, options)
            print(f"{number} coins, {bars}: {runs[number, bars].wall:.0f} s", flush=True)
    figures = {
        f"{number} coins, {bars}": {
            "wall_seconds": found.wall,
            "cpu_seconds": found.cpu,
            "peak_mebibytes": found.peak,
            "stages": {stage: vars(one) for stage, one in found.stages.items()},
        }
        for (number, bars), found in runs.items()
    }
    fitted = exponents(runs, coins)
    return {"days": options.days, "runs": figures, "exponents": fitted}, [
        (f"next day after {options.days} days, by size", SIZE_HEADER, size_rows(runs)),
        ("wall s / CPU s / peak MiB by stage", ["stage", *(f"{n} x {b}" for n, b in runs)], stage_rows(runs)),
        ("exponents: cost = c * size ** slope, 95 % interval", ["stage", *EXPONENTS], fitted),
    ]  # fmt: skip


SIZE_HEADER = ["coins", "bars", "bars a day", "wall s", "CPU s", "peak MiB of all processes"]
EXPONENTS = ("CPU s by coins, hourly", "CPU s by coins, 5-minute", "peak MiB by coins, 5-minute", "CPU s by bars a coin")  # fmt: skip


def plan(coins: Sequence[int]) -> list[tuple[int, str]]:
    """Every number of coins with either kind of bars."""
    return [(number, bars) for bars in BARS for number in coins]


def next_day(folder: Path, coins: int, bars: str, options: argparse.Namespace) -> Timed:
    """Build all history up to the day before, then time the day."""
    first = LAST - timedelta(days=options.days - 1)
    write_market(folder / "archive", coins, first, LAST + timedelta(days=1), options.seed, bars)
    environment = {
        **os.environ,
        "VOLCAST_HOME": str(folder / "home"),
        "VOLCAST_SOURCE": "archive",
        "VOLCAST_ARCHIVE": str(folder / "archive"),
        "VOLCAST_MODELS": options.models,
    }
    volcast = [sys.executable, "-m", "orchestration.cli", "run", "--as-of"]
    timed([*volcast, str(LAST - timedelta(days=1))], environment)
    return timed([*volcast, str(LAST)], environment)


def size_rows(runs: dict[tuple[int, str], Timed]) -> list[list[Any]]:
    return [
        [coins, bars, coins * BARS[bars], found.wall, found.cpu, found.peak]
        for (coins, bars), found in runs.items()
    ]


def stage_rows(runs: dict[tuple[int, str], Timed]) -> list[list[Any]]:
    rows = []
    for name in _names(runs):
        found = [run.stages.get(name, Stage()) for run in runs.values()]
        rows.append([name, *(f"{s.wall:.1f} / {s.cpu:.1f} / {s.peak:.0f}" for s in found)])
    return rows


def _names(runs: dict[tuple[int, str], Timed]) -> list[str]:
    """Stages, the most expensive first; what lies outside of them last."""
    cost: dict[str, float] = {}
    for found in runs.values():
        for name, stage in found.stages.items():
            cost[name] = max(cost.get(name, 0.0), stage.cpu if name != OUTSIDE else 0.0)
    return sorted(cost, key=lambda name: -cost[name])


def exponents(runs: dict[tuple[int, str], Timed], coins: Sequence[int]) -> list[list[str]]:
    """A row of slopes for each stage that costs something, and for the whole run."""
    rows = []
    for name in ("the whole run", *_names(runs)):
        cpu, peak = {}, {}
        for size, found in runs.items():
            whole = Stage(found.wall, found.cpu, found.peak)
            stage = whole if name == "the whole run" else found.stages.get(name, Stage())
            cpu[size], peak[size] = stage.cpu, stage.peak
        if max(cpu.values()) < LEAST_CPU:
            continue
        ratio = [math.log(cpu[n, "5m"] / cpu[n, "1h"]) / math.log(12) for n in coins if min(cpu[n, "5m"], cpu[n, "1h"]) > 0]  # fmt: skip
        rows.append(
            [
                name,
                *(_said(*slope(coins, [cpu[n, bars] for n in coins])) for bars in BARS),
                _said(*slope(coins, [peak[n, "5m"] for n in coins])),
                _said(*_mean(ratio)),
            ]
        )
    return rows


def slope(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Slope of log cost on log size and the half width of its 95 % interval; NaN where a cost is not above zero, or two sizes leave no doubt to measure."""
    if len(sizes) < 2 or min(costs) <= 0:
        return math.nan, math.nan
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    x, y = x - x.mean(), y - y.mean()
    found = float(x @ y / (x @ x))
    free = len(sizes) - 2
    if free == 0:
        return found, math.nan
    error = math.sqrt(float(((y - found * x) ** 2).sum()) / free / float(x @ x))
    return found, float(student.ppf(0.975, free)) * error


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the half width of its 95 % interval."""
    if not values:
        return math.nan, math.nan
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    half = float(student.ppf(0.975, max(len(values) - 1, 1))) * spread / math.sqrt(len(values))
    return float(np.mean(values)), half


def _said(value: float, half: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.2f}" if math.isnan(half) else f"{value:.2f} ± {half:.2f}"
