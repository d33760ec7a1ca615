"""`python -m benchmarks NAME [--json PATH]`: runs one benchmark, prints its table and writes its figures as JSON.

A speed is a ratio against a named peer that runs beside ours in the same run; the machine is named with every result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

BENCHMARKS = {
    "line": "the main job, end to end: wall time, peak memory, time per step, leaderboard",
    "har": "walk-forward HARX-cal fits against statsmodels OLS, equal forecasts",
    "skill": "forecast skill on real data: QLIKE walked forward, against HARX-cal, with DM and MCS",
    "leverage": "does uncertainty rank errors; advised leverage against constant and EWMA leverage, on real data",
    "garch": "GARCH-t and GJR-t fits against arch, cold and walk-forward, at equal likelihood",
    "attention": "time and memory of every attention kernel by sequence length, exponents, distance from softmax",
    "latency": "one attention forecast from arrays to quantiles, and one token's update: p50 and p99",
    "ablation": "what each modality, scale and component of attention is worth on real data, with intervals",
    "audit": "verdicts of the audit on a planted market: fitted, random and exchanged attention; its cost",
    "training": "samples per second of training against neuralforecast and pytorch-forecasting, equal size",
    "attention_sql": "a month of attention of 20 coins read by SQL, out of two years of it",
    "nowcast": "forecasts from the hours of the running day on real data, against the daily forecast that they update",
    "covariance": "HAR-DRD against constant and EWMA correlations on real data, and coverage of the mixture VaR",
    "tails": "extreme quantiles, probabilities of rare days, regimes and events on real data, out of sample",
    "spurious": "how often the checks of the spurious-correlation report flag what is sound, and find what is not",
    "pipeline": "the daily run of ten coins: time, memory and share of orchestration, by stage",
    "scale": "10 to 200 coins and hourly to 5-minute bars: time and memory by stage, with fitted exponents",
    "fanout": "fits on 1, 2 and 4 workers, child processes and Ray jobs, by model family: speed-up at equal models",
    "soak": "daily runs back to back in one process: open files, threads, memory and disk after each",
    "load": "200 coins and five years of 5-minute bars through the line: time, memory, disk, SQL readers",
    "lake": "readers and writers of the live tables at once: a lake against the file",
    "ingest": "years of 5-minute bars into the warehouse, killed on the way, against paged fetch_ohlcv",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="\n".join(f"{name:<14} {text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    known, rest = parser.parse_known_args()
    module = importlib.import_module(f"benchmarks.{known.name}")
    options = argparse.ArgumentParser(prog=f"python -m benchmarks {known.name}")
    module.add_arguments(options)
    figures, tables = module.run(options.parse_args(rest))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console = Console()
    for title, header, rows in tables:
        table = Table(*header, title=f"{title} ({machine})", title_justify="left")
        for row in rows:
            table.add_row(
                *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)
            )
        console.print(table)
    path = known.json or Path("benchmarks") / "results" / f"{known.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"benchmark": known.name, "machine": machine, **figures}, indent=1))
    console.print(f"figures: {path}")


if __name__ == "__main__":
    main()
