"""Writes the Grafana dashboard: `python deploy/grafana/make_dashboard.py > deploy/grafana/volcast.json`. A test holds the file equal to it."""

from __future__ import annotations

import json

STAT, SERIES, BARS, TABLE = "stat", "timeseries", "bargauge", "table"
PANELS = [
    # title, kind, unit, width of 24, (expression, legend) ...
    ("Newest forecasts are of", STAT, "dateTimeAsIso", 6, [("1000 * volcast_forecast_newest_as_of_timestamp_seconds", "")]),
    ("Overdue by", STAT, "s", 4, [("clamp_min(time() - volcast_forecast_due_timestamp_seconds, 0)", "")]),
    ("Last run", STAT, "bool_on_off", 6, [("volcast_run_success", "{{job}}")]),
    ("Alerts open", STAT, "short", 4, [("volcast_alerts_open", "{{severity}}")]),
    ("Leads", STAT, "short", 4, [("volcast_champion_info", "{{model}}")]),
    ("Age of the newest row", SERIES, "s", 12, [("time() - volcast_raw_newest_known_timestamp_seconds", "{{table}}")]),
    ("Stale streams", SERIES, "short", 12, [("volcast_streams_stale > 0", "{{provider}}")]),
    ("Gates: 1 is open", BARS, "short", 12, [("volcast_gate_open", "{{suite}}")]),
    ("Broken expectations", SERIES, "short", 12, [("volcast_gate_failures > 0", "{{suite}} {{severity}}")]),
    ("Forecasts of the newest day", BARS, "short", 12, [("sum by (model) (volcast_forecasts)", "{{model}}")]),
    ("Refused", BARS, "short", 12, [("sum by (model) (volcast_forecasts_refused)", "{{model}}")]),
    ("QLIKE over HARX-cal's, 30 days", SERIES, "short", 12, [('volcast_live_qlike_ratio{window="30d"}', "{{model}} {{horizon}} d")]),
    ("QLIKE over HARX-cal's, 90 days", SERIES, "short", 12, [('volcast_live_qlike_ratio{window="90d"}', "{{model}} {{horizon}} d")]),
    ("QLIKE, 30 days", SERIES, "short", 12, [('volcast_live_qlike{window="30d"}', "{{model}} {{horizon}} d")]),
    ("Coverage of the 80 % interval", SERIES, "percentunit", 12, [('volcast_interval_coverage_ratio{level="0.80"}', "{{model}} {{horizon}} d")]),
    ("Measures that drifted", BARS, "short", 12, [("volcast_drift_measures > 0", "{{model}} {{kind}}")]),
    ("Refused rows", SERIES, "short", 12, [("volcast_quarantined_rows_held", "{{table}}")]),
    ("Duration of runs", SERIES, "s", 12, [("volcast_run_duration_seconds", "{{job}}"), ("volcast_training_duration_seconds", "training")]),
    ("Slowest stages of the daily run", BARS, "s", 12, [('topk(12, volcast_stage_duration_seconds{job="daily"})', "{{stage}}")]),
    ("Waiting for the lock, seconds an hour", SERIES, "s", 12, [("increase(volcast_lock_wait_seconds_total[1h])", "")]),
    ("Size on disk", SERIES, "bytes", 12, [("volcast_size_bytes", "{{part}}"), ("volcast_disk_free_bytes", "free")]),
]  # fmt: skip


def dashboard() -> dict:
    """The dashboard as Grafana imports it."""
    panels, x, y = [], 0, 0
    for number, (title, kind, unit, width, queries) in enumerate(PANELS, 1):
        height = 4 if kind == STAT else 8
        if x + width > 24:
            x, y = 0, y + panels[-1]["gridPos"]["h"]
        panels.append(
            {
                "id": number,
                "title": title,
                "type": kind,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "gridPos": {"x": x, "y": y, "w": width, "h": height},
                "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
                "targets": [
                    {
                        "refId": chr(65 + i),
                        "expr": expr,
                        "legendFormat": legend or "__auto",
                        "instant": kind != SERIES,
                    }
                    for i, (expr, legend) in enumerate(queries)
                ],
            }
        )
        x += width
    variable = {
        "name": "datasource",
        "type": "datasource",
        "query": "prometheus",
        "label": "Prometheus",
    }
    return {
        "title": "volcast",
        "uid": "volcast",
        "tags": ["volcast"],
        "timezone": "utc",
        "refresh": "1m",
        "schemaVersion": 39,
        "time": {"from": "now-14d", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
