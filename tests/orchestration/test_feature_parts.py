"""A long history is built in parts that fit into memory; the parts cover every day once."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from orchestration.assets import features
from orchestration.dbt import DbtResult
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 10)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """Ten days of 288 bars, and five old ones that became known before the first day."""
    warehouse = Warehouse(Settings(home=tmp_path / "home"))
    with warehouse.write() as connection:
        connection.execute(
            """
            INSERT INTO raw.ohlcv (venue, symbol, "interval", ts, known_at, source)
            SELECT 'v', 'BTC/USDT', '5m', ts, ts + INTERVAL 6 MINUTE, 'archive'
            FROM generate_series(TIMESTAMPTZ '2024-01-01 00:00:00+00', TIMESTAMPTZ '2024-01-10 23:55:00+00', INTERVAL 5 MINUTE) AS t(ts)
            UNION ALL
            SELECT 'v', 'BTC/USDT', '5m', ts, ts + INTERVAL 6 MINUTE, 'archive'
            FROM generate_series(TIMESTAMPTZ '2023-12-27 12:00:00+00', TIMESTAMPTZ '2023-12-31 12:00:00+00', INTERVAL 1 DAY) AS t(ts)
            """
        )
    return warehouse


@pytest.mark.parametrize("most", [1, 300, 600, 1000, 10_000])
def test_parts_cover_every_day_once_and_hold_no_more_bars_than_fit(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(features, "BARS_AT_ONCE", most)
    with warehouse.read() as connection:
        parts = features.build_parts(connection, warehouse.settings, FIRST, LAST)
    days = [
        start + timedelta(days=n) for start, end in parts for n in range((end - start).days + 1)
    ]
    assert days == [FIRST + timedelta(days=n) for n in range(10)]
    assert len(parts) == {1: 10, 300: 10, 600: 5, 1000: 4, 10_000: 1}[most]


def test_one_day_is_one_part_however_many_bars_it_brings(warehouse: Warehouse) -> None:
    with warehouse.read() as connection:
        assert features.build_parts(connection, warehouse.settings, LAST, LAST) == [(LAST, LAST)]


def test_a_data_test_that_failed_in_an_earlier_part_stays_failed() -> None:
    def ran(**statuses: str) -> list[DbtResult]:
        return [DbtResult(name, status, "", 0, 0.0) for name, status in statuses.items()]

    worst = features._worst(ran(a="fail", b="pass", c="warn"), ran(a="pass", b="pass", c="error"))
    assert [(item.unique_id, item.status) for item in worst] == [
        ("a", "fail"),
        ("b", "pass"),
        ("c", "error"),
    ]


JUNE = {"fingerprint": "f", "from": "2024-01-01", "to": "2024-06-30", "raw_rows": 10, "results": []}


@pytest.mark.parametrize(
    ("state", "fingerprint", "first", "last", "wanted"),
    [
        ({}, "f", date(2024, 3, 1), date(2024, 3, 9), (FIRST, date(2024, 3, 9), True)),
        (
            JUNE,
            "f",
            date(2024, 7, 2),
            date(2024, 7, 2),
            (date(2024, 7, 1), date(2024, 7, 2), False),
        ),
        (JUNE, "g", date(2024, 7, 1), date(2024, 7, 1), (FIRST, date(2024, 7, 1), True)),
        # killed in the first part of a build from scratch: some tables are the new setting's, whatever is asked for now
        (
            {**JUNE, "open_from": "2024-01-01", "refresh": True},
            "f",
            date(2024, 3, 1),
            date(2024, 3, 1),
            (FIRST, date(2024, 6, 30), True),
        ),
        # killed in a later part: the rest is built by whoever comes next
        (
            {**JUNE, "open_from": "2024-04-01", "refresh": False},
            "f",
            date(2024, 7, 1),
            date(2024, 7, 1),
            (date(2024, 4, 1), date(2024, 7, 1), False),
        ),
    ],
)
def test_what_a_killed_build_left_is_built_by_the_next_run(
    state: dict[str, object], fingerprint: str, first: date, last: date, wanted: object
) -> None:
    assert features.range_to_build(state, fingerprint, first, last, FIRST) == wanted
    assert not features.is_built(state, fingerprint, 10, first, last)


def test_days_that_were_built_before_older_rows_came_are_not_taken_for_built() -> None:
    after_daily_run = {**JUNE, "rows_from": "2024-06-30"}
    june = (date(2024, 6, 1), date(2024, 6, 30))
    assert features.is_built(JUNE, "f", 10, *june)
    assert not features.is_built(after_daily_run, "f", 10, *june)
    assert features.is_built(after_daily_run, "f", 10, june[1], june[1])
