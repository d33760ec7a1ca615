"""The live source as a whole: everything it offers lands in the warehouse once, whatever the providers do meanwhile."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.ingest import capture, fill_tables
from orchestration.sources.live import LiveConfig, LiveSource
from orchestration.sources.live.check import probe_all
from orchestration.warehouse import Warehouse
from tests.live.conftest import NOW
from tests.live.server import storm
from tests.live.world import World, settings_of

TABLES = (
    "ohlcv", "funding_rates", "open_interest", "onchain_metrics", "sentiment_metrics", "headlines", "order_books",
)  # fmt: skip
STAMPED_ON_ARRIVAL = "headlines", "order_books"


@pytest.fixture(scope="module")
def world() -> World:
    return World(date(2024, 5, 1), NOW)


class Reader:
    """A live source and its warehouse; the clock stands at NOW."""

    def __init__(self, world: World, home: Path, url: str) -> None:
        self.settings = settings_of(world, home, url)
        self.warehouse = Warehouse(self.settings)

    def source(self) -> LiveSource:
        return LiveSource(
            LiveConfig.of(self.settings), clock=lambda: NOW, sleep=lambda seconds: None
        )

    def fill(self) -> list[str]:
        """Read everything; returns the streams that stayed behind."""
        results = fill_tables(self.warehouse, self.source())
        return [stale.stream for result in results for stale in result.stale]

    def rows(self, table: str) -> list[tuple[object, ...]]:
        with self.warehouse.read() as connection:
            return connection.execute(
                f"SELECT * EXCLUDE (ingested_at, batch_id) FROM raw.{table} ORDER BY ALL"
            ).fetchall()


def test_everything_that_is_offered_is_stored_once_with_the_time_it_was_known(
    world, serve, tmp_path
):
    server = serve(**world.handlers())
    reader = Reader(world, tmp_path / "home", server.url)
    stale = reader.fill()
    assert {name.split("/")[0] for name in stale} <= {
        "gdelt",
        "deribit",
    }  # the world has none of these
    bars = reader.rows("ohlcv")
    offered = [
        row for row in world.raw["ohlcv"] if row["interval"] == "1h" and row["known_at"] <= NOW
    ]
    assert len(bars) == len(offered)
    with reader.warehouse.read() as connection:
        assert connection.execute(
            "SELECT count(*) FROM raw.ohlcv WHERE known_at <> ts + INTERVAL 61 MINUTE"
        ).fetchone() == (0,)
        known = connection.execute(
            "SELECT DISTINCT known_at - ts FROM raw.onchain_metrics WHERE provider = 'coinmetrics'"
        ).fetchall()
        assert known == [(timedelta(hours=29),)]
    assert all(reader.rows(table) for table in TABLES)


def test_reading_again_adds_nothing_but_what_exists_only_now(world, serve, tmp_path):
    server = serve(**world.handlers())
    reader = Reader(world, tmp_path / "home", server.url)
    reader.fill()
    before = {table: reader.rows(table) for table in TABLES}
    asked = len(server.requests)
    reader.fill()
    assert {table: reader.rows(table) for table in TABLES} == before
    assert len(server.requests) - asked < asked


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_after_a_bad_day_the_warehouse_holds_what_a_good_day_gives(world, serve, tmp_path, seed):
    server = serve(**world.handlers())
    good, bad = (Reader(world, tmp_path / name, server.url) for name in ("good", "bad"))
    good.fill()
    server.plan(storm(seed, 400, share=0.7))
    for _ in range(4):
        bad.fill()
    server.calm()
    bad.fill()
    for table in TABLES:
        assert bad.rows(table) == good.rows(table), table


def test_one_provider_that_refuses_leaves_the_others_alone(serve, tmp_path):
    world = World(date(2024, 6, 1), NOW, down={"coinmetrics", "alternative.me"})
    reader = Reader(world, tmp_path / "home", serve(**world.handlers()).url)
    stale = reader.fill()
    assert {name.split("/")[0] for name in stale} >= {"coinmetrics", "alternative.me"}
    assert reader.rows("ohlcv")
    assert reader.rows("funding_rates")
    with reader.warehouse.read() as connection:
        found = connection.execute(
            "SELECT DISTINCT status, detail LIKE '%403%' FROM raw.streams WHERE provider = 'coinmetrics'"
        ).fetchall()
    assert found == [("refused", True)]


def test_captures_take_books_and_headlines_and_nothing_else(world, serve, tmp_path):
    server = serve(**world.handlers())
    reader = Reader(world, tmp_path / "home", server.url)
    found = capture(reader.warehouse, reader.source())
    assert {table for table, result in found.items() if result.count.inserted} >= {
        "headlines",
        "order_books",
    }
    assert reader.rows("ohlcv") == []


def test_each_provider_is_asked_for_one_row_and_says_how_it_is(serve, tmp_path):
    world = World(date(2024, 6, 1), NOW, down={"coinmetrics"})
    server = serve(**world.handlers())
    settings = settings_of(world, tmp_path / "home", server.url)
    probes = {
        probe.provider: probe for probe in probe_all(LiveConfig.of(settings), clock=lambda: NOW)
    }
    assert probes["coinmetrics"].status == "refused"
    assert "403" in probes["coinmetrics"].detail
    assert probes["prices"].status == "ok"
    assert "BTC/USDT" in probes["prices"].detail
    assert {"binanceusdm", "defillama", "alternative.me"} <= {
        name for name, probe in probes.items() if probe.status == "ok"
    }


def test_the_last_day_is_one_whose_decision_time_has_passed():
    def at(hour: int, minute: int) -> date:
        clock = datetime(2024, 7, 1, hour, minute, tzinfo=UTC)
        return LiveSource(LiveConfig(), clock=lambda: clock).last_day()

    assert at(0, 29) == date(2024, 6, 29)
    assert at(0, 30) == date(2024, 6, 30)
