"""What people read: the published read-only snapshot and the daily report page.

In: the warehouse at the end of a run. Out: ``published/volcast.duckdb``, swapped in whole, and one self-contained HTML page per as_of.
"""

import hashlib
import json
import os
from pathlib import Path

import dagster as dg

from orchestration.assets.common import (
    DAILY_FRESHNESS,
    OWNERS,
    WAREHOUSE_POOL,
    key_of,
    source_metadata,
)
from orchestration.made_from import evidence
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
    path = platform.settings.reports_dir / f"{last}.html"
    with read_published(platform.settings) as connection:
        made_from = f"<!-- made from {evidence(connection, last)} -->"
        if not (same := _ends_with(path, made_from)):
            from orchestration.report import build_report  # plotly: only when there is work

            page = f"{build_report(connection, last)}\n{made_from}\n"
    if same:
        context.log.info(f"unchanged: {path}")
    else:
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


def _ends_with(path: Path, line: str) -> bool:
    """Whether the last line of a file is this one."""
    try:
        with path.open("rb") as file:
            file.seek(-len(line) - 1, os.SEEK_END)
            return file.read() == f"{line}\n".encode()
    except OSError:  # no such file, or a shorter one
        return False


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
    folder = platform.settings.home / "model_cards"
    with read_published(platform.settings) as connection:
        made_from = evidence(connection)
        serving, written = _cards_of(folder, made_from), 0
        if serving is None:
            from orchestration.model_cards import write_cards  # jinja: only when there is work

            serving, written = write_cards(connection, folder)
            _keep_cards(folder, made_from, serving)
    links = "\n".join(f"- [{path.parent.name} {path.stem}]({path.as_uri()})" for path in serving)
    return dg.MaterializeResult(
        metadata={
            **source_metadata(platform),
            "path": dg.MetadataValue.path(str(folder)),
            "versions that serve": dg.MetadataValue.md(links or "none"),
            "files_written": written,
        }
    )


MADE_FROM = ".made-from.json"
"""File in the folder of cards: the evidence that they were made from, and the cards by evidence of their own files."""


def _cards_of(folder: Path, made_from: str) -> list[Path] | None:
    """The cards that serve, where all were made from this; None where they were not, or one was changed or removed since."""
    try:
        held = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
        if held["evidence"] != made_from or held["files"] != _card_files(folder):
            return None
        return [folder / name for name in held["serving"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep_cards(folder: Path, made_from: str, serving: list[Path]) -> None:
    if not folder.is_dir():
        return  # no version has a card yet
    names = [path.relative_to(folder).as_posix() for path in serving]
    text = json.dumps({"evidence": made_from, "files": _card_files(folder), "serving": names})
    temporary = folder / f"{MADE_FROM}.{os.getpid()}"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder / MADE_FROM)


def _card_files(folder: Path) -> dict[str, str]:
    """Hash of every card by its name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*/*"))
        if path.suffix in (".md", ".html")
    }
