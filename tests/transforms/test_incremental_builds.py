"""Building day by day, again and out of order gives what one backfill gives, bit for bit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.transforms.conftest import Built
from tests.transforms.raw_market import ASSETS, FIVE_MINUTE_DAYS, Frames
from tests.transforms.warehouse import dbt, differences, store

STORED = {
    "features.daily": "as_of",
    "features.realized": "known_on",
    "features.hourly": "known_on",
    "intermediate.int_realized_daily": "known_on",
    "intermediate.int_funding_daily": "known_on",
    "intermediate.int_signals": "known_on",
    "intermediate.int_signals_as_of": "as_of",
}
SPLIT = FIVE_MINUTE_DAYS.start + 6  # amid the late and revised days


def _known_between(frames: Frames, after: pd.Timestamp, until: pd.Timestamp) -> Frames:
    return {
        name: frame[(frame["known_at"] > after) & (frame["known_at"] <= until)]
        for name, frame in frames.items()
    }


@pytest.fixture(scope="module")
def daily(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One build up to SPLIT, three daily ones, one after a pause; rows arrive as they become known."""
    path = tmp_path_factory.mktemp("daily") / "daily.duckdb"
    known = pd.Timestamp("2000-01-01", tz="UTC")
    for first, last in (
        (0, SPLIT),
        (SPLIT + 1, SPLIT + 1),
        (SPLIT + 2, SPLIT + 2),
        (SPLIT + 4, SPLIT + 5),
    ):
        decision = pd.Timestamp(built.first, tz="UTC") + pd.Timedelta(days=last + 1, minutes=30)
        store(path, _known_between(built.frames, known, decision))
        known = decision
        dbt(
            path,
            "run",
            from_date=built.first + timedelta(days=first),
            to_date=built.first + timedelta(days=last),
            assets=list(ASSETS),
        )
    # the day that was skipped, and days that are built already
    dbt(
        path,
        "run",
        from_date=built.first + timedelta(days=SPLIT + 2),
        to_date=built.first + timedelta(days=SPLIT + 4),
        assets=list(ASSETS),
    )
    return path, (built.first + timedelta(days=SPLIT + 5)).isoformat()


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
