"""The hyper-parameter study of the attention model: started by hand, with a budget, off the daily path.

In: features up to the newest refit date before the as_of, open gates. Out: rows of ``models.studies``, one per trial. A study that is run again goes on
where it was. Its winner is proposed in its row; VOLCAST_ATTENTION_CONFIG adopts it. Never: a forecast, a score, or any day after its origins.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from ml.worker import code_version
from orchestration.artifact_store import address_of
from orchestration.assets.common import GPU_POOL, key_of, output_options, result
from orchestration.assets.training import fit_config, history_days, write_training_snapshot
from orchestration.gates import require_open_gates
from orchestration.panels import read_features
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.settings import PREFIX, Settings
from orchestration.warehouse import replace_rows
from orchestration.workers import Shard, WorkerFailed, fan_out

STUDY_MODULE = "ml.attention.study"
BEST_SHOWN = 10


@dg.asset(
    **output_options(
        "models.studies",
        "models",
        kinds={"python", "pytorch", "optuna"},
        deps=[key_of("features.daily"), key_of("features.hourly"), key_of("features.realized")],
        pool=GPU_POOL,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=365)),
    )
)
def studies(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from ml.attention.study import StudySpec, proposal, read_trials

    _, as_of = day_range(context)
    settings, warehouse = platform.settings, platform.warehouse
    origins = study_origins(settings, as_of)
    if origins[0] <= platform.source.first_day():
        raise dg.Failure(
            f"the first of {len(origins)} origins is {origins[0]}, the data begins on {platform.source.first_day()}:"
            f" lower {PREFIX}STUDY_ORIGINS or choose a later day",
            allow_retries=False,
        )
    history = (origins[-1] - origins[0]).days + settings.train_window_days
    history += history_days([("attention", fit_config(settings, "attention"))])
    with warehouse.read() as connection:
        require_open_gates(connection, [as_of])
        frames = read_features(connection, origins[-1], history)
    folder, snapshot_hash = write_training_snapshot(settings, frames)
    name = study_name(settings, origins, snapshot_hash)
    spec = StudySpec(
        name=name,
        snapshot=folder,
        snapshot_sha256=snapshot_hash,
        output=address_of(settings, "studies", name),
        device=settings.device,
        config=fit_config(settings, "attention"),
        origins=origins,
        seed=settings.seed,
        trials=settings.study_trials,
        seconds=settings.study_seconds,
    )
    context.log.info(f"study {name}: {spec.trials} trials, {spec.seconds:g} s, origins {origins}")
    crash = run_study(context, settings, spec, address_of(settings, "specs", f"{name}.json"))
    trials = read_trials(spec)  # of a run that died, those that it finished
    if trials:
        rows = study_rows(trials, spec, frames.source, snapshot_hash, context.run.run_id)
        for attempt in warehouse.writes():
            with attempt as connection:
                replace_rows(connection, "models.studies", rows, on=["study"])
        warehouse.publish()  # no other step of this job does
    if crash is not None:
        raise dg.Failure(
            f"the study stopped after {len(trials)} trials: {crash}", allow_retries=False
        )
    return result(
        platform,
        len(trials),
        study=name,
        trials=dg.MetadataValue.md(trials_markdown(trials, settings)),
        proposal=proposal(trials).reason,
        seconds=round(sum(trial.seconds for trial in trials), 1),
    )


def run_study(context: Any, settings: Settings, spec: Any, address: str) -> str | None:
    """Go on with a study until its budget is used: by one worker, or by several, which compute the values of its trials side by side.

    Why a worker ended before it was done, None where none did. The trials are the same either way.
    """
    if settings.workers_at_once == 1:
        shard = Shard(STUDY_MODULE, spec.model_dump(mode="json"), address, "trial", needs_gpu=settings.device != "cpu")  # fmt: skip
        return fan_out(context, settings, [shard])[0].problem
    from ml.attention.study_rounds import Question, QuestionsSpec, search_in_rounds

    def compute(questions: list[Question]) -> None:
        count = min(len(questions), settings.workers_at_once)
        shards = []
        for place in range(count):
            part = QuestionsSpec(study=spec, questions=tuple(questions[place::count]))
            own = f"{address.removesuffix('.json')}-{part.questions[0].key()}.json"
            shards.append(
                Shard(STUDY_MODULE, part.model_dump(mode="json"), own, "value", f"{place + 1}/{count}", settings.device != "cpu")
            )  # fmt: skip
        problems = [ended.problem for ended in fan_out(context, settings, shards) if ended.problem]
        if problems:
            raise WorkerFailed("; ".join(problems))

    def tell(trial: Any) -> None:
        shown = "" if trial.value is None else f" {trial.value:.4f}"
        context.log.info(f"trial {trial.number} {trial.state}{shown} {trial.detail}")

    try:
        search_in_rounds(spec, compute, tell)
    except WorkerFailed as error:
        return str(error)
    return None


def study_origins(settings: Settings, as_of: date) -> tuple[date, ...]:
    """Refit dates do for the newest origin, so that the same study goes on for weeks; the others lie a purged validation block apart."""
    from ml.attention.config import AttentionConfig
    from ml.attention.study import purged_origins

    config = AttentionConfig.from_mapping(fit_config(settings, "attention"))
    return purged_origins(
        settings.trained_as_of("attention", as_of + timedelta(days=1)),
        settings.study_origins,
        settings.train_window_days,
        config.selection.validation_share,
    )


def study_name(settings: Settings, origins: Sequence[date], snapshot_hash: str) -> str:
    """'attention-<newest origin>-<8 hex>': the same for the same data, origins, configuration, seed and code."""
    parts = [
        [str(origin) for origin in origins],
        snapshot_hash,
        fit_config(settings, "attention"),
        settings.seed,
        code_version(),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    return f"attention-{origins[-1]}-{digest}"


def study_rows(
    trials: Sequence[Any], spec: Any, source: str, snapshot_hash: str, run_id: str
) -> pd.DataFrame:
    """Rows of ``models.studies``; the proposal's reason stands in the row that it speaks of, trial 0's where nothing is proposed."""
    from ml.attention.study import proposal

    found, now = proposal(trials), datetime.now(UTC)
    return pd.DataFrame(
        [
            {
                "study": spec.name,
                "trial": trial.number,
                "source": source,
                "origins": ",".join(map(str, spec.origins)),
                "parameters": json.dumps(trial.parameters, sort_keys=True),
                "value": trial.value,
                "origin_values": json.dumps(trial.values),
                "state": trial.state,
                "detail": trial.detail,
                "seconds": trial.seconds,
                "proposed": trial.number == found.number,
                "reason": found.reason if trial.number == (found.number or 0) else "",
                "seed": spec.seed,
                "code_version": code_version(),
                "snapshot_hash": snapshot_hash,
                "run_id": run_id,
                "created_at": now,
            }
            for trial in trials
        ]
    )


def trials_markdown(trials: Sequence[Any], settings: Settings) -> str:
    """The best complete trials and today's, and the setting that adopts the proposed one."""
    from ml.attention.study import overrides, proposal

    config = fit_config(settings, "attention")
    complete = sorted(
        (trial for trial in trials if trial.value is not None),
        key=lambda trial: (trial.value, trial.number),
    )
    shown = complete[:BEST_SHOWN] + [t for t in complete[BEST_SHOWN:] if t.number == 0]
    lines = ["| trial | QLIKE / anchor | by origin | changes |", "|---|---|---|---|"]
    for trial in shown:
        values = " ".join(f"{value:.4f}" for value in trial.values)
        changes = json.dumps(overrides(trial, config)) if trial.number else "today's configuration"
        lines.append(f"| {trial.number} | {trial.value:.4f} | {values} | `{changes}` |")
    found = proposal(trials)
    lines += ["", found.reason]
    if found.number is not None:
        chosen = next(trial for trial in trials if trial.number == found.number)
        adopted = {**settings.attention_config, **overrides(chosen, config)}
        lines += ["", f"To adopt it: `{PREFIX}ATTENTION_CONFIG='{json.dumps(adopted)}'`"]
    return "\n".join(lines)
