"""The learning loop's decisions as Dagster assets.

In: forecasts and explanations of a run, and what followed earlier ones. Out: ``models.decisions``, ``models.drift``, ``models.attention_profiles`` and the statuses of
``models.registry``. A day that was judged is not judged again.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pandas as pd

from orchestration.assets.common import key_of, output_specs, result
from orchestration.assets.explanations import ATTENTION_MODELS
from orchestration.champion import champion_on, set_statuses
from orchestration.decisions import Learnt, pending_days
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.retention import drop_old
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import replace_rows

TABLES = ("models.decisions", "models.drift", "models.attention_profiles")
DEPS = (
    "forecasts.volatility",
    "features.realized",
    "forecasts.attention_weights",
    "forecasts.explanations",
)
"""Not evaluation.scores: what it judges by it scores itself, on outcomes as first known. The scores wait for forecasts.risk, which waits for this."""


@dg.multi_asset(
    name="learning",
    specs=output_specs(TABLES, "learning", DEPS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def learning(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    _, last = day_range(context)
    found = judge_pending(platform, last, context.run.run_id)
    dropped = drop_old(platform.warehouse, platform.settings)
    if dropped:
        context.log.info(f"{dropped} rows of attention by token are past their retention")
    for row in found.decisions:
        if row["kind"] not in ("keep", "steady"):
            context.log.info(f"{row['as_of']} {row['kind']} {row['model']}: {row['reason']}")
    if found.retrains and found.judged[-1] < last:
        context.log.warning(
            f"the days after {found.judged[-1]} were forecast before the retrain of {', '.join(found.retrains)}: "
            "run them again (`volcast backfill` and the sensor retrain_on_drift do)"
        )
    with platform.warehouse.read() as connection:
        champion = champion_on(connection, last)
        counts = connection.execute(
            " UNION ALL ".join(f"SELECT count(*) FROM {table}" for table in TABLES)
        ).fetchall()
    kinds = Counter(row["kind"] for row in found.decisions)
    measured = Counter(row["verdict"] for row in found.drift)
    more: dict[str, dict[str, Any]] = {
        "models.decisions": {"champion": champion.model, **kinds},
        "models.drift": {f"measures_{verdict}": count for verdict, count in measured.items()},
        "models.attention_profiles": {},
    }
    for table, (count,) in zip(TABLES, counts, strict=True):
        yield result(platform, int(count), key_of(table), **more[table])


def judge_pending(platform: Platform, last: date, run_id: str) -> Learnt:
    """Judge and store the Sundays up to ``last`` that wait for it; writes nothing where none does."""
    with platform.warehouse.read() as connection:
        days = pending_days(connection, last)
        if not days:
            return Learnt()
        from orchestration.learning import (
            learn,  # statistics and bootstraps: only when there is work
        )

        found = learn(connection, platform.settings, days, audited=ATTENTION_MODELS)
    _write(platform, found, run_id)
    return found


def _write(platform: Platform, found: Learnt, run_id: str) -> None:
    frames = {
        "models.decisions": pd.DataFrame(found.decisions),
        "models.drift": pd.DataFrame(found.drift),
        "models.attention_profiles": pd.concat(found.profiles.values()) if found.profiles else pd.DataFrame(),
    }  # fmt: skip
    for attempt in platform.warehouse.writes():
        with attempt as connection:
            for table, rows in frames.items():
                if rows.empty:
                    continue
                spec = OUTPUT_TABLES[table]
                dates = [n for n, (kind, _) in spec.columns.items() if kind == "DATE" and n in rows]
                for name in dates:  # a column of nothing but None has no type
                    rows[name] = pd.to_datetime(rows[name])
                rows = rows.assign(
                    source=platform.source.name, run_id=run_id, created_at=datetime.now(UTC)
                )
                replace_rows(connection, table, rows, on=list(spec.key))
            set_statuses(connection, champion_on(connection, date.max))
