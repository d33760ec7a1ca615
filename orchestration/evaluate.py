"""`volcast evaluate`: models walked forward over the feature tables, judged, and written to evaluation.walk_forward*.

In: the warehouse's features as known at the last day, and a plan. Out: one row of ``evaluation.walk_forward`` with its scores, leaderboard and
tests. Never touches the forecasts that were published. A finished fit is kept under the home, so that a killed evaluation goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ml.conformal import adjust
from ml.evaluation.folds import WalkForward, fits
from ml.evaluation.leaderboard import leaderboard
from ml.evaluation.outcomes import first_known_outcomes
from ml.evaluation.scores import score_frame
from ml.evaluation.segments import segments
from ml.evaluation.verdicts import comparison_tests
from ml.evaluation.walk_forward import Step, WalkForwardResult, walk_forward
from ml.forecasts import HORIZONS
from ml.models import MODELS, create
from ml.worker import code_version
from orchestration.artifact_store import address_of
from orchestration.assets.evaluation import BENCHMARK, segment_features
from orchestration.assets.training import fit_config, history_days, write_training_snapshot
from orchestration.panels import FeatureFrames, read_features
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse, bump_revision, replace_rows

FEWEST_TRAINING_DAYS = 90


@dataclass(frozen=True)
class Plan:
    """What is evaluated: models, forecast days, weeks between fits, length of the training window."""

    models: tuple[str, ...]
    first: date
    last: date
    refit_weeks: int
    window_days: int
    expanding: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Evaluation:
    """What was written: the id, and the rows of the leaderboard over all coins and days."""

    evaluation_id: str
    board: pd.DataFrame


def evaluate(settings: Settings, plan: Plan, console: Console) -> Evaluation:
    """Walk forward, judge and store. Raises ValueError for a bad plan and WalkForwardError for a fit that failed."""
    _check(plan)
    warehouse, started = Warehouse(settings), time.monotonic()
    names = tuple(dict.fromkeys((*plan.models, BENCHMARK)))
    with warehouse.read() as connection:
        before = history_days((name, fit_config(settings, name)) for name in names)
        history = (plan.last - plan.first).days + plan.window_days + before
        hourly = any(MODELS[name].reads_hourly for name in names)
        frames = read_features(
            connection, plan.last, None if plan.expanding else history, hourly=hourly
        )
        regimes = segment_features(connection, plan.last)
    walk = _walk(settings, plan, names, frames, console)
    forecasts = adjust(
        walk.forecasts.drop(columns=["calibrated"]), first_known_outcomes(frames.realized, HORIZONS)
    )
    scores = score_frame(forecasts, frames.realized).assign(
        code_version=code_version(), data_version=walk.data_version
    )
    if scores.empty:
        raise ValueError(
            f"{plan.first} to {plan.last}: no horizon is over, or no model gave a forecast ({len(walk.refusals)} refused)"
        )
    identity = _identity(settings, plan, names, walk.data_version)
    head = {
        "evaluation_id": identity,
        "source": frames.source,
        "first_as_of": plan.first,
        "last_as_of": plan.last,
        "models": ",".join(names),
        "window_days": plan.window_days,
        "expanding": plan.expanding,
        "refit_weeks": plan.refit_weeks,
        "seed": settings.seed,
        "code_version": code_version(),
        "data_version": walk.data_version,
        "forecasts": len(walk.forecasts),
        "refusals": len(walk.refusals),
        "seconds": time.monotonic() - started,
        "created_at": datetime.now(UTC),
    }
    with console.status("judging"):
        board = leaderboard(scores, BENCHMARK, plan.last, segments(scores, regimes))
        tests = comparison_tests(scores, BENCHMARK, plan.last)
        tests = tests.assign(benchmark=tests["benchmark"].fillna(""))
    scores = scores.drop(columns=["code_version", "data_version"])
    for attempt in warehouse.writes():
        with attempt as connection:
            for table, rows in (
                ("evaluation.walk_forward", pd.DataFrame([head])),
                ("evaluation.walk_forward_scores", scores.assign(evaluation_id=identity)),
                ("evaluation.walk_forward_leaderboard", board.assign(evaluation_id=identity)),
                ("evaluation.walk_forward_tests", tests.assign(evaluation_id=identity)),
            ):
                replace_rows(connection, table, rows, on=["evaluation_id"])
            bump_revision(connection)
    warehouse.publish()
    return Evaluation(identity, board[board["segment_kind"] == "all"].reset_index(drop=True))


def _walk(
    settings: Settings,
    plan: Plan,
    names: tuple[str, ...],
    frames: FeatureFrames,
    console: Console,
) -> WalkForwardResult:
    panel = frames.panel
    first = panel.row(plan.first)
    if first < FEWEST_TRAINING_DAYS:
        raise ValueError(
            f"{plan.first}: {first} days of features before it, expected at least {FEWEST_TRAINING_DAYS}"
        )
    rule = WalkForward(
        steps=7 * plan.refit_weeks,
        initial_train_size=min(plan.window_days, first) - 1,
        fixed_train_size=not plan.expanding,
    )
    folds = list(rule.split(panel.row(plan.last) + 1, first))
    configs = {}
    for name in names:
        config = fit_config(settings, name)
        del config["window_days"]  # the folds say it
        configs[name] = config
    device = settings.device if settings.device != "auto" else "cpu"
    folder = address_of(settings, "walk_forward")
    if settings.workers != "subprocess" or settings.workers_at_once > 1:
        _fit_on_workers(settings, plan, frames, rule, first, configs, device, folder)
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} fits"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("walking forward", total=len(folds) * len(names))

        def tell(step: Step) -> None:
            kept = " (kept)" if step.reused else ""
            bars.update(
                task, completed=step.done, description=f"{step.model} {step.trained_as_of}{kept}"
            )

        return walk_forward(
            panel,
            configs,
            folds,
            create,
            seed=settings.seed,
            code_version=code_version(),
            folder=folder,
            workers=plan.workers,
            minimum_rows=FEWEST_TRAINING_DAYS,
            device=device,
            progress=tell,
        )


def _fit_on_workers(
    settings: Settings,
    plan: Plan,
    frames: FeatureFrames,
    rule: WalkForward,
    first: int,
    configs: dict[str, dict[str, Any]],
    device: str,
    folder: str,
) -> None:
    """Have workers make the fits into ``folder``, where the walk finds them. Raises WorkerFailed where one was lost for good, or a fit failed."""
    from ml.walk_worker import WalkSpec
    from orchestration.workers import Shard, WorkerFailed
    from orchestration.workers.own_run import fan_out_in_own_run
    from orchestration.workers.plan import split

    snapshot, digest = write_training_snapshot(settings, frames)
    rows = frames.panel.row(plan.last) + 1
    folds = fits(rule.split(rows, first))
    wanted = [
        {"model": name, "trained_as_of": str(number), "window_days": plan.window_days}
        for name in configs
        for number in range(len(folds))
    ]
    shards = []
    parts = split({"device": device, "fits": wanted}, settings.workers_at_once)
    for number, (part, needs_gpu, seconds) in enumerate(parts, start=1):
        spec = WalkSpec(
            snapshot=snapshot,
            snapshot_sha256=digest,
            folder=folder,
            configs=configs,
            rule=asdict(rule),
            rows=rows,
            first=first,
            tasks=tuple((fit["model"], int(fit["trained_as_of"])) for fit in part["fits"]),
            seed=settings.seed,
            device=device,
            minimum_rows=FEWEST_TRAINING_DAYS,
            code_version=code_version(),
        )
        address = address_of(settings, "specs", f"walk-{spec.identity()}.json")
        name = f"{number}/{len(parts)}"
        shards.append(Shard("ml.walk_worker", spec.model_dump(mode="json"), address, "walk", name, needs_gpu, seconds))  # fmt: skip
    ended = fan_out_in_own_run(settings, "walk_forward", shards)
    failed = [
        said["status"] for end in ended for said in end.messages if said["status"] != "ok"
    ] + [end.problem for end in ended if end.problem]
    if failed:
        raise WorkerFailed(f"{len(failed)} workers or fits failed: {'; '.join(failed)}")


def _check(plan: Plan) -> None:
    if plan.first > plan.last:
        raise ValueError(
            f"from {plan.first} to {plan.last}: expected the first day not to be after the last"
        )
    for name in plan.models:
        if name not in MODELS:
            raise ValueError(f"model {name!r}: expected one of {', '.join(MODELS)}")


def _identity(settings: Settings, plan: Plan, names: tuple[str, ...], data_version: str) -> str:
    """The same plan on the same data and code is the same evaluation, and is written over."""
    parts = {
        **asdict(plan),
        "models": names,
        "seed": settings.seed,
        "code": code_version(),
        "data": data_version,
    }
    del parts["workers"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
