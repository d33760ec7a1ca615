"""The main job, end to end, in a process of its own, as `volcast backfill` runs it.

Settings come from ``VOLCAST_*`` as always: with none it is the simulated market. There is no peer: no other tool does this job.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

Tables = list[tuple[str, list[str], list[list[Any]]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", help="first as_of; default: the demo's")
    parser.add_argument("--to", dest="last", help="last as_of; default: the demo's")
    parser.add_argument(
        "--home", type=Path, help="keep the home there; default: a temporary folder"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    with tempfile.TemporaryDirectory() as temporary:
        home = (options.home or Path(temporary) / "home").resolve()
        environment = {**os.environ, "VOLCAST_HOME": str(home)}
        command = [sys.executable, "-m", "orchestration.cli"]
        command += (
            ["backfill", "--from", options.first, "--to", options.last]
            if options.first
            else ["demo"]
        )
        first = _timed(command, environment)
        again = _timed(command, environment)
        steps = _steps(home)
        leaderboard = _leaderboard(home)
        size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 2**20
    figures: dict[str, Any] = {
        "wall_seconds": first[0],
        "peak_megabytes": first[1],
        "second_run_seconds": again[0],
        "home_megabytes": size,
        "steps": dict(steps),
        "leaderboard": leaderboard,
    }
    summary = [
        ["first run, s", first[0]],
        ["peak memory of all its processes, MiB", first[1]],
        ["the same run again, s", again[0]],
        ["home on disk, MiB", size],
    ]
    header = [
        "horizon",
        "model",
        "forecasts",
        "QLIKE",
        "QLIKE / HARX-cal",
        "DM p",
        "in 90 % MCS",
        "80 % coverage",
    ]
    return figures, [
        ("main job", ["figure", "value"], summary),
        ("seconds per step, first run", ["step", "seconds"], [list(item) for item in steps]),
        ("leaderboard", header, leaderboard),
    ]


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak MiB (sum over the process tree, sampled)."""
    peak = 0.0
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    watched = psutil.Process(process.pid)
    stop = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.2):
            total = 0
            try:
                for member in [watched, *watched.children(recursive=True)]:
                    total += member.memory_info().rss
            except psutil.Error:
                continue
            peak = max(peak, total / 2**20)

    sampler = threading.Thread(target=sample)
    sampler.start()
    code = process.wait()
    wall = time.monotonic() - started
    stop.set()
    sampler.join()
    if code != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {code}")
    return wall, peak


def _steps(home: Path) -> list[tuple[str, float]]:
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        oldest = min(instance.get_run_records(), key=lambda record: record.create_timestamp)
        stats = instance.get_run_step_stats(oldest.dagster_run.run_id)
    return sorted(
        ((item.step_key, float((item.end_time or 0) - (item.start_time or 0))) for item in stats),
        key=lambda pair: -pair[1],
    )


def _leaderboard(home: Path) -> list[list[Any]]:
    from orchestration.settings import Settings
    from orchestration.warehouse import read_published

    with read_published(Settings.from_env({**os.environ, "VOLCAST_HOME": str(home)})) as connection:
        rows = connection.execute(
            "SELECT horizon, model, forecasts, qlike, qlike_ratio_harx_cal, dm_p_value, in_mcs_90, coverage_80 "
            "FROM evaluation.leaderboard WHERE as_of = (SELECT max(as_of) FROM evaluation.leaderboard) AND segment_kind = 'all' ORDER BY horizon, qlike"
        ).fetchall()
    return [list(row) for row in rows]
