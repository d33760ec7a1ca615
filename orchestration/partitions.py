"""Partitions: one per UTC day, the as_of of everything in it.

In: a Dagster context. Out: the first and last as_of of the run. Every asset takes a range of days in one run, so that a backfill of N
days is one run and not N.
"""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta

import dagster as dg

from orchestration.platform import Platform
from orchestration.settings import Settings

# Backfill policies and partitioned checks are marked beta and preview in the pinned Dagster; a line per asset helps nobody.
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """UTC days from the source's first one on; the newest is the last day that has ended."""
    first = Platform(settings).source.first_day()
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


DAILY = daily_partitions(Settings.from_env())
ONE_RUN = dg.BackfillPolicy.single_run()


def day_range(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
) -> tuple[date, date]:
    """First and last as_of of this run, both inclusive."""
    tags = context.run.tags
    if PARTITION_TAG in tags:
        day = _day(tags[PARTITION_TAG])
        return day, day
    if RANGE_START_TAG in tags:
        return _day(tags[RANGE_START_TAG]), _day(tags[RANGE_END_TAG])
    raise dg.Failure(
        "this run has no partition: choose a day, as in `volcast run --as-of 2024-06-30`",
        allow_retries=False,
    )


def days_of(first: date, last: date) -> list[date]:
    """Every day from first to last."""
    return [first + timedelta(days=step) for step in range((last - first).days + 1)]


def _day(key: str) -> date:
    return datetime.strptime(key, "%Y-%m-%d").date()
