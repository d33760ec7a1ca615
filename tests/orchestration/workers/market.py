"""A snapshot of a small market, a spec of many fits on it, and a run of them in a Dagster asset."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from ml.snapshot import write_snapshot
from orchestration.settings import Settings
from orchestration.workers import Ended, Shard, run_worker
from tests.ml.archive_frames import made_up_bars
from tests.ml.baselines.realised_frames import hourly_frame, measured_frames

COINS = ("ADA", "BTC", "ETH", "LTC")
WINDOW_DAYS = 300


def write_market(folder: str) -> str:
    bars = made_up_bars(COINS, days=420)
    daily, realized = measured_frames(bars, "simulated")
    hourly = hourly_frame(bars, "simulated")
    last = pd.to_datetime(daily["as_of"]).max().date()
    write_snapshot(folder, daily, realized, hourly, "simulated", last)
    return folder


def fit(model: str, day: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "trained_as_of": day,
        "window_days": WINDOW_DAYS,
        "seed": 3,
        "config": {"window_days": WINDOW_DAYS},
        **more,
    }


def attention(day: str, **more: Any) -> dict[str, Any]:
    config = {"window_days": WINDOW_DAYS, "epochs": 1, "n_seeds": 1}
    return fit("attention", day, **{"config": config, **more})


CHEAP = tuple(
    fit(model, day)
    for day in ("2022-02-06", "2022-02-13")
    for model in ("random_walk", "garch_t", "har_pooled")
)


def spec_of(snapshot: str, output: Path | str, fits: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    fits = copy.deepcopy(fits)
    return {"snapshot": snapshot, "output": str(output), "device": "cpu", "fits": list(fits)}


def run_in_asset(
    settings: Settings, spec: dict[str, Any], coins: tuple[str, ...] | None = COINS
) -> tuple[list[dict[str, Any]], list[tuple[Shard, Ended]], list[str]]:
    """Results, how each worker ended, and the lines of the event log; what the fan-out raises is raised here."""
    found: list[Any] = []
    workers: list[tuple[Shard, Ended]] = []

    @dg.asset
    def training(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        address = f"{spec['output']}/specs/all.json"
        found.extend(run_worker(context, settings, spec, address, coins, workers.extend))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([training], instance=instance)
        lines = [entry.user_message for entry in instance.all_logs(done.run_id)]
    return found, workers, lines


def same(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must not depend on where and how the fits were made."""
    changing = ("seconds", "reused", "uri")
    return [{key: value for key, value in one.items() if key not in changing} for one in results]


Run = Callable[..., tuple[list[dict[str, Any]], list[tuple[Shard, Ended]], list[str]]]
