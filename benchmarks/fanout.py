"""Fits of one spec on 1, 2 and 4 workers, child processes and jobs of a local Ray cluster, by model family: seconds, and the ratio to one worker in the same run.

The models must be the same bytes at every width. More workers than cores gain nothing: the machine is named with the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.settings import Settings
from orchestration.workers import plan, run_worker

FAMILIES = {
    "baselines": ("log_har", "harx_cal", "har_pooled"),
    "garch": ("garch_t", "gjr_t", "egarch_t"),
    "panel": ("har_panel", "combination_equal"),
    "attention": ("attention",),
}
CONFIG = {"attention": {"epochs": 3, "n_seeds": 1}}
WINDOW_DAYS = 700
WIDTHS = (1, 2, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coins", type=int, default=20)
    parser.add_argument("--folds", type=int, default=4, help="training days, a week apart")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--ray", action="store_true", help="a local Ray cluster beside the processes")  # fmt: skip


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    from tests.services import ray_cluster

    plan.WORTH_A_START = 1.0  # made-up markets are small: every width is to be used
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        snapshot, coins, last = _market(root / "snapshot", options.coins)
        kinds: list[tuple[str, dict[str, Any]]] = [("subprocess", {})]
        if options.ray:
            cluster = stack.enter_context(ray_cluster.running(nodes=max(WIDTHS)))
            kinds.append(("ray", {"ray_address": cluster.address, "worker_memory": "500MB"}))
        for family in options.families.split(","):
            days = [last - timedelta(days=7 * fold) for fold in range(options.folds)]
            fits = [_fit(model, day) for day in days for model in FAMILIES[family]]
            expected: list[str] | None = None
            for kind, more in kinds:
                alone = 0.0
                for width in WIDTHS:
                    settings = Settings(
                        home=root / "home", workers=kind, workers_at_once=width, device="cpu", **more
                    )  # fmt: skip
                    spec = {
                        "snapshot": snapshot,
                        "output": str(root / family / f"{kind}-{width}"),
                        "device": "cpu",
                        "fits": fits,
                    }
                    seconds, hashes, shards = _measure(settings, spec, coins)
                    expected = expected or hashes
                    assert hashes == expected, f"{family} on {width} {kind}: other models"
                    alone = alone or seconds
                    rows.append([family, len(fits), kind, width, shards, seconds, alone / seconds])
    header = ["family", "fits", "workers", "at once", "shards", "seconds", "speed-up"]
    figures = {"coins": options.coins, "rows": [dict(zip(header, row, strict=True)) for row in rows]}  # fmt: skip
    return figures, [(f"{options.coins} coins, {WINDOW_DAYS} days, equal models", header, rows)]


def _fit(model: str, day: date) -> dict[str, Any]:
    config = {"window_days": WINDOW_DAYS, **CONFIG.get(model, {})}
    return {"model": model, "trained_as_of": day.isoformat(), "window_days": WINDOW_DAYS, "seed": 7, "config": config}  # fmt: skip


def _market(folder: Path, count: int) -> tuple[str, list[str], date]:
    import pandas as pd

    from ml.snapshot import write_snapshot
    from tests.ml.archive_frames import made_up_bars
    from tests.ml.baselines.realised_frames import hourly_frame, measured_frames

    coins = [
        "BTC",
        *(f"C{number:03d}" for number in range(1, count)),
    ]  # the market's features want BTC
    bars = made_up_bars(tuple(coins), days=WINDOW_DAYS + 160)
    daily, realized = measured_frames(bars, "simulated")
    last = pd.to_datetime(daily["as_of"]).max().date() - timedelta(days=1)
    write_snapshot(str(folder), daily, realized, hourly_frame(bars, "simulated"), "simulated", last)
    return str(folder), coins, last


def _measure(
    settings: Settings, spec: dict[str, Any], coins: list[str]
) -> tuple[float, list[str], int]:
    """Seconds of the whole fan-out, hashes of the models in the spec's order, and how many shards there were."""
    found: list[Any] = []
    ended: list[Any] = []

    def work(context) -> None:  # type: ignore[no-untyped-def]
        address = f"{spec['output']}/specs/all.json"
        found.extend(run_worker(context, settings, spec, address, coins, ended.extend))

    job = dg.GraphDefinition(name="fanout", node_defs=[dg.op(name="fits")(work)]).to_job()
    started = time.perf_counter()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance)
    seconds = time.perf_counter() - started
    failed = [one["status"] for one in found if one["status"] != "ok"]
    if failed:
        raise RuntimeError(f"{len(failed)} fits failed: {failed[0]}")
    return seconds, [str(one["artifact_hash"]) for one in found], len(ended)
