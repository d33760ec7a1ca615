"""Attention as data, and what moved each attention forecast.

In: the attention versions that serve the days and the features that they read. Out: ``forecasts.attention_weights`` and
``forecasts.explanations``, the audit's verdict on every row. Days that a version has explained are not explained again.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from ml.model import fitted_lookback_days
from orchestration.assets.common import key_of, output_options, result
from orchestration.panels import read_features
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.versions import ServedDays, served_days
from orchestration.warehouse import bump_revision, replace_rows

ATTENTION_MODELS = ("attention",)
FEATURE_DEPS = [key_of("forecasts.volatility"), key_of("features.daily"), key_of("features.hourly")]


@dg.asset(
    **output_options(
        "forecasts.attention_weights",
        "explanations",
        kinds={"python", "pytorch", "duckdb"},
        deps=FEATURE_DEPS,
    )
)
def attention_weights(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)

    def weigh(model: Any, panel: Any, block: ServedDays) -> pd.DataFrame:
        return model.attention(panel, block.days).to_frame(block.model_version)

    kept_from = _kept_from(platform, last)
    made = 0
    if last >= kept_from:
        made = _fill(platform, "forecasts.attention_weights", max(first, kept_from), last, weigh)
    dropped = _drop_before(platform, kept_from)
    with platform.warehouse.read() as connection:
        total = connection.execute("SELECT count(*) FROM forecasts.attention_weights").fetchone()
        shares = connection.execute(
            """
            SELECT modality, sum(weight) / (
                SELECT count(DISTINCT (asset, model_version, layer, head)) FROM forecasts.attention_weights WHERE as_of = $day
            ) AS share
            FROM forecasts.attention_weights WHERE as_of = $day GROUP BY modality ORDER BY share DESC
            """,
            {"day": last},
        ).fetchall()
    table = "\n".join(f"| {modality} | {share:.1%} |" for modality, share in shares)
    return result(
        platform,
        int(total[0]) if total else 0,
        rows_made=made,
        rows_past_retention=dropped,
        **{f"attention_share_{modality}": float(share) for modality, share in shares},
        attention_by_modality=dg.MetadataValue.md(
            f"| modality | attention of the forecast token |\n|---|---|\n{table}"
        )
        if shares
        else None,
    )


@dg.asset(
    **output_options(
        "forecasts.explanations",
        "explanations",
        kinds={"python", "pytorch", "duckdb"},
        deps=FEATURE_DEPS,
    )
)
def explanations(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)

    def explain_block(model: Any, panel: Any, block: ServedDays) -> pd.DataFrame:
        from ml.explain.explanations import explain  # torch and captum: only when there is work

        return explain(model, panel, block.days, block.model_version)

    made = _fill(platform, "forecasts.explanations", first, last, explain_block)
    with platform.warehouse.read() as connection:
        total = connection.execute("SELECT count(*) FROM forecasts.explanations").fetchone()
        verdicts = connection.execute(
            "SELECT verdict, count(DISTINCT (asset, horizon)) FROM forecasts.explanations WHERE as_of = ? GROUP BY verdict",
            [last],
        ).fetchall()
    return result(
        platform,
        int(total[0]) if total else 0,
        rows_made=made,
        **{f"forecasts_{verdict}": int(count) for verdict, count in verdicts},
    )


def _kept_from(platform: Platform, last: date) -> date:
    """First day whose weights are kept once those of ``last`` are there: the same after a backfill as after daily runs."""
    kept = platform.settings.attention_retention_days
    if kept is None:
        return date.min
    with platform.warehouse.read() as connection:
        newest = connection.execute("SELECT max(as_of) FROM forecasts.attention_weights").fetchone()
    end = max(last, newest[0]) if newest and newest[0] else last
    return end - timedelta(days=kept - 1)


def _drop_before(platform: Platform, kept_from: date) -> int:
    """Delete weights of days before ``kept_from``; returns how many rows."""
    if kept_from == date.min:
        return 0
    with platform.warehouse.write() as connection:
        found = connection.execute(
            "DELETE FROM forecasts.attention_weights WHERE as_of < ?", [kept_from]
        ).fetchone()
        dropped = int(found[0]) if found else 0
        if dropped:
            bump_revision(connection)
    return dropped


def _fill(
    platform: Platform,
    table: str,
    first: date,
    last: date,
    make: Callable[[Any, Any, ServedDays], pd.DataFrame],
) -> int:
    """Make and store the rows of each attention version for the days that ``table`` lacks; returns how many."""
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
        rows = make(model, panel, block)
        if rows.empty:
            continue
        with warehouse.write() as connection:
            made += replace_rows(
                connection,
                table,
                rows.assign(source=platform.source.name),
                on=["as_of", "model", "model_version"],
            )
    return made


EXPLANATION_ASSETS = [attention_weights, explanations]
