"""Jobs and when they run.

In: the assets. Out: the daily job at the decision time, the weekly retrain that makes the versions the next day needs, and the capture
of what exists only at the moment: order books and newest headlines.
"""

from datetime import timedelta

import dagster as dg

from orchestration.assets.common import WAREHOUSE_POOL, key_of
from orchestration.assets.training import TrainingConfig
from orchestration.ingest import capture
from orchestration.partitions import DAILY
from orchestration.platform import Platform
from orchestration.settings import Settings


def decision_cron(settings: Settings) -> str:
    """Cron line of the decision time: 00:30 UTC unless VOLCAST_DECISION_OFFSET_MINUTES says otherwise."""
    return f"{settings.decision_offset_minutes % 60} {settings.decision_offset_minutes // 60} * * *"


DECISION_CRON = decision_cron(Settings.from_env())

DAILY_JOB = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets(key_of("models.studies"))
    - dg.AssetSelection.groups("lake"),
    partitions_def=DAILY,
    description="The whole line for one as_of: ingest, gates, features, due training, forecasts, evaluation, report.",
    tags={"volcast/job": "daily"},
)
RETRAIN_JOB = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets(key_of("models.registry")),
    partitions_def=DAILY,
    description="Train the versions that the day after the as_of needs; the as_of's gates must have run and be open.",
    config=dg.RunConfig(ops={"models__registry": TrainingConfig(for_next_day=True)}),
    tags={"volcast/job": "retrain"},
)


STUDY_JOB = dg.define_asset_job(
    "study",
    selection=dg.AssetSelection.assets(key_of("models.studies")),
    partitions_def=DAILY,
    description="Search hyper-parameters of the attention model within a budget; started by hand, proposes, never adopts.",
    tags={"volcast/job": "study"},
)


@dg.op(
    description="Order books and newest headlines, as they are now; the daily run aggregates them.",
    pool=WAREHOUSE_POOL,
)
def take_snapshots(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    try:
        found = capture(platform.warehouse, platform.source)
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for table, result in found.items():
        for stale in result.stale:
            context.log.warning(f"stale: {stale.detail}")
        context.log_event(
            dg.AssetObservation(
                asset_key=key_of(f"raw.{table}"),
                metadata={"rows_new": result.count.inserted, "streams_stale": len(result.stale)},
            )
        )


@dg.job(
    name="capture",
    description="Captures order books and headlines of the live source; every VOLCAST_CAPTURE_MINUTES by its schedule.",
    tags={"volcast/job": "capture"},
)
def CAPTURE_JOB() -> None:
    take_snapshots()


def capture_cron(settings: Settings) -> str:
    """Cron line of the captures: every 15 minutes unless VOLCAST_CAPTURE_MINUTES says otherwise."""
    return f"*/{settings.capture_minutes} * * * *" if settings.capture_minutes < 60 else "0 * * * *"


def _request(
    context: dg.ScheduleEvaluationContext, platform: Platform, prefix: str
) -> dg.RunRequest | dg.SkipReason:
    """A run for the UTC day before the tick, unless the source has ended."""
    as_of = context.scheduled_execution_time.date() - timedelta(days=1)
    last = platform.source.last_day()
    if last is not None and as_of > last:
        return dg.SkipReason(f"source {platform.source.name!r} ends on {last}: nothing for {as_of}")
    return dg.RunRequest(run_key=f"{prefix}-{as_of}", partition_key=as_of.isoformat())


@dg.schedule(
    name="daily_at_decision_time",
    job=DAILY_JOB,
    cron_schedule=DECISION_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="At the decision time (00:30 UTC): forecasts for the day that has just ended. Switch it on in the UI.",
)
def daily_schedule(
    context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    return _request(context, platform, "daily")


@dg.schedule(
    name="weekly_retrain",
    job=RETRAIN_JOB,
    cron_schedule="30 2 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Monday 02:30 UTC: trains on data up to Sunday, ahead of the daily run that will need it.",
)
def weekly_retrain(
    context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    return _request(context, platform, "retrain")


@dg.schedule(
    name="capture_snapshots",
    job=CAPTURE_JOB,
    cron_schedule=capture_cron(Settings.from_env()),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Order books and headlines of the live source, every few minutes; nothing else has them later.",
)
def capture_schedule(platform: dg.ResourceParam[Platform]) -> dg.RunRequest | dg.SkipReason:
    if platform.source.now() is None:
        return dg.SkipReason(f"source {platform.source.name!r} has no present to capture")
    return dg.RunRequest()


SCHEDULES = [daily_schedule, weekly_retrain, capture_schedule]
