"""What the daemon looks at between runs: the file of metrics, and alerts.

In: a home. Out: ``metrics/volcast.prom``, messages through the configured channels. Never starts a run, never waits for a writer.
"""

from datetime import timedelta

import dagster as dg

from orchestration.observing import utc_now
from orchestration.platform import Platform
from orchestration.settings import Settings

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
    from orchestration import logs
    from orchestration.metrics import write_metrics
    from orchestration.run_history import past_runs

    settings = platform.settings
    logs.start(settings)
    ended = next((run for run in past_runs(settings, most=20) if run.ended_at), None)
    newest = ended.run_id if ended else ""
    path = settings.metrics_path
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
    from orchestration import logs
    from orchestration.alerts import watch

    logs.start(platform.settings)
    outcome = watch(platform.settings)
    if not outcome.channels:
        return dg.SkipReason(
            "no channel is configured: set VOLCAST_ALERT_EMAIL or the secrets of docs/monitoring.md"
        )
    parts = [f"{len(outcome.causes)} open, {len(outcome.sent)} messages sent"]
    parts += [f"{channel}: {why}" for channel, why in outcome.failures]
    return dg.SkipReason("; ".join(parts))


MONITORS = (metrics_sensor, alerts_sensor)
