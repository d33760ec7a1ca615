"""The metrics by name: kind, help text and labels. docs/monitoring.md, the alert rules and the dashboard are tested against this table.

Base units throughout (seconds, bytes, ratios); times are Unix timestamps, so that ages go on growing when nobody writes: ``time() - volcast_...``.
Labels are bounded: tables, suites, models, horizons, stages, providers; never a coin, a run or a day.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    help: str
    labels: tuple[str, ...] = ()
    kind: str = "gauge"


METRICS: dict[str, Definition] = {
    # freshness
    "volcast_raw_newest_event_timestamp_seconds": Definition("event time of the newest row", ("table",)),
    "volcast_raw_newest_known_timestamp_seconds": Definition("instant at which the newest row could be known", ("table",)),
    "volcast_raw_rows": Definition("rows in the table", ("table",)),
    "volcast_forecast_newest_as_of_timestamp_seconds": Definition("start of the newest as_of with forecasts"),
    "volcast_forecast_due_timestamp_seconds": Definition("decision time of the day after the newest as_of: when the next forecasts are due"),
    "volcast_home_current": Definition("1 where yesterday's forecasts are expected: a live home, or another whose newest as_of is at most a week old"),
    "volcast_published_timestamp_seconds": Definition("when the published copy was made"),
    "volcast_clock_ahead_seconds": Definition("how far the newest stored time of arrival lies ahead of this machine's clock; above 0 the clock went back"),
    # data
    "volcast_streams": Definition("streams of the source by how their last read went", ("provider", "status")),
    "volcast_streams_stale": Definition("streams whose last read failed; coins that a provider does not list do not count", ("provider",)),
    "volcast_quarantined_rows_held": Definition("refused rows that nobody has released", ("table",)),
    "volcast_quarantined_rows_total": Definition("rows ever refused", ("table",), "counter"),
    # gates
    "volcast_gate_open": Definition("1 where the newest verdict lets training and forecasts go on, by permission too", ("suite",)),
    "volcast_gate_failures": Definition("expectations that the newest verdict found broken", ("suite", "severity")),
    "volcast_gate_overrides_total": Definition("permissions to go on in spite of a closed gate", ("suite",), "counter"),
    # forecasts
    "volcast_forecasts": Definition("forecasts of the newest as_of", ("model", "horizon")),
    "volcast_forecasts_refused": Definition("forecasts that the model declined to make for the newest as_of", ("model", "horizon")),
    "volcast_live_qlike": Definition("mean QLIKE of stored forecasts whose outcome is known", ("model", "horizon", "window")),
    "volcast_live_qlike_ratio": Definition("the same over HARX-cal's on the forecasts that both made; below 1 is better", ("model", "horizon", "window")),
    "volcast_live_scored_forecasts": Definition("forecasts behind volcast_live_qlike", ("model", "horizon", "window")),
    "volcast_interval_coverage_ratio": Definition("share of outcomes of the last 90 as_of days inside the interval", ("model", "horizon", "level")),
    "volcast_drift_measures": Definition("measures whose verdict was drift on the newest Sunday that was judged", ("model", "kind")),
    "volcast_champion_info": Definition("1 for the model that leads", ("model",)),
    # runs
    "volcast_run_success": Definition("1 where the newest ended run of the job succeeded", ("job",)),
    "volcast_run_duration_seconds": Definition("duration of that run", ("job",)),
    "volcast_run_end_timestamp_seconds": Definition("end of that run", ("job",)),
    "volcast_run_last_success_timestamp_seconds": Definition("end of the newest run that succeeded", ("job",)),
    "volcast_run_oldest_start_timestamp_seconds": Definition("start of the oldest run that has not ended", ("job",)),
    "volcast_runs": Definition("runs in Dagster's history by how they ended", ("job", "status")),
    "volcast_stage_duration_seconds": Definition("duration of each stage of the newest ended run", ("job", "stage")),
    "volcast_training_duration_seconds": Definition("duration of the training stage of the newest ended daily or retrain run"),
    "volcast_lock_wait_seconds_total": Definition("time that runs have waited for the warehouse lock", (), "counter"),
    "volcast_lock_waits_total": Definition("waits for the warehouse lock", (), "counter"),
    # home
    "volcast_size_bytes": Definition("size on disk", ("part",)),
    "volcast_disk_free_bytes": Definition("space left on the home's file system"),
    "volcast_disk_size_bytes": Definition("size of the home's file system"),
    "volcast_last_backup_timestamp_seconds": Definition("when the newest backup was finished"),
    "volcast_alerts_open": Definition("causes of alerts that hold now, whether or not a channel is configured", ("severity",)),
    # the metrics themselves
    "volcast_collector_success": Definition("1 where this part of the metrics could be read", ("collector",)),
    "volcast_metrics_timestamp_seconds": Definition("when these metrics were made"),
}  # fmt: skip
