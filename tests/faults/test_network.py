"""A provider cut in the middle of an answer: its stream is stale and says so, the others go on, and the next read heals to the same rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from orchestration.ingest import WindowResult, fill_tables
from orchestration.sources.live import LiveConfig, LiveSource
from orchestration.warehouse import Warehouse
from tests.live.conftest import NOW
from tests.live.server import DROPPED, HTML, NOTHING, RESET, TRUNCATED, ProviderServer
from tests.live.world import World, settings_of

TABLES = ("ohlcv", "onchain_metrics", "funding_rates")


@pytest.fixture(scope="module")
def world() -> World:
    return World(date(2024, 6, 1), NOW)


@pytest.fixture(scope="module")
def calm(world: World, tmp_path_factory: pytest.TempPathFactory):
    """What a reader gets whom nothing disturbs."""
    with ProviderServer(world.handlers(), clock=lambda: NOW) as server:
        warehouse, _ = _read(world, tmp_path_factory.mktemp("calm"), server.url)
    return _rows(warehouse)


def _read(world: World, home: Path, url: str) -> tuple[Warehouse, list[WindowResult]]:
    settings = settings_of(world, home, url)
    source = LiveSource(LiveConfig.of(settings), clock=lambda: NOW, sleep=lambda seconds: None)
    warehouse = Warehouse(settings)
    return warehouse, fill_tables(warehouse, source, TABLES)


def _rows(warehouse: Warehouse) -> dict[str, list[tuple[object, ...]]]:
    with warehouse.read() as connection:
        return {
            table: connection.execute(
                f"SELECT * EXCLUDE (ingested_at, batch_id) FROM raw.{table} ORDER BY ALL"
            ).fetchall()
            for table in TABLES
        }


ALL = [
    (provider, fault)
    for provider in ("coinmetrics", "binanceusdm")
    for fault in (RESET, TRUNCATED, HTML, NOTHING, DROPPED)
]
QUICK = [("coinmetrics", RESET), ("binanceusdm", TRUNCATED)]


@pytest.mark.parametrize(
    ("provider", "fault"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.faults) for case in ALL],
)
def test_a_provider_that_is_cut_is_stale_and_the_next_read_is_whole(
    world: World,
    calm,
    tmp_path: Path,
    serve,
    provider: str,
    fault: str,
) -> None:
    server = serve(**world.handlers())
    server.always[provider] = fault
    warehouse, results = _read(world, tmp_path / "home", server.url)
    stale = {item.stream for result in results for item in result.stale}
    assert any(name.startswith(provider) for name in stale), stale
    during = _rows(warehouse)
    assert during["ohlcv"] == calm["ohlcv"]  # the others went on
    assert all(set(during[table]) <= set(calm[table]) for table in TABLES)
    server.always.clear()
    again, _ = _read(world, tmp_path / "home", server.url)
    assert _rows(again) == calm
    with again.read() as connection:
        assert connection.execute("SELECT count(*) FROM quarantine.rows").fetchone() == (0,)
