"""The page on a closed gate: what it says, that mended data opens it, and that a permission does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest

from orchestration.alerts.causes import open_causes
from orchestration.gates import GateClosed, add_override, require_open_gates, run_gate
from orchestration.raw_rows import append_batch
from orchestration.sources.schema import TABLES
from tests.orchestration.small_home import NOW, YESTERDAY, small_home, store_verdict
from tests.runbook.pages import assert_quoted


def gates(settings):
    """Open causes that are gates; rows that came now lie ahead of the present of these tests."""
    return [cause for cause in open_causes(settings, NOW) if cause.section == "gate-closed"]


def test_gate_closed(tmp_path):
    warehouse = small_home(tmp_path / "home")
    decision = warehouse.settings.decision_time(YESTERDAY)
    schema = TABLES["ohlcv"]

    def bars(start, end):
        times = pd.date_range(start, end, freq="5min", inclusive="left")
        frame = pd.DataFrame(
            {"ts": times, "known_at": times + pd.Timedelta(minutes=5), "interval": "5m"}
        )
        frame = frame.assign(
            venue="binance",
            symbol="BTC/USDT",
            source="live",
            open=1.0,
            high=1.01,
            low=0.99,
            close=1.0 + 0.001 * (frame.index % 7),
            volume=5.0 + frame.index % 11,
        ).reindex(columns=list(schema.columns))
        append_batch(
            warehouse,
            schema,
            pa.Table.from_pandas(frame, schema=schema.arrow, preserve_index=False),
            None,
            decision,
            current=True,
        )

    with warehouse.write() as connection:
        connection.execute("DELETE FROM raw.ohlcv")
    bars(decision - timedelta(days=4), decision - timedelta(hours=36))  # then the provider froze
    assert not run_gate(warehouse, "raw.ohlcv", YESTERDAY, YESTERDAY, "night").open
    with warehouse.read() as connection, pytest.raises(GateClosed) as closed:
        require_open_gates(connection, [YESTERDAY])
    assert_quoted("gate-closed", str(closed.value))
    (cause,) = gates(warehouse.settings)
    assert (cause.title, cause.section) == ("gate raw.ohlcv closed for 2026-03-11", "gate-closed")

    add_override(warehouse, "raw.ohlcv", YESTERDAY, "ada", "the venue was down for maintenance")
    assert gates(warehouse.settings) == []

    with warehouse.write() as connection:
        connection.execute("DELETE FROM quality.overrides")
        store_verdict(connection, "raw.ohlcv", YESTERDAY, failed=1, at=datetime.now(UTC))
    assert [cause.key for cause in gates(warehouse.settings)] == ["gate:raw.ohlcv"]
    bars(decision - timedelta(hours=36), decision - timedelta(minutes=10))  # the provider is back
    assert run_gate(warehouse, "raw.ohlcv", YESTERDAY, YESTERDAY, "morning").open
    assert gates(warehouse.settings) == []
