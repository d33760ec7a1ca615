"""The spurious-correlation report as a Dagster asset.

In: the Sundays that the learning loop has judged. Out: ``models.spurious_checks``. A Sunday that was judged is not judged again.
"""

from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import duckdb
import pandas as pd

from orchestration.assets.common import key_of, output_options, result
from orchestration.assets.explanations import ATTENTION_MODELS
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import replace_rows

TABLE = "models.spurious_checks"
SHOWN_FLAGS = 10


@dg.asset(
    **output_options(
        TABLE,
        "learning",
        deps=[
            key_of(name)
            for name in ("models.decisions", "forecasts.explanations", "features.daily")
        ],
    )
)
def spurious_checks(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)
    rows = judge_pending(platform, last, context.run.run_id)
    flagged = [row for row in rows if row["verdict"] == "flagged" and row["asset"] == "ALL"]
    for row in flagged[:SHOWN_FLAGS]:
        context.log.info(
            f"{row['as_of']} {row['modality']}: {row['check_name']} of {row['segment']}: {row['reason']}"
        )
    with platform.warehouse.read() as connection:
        total = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
    verdicts = Counter(row["verdict"].replace(" ", "_") for row in rows)
    return result(
        platform,
        int(total[0]) if total else 0,
        **{f"checks_{verdict}": count for verdict, count in verdicts.items()},
    )


def pending(
    connection: duckdb.DuckDBPyConnection, last: date, audited: tuple[str, ...] = ATTENTION_MODELS
) -> list[tuple[date, str, str | None]]:
    """(Sunday, model, version that served it) that the learning loop has judged and this report has not, in order."""
    return connection.execute(
        f"""
        SELECT DISTINCT d.as_of, d.model, d.model_version FROM models.decisions d
        ANTI JOIN {TABLE} s ON s.as_of = d.as_of AND s.model = d.model
        WHERE d.kind IN ('steady', 'drift', 'retrain') AND d.as_of <= ? AND list_contains(?, d.model)
        ORDER BY ALL
        """,
        [last, list(audited)],
    ).fetchall()


def judge_pending(platform: Platform, last: date, run_id: str) -> list[dict[str, Any]]:
    """Judge and store the Sundays up to ``last`` that wait for it; writes nothing where none does."""
    with platform.warehouse.read() as connection:
        waiting = pending(connection, last)
        if not waiting:
            return []
        from orchestration.spurious import judge  # statistics: only when there is work

        rows = judge(connection, waiting)
    if rows:
        frame = pd.DataFrame(rows).assign(
            source=platform.source.name, run_id=run_id, created_at=datetime.now(UTC)
        )
        frame["as_of"] = pd.to_datetime(frame["as_of"])
        for attempt in platform.warehouse.writes():
            with attempt as connection:
                replace_rows(connection, TABLE, frame, on=list(OUTPUT_TABLES[TABLE].key))
    return rows
