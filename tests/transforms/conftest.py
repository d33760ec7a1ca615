"""One made-up market, built once for all tests of the SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.transforms.raw_market import DAYS, FIRST_DAY, Frames, raw_market
from tests.transforms.warehouse import dbt, store

LAST_AS_OF = FIRST_DAY + timedelta(days=DAYS - 2)


@dataclass(frozen=True)
class Built:
    """A warehouse, the raw rows it was made from, and the status of each dbt node."""

    path: Path
    frames: Frames
    statuses: dict[str, str]
    first: date
    last: date


@pytest.fixture(scope="session")
def market() -> Frames:
    return raw_market()


@pytest.fixture(scope="session")
def built(market: Frames, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The whole market backfilled at once, unit tests and data tests included."""
    path = tmp_path_factory.mktemp("warehouse") / "whole.duckdb"
    store(path, market)
    # models first: a unit test reads the column types of its inputs from relations that exist
    span = (FIRST_DAY, LAST_AS_OF)
    statuses = dbt(path, ("run", *span), ("test", *span))
    return Built(path, market, statuses, FIRST_DAY, LAST_AS_OF)
