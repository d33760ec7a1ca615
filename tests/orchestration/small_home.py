"""A home of a few rows: enough for metrics, alerts, status and the runbook, made in a tenth of a second instead of a run of the line."""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from orchestration.settings import Settings
from orchestration.warehouse import Warehouse, set_state

NOW = datetime(2026, 3, 12, 9, 0, tzinfo=UTC)
"""The present of these tests."""
YESTERDAY = date(2026, 3, 11)
MODELS = ("harx_cal", "ewma")
COINS = ("BTC", "ETH")


def small_home(path: Path, newest: date = YESTERDAY, **settings: object) -> Warehouse:
    """Two coins and models with forecasts up to ``newest``, bars, scores of 100 days, gates that are open, streams that are well."""
    warehouse = Warehouse(Settings(home=path, source="live", **settings))
    with warehouse.write() as connection:
        set_state(connection, "source", "live")
        champion = {"pin": None, "start": "harx_cal", "models": list(MODELS)}
        set_state(connection, "champion", json.dumps(champion))
        connection.execute(
            "INSERT INTO raw.ohlcv BY NAME SELECT 'binance' AS venue, 'BTC/USDT' AS symbol, '5m' AS interval, "
            "ts, ts + INTERVAL 5 MINUTE AS known_at FROM range(?::TIMESTAMPTZ, ?::TIMESTAMPTZ, INTERVAL 1 HOUR) r(ts)",
            [NOW - timedelta(days=2), NOW],
        )
        for model in MODELS:
            for coin in COINS:
                for horizon in (1, 5):
                    connection.execute(
                        "INSERT INTO forecasts.volatility (asset, as_of, horizon, model, model_version, volatility) VALUES (?, ?, ?, ?, 'v1', 0.5)",
                        [coin, newest, horizon, model],
                    )
                    connection.execute(
                        "INSERT INTO evaluation.scores (asset, as_of, horizon, model, model_version, qlike, covered_80, covered_98) "
                        "SELECT ?, ?::DATE - d::INTEGER, ?, ?, 'v1', ?, d % 5 <> 0, true FROM range(100) r(d)",
                        [coin, newest, horizon, model, 0.2 if model == "harx_cal" else 0.3],
                    )
        store_stream(connection, "binance/ohlcv/5m/BTC", "raw.ohlcv", "binance")
        store_stream(connection, "bybit/open_interest/BTC", "raw.open_interest", "bybit")
        store_verdict(connection, "raw.ohlcv", newest, failed=0)
    return warehouse


def store_stream(connection, stream, table, provider, status="ok", detail="", good=NOW) -> None:
    connection.execute("DELETE FROM raw.streams WHERE stream = ?", [stream])
    connection.execute(
        "INSERT INTO raw.streams (stream, source, table_name, provider, status, detail, succeeded_at, attempted_at) VALUES (?, 'live', ?, ?, ?, ?, ?, ?)",
        [stream, table, provider, status, detail, good, NOW],
    )


def store_verdict(connection, suite, day, failed, at=NOW, by=None) -> None:
    """The verdicts of one run: ``failed`` critical expectations broken, and one that holds."""
    run_id = str(uuid.uuid4())
    for number in range(failed + 1):
        connection.execute(
            "INSERT INTO quality.validations (validation_id, suite, from_as_of, as_of, run_id, expectation, severity, success, observed, checked_at, "
            "overridden_by) VALUES (?, ?, ?, ?, ?, ?, 'critical', ?, 'newest 2026-03-10 15:25', ?, ?)",
            [str(uuid.uuid4()), suite, day, day, run_id, f"expectation_{number}", number == failed, at, by if number < failed else None],
        )  # fmt: skip


def store_run(
    settings, job="daily", day=YESTERDAY, status="SUCCESS", start=NOW, seconds=60.0, last=None
) -> str:
    """A run in Dagster's history, in the tables of the pinned Dagster; test_run_history holds them against a real one."""
    path = settings.dagster_home / "history" / "runs.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    run_id = str(uuid.uuid4())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, run_id TEXT, pipeline_name TEXT, status TEXT, create_timestamp TEXT, "
            "start_time FLOAT, end_time FLOAT)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS run_tags (id INTEGER PRIMARY KEY, run_id TEXT, key TEXT, value TEXT)"
        )
        running = status in ("STARTED", "STARTING")
        connection.execute(
            "INSERT INTO runs (run_id, pipeline_name, status, create_timestamp, start_time, end_time) VALUES (?, ?, ?, ?, ?, ?)",
            [run_id, job, status, f"{start:%Y-%m-%d %H:%M:%S.%f}", start.timestamp(), None if running else start.timestamp() + seconds],
        )  # fmt: skip
        days = (
            {"dagster/partition": day}
            if last is None
            else {
                "dagster/asset_partition_range_start": day,
                "dagster/asset_partition_range_end": last,
            }
        )
        connection.executemany(
            "INSERT INTO run_tags (run_id, key, value) VALUES (?, ?, ?)",
            [(run_id, name, f"{value}") for name, value in days.items()],
        )
    return run_id
