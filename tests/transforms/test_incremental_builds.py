"""Building day by day, again and out of order gives what one backfill gives, bit for bit."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.transforms.conftest import Built
from tests.transforms.raw_market import FIVE_MINUTE_DAYS
from tests.transforms.warehouse import dbt, differences, store

STORED = {
    "features.daily": "as_of",
    "features.realized": "known_on",
    "features.hourly": "known_on",
    "features.order_book": "known_on",
    "features.funding_venues": "as_of",
    "intermediate.int_realized_daily": "known_on",
    "intermediate.int_funding_daily": "known_on",
    "intermediate.int_funding_venue_daily": "known_on",
    "intermediate.int_order_book_snapshots": "known_on",
    "intermediate.int_signals": "known_on",
    "intermediate.int_signals_as_of": "as_of",
}
SPLIT = FIVE_MINUTE_DAYS.start + 6  # amid the late and revised days


@pytest.fixture(scope="module")
def daily(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One build up to SPLIT, a daily one, one after a pause, and one of the skipped day and days that were built."""

    def day(number: int) -> date:
        return built.first + timedelta(days=number)

    path = tmp_path_factory.mktemp("daily") / "daily.duckdb"
    store(path, built.frames)
    dbt(
        path,
        ("run", day(0), day(SPLIT)),
        ("run", day(SPLIT + 1), day(SPLIT + 1)),
        ("run", day(SPLIT + 3), day(SPLIT + 4)),
        ("run", day(SPLIT + 1), day(SPLIT + 3)),
    )
    return path, day(SPLIT + 4).isoformat()


@pytest.mark.parametrize("name", STORED)
def test_daily_runs_equal_one_backfill_bit_for_bit(
    built: Built, daily: tuple[Path, str], name: str
) -> None:
    path, last = daily
    assert differences(built.path, path, name, f"{STORED[name]} <= DATE '{last}'") == (0, 0)


def test_the_backfill_reaches_beyond_the_daily_runs(built: Built, daily: tuple[Path, str]) -> None:
    only_whole, only_daily = differences(built.path, daily[0], "features.daily")
    assert only_whole > 0
    assert only_daily == 0
