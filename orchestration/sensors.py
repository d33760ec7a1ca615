"""What looks at a home between runs: retrains that drift asked for, the file of metrics, and alerts.

In: the published copy, Dagster's run history. Out: a run for every retrain that nobody has made yet; ``metrics/volcast.prom``; messages through the configured
channels. Never waits for a writer.
"""

from datetime import timedelta

import dagster as dg

from orchestration.decisions import open_retrains
from orchestration.observing import utc_now
from orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from orchestration.platform import Platform
from orchestration.schedules import DAILY_JOB, RETRAIN_JOB
from orchestration.settings import Settings
from orchestration.warehouse import WarehouseError, read_published


@dg.sensor(
    name="retrain_on_drift",
    jobs=[RETRAIN_JOB, DAILY_JOB],
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Trains again where models.decisions says so, ahead of the next daily run; days forecast since are run anew. Switch it on in the UI.",
)
def retrain_on_drift(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    try:
        with read_published(platform.settings) as connection:
            days = open_retrains(connection, platform.settings)
            newest = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    except WarehouseError as error:
        return dg.SkipReason(str(error))
    if not days:
        return dg.SkipReason("every retrain that was decided is made")
    decided = days[0]
    last = newest[0] if newest and newest[0] else decided
    if last <= decided:
        return dg.RunRequest(
            run_key=f"drift-{decided}", job_name=RETRAIN_JOB.name, partition_key=decided.isoformat()
        )
    first = decided + timedelta(days=1)
    return dg.RunRequest(
        run_key=f"drift-{decided}-{last}",
        job_name=DAILY_JOB.name,
        tags={RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()},
    )


METRICS_EVERY = timedelta(minutes=15)


@dg.sensor(
    name="write_metrics",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes metrics/volcast.prom of the home after each run that the daemon started, and every 15 minutes.",
)
def metrics_sensor(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.SkipReason:
    from orchestration.metrics import write_metrics
    from orchestration.run_history import past_runs

    settings = platform.settings
    ended = next((run for run in past_runs(settings, most=20) if run.ended_at), None)
    newest = ended.run_id if ended else ""
    path = settings.home / "metrics" / "volcast.prom"
    if context.cursor == newest and path.exists():
        age = utc_now().timestamp() - path.stat().st_mtime
        if 0 <= age < METRICS_EVERY.total_seconds():
            return dg.SkipReason("the metrics are of the newest run")
    written = write_metrics(settings)
    context.update_cursor(newest)
    return dg.SkipReason(f"written: {written}" if written else "not written: see the log")


def alerts_wanted() -> dg.DefaultSensorStatus:
    """The sensor of alerts is on from the start where a channel is configured."""
    from orchestration.alerts.channels import any_configured

    on = any_configured(Settings.from_env())
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=60,
    default_status=alerts_wanted(),
    description="Tells the channels of VOLCAST_ALERT_* what is wrong: failed runs, late forecasts, closed gates, stale streams. On where one is configured.",
)
def alerts_sensor(platform: dg.ResourceParam[Platform]) -> dg.SkipReason:
    from orchestration.alerts import watch

    outcome = watch(platform.settings)
    if not outcome.channels:
        return dg.SkipReason(
            "no channel is configured: set VOLCAST_ALERT_EMAIL or the secrets of docs/monitoring.md"
        )
    parts = [f"{len(outcome.causes)} open, {len(outcome.sent)} messages sent"]
    parts += [f"{channel}: {why}" for channel, why in outcome.failures]
    return dg.SkipReason("; ".join(parts))


SENSORS = [retrain_on_drift, metrics_sensor, alerts_sensor]
