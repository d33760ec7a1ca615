"""The wall clock jumps between and during reads of a live source: nothing is known before it came, no cursor passes what was not read."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from orchestration.ingest import WindowResult, ingest_window
from orchestration.sources.live import LiveConfig, LiveSource
from orchestration.warehouse import Warehouse
from tests.live.conftest import NOW, loopback_only, serve  # noqa: F401
from tests.live.world import World, settings_of

DAY = timedelta(days=1)
AS_OF = date(2024, 6, 30)
TABLE = "onchain_metrics"
CHAIN = "provider = 'coinmetrics'"


class Desk:
    """A warehouse that reads a world of providers; its own clock may be wrong, theirs is right."""

    def __init__(self, home: Path, serve) -> None:  # noqa: F811
        self.home, self._serve = home, serve
        self.warehouse: Warehouse | None = None

    def read(self, present, ahead=timedelta(0), table: str = TABLE) -> WindowResult:
        """Read at the moment ``present`` with a clock that is ``ahead``."""
        world = World(date(2024, 6, 1), present)
        server = self._serve(**world.handlers())
        server.clock = lambda: present
        settings = settings_of(world, self.home, server.url)
        self.warehouse = Warehouse(settings)
        source = LiveSource(
            LiveConfig.of(settings), clock=lambda: present + ahead, sleep=lambda seconds: None
        )
        return ingest_window(self.warehouse, source, table, AS_OF, AS_OF)

    def rows(self, table: str = TABLE, where: str = CHAIN) -> list[tuple[object, ...]]:
        assert self.warehouse is not None
        with self.warehouse.read() as connection:
            return connection.execute(
                f"SELECT known_at, ts, * EXCLUDE (known_at, ts, ingested_at, batch_id) FROM raw.{table} WHERE {where} ORDER BY ALL"
            ).fetchall()


@pytest.fixture
def desk(tmp_path: Path, serve) -> Desk:  # noqa: F811
    return Desk(tmp_path / "jumps", serve)


@pytest.fixture
def steady(tmp_path: Path, serve) -> Desk:  # noqa: F811
    return Desk(tmp_path / "steady", serve)


@pytest.mark.parametrize("ahead", [timedelta(hours=3), 2 * DAY], ids=["3 h", "2 days"])
def test_a_clock_that_was_ahead_loses_no_row(desk, steady, ahead):
    for place, present in enumerate((NOW - 2 * DAY, NOW - DAY, NOW)):
        desk.read(present, ahead if place == 1 else timedelta(0))
        steady.read(present)
    assert [row for row in steady.rows() if row[0] > NOW - 2 * DAY]  # there is something to lose
    assert desk.rows() == steady.rows()


def test_a_clock_that_goes_back_reads_less_and_the_next_read_brings_the_rest(desk, steady):
    desk.read(NOW - DAY)
    desk.read(NOW, -timedelta(hours=3))
    desk.read(NOW)
    steady.read(NOW - DAY)
    steady.read(NOW)
    assert desk.rows() == steady.rows()


def test_a_cursor_that_lies_in_the_future_is_not_believed(desk, steady):
    desk.read(NOW - DAY)
    with desk.warehouse.write() as connection:
        connection.execute(
            "UPDATE raw.streams SET known_until = ? WHERE table_name = 'raw.onchain_metrics'",
            [NOW + 30 * DAY],
        )
    result = desk.read(NOW)
    steady.read(NOW)
    assert any("which is yet to come" in note for note in result.notes)
    assert sorted(map(str, (row[1:] for row in desk.rows()))) == sorted(
        map(str, (row[1:] for row in steady.rows()))
    )
    late = desk.rows(where=f"{CHAIN} AND known_at > TIMESTAMPTZ '{NOW - DAY}'")
    assert {row[0] for row in late} == {NOW}  # known on arrival


def test_prices_read_by_a_clock_that_is_ahead_hold_no_bar_that_has_not_ended(desk, steady):
    desk.read(NOW - DAY, 2 * DAY, "ohlcv")
    bars = desk.rows("ohlcv", "true")
    desk.read(NOW, table="ohlcv")
    steady.read(NOW, table="ohlcv")
    assert all(bar in steady.rows("ohlcv", "true") for bar in bars)
    assert desk.rows("ohlcv", "true") == steady.rows("ohlcv", "true")
