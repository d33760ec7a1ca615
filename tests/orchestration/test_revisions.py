"""What was revised: made-up revisions counted by hand, and the archive's downloads told apart by what moves in them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from orchestration.revisions import HEADER, PROVIDER_FAMILY, revision_table
from orchestration.settings import TRANSFORMS_DIR, Settings
from orchestration.sources.archive import ArchiveSource
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse

DAY = datetime(2024, 3, 1, tzinfo=UTC)
Rows = dict[tuple[str, str, str], dict[str, Any]]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as memory:
        memory.execute("SET TimeZone = 'UTC'; CREATE SCHEMA raw")
        for table in TABLES.values():
            columns = ", ".join(f'"{c}" {kind}' for c, kind in table.warehouse_columns.items())
            memory.execute(f"CREATE TABLE {table.qualified_name} ({columns})")
        yield memory


def _store(connection: duckdb.DuckDBPyConnection, table: str, *rows: dict[str, Any]) -> None:
    schema = TABLES[table]
    frame = pd.DataFrame(rows).assign(source="live", batch_id="a")
    frame["ingested_at"] = frame["known_at"]
    frame = frame.reindex(columns=list(schema.warehouse_columns))
    connection.register("frame", frame)
    connection.execute(f"INSERT INTO {schema.qualified_name} BY NAME SELECT * FROM frame")
    connection.unregister("frame")


def _table(connection: duckdb.DuckDBPyConnection) -> Rows:
    header, rows = revision_table(connection)
    assert header == HEADER
    return {row[:3]: dict(zip(header[3:], row[3:], strict=True)) for row in rows}


def _count(
    value: float | None,
    *,
    day: int = 0,
    known_days: float = 1.5,
    metric: str = "TxCnt",
    provider: str = "coinmetrics",
    asset: str = "BTC",
) -> dict[str, Any]:
    ts = DAY + timedelta(days=day)
    return {
        "provider": provider,
        "asset": asset,
        "metric": metric,
        "ts": ts,
        "value": value,
        "known_at": ts + timedelta(days=known_days),
    }


def _bar(day: int, known_days: float = 0.1, **values: float | None) -> dict[str, Any]:
    ts = DAY + timedelta(days=day)
    return {
        "venue": "binance",
        "symbol": "BTC/USDT",
        "interval": "1h",
        "ts": ts,
        "known_at": ts + timedelta(days=known_days),
        **values,
    }


def test_nothing_stored_gives_no_row(connection) -> None:
    assert revision_table(connection) == (HEADER, [])


def test_facts_revisions_and_changes_are_counted_by_metric(connection) -> None:
    _store(
        connection,
        "onchain_metrics",
        _count(100.0, day=0),
        _count(110.0, day=0, known_days=3),  # revised twice, 100 -> 121
        _count(121.0, day=0, known_days=5),
        _count(100.0, day=1),
        _count(98.0, day=1, known_days=4),  # -2 %
        _count(100.0, day=2),
        _count(100.0 + 1e-9, day=2, known_days=4),  # the same, printed otherwise
        *(_count(100.0, day=day) for day in range(3, 10)),
        _count(5.0, metric="AdrActCnt"),
        _count(7.0, metric="TxCnt", provider="etherscan"),
    )
    found = _table(connection)
    row = found["raw.onchain_metrics", "coinmetrics", "TxCnt"]
    assert row["facts"] == 10
    assert row["share revised"] == pytest.approx(0.2)
    assert row["revisions"] == 3
    assert row["median change"] == pytest.approx((0.21 + 0.02) / 2)
    assert row["p99 change"] == pytest.approx(0.02 + 0.99 * 0.19)
    assert row["latest revision"] == DAY + timedelta(days=5)
    assert row["oldest revised (days)"] == 5
    assert row["history moves"] is True
    still = found["raw.onchain_metrics", "coinmetrics", "AdrActCnt"]
    assert still == {
        "facts": 1, "share revised": 0, "revisions": 0, "median change": None, "p99 change": None,
        "latest revision": None, "oldest revised (days)": None, "history moves": False,
    }  # fmt: skip
    assert found["raw.onchain_metrics", "etherscan", "TxCnt"]["facts"] == 1


def test_wide_tables_are_told_by_column(connection) -> None:
    _store(
        connection,
        "ohlcv",
        *(_bar(day, open=1.0, close=2.0, volume=10.0, trades=None) for day in range(40)),
        _bar(3, known_days=2, open=1.0, close=2.0, volume=11.0, trades=7.0),
    )
    found = _table(connection)
    volume = found["raw.ohlcv", "binance", "volume"]
    assert (volume["facts"], volume["revisions"]) == (40, 1)
    assert volume["share revised"] == pytest.approx(1 / 40)
    assert volume["median change"] == pytest.approx(0.1)
    assert volume["history moves"] is False  # 2.5 % of facts, and young
    assert found["raw.ohlcv", "binance", "close"]["revisions"] == 0
    trades = found["raw.ohlcv", "binance", "trades"]
    assert (trades["facts"], trades["revisions"]) == (
        1,
        0,
    )  # a value that was missing is no revision
    assert ("raw.ohlcv", "binance", "quote_volume") not in found


def test_little_of_an_old_past_moving_is_enough_for_the_flag(connection) -> None:
    facts = [_count(100.0, day=day) for day in range(60)]
    _store(connection, "onchain_metrics", *facts, _count(102.0, day=5, known_days=30))
    assert _table(connection)["raw.onchain_metrics", "coinmetrics", "TxCnt"]["history moves"]


@pytest.mark.parametrize(
    ("value", "known_days"), [(100.05, 30), (102.0, 6)], ids=["hardly", "at once"]
)
def test_what_moves_hardly_or_at_once_is_not_flagged(connection, value, known_days) -> None:
    facts = [_count(100.0, day=day) for day in range(60)]
    _store(connection, "onchain_metrics", *facts, _count(value, day=5, known_days=known_days))
    row = _table(connection)["raw.onchain_metrics", "coinmetrics", "TxCnt"]
    assert (row["revisions"], row["history moves"]) == (1, False)


def test_a_value_that_came_back_counts_as_revised_by_nothing(connection) -> None:
    _store(
        connection,
        "onchain_metrics",
        *(_count(v, known_days=1 + i) for i, v in enumerate([100.0, 130.0, 100.0])),
    )
    row = _table(connection)["raw.onchain_metrics", "coinmetrics", "TxCnt"]
    assert (row["revisions"], row["median change"]) == (2, 0)


def test_a_first_value_of_zero_changes_by_all_of_the_newest(connection) -> None:
    _store(connection, "onchain_metrics", _count(0.0), _count(-8.0, known_days=3))
    row = _table(connection)["raw.onchain_metrics", "coinmetrics", "TxCnt"]
    assert row["median change"] == 1


def test_downloads_of_one_provider_are_versions_of_one_series(connection) -> None:
    _store(
        connection,
        "onchain_metrics",
        _count(100.0, provider="coinmetrics_csv_2024-03-20"),
        _count(120.0, provider="coinmetrics_api_2024-06", known_days=90),
        _count(120.0, provider="coinmetrics_live", known_days=90),
    )
    found = _table(connection)
    row = found["raw.onchain_metrics", "coinmetrics", "TxCnt"]
    assert (row["facts"], row["revisions"], row["oldest revised (days)"]) == (1, 1, 90)
    assert found["raw.onchain_metrics", "coinmetrics_live", "TxCnt"]["facts"] == 1


def test_the_family_of_a_provider_is_that_of_the_features(connection) -> None:
    macro = (TRANSFORMS_DIR / "macros" / "providers.sql").read_text()
    assert PROVIDER_FAMILY.replace("provider,", "{{ column }},") in macro


def test_edited_headlines_are_counted_and_have_no_change(connection) -> None:
    def headline(identity: int, title: str, hours: float) -> dict[str, Any]:
        return {
            "publisher": "desk",
            "id": str(identity),
            "ts": DAY,
            "title": title,
            "url": "https://example.org",
            "known_at": DAY + timedelta(hours=hours),
        }

    _store(
        connection,
        "headlines",
        *(headline(i, "Bitcoin up", 1) for i in range(4)),
        headline(2, "Bitcoin down", 2),
    )
    row = _table(connection)["raw.headlines", "desk", "title"]
    assert (row["facts"], row["revisions"], row["median change"]) == (4, 1, None)
    assert _table(connection)["raw.headlines", "desk", "url"]["revisions"] == 0


def test_what_moves_comes_first_and_a_read_only_home_is_enough(tmp_path: Path) -> None:
    warehouse = Warehouse(Settings(home=tmp_path / "home"))
    with warehouse.write() as writer:
        _store(writer, "ohlcv", _bar(1, close=2.0))
        _store(writer, "onchain_metrics", _count(1.0), _count(2.0, known_days=9))
    with warehouse.read() as reader:
        _, rows = revision_table(reader)
    assert [row[:3] for row in rows] == [
        ("raw.onchain_metrics", "coinmetrics", "TxCnt"),
        ("raw.ohlcv", "binance", "close"),
    ]


@pytest.mark.archive
def test_the_archives_flows_move_and_its_chain_counts_do_not(
    connection, archive_folder: Path
) -> None:
    source = ArchiveSource(archive_folder, ("BTC", "ETH"))
    for batch in source.batches("onchain_metrics", None, datetime(2027, 1, 1, tzinfo=UTC)):
        connection.register("batch", batch)
        connection.execute(
            "INSERT INTO raw.onchain_metrics BY NAME SELECT *, known_at AS ingested_at, 'a' AS batch_id FROM batch"
        )
        connection.unregister("batch")
    found = _table(connection)
    for metric in ("FlowInExUSD", "FlowOutExUSD"):
        row = found["raw.onchain_metrics", "coinmetrics", metric]
        assert row["history moves"], metric
        assert 0.03 < row["median change"] < 0.07, metric
        assert row["p99 change"] > 0.3, metric
        assert row["oldest revised (days)"] > 2000, metric
    for metric in ("AdrActCnt", "TxCnt", "HashRate", "CapMVRVCur"):
        row = found["raw.onchain_metrics", "coinmetrics", metric]
        assert row["facts"] > 2000, metric
        assert row["revisions"] == 0, metric
        assert not row["history moves"], metric
