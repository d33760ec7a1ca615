"""Skill on the archive: models walked forward, QLIKE by horizon, Diebold-Mariano against HARX-cal, model confidence set.

Needs real data: an archive folder by `--archive` or ``VOLCAST_TEST_ARCHIVE``. Features come straight from its hourly bars, as in
the test that holds the baselines to published figures, not from a warehouse; a model that reads more than prices is not in
the default list. The GARCH family runs when it is named. The peer is HARX-cal, in the same run on the same days.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml.conformal import adjust
from ml.evaluation.aggregation import losses_by_day
from ml.evaluation.comparison import model_confidence_set, stepwise_superior
from ml.evaluation.conditional import encompassing, giacomini_white
from ml.evaluation.folds import WalkForward
from ml.evaluation.leaderboard import leaderboard
from ml.evaluation.outcomes import first_known_outcomes
from ml.evaluation.scores import score_frame
from ml.evaluation.segments import segments
from ml.evaluation.walk_forward import Step, walk_forward
from ml.forecasts import HORIZONS
from ml.models import MODELS, create
from ml.panel import Panel
from ml.worker import code_version
from tests.ml.archive_frames import COINS
from tests.ml.baselines.realised_frames import archive_bars, hourly_frame, measured_frames

BENCHMARK = "harx_cal"
NOT_BY_DEFAULT = ("ml.garch",)
NETWORK_WEEKS = 26
SUSPICIOUS = 0.85
"""A QLIKE ratio below this is a leak until shown otherwise."""

Tables = list[tuple[str, list[str], list[list[Any]]]]


def default_models() -> list[str]:
    return [name for name, entry in MODELS.items() if not entry.module.startswith(NOT_BY_DEFAULT)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--archive", type=Path, help="archive folder; default: VOLCAST_TEST_ARCHIVE"
    )
    parser.add_argument("--models", nargs="+", default=default_models(), choices=list(MODELS))
    parser.add_argument("--coins", nargs="+", default=list(COINS))
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 31))
    parser.add_argument("--window", type=int, default=1500, help="days of the rolling window")
    parser.add_argument("--refit-weeks", type=int, default=4)
    parser.add_argument(
        "--network-weeks", type=int, default=NETWORK_WEEKS, help="the same for networks"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep finished fits there and go on from them")
    parser.add_argument(
        "--segments", action="store_true", help="also by coin group, year, target day and regime"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    archive = options.archive or os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not archive:
        raise SystemExit("no archive: name its folder with --archive or VOLCAST_TEST_ARCHIVE")
    started = time.perf_counter()
    coins = tuple(dict.fromkeys(["BTC", *options.coins]))  # market terms need BTC
    bars = archive_bars(Path(archive), coins)
    daily, realized = measured_frames(bars, "archive")
    panel = Panel.from_frames(daily, realized, hourly_frame(bars, "archive"))
    names = list(dict.fromkeys([*options.models, BENCHMARK]))
    forecasts = pd.concat([_walk(panel, name, options) for name in names], ignore_index=True)
    forecasts = forecasts[forecasts["asset"].isin(options.coins)]
    scores = score_frame(forecasts, realized)
    outcomes = first_known_outcomes(realized, HORIZONS)
    adapted = score_frame(adjust(forecasts, outcomes), realized)
    board = leaderboard(scores, BENCHMARK)
    coverage = leaderboard(adapted, BENCHMARK).set_index(["horizon", "model"])
    coins_in_set = _coins_in_set(scores)
    rows = [
        {**_row(row, scores, coverage, names), **_beside(row, board, coins_in_set)}
        for row in board.to_dict("records")
    ]
    for row in rows:
        if row["ratio"] is not None and row["ratio"] < SUSPICIOUS:
            print(
                f"{row['model']} at {row['horizon']} days: {row['ratio']:.3f} of HARX-cal; look for a leak"
            )
    figures: dict[str, Any] = {
        "coins": list(options.coins),
        "from": str(options.first),
        "to": str(options.last),
        "window_days": options.window,
        "refit_weeks": options.refit_weeks,
        "network_weeks": options.network_weeks,
        "seed": options.seed,
        "code_version": code_version(),
        "data_version": panel.data_hash()[:12],
        "seconds": time.perf_counter() - started,
        "rows": rows,
    }
    header = [
        "h",
        "model",
        "QLIKE",
        "/ HARX-cal",
        "DM p",
        "StepM",
        "90 % MCS, coins",
        "80 % cover, adapted",
    ]
    title = f"skill, {options.first} to {options.last}, {len(options.coins)} coins"
    tables: Tables = [(title, header, [_printed(row) for row in rows])]
    if options.segments:
        table = _segment_table(scores, daily)
        figures["segments"] = table
        tables.append(
            (
                "QLIKE / HARX-cal by segment",
                ["kind", "segment", "h", "model", "ratio", "MCS"],
                table,
            )
        )
    return figures, tables


def _walk(panel: Panel, name: str, options: argparse.Namespace) -> pd.DataFrame:
    weeks = options.network_weeks if MODELS[name].uses_torch else options.refit_weeks
    rule = WalkForward(steps=7 * weeks, initial_train_size=options.window - 1)
    folds = list(rule.split(panel.row(options.last) + 1, panel.row(options.first)))
    started = time.perf_counter()

    def tell(step: Step) -> None:
        if step.done == step.total or step.done % 10 == 0:
            seconds = time.perf_counter() - started
            print(f"{name:<20} fit {step.done}/{step.total}  {seconds:6.1f} s", flush=True)

    result = walk_forward(
        panel,
        [name],
        folds,
        create,
        seed=options.seed,
        code_version=code_version(),
        folder=options.folder,
        workers=options.workers,
        progress=tell,
    )
    for reason, count in result.refusals["reason"].value_counts().items():
        print(f"{name}: {count} forecasts refused: {reason}")
    return result.forecasts


def _row(
    row: dict[Any, Any], scores: pd.DataFrame, coverage: pd.DataFrame, names: list[str]
) -> dict[str, Any]:
    """A printed row; None where the benchmark would be compared with itself."""
    model, horizon = str(row["model"]), int(row["horizon"])
    own = scores[scores["horizon"] == horizon]
    adapted = coverage.loc[(horizon, model)]
    compared: dict[str, Any] = dict.fromkeys(("gw_p", "adds_p", "step_m"))
    if model != BENCHMARK:
        daily = losses_by_day(own[own["model"].isin([model, BENCHMARK])])
        compared["gw_p"] = giacomini_white(daily[model], daily[BENCHMARK], horizon).p_value
        compared["adds_p"] = _adds(own, model, horizon)
        everyone = losses_by_day(own[own["model"].isin(names)])
        better = stepwise_superior(everyone[BENCHMARK], everyone.drop(columns=BENCHMARK), horizon)
        compared["step_m"] = "better" if model in better else ""
    return {
        "horizon": horizon,
        "model": model,
        "forecasts": int(row["forecasts"]),
        "qlike": float(row["qlike"]),
        "ratio": float(row["qlike_ratio_harx_cal"]),
        "dm": _number(row["dm_statistic"]),
        "dm_p": _number(row["dm_p_value"]),
        **compared,
        "in_mcs_90": None if pd.isna(row["in_mcs_90"]) else bool(row["in_mcs_90"]),
        "coverage_80": float(row["coverage_80"]),
        "coverage_80_adapted": float(adapted["coverage_80"]),
        "coverage_98": float(row["coverage_98"]),
        "coverage_98_adapted": float(adapted["coverage_98"]),
    }


def _coins_in_set(scores: pd.DataFrame) -> dict[tuple[int, str], int]:
    """(horizon, model) -> how many coins have the model in their own 90 % confidence set."""
    found: dict[tuple[int, str], int] = {}
    for (horizon, _), own in scores.groupby(["horizon", "asset"], observed=True):
        p_values = model_confidence_set(losses_by_day(own), int(horizon))
        for model, p in p_values.items():
            key = int(horizon), str(model)
            found[key] = found.get(key, 0) + int(p >= 0.1)
    return found


def _beside(
    row: dict[Any, Any], board: pd.DataFrame, coins_in_set: dict[tuple[int, str], int]
) -> dict[str, Any]:
    """The ratio to log-HAR, where it is among the models, and the number of coins whose confidence set has the model."""
    key = int(row["horizon"]), str(row["model"])
    log_har = board[(board["horizon"] == key[0]) & (board["model"] == "log_har")]["qlike"]
    return {
        "ratio_log_har": None if log_har.empty else float(row["qlike"] / log_har.iloc[0]),
        "coins_in_mcs_90": coins_in_set.get(key, 0),
    }


def _printed(row: dict[str, Any]) -> list[Any]:
    """What fits a terminal; the JSON has the rest."""
    texts = {True: "yes", False: "no", None: ""}
    return [
        row["horizon"],
        row["model"],
        f"{row['qlike']:.4f}",
        f"{row['ratio']:.3f}",
        "" if row["dm_p"] is None else f"{row['dm_p']:.4f}",
        row["step_m"] or "",
        f"{texts[row['in_mcs_90']]}, {row['coins_in_mcs_90']}",
        f"{100 * row['coverage_80']:.1f}, {100 * row['coverage_80_adapted']:.1f}",
    ]


def _adds(scores: pd.DataFrame, model: str, horizon: int) -> float:
    """p-value of: the model adds nothing to HARX-cal, on log variance without each coin's mean error."""
    pair = scores[scores["model"].isin([model, BENCHMARK])]
    pair = pair.assign(error=np.log(pair["realized_variance"] / pair["variance"]))
    pair["error"] -= pair.groupby(["model", "asset"])["error"].transform("mean")
    wide = {
        name: own.pivot(index="as_of", columns="asset", values="error")
        for name, own in pair.groupby("model")
    }
    ours, rival = wide[BENCHMARK].align(wide[model], join="inner")
    return encompassing(ours, rival, horizon).p_value


def _segment_table(scores: pd.DataFrame, daily: pd.DataFrame) -> list[list[Any]]:
    board = leaderboard(
        scores, BENCHMARK, segments=segments(scores, daily[["asset", "as_of", "rv_22d"]])
    )
    board = board[board["segment_kind"] != "all"]
    return [
        [row.segment_kind, row.segment, int(row.horizon), row.model, float(row.qlike_ratio_harx_cal),
         "" if pd.isna(row.in_mcs_90) else bool(row.in_mcs_90)]
        for row in board.itertuples()
    ]  # fmt: skip


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
