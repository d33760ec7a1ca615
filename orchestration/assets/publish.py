"""What people read: the published read-only snapshot and the daily report page.

In: the warehouse at the end of a run. Out: ``published/volcast.duckdb``, swapped in whole, and one self-contained HTML page per as_of.
"""

import os

import dagster as dg

from orchestration.assets.common import (
    DAILY_FRESHNESS,
    OWNERS,
    WAREHOUSE_POOL,
    key_of,
    source_metadata,
)
from orchestration.partitions import DAILY, ONE_RUN, day_range
from orchestration.platform import Platform
from orchestration.warehouse import read_published

PUBLISHED = dg.AssetKey(["published", "snapshot"])
REPORT = dg.AssetKey(["published", "report"])
MODEL_CARDS = dg.AssetKey(["published", "model_cards"])


@dg.asset(
    key=PUBLISHED,
    description="Read-only DuckDB file with everything that people may query, replaced whole at the end of a run.",
    group_name="publish",
    owners=OWNERS,
    kinds={"duckdb"},
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    pool=WAREHOUSE_POOL,
    freshness_policy=DAILY_FRESHNESS,
    deps=[
        key_of(table)
        for table in (
            "forecasts.volatility",
            "forecasts.refusals",
            "forecasts.risk",
            "forecasts.correlations",
            "forecasts.portfolio_risk",
            "forecasts.portfolio_components",
            "forecasts.attention_weights",
            "forecasts.explanations",
            "forecasts.attention_audits",
            "forecasts.token_attributions",
            "models.explanation_checks",
            "evaluation.scores",
            "evaluation.leaderboard",
            "evaluation.tests",
            "evaluation.leverage_backtest",
            "evaluation.traffic_lights",
            "models.decisions",
            "models.drift",
            "models.attention_profiles",
            "forecasts.regimes",
            "forecasts.jumps",
            "forecasts.tails",
            "forecasts.events",
            "evaluation.event_effects",
            "models.spurious_checks",
        )
    ],
)
def published_snapshot(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    changed = platform.warehouse.publish()
    path = platform.settings.published_path
    context.log.info(f"{'published' if changed else 'unchanged'}: {path}")
    return dg.MaterializeResult(
        metadata={
            **source_metadata(platform),
            "path": dg.MetadataValue.path(str(path)),
            "megabytes": round(path.stat().st_size / 2**20, 1),
            "changed": changed,
        }
    )


@dg.asset(
    key=REPORT,
    description="Self-contained HTML page of the day: forecasts, attention, leaderboard, gates, what changed.",
    group_name="publish",
    owners=OWNERS,
    kinds={"plotly", "html"},
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    freshness_policy=DAILY_FRESHNESS,
    deps=[PUBLISHED],
)
def report(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)
    from orchestration.report import build_report

    with read_published(platform.settings) as connection:
        page = build_report(connection, last)
    path = platform.settings.reports_dir / f"{last}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
    return dg.MaterializeResult(
        metadata={
            **source_metadata(platform),
            "path": dg.MetadataValue.path(str(path)),
            "page": dg.MetadataValue.url(path.as_uri()),
            "megabytes": round(path.stat().st_size / 2**20, 2),
        }
    )


@dg.asset(
    key=MODEL_CARDS,
    description="A card for each model version with forecasts, as Markdown and HTML: purpose, limits, data, soundness, outcomes, governance.",
    group_name="publish",
    owners=OWNERS,
    kinds={"markdown", "html"},
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    freshness_policy=DAILY_FRESHNESS,
    deps=[PUBLISHED],
)
def model_cards(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from orchestration.model_cards import FOLDER, write_cards

    folder = platform.settings.home / FOLDER
    with read_published(platform.settings) as connection:
        serving, written = write_cards(connection, folder)
    links = "\n".join(f"- [{path.parent.name} {path.stem}]({path.as_uri()})" for path in serving)
    return dg.MaterializeResult(
        metadata={
            **source_metadata(platform),
            "path": dg.MetadataValue.path(str(folder)),
            "versions that serve": dg.MetadataValue.md(links or "none"),
            "files_written": written,
        }
    )
