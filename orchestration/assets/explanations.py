"""Attention as data, and what moved each attention forecast.

In: the attention versions that serve the days and the features that they read. Out: ``forecasts.attention_weights``; ``models.explanation_checks``,
from what the worker left beside each artefact; ``forecasts.explanations`` and ``forecasts.token_attributions`` with the audit of every forecast in
``forecasts.attention_audits``. Days that a version has explained are not explained again.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import pandas as pd

from ml.explain.checks import Check, not_judged
from ml.explain.stored_checks import load_checks
from ml.model import fitted_lookback_days
from orchestration.artifact_store import artifact_place
from orchestration.assets.common import (
    WAREHOUSE_POOL,
    key_of,
    output_options,
    output_specs,
    result,
)
from orchestration.panels import read_features
from orchestration.partitions import ONE_RUN, day_range
from orchestration.platform import Platform
from orchestration.retention import kept_from
from orchestration.versions import ServedDays, served_days
from orchestration.warehouse import replace_rows

ATTENTION_MODELS = ("attention",)
EXPLANATION_TABLES = (
    "forecasts.explanations",
    "forecasts.attention_audits",
    "forecasts.token_attributions",
)
NO_CHECKS = "nothing beside the artefact: VOLCAST_EXPLANATION_CHECKS was off, or the version is older than checks"
FEATURE_DEPS = ("forecasts.volatility", "features.daily", "features.hourly")


@dg.asset(
    **output_options(
        "forecasts.attention_weights",
        "explanations",
        kinds={"python", "pytorch", "duckdb"},
        deps=[key_of(name) for name in FEATURE_DEPS],
    )
)
def attention_weights(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)

    def weigh(model: Any, panel: Any, block: ServedDays) -> pd.DataFrame:
        return model.attention(panel, block.days).to_frame(block.model_version)

    with platform.warehouse.read() as connection:
        first = max(first, kept_from(connection, platform.settings))
    made = 0
    if first <= last:
        made = _fill(platform, "forecasts.attention_weights", first, last, weigh)
    with platform.warehouse.read() as connection:
        total = connection.execute("SELECT count(*) FROM forecasts.attention_weights").fetchone()
        shares = _shares(connection, last)
    return result(
        platform,
        int(total[0]) if total else 0,
        rows_made=made,
        **{f"attention_share_{modality}": share for modality, share in shares.items()},
    )


def _shares(connection: duckdb.DuckDBPyConnection, day: date) -> dict[str, float]:
    """Attention of the day by modality, mean over coins, layers and heads; the largest first."""
    rows = connection.execute(
        """
        SELECT modality, sum(weight) / (
            SELECT count(DISTINCT (asset, model_version, layer, head)) FROM forecasts.attention_weights WHERE as_of = $day
        ) AS share
        FROM forecasts.attention_weights WHERE as_of = $day GROUP BY modality ORDER BY share DESC
        """,
        {"day": day},
    ).fetchall()
    return {str(modality): float(share) for modality, share in rows}


def audited_map(shares: dict[str, float], verdicts: dict[str, int]) -> str:
    """Markdown of the day's attention by modality under what the audit says of it: a map is not shown without."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    lines = [f"| {modality} | {share:.1%} |" for modality, share in shares.items()]
    return "\n".join(
        [
            f"Audit of the day's forecasts: **{counts or 'none'}**. An invalid map is not an explanation.",
            "",
            "| modality | attention of the forecast token |",
            "|---|---|",
            *lines,
        ]
    )


@dg.asset(
    **output_options(
        "models.explanation_checks",
        "explanations",
        deps=[key_of("models.registry")],
    )
)
def explanation_checks(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    stored = store_checks(platform)
    with platform.warehouse.read() as connection:
        counts = dict(
            connection.execute(
                "SELECT verdict, count(*) FROM models.explanation_checks WHERE stage = '' GROUP BY verdict"
            ).fetchall()
        )
    if stored:
        context.log.info(f"explanation checks of {', '.join(stored)} stored")
    return result(
        platform,
        sum(int(count) for count in counts.values()),
        versions_stored=len(stored),
        **{f"checks_{verdict.replace(' ', '_')}": int(n) for verdict, n in counts.items()},
    )


def store_checks(platform: Platform) -> list[str]:
    """Store what lies beside the artefacts of explaining models for versions without judged checks; returns those versions.

    A version without a file gets rows that say so, until there is one.
    """
    settings, warehouse = platform.settings, platform.warehouse
    with warehouse.read() as connection:
        versions = connection.execute(
            "SELECT model, model_version, artifact_uri, artifact_hash FROM models.registry "
            "WHERE list_contains(?, model) ORDER BY ALL",
            [list(ATTENTION_MODELS)],
        ).fetchall()
        held = {
            name: checks_of(connection, *name)
            for name in ((str(m), str(v)) for m, v, *_ in versions)
        }
    stored = []
    for model, version, uri, artifact_hash in versions:
        found = load_checks(artifact_place(settings, str(uri)), str(artifact_hash))
        checks = not_judged(NO_CHECKS) if found is None else found
        own = held[str(model), str(version)]
        if set(own) == set(checks) or (found is None and own):
            continue
        rows = pd.DataFrame([asdict(check) for check in checks])
        rows = rows.rename(columns={"check": "check_name"}).assign(
            source=platform.source.name, model=model, model_version=version
        )
        for attempt in warehouse.writes():
            with attempt as connection:
                replace_rows(
                    connection, "models.explanation_checks", rows, on=["model", "model_version"]
                )
        stored.append(f"{model} {version}")
    return stored


def checks_of(connection: duckdb.DuckDBPyConnection, model: str, model_version: str) -> list[Check]:
    """The stored checks of a version, in the order of the table's key; none where nothing is stored."""
    rows = connection.execute(
        "SELECT check_name, subject, stage, statistic, threshold, verdict, reason FROM models.explanation_checks "
        "WHERE model = ? AND model_version = ?",
        [model, model_version],
    ).fetchall()
    return [Check(*row) for row in rows]


@dg.multi_asset(
    name="explanations",
    specs=output_specs(
        EXPLANATION_TABLES,
        "explanations",
        (*FEATURE_DEPS, "models.explanation_checks", "forecasts.attention_weights"),
        kinds={"python", "pytorch", "duckdb"},
    ),
    backfill_policy=ONE_RUN,
    pool=WAREHOUSE_POOL,
)
def explanations(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    first, last = day_range(context)

    def explain_block(model: Any, panel: Any, block: ServedDays) -> dict[str, pd.DataFrame]:
        from ml.explain.explanations import explain  # torch: only when there is work

        with platform.warehouse.read() as connection:
            checks = checks_of(connection, block.model, block.model_version)
        found = explain(model, panel, block.days, block.model_version, checks=checks)
        frames = (found.explanations, found.audits, found.tokens)
        return dict(zip(EXPLANATION_TABLES, frames, strict=True))

    # Days explained before there were audits lack theirs: they are explained again.
    made = _fill(platform, "forecasts.attention_audits", first, last, explain_block)
    with platform.warehouse.read() as connection:
        counts = connection.execute(
            " UNION ALL ".join(f"SELECT count(*) FROM {table}" for table in EXPLANATION_TABLES)
        ).fetchall()
        verdicts = connection.execute(
            "SELECT verdict, count(*) FROM forecasts.attention_audits WHERE as_of = ? GROUP BY verdict",
            [last],
        ).fetchall()
        shares = _shares(connection, last)
    by_verdict = {str(verdict): int(count) for verdict, count in verdicts}
    for table, (count,) in zip(EXPLANATION_TABLES, counts, strict=True):
        more: dict[str, Any] = {}
        if table == "forecasts.attention_audits":
            more = {"rows_made": made, **{f"forecasts_{name}": n for name, n in by_verdict.items()}}
            if shares:
                more["attention_by_modality"] = dg.MetadataValue.md(audited_map(shares, by_verdict))
        yield result(platform, int(count), key_of(table), **more)


def _fill(
    platform: Platform,
    table: str,
    first: date,
    last: date,
    make: Callable[[Any, Any, ServedDays], pd.DataFrame | dict[str, pd.DataFrame]],
) -> int:
    """Make and store the rows of each attention version for the days that ``table`` lacks; returns how many.

    ``make`` gives the rows of that table, or of several by name; they are written in one transaction.
    """
    settings, warehouse = platform.settings, platform.warehouse
    made = 0
    with warehouse.read() as connection:
        blocks = [
            block
            for block in served_days(connection, settings, first, last, without=table)
            if block.model in ATTENTION_MODELS
        ]
    for block in blocks:
        model: Any = block.load(settings)
        with warehouse.read() as connection:
            history = (block.days[-1] - block.days[0]).days + fitted_lookback_days(model)
            panel = read_features(connection, block.days[-1], history).panel
            snapshot = warehouse.snapshot(connection)
        found = make(model, panel, block)
        frames = found if isinstance(found, dict) else {table: found}
        if all(rows.empty for rows in frames.values()):
            continue
        for attempt in warehouse.writes():
            with attempt as connection:
                for name, rows in frames.items():
                    replace_rows(
                        connection,
                        name,
                        rows.assign(source=platform.source.name),
                        on=["as_of", "model", "model_version"],
                        snapshot=snapshot,
                    )
        made += sum(len(rows) for rows in frames.values())
    return made


EXPLANATION_ASSETS = [attention_weights, explanation_checks, explanations]
