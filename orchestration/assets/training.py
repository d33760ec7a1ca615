"""Model versions: the fits that the days of a run need and the registry does not have yet.

In: features up to each refit date, open gates. Out: artefacts made by the worker and rows of ``models.registry``. The refit dates hang on the
calendar, so daily runs and a backfill train the same versions; a version that exists is not trained again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
import pandas as pd

from ml.model import lookback_days
from ml.models import MODELS, model_class
from ml.models import names as model_names
from ml.snapshot import write_snapshot
from ml.worker import code_version
from orchestration.artifact_store import address_of, artifact_place, name_in_store
from orchestration.assets.common import GPU_POOL, key_of, output_options, result
from orchestration.champion import champion_on, is_noted, note_champion_setting, set_statuses
from orchestration.curves import curves_json, curves_markdown
from orchestration.gates import SUITES, require_open_gates
from orchestration.ledger import LEDGERED, withdraw_rows
from orchestration.panels import FeatureFrames, read_features
from orchestration.partitions import day_range, days_of
from orchestration.platform import Platform
from orchestration.settings import Settings
from orchestration.versions import read_retrains, trained_on
from orchestration.warehouse import replace_rows
from orchestration.workers import Ended, Shard, run_worker

ATTENTION_ANCHOR = "har_panel"
MOST_FEATURE_LAG_DAYS = 120
"""Days before the training window that are always read; a model that looks further back gets them."""


def history_days(fits: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
    """Days before the training window that these fits, as (model, config), read."""
    own = [lookback_days(model_class(model), config) for model, config in fits]
    return max(MOST_FEATURE_LAG_DAYS, *own, 0)


TABLES_BY_MODEL = (
    "forecasts.volatility",
    "forecasts.model_quantiles",
    "forecasts.refusals",
    "forecasts.attention_weights",
    "forecasts.explanations",
    "forecasts.attention_audits",
    "forecasts.token_attributions",
    "forecasts.tails",
    "forecasts.portfolio_risk",
    "forecasts.portfolio_components",
    "evaluation.scores",
)
"""What a day's rows of one model are withdrawn from when another version is to forecast the day."""


class TrainingConfig(dg.Config):
    """Launchpad options of a training run."""

    force: bool = False
    """Train the due versions again even if the registry has them; the new ones get versions of their own if anything changed."""
    for_next_day: bool = False
    """Train what the day after the range needs: a weekly retrain does it ahead of the daily run."""


def fit_config(settings: Settings, model: str) -> dict[str, Any]:
    """Configuration of a model's fit, as the worker reads it and the registry keeps it."""
    config: dict[str, Any] = {"window_days": settings.train_window_days}
    if model == "attention":
        # The anchor by name: a version that stands on another one, from before there were several, does not count as made.
        config |= {"epochs": settings.attention_epochs, "anchor": ATTENTION_ANCHOR}
        config |= settings.attention_config
        if settings.attention_warm_start:
            config["warm_start"] = True
    return config


def fits_due(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    days: Sequence[date],
    first_day: date,
    *,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Fits that the forecasts of ``days`` need: one for each model and refit date, of the grid or decided by drift, less those
    in the registry."""
    have: set[tuple[str, str, str]] = set()
    if not force:
        have = {
            (str(model), str(trained), json.dumps(json.loads(config), sort_keys=True))
            for model, trained, config in connection.execute(
                "SELECT model, trained_as_of, config FROM models.registry"
            ).fetchall()
        }
    due = []
    retrains = read_retrains(connection)
    for model in [name for name in model_names() if name in settings.models]:
        config = fit_config(settings, model)
        for trained in sorted({trained_on(settings, retrains, model, day) for day in days}):
            if (
                trained > first_day
                and (model, trained.isoformat(), json.dumps(config, sort_keys=True)) not in have
            ):
                due.append({"model": model, "trained_as_of": trained.isoformat(), "config": config})
    return due


def with_warm_starts(
    connection: duckdb.DuckDBPyConnection, settings: Settings, due: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The fits, each one whose config says ``warm_start`` with the newest earlier version of the same model and config to start from.

    That version is in the registry or due in the same run; a fit without one starts cold, as the first of its kind.
    """
    found = []
    for fit in due:
        earlier: dict[str, dict[str, Any]] = {}
        if fit["config"].get("warm_start"):
            same = json.dumps(fit["config"], sort_keys=True)
            rows = connection.execute(
                "SELECT trained_as_of, artifact_uri, artifact_hash, config FROM models.registry "
                "WHERE model = ? AND trained_as_of < ? ORDER BY created_at, model_version DESC",
                [fit["model"], fit["trained_as_of"]],
            ).fetchall()
            for trained, uri, artifact_hash, config in rows:
                if json.dumps(json.loads(config), sort_keys=True) == same:
                    earlier[trained.isoformat()] = {
                        "trained_as_of": trained.isoformat(),
                        "uri": artifact_place(settings, str(uri)),
                        "artifact_hash": artifact_hash,
                    }
            for other in due:
                of_its_kind = (other["model"], other["config"]) == (fit["model"], fit["config"])
                if of_its_kind and other["trained_as_of"] < fit["trained_as_of"]:
                    earlier[other["trained_as_of"]] = {"trained_as_of": other["trained_as_of"]}
        found.append({**fit, "warm_from": earlier[max(earlier)]} if earlier else fit)
    return found


@dg.asset(
    **output_options(
        "models.registry",
        "models",
        kinds={"python", "pytorch", "duckdb"},
        deps=[key_of("features.daily"), key_of("features.hourly"), key_of("features.realized")],
        pool=GPU_POOL,
    )
)
def registry(
    context: dg.AssetExecutionContext, config: TrainingConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)
    settings, warehouse = platform.settings, platform.warehouse
    days = days_of(first, last)
    with warehouse.read() as connection:
        noted = is_noted(connection, settings)
    if not noted:
        for attempt in warehouse.writes():
            with attempt as connection:
                note_champion_setting(connection, settings)
    with warehouse.read() as connection:
        verdicts = require_open_gates(connection, days)
        served = [days[-1] + timedelta(days=1)] if config.for_next_day else days
        due = fits_due(
            connection, settings, served, platform.source.first_day(), force=config.force
        )
        due = with_warm_starts(connection, settings, due)
        if not due:
            count = connection.execute("SELECT count(*) FROM models.registry").fetchone()
            context.log.info("every model version that is due exists: nothing to train")
            return result(platform, int(count[0]) if count else 0, versions_trained=0)
        newest = max(date.fromisoformat(fit["trained_as_of"]) for fit in due)
        oldest = min(date.fromisoformat(fit["trained_as_of"]) for fit in due)
        before = history_days((fit["model"], fit["config"]) for fit in due)
        history = (newest - oldest).days + settings.train_window_days + before
        frames = read_features(
            connection,
            newest,
            history,
            hourly=any(MODELS[fit["model"]].reads_hourly for fit in due),
        )
        snapshot = warehouse.snapshot(connection)
    folder, snapshot_hash = write_training_snapshot(settings, frames)
    spec = {
        "snapshot": folder,
        "snapshot_sha256": snapshot_hash,
        "output": address_of(settings, "models"),
        "device": settings.device,
        "code_version": code_version(),
        "fits": [
            {
                **fit,
                "window_days": settings.train_window_days,
                "seed": settings.seed,
                "check_explanations": settings.explanation_checks and MODELS[fit["model"]].explains,
            }
            for fit in due
        ],
    }
    identity = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    context.log.info(
        f"{len(due)} fits are due, {oldest} .. {newest}; snapshot {snapshot_hash[:12]}"
    )
    workers: list[tuple[Shard, Ended]] = []
    results = run_worker(
        context,
        settings,
        spec,
        address_of(settings, "specs", f"{identity}.json"),
        sorted(set(frames.daily["asset"].astype(str))),
        workers.extend,
    )
    fitted = [item for item in results if not item["status"].startswith("failed")]
    if fitted:
        rows = _registry_rows(
            settings, fitted, frames.source, snapshot_hash, verdicts, context.run.run_id
        )
        for attempt in warehouse.writes():
            with attempt as connection:
                replace_rows(
                    connection,
                    "models.registry",
                    rows,
                    on=["model", "model_version"],
                    snapshot=snapshot,
                )
                void_superseded(connection, fitted, first, last, context.run.run_id)
                set_statuses(connection, champion_on(connection, date.max))
    failed = [item for item in results if item["status"].startswith("failed")]
    if failed:
        lines = "\n".join(
            f"{item['model']} of {item['trained_as_of']}: {item['status']}" for item in failed
        )
        raise dg.Failure(
            f"{len(failed)} of {len(results)} fits failed:\n{lines}", allow_retries=False
        )
    with warehouse.read() as connection:
        count = connection.execute("SELECT count(*) FROM models.registry").fetchone()
    seconds = sum(float(item["seconds"]) for item in fitted)
    return result(
        platform,
        int(count[0]) if count else 0,
        versions_trained=len(fitted),
        training_seconds=round(seconds, 1),
        snapshot=snapshot_hash,
        device=", ".join(sorted({str(item["device"]) for item in fitted})),
        newest_training_day=newest.isoformat(),
        **_curves(fitted),
        **workers_metadata(workers),
        gates=f"{len(SUITES)} suites: {', '.join(sorted(set(verdicts.values())))}",
    )


def _curves(fitted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Learning curves for the UI; nothing where no network was trained."""
    table = curves_markdown(fitted)
    if not table:
        return {}
    return {
        "learning curves": dg.MetadataValue.md(table),
        "learning curves, points": dg.MetadataValue.json(curves_json(fitted)),
    }


def workers_metadata(workers: Sequence[tuple[Shard, Ended]]) -> dict[str, Any]:
    """How each worker ended, for the UI; nothing where there was one and it ended at once."""
    if len(workers) == 1 and workers[0][1].attempts == 1:
        return {}
    lines = [
        "| shard | fits | worker | attempt | seconds | expected |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {shard.name} | {len(shard.spec.get('fits', ()))} | {ended.worker} | {ended.attempts} | {ended.seconds:.1f} | {shard.expected_seconds:.0f} |"
        for shard, ended in workers
    ]
    return {
        "workers": len(workers),
        "workers_lost": sum(ended.attempts - 1 for _, ended in workers),
        "workers, shards": dg.MetadataValue.md("\n".join(lines)),
    }


def write_training_snapshot(settings: Settings, frames: FeatureFrames) -> tuple[str, str]:
    """What a worker reads, under its content hash: (address of the folder, hash)."""
    from ml.snapshot import content_hash

    tables = (frames.daily, frames.realized, frames.hourly)
    digest = content_hash(*tables, frames.funding)
    folder = address_of(settings, "snapshots", digest)
    written = write_snapshot(folder, *tables, frames.source, frames.as_of, frames.funding)
    return folder, written


def _registry_rows(
    settings: Settings,
    fitted: Sequence[dict[str, Any]],
    source: str,
    snapshot_hash: str,
    verdicts: dict[str, str],
    run_id: str,
) -> pd.DataFrame:
    now = datetime.now(UTC)
    return pd.DataFrame(
        [
            {
                "model": item["model"],
                "model_version": item["version"],
                "source": source,
                "trained_as_of": date.fromisoformat(item["trained_as_of"]),
                "train_start": _day(item["train_start"]),
                "train_end": _day(item["train_end"]),
                "snapshot_hash": snapshot_hash,
                "data_hash": item["data_hash"],
                "artifact_hash": item["artifact_hash"],
                "artifact_uri": name_in_store(settings, str(item["uri"])),
                "code_version": item["code_version"],
                "config": json.dumps(fit_config(settings, item["model"]), sort_keys=True),
                "seed": int(item["seed"]),
                "device": item["device"],
                "metrics": json.dumps(item["metrics"], sort_keys=True),
                "status": "candidate",
                "status_reason": "",
                "gate_verdicts": json.dumps(verdicts, sort_keys=True),
                "created_at": now,
                "run_id": run_id,
            }
            for item in fitted
        ]
    )


def void_superseded(
    connection: duckdb.DuckDBPyConnection,
    fitted: Sequence[dict[str, Any]],
    first: date,
    last: date,
    run_id: str | None = None,
) -> None:
    """Withdraw the forecasts of first .. last that were made before drift called for one of ``fitted``.

    They exist when a backfill reaches beyond the Sunday of the decision. The steps after this one make them anew, with the
    version that a daily run would have used. A risk figure of any model depends on how far the models disagree, and the backtest of leverage on those.
    """
    retrains = read_retrains(connection)
    for item in fitted:
        model, day = str(item["model"]), date.fromisoformat(item["trained_as_of"])
        if day not in retrains.get(model, ()):
            continue
        span = [max(first, day + timedelta(days=1)), last]
        for table in TABLES_BY_MODEL:
            _void(connection, table, "as_of BETWEEN ? AND ? AND model = ?", [*span, model], run_id)
        for table in ("forecasts.risk", "evaluation.leverage_backtest"):
            _void(connection, table, "as_of BETWEEN ? AND ?", span, run_id)


def _void(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    where: str,
    parameters: list[Any],
    run_id: str | None,
) -> None:
    if table in LEDGERED:
        withdraw_rows(connection, table, where, parameters, run_id)
    else:
        connection.execute(f"DELETE FROM {table} WHERE {where}", parameters)


def _day(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None
