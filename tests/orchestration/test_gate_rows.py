"""A gate looks at the rows that decide, not at the bulk beside them that was judged when it came."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest

from orchestration.gates import run_gate
from orchestration.raw_rows import append_batch
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse

AS_OF = date(2024, 3, 10)
DECISION = datetime(2024, 3, 11, 0, 30, tzinfo=UTC)


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Settings(home=tmp_path / "home"))


def _store(warehouse: Warehouse, table: str, frame: pd.DataFrame) -> None:
    schema = TABLES[table]
    frame = frame.assign(source="live").reindex(columns=list(schema.columns))
    batch = pa.Table.from_pandas(frame, schema=schema.arrow, preserve_index=False)
    count = append_batch(warehouse, schema, batch, None, DECISION, current=True)
    assert count.inserted == len(frame)


def _bars(interval: str, minutes: int, start: datetime, end: datetime) -> pd.DataFrame:
    length = pd.Timedelta(minutes=minutes)
    times = pd.date_range(start, end, freq=length, inclusive="left")
    frame = pd.DataFrame({"ts": times, "known_at": times + length, "interval": interval})
    return frame.assign(
        venue="binance", symbol="BTC/USDT", open=1.0, high=1.01, low=0.99,
        close=1.0 + 0.001 * (frame.index % 7), volume=5.0 + frame.index % 11,
    )  # fmt: skip


def _observed(warehouse: Warehouse, suite: str) -> dict[str, tuple[bool, str]]:
    outcome = run_gate(warehouse, suite, AS_OF, AS_OF, "test")
    return {r.expectation: (r.success, r.observed) for r in outcome.verdict.results}


def test_fresh_minutes_do_not_hide_that_the_bars_of_features_stopped(warehouse):
    day = DECISION - timedelta(days=1)
    _store(
        warehouse, "ohlcv", _bars("5m", 5, day - timedelta(days=3), DECISION - timedelta(hours=9))
    )
    _store(warehouse, "ohlcv", _bars("1m", 1, day - timedelta(days=1), DECISION))
    found = _observed(warehouse, "raw.ohlcv")
    assert found["frame_has_rows"] == (True, f"{15 * 12} rows")  # 00:30 to 15:25, no minute
    assert found["bars_are_fresh"][0] is False
    assert "newest 2024-03-10 15:25" in found["bars_are_fresh"][1]


def test_a_gate_reads_two_days_of_order_books_at_most(warehouse):
    times = pd.date_range(DECISION - timedelta(days=9), DECISION, freq="6h", inclusive="right")
    books = pd.DataFrame({"ts": times, "known_at": times})
    books = books.assign(
        venue="okx", symbol="BTC/USDT", asset="BTC", bids="[[1.0, 2.0]]", asks="[[1.1, 2.0]]"
    )
    _store(warehouse, "order_books", books)
    outcome = run_gate(warehouse, "raw.order_books", AS_OF - timedelta(days=8), AS_OF, "test")
    rows = {r.expectation: r.observed for r in outcome.verdict.results}["frame_has_rows"]
    assert rows == "8 rows"
    assert outcome.open
    assert outcome.verdict.failures == []


def test_a_source_without_order_books_keeps_the_gate_open(warehouse):
    outcome = run_gate(warehouse, "raw.order_books", AS_OF, AS_OF, "test")
    assert outcome.open
    assert [r.expectation for r in outcome.verdict.failures] == ["frame_has_rows"]
