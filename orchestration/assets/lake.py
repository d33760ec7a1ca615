"""Upkeep of a lake, once a week; a home with a file has nothing of the kind.

In: the lake. Out: fewer, larger files and the snapshots that are still wanted, in numbers. Never: in the daily job.
"""

from datetime import UTC, datetime

import dagster as dg

from orchestration.assets.common import OWNERS, WAREHOUSE_POOL
from orchestration.platform import Platform

UPKEEP = dg.AssetKey(["meta", "lake_maintenance"])


@dg.asset(
    key=UPKEEP,
    description="Deletes written out, small files merged, snapshots older than VOLCAST_LAKE_KEEP_DAYS let go but those that a model or a forecast was made from.",
    group_name="lake",
    owners=OWNERS,
    kinds={"ducklake"},
    pool=WAREHOUSE_POOL,
)
def lake_maintenance(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from orchestration.lake.upkeep import keep_in_order

    done = keep_in_order(platform.warehouse, datetime.now(UTC))
    context.log.info(
        f"{done.before.files} files of {done.before.snapshots} snapshots; now {done.after.files} of {done.after.snapshots}"
    )
    return dg.MaterializeResult(
        metadata={
            "snapshots": done.after.snapshots,
            "snapshots_expired": done.expired,
            "snapshots_pinned": done.after.pinned,
            "files": done.after.files,
            "small_files": done.after.small_files,
            "files_deleted": done.deleted_files,
            "megabytes": round(done.after.bytes / 2**20, 1),
        }
    )


MAINTENANCE_JOB = dg.define_asset_job(
    "lake_maintenance",
    selection=dg.AssetSelection.assets(UPKEEP),
    description="Merge a lake's small files and let old snapshots go.",
    tags={"volcast/job": "lake_maintenance"},
)
MAINTENANCE_SCHEDULE = dg.ScheduleDefinition(
    name="lake_maintenance_weekly",
    job=MAINTENANCE_JOB,
    cron_schedule="30 4 * * 6",  # a Saturday, when no retrain runs
    execution_timezone="UTC",
)
