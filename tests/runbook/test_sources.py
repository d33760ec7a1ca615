"""Pages on providers: one that has no prices stops the day, any other does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestration.alerts.causes import open_causes
from orchestration.assets.ingest import require_prices
from orchestration.ingest import ingest_window
from orchestration.settings import Settings
from orchestration.sources.live.errors import ProviderUnavailable
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.protocol import Page
from orchestration.warehouse import Warehouse
from tests.runbook.pages import assert_quoted

PRESENT = datetime(2026, 3, 12, 0, 31, tzinfo=UTC)


class Down:
    """A live source of one stream whose provider does not answer."""

    name = "live"
    assets = ("BTC",)

    def __init__(self, table: str, provider: str) -> None:
        self.table, self.provider = table, provider

    def streams(self, table: str) -> list[LiveStream]:
        return [
            LiveStream(
                f"{self.provider}/{table}/BTC", table, self.provider, self._read, assets=("BTC",)
            )
        ]

    def _read(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        raise ProviderUnavailable(
            self.provider, f"api.{self.provider}.com", "503 Service Unavailable"
        )
        yield

    def first_day(self) -> date:
        return date(2026, 3, 1)

    def now(self) -> datetime:
        return PRESENT


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Settings(home=tmp_path / "home", source="live"))


def test_prices_down(warehouse):
    found = ingest_window(
        warehouse, Down("ohlcv", "binance"), "ohlcv", PRESENT.date(), PRESENT.date()
    )
    with pytest.raises(ConnectionError) as stopped:  # which Dagster's retry policy tries again
        require_prices("ohlcv", found)
    assert_quoted("prices-down", str(stopped.value), line=1)
    (cause,) = open_causes(warehouse.settings, PRESENT)
    assert_quoted("prices-down", cause.title)
    assert (cause.severity, cause.section) == ("critical", "prices-down")


def test_another_provider_down(warehouse):
    found = ingest_window(
        warehouse, Down("open_interest", "bybit"), "open_interest", PRESENT.date(), PRESENT.date()
    )
    require_prices("open_interest", found)  # the line goes on
    (cause,) = open_causes(warehouse.settings, PRESENT + timedelta(hours=25))
    assert_quoted("provider-down", cause.title)
    assert (cause.severity, cause.section) == ("warning", "provider-down")
    assert "503 Service Unavailable" in cause.lines[0]
