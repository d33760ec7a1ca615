"""Daily runs back to back in one process, as a worker that is never restarted would make them: what grows, and by how much.

In: the simulated market with three coins. Out: after each day the process's open files, threads, children and memory, and the size of each part of
the home; the table shows the first and last days and the slope between. There is no peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

Tables = list[tuple[str, list[str], list[list[Any]]]]
MARKET = {
    "VOLCAST_SOURCE": "simulated",
    "VOLCAST_ASSETS": "BTC,ETH,SOL",
    "VOLCAST_SIMULATED_START": "2023-03-01",
    "VOLCAST_MODELS": "ewma,log_har,harx_cal,har_pooled,garch_t,attention",
    "VOLCAST_ATTENTION_EPOCHS": "1",
    "VOLCAST_EXPLANATION_CHECKS": "false",
}
FIRST = date(2024, 3, 1)
PARTS = (
    "warehouse.duckdb",
    "published",
    "artifacts",
    "reports",
    "model_cards",
    "dagster",
    "dbt",
    "logs",
    "metrics",
    "runs",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--models", default=MARKET["VOLCAST_MODELS"], help="comma separated")
    parser.add_argument("--home", type=Path, help="keep the home there; default: temporary")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    with tempfile.TemporaryDirectory() as temporary:
        home = (options.home or Path(temporary) / "home").resolve()
        spare = Path(temporary) / "tmp"
        spare.mkdir()
        environment = {**os.environ, **MARKET, "VOLCAST_MODELS": options.models}
        environment |= {"VOLCAST_HOME": str(home), "TMPDIR": str(spare)}
        command = [sys.executable, "-m", "benchmarks.soak", str(options.days)]
        days: list[dict[str, Any]] = []
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("{"):
                    days.append(
                        json.loads(line) | {"temporary files": sum(1 for _ in spare.rglob("*"))}
                    )
                    print(line.strip(), flush=True)
        if child.returncode or len(days) != options.days:
            raise SystemExit(
                f"the soak ended with status {child.returncode} after {len(days)} days"
            )
    rows = [
        [name, days[0][name], days[len(days) // 2][name], days[-1][name], _slope(days, name)]
        for name in days[0]
        if name != "day"
    ]
    header = ["figure", "first day", "middle day", "last day", "growth a day, second half"]
    return {"days": days}, [(f"{options.days} daily runs in one process", header, rows)]


def _slope(days: list[dict[str, Any]], name: str) -> float:
    """Least-squares growth a day over the second half, when caches are full."""
    values = np.array([day[name] for day in days[len(days) // 2 :]], dtype=float)
    return float(np.polyfit(np.arange(len(values)), values, 1)[0]) if len(values) > 1 else 0.0


def _work(days: int) -> None:
    """The soaking process: ``days`` daily runs, a line of JSON after each."""
    from rich.console import Console

    from orchestration.runs import run_days
    from orchestration.settings import Settings

    settings, me = Settings.from_env(), psutil.Process()
    console = Console(file=sys.stderr, quiet=True)
    for number in range(days):
        day = FIRST + timedelta(days=number)
        started = time.monotonic()
        run_days(settings, day, day, console)
        sizes = {f"{part}, MiB": _mebibytes(settings.home / part) for part in PARTS}
        figures = {
            "day": str(day),
            "seconds": time.monotonic() - started,
            "open files": me.num_fds(),
            "threads": me.num_threads(),
            "child processes": len(me.children(recursive=True)),
            "memory, MiB": me.memory_info().rss / 2**20,
            **sizes,
        }
        print(json.dumps(figures), flush=True)


def _mebibytes(path: Path) -> float:
    if path.is_file():
        return path.stat().st_size / 2**20
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20


if __name__ == "__main__":
    _work(int(sys.argv[1]))
