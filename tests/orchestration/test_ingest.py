from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from orchestration.ingest import ingest_window
from orchestration.raw_rows import append_batch, release_rows
from orchestration.settings import Settings
from orchestration.sources.bundle import FeedBundle, WholeTable
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, WarehouseError

SCHEMA = TABLES["onchain_metrics"]
DAY = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Settings(home=tmp_path / "home"))


def _row(
    value: float, *, day: int = 0, known_hours: float = 29, metric: str = "AdrActCnt"
) -> dict[str, object]:
    ts = DAY + timedelta(days=day)
    return {
        "provider": "coinmetrics",
        "asset": "BTC",
        "metric": metric,
        "ts": ts,
        "value": value,
        "known_at": ts + timedelta(hours=known_hours),
        "source": "simulated",
    }


def _batch(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA.arrow)


def _append(warehouse: Warehouse, *rows: dict[str, object]):
    return append_batch(warehouse, SCHEMA, _batch(*rows), None, DAY + timedelta(days=60))


def _values(warehouse: Warehouse) -> list[tuple[object, ...]]:
    with warehouse.read() as connection:
        return connection.execute(
            "SELECT ts, known_at, value FROM raw.onchain_metrics ORDER BY ts, known_at, value"
        ).fetchall()


def test_the_same_batch_twice_adds_nothing(warehouse):
    rows = [_row(100.0 + day, day=day) for day in range(5)]
    assert _append(warehouse, *rows).inserted == 5
    again = _append(warehouse, *rows)
    assert (again.inserted, again.duplicate) == (0, 5)


def test_overlapping_batches_add_only_what_is_new(warehouse):
    _append(warehouse, *[_row(100.0 + day, day=day) for day in range(5)])
    count = _append(warehouse, *[_row(100.0 + day, day=day) for day in range(3, 8)])
    assert (count.inserted, count.duplicate) == (3, 2)
    assert len(_values(warehouse)) == 8


def test_a_revision_is_a_new_row_and_the_old_one_stays(warehouse):
    _append(warehouse, _row(100.0))
    _append(warehouse, _row(103.0, known_hours=200))
    assert [value for *_, value in _values(warehouse)] == [100.0, 103.0]


def test_both_versions_in_one_batch_stay_idempotent(warehouse):
    versions = [_row(100.0), _row(103.0, known_hours=200)]
    assert _append(warehouse, *versions).inserted == 2
    assert _append(warehouse, *reversed(versions)).inserted == 0


def test_a_value_that_returns_is_a_third_version(warehouse):
    _append(warehouse, _row(100.0))
    _append(warehouse, _row(103.0, known_hours=200))
    _append(warehouse, _row(100.0, known_hours=300))
    assert [value for *_, value in _values(warehouse)] == [100.0, 103.0, 100.0]


def test_a_changed_value_that_claims_an_old_known_at_counts_as_known_when_it_arrived(warehouse):
    _append(warehouse, _row(100.0))
    before = datetime.now(UTC)
    _append(warehouse, _row(103.0))
    (_, first, _), (_, second, value) = _values(warehouse)
    assert value == 103.0
    assert first == DAY + timedelta(hours=29)
    assert second >= before
    assert _append(warehouse, _row(103.0), _row(104.0, day=1)).inserted == 1


def test_a_conflict_within_one_batch_goes_to_quarantine_whole(warehouse):
    count = _append(warehouse, _row(100.0), _row(101.0), _row(7.0, day=1))
    assert (count.inserted, count.quarantined) == (1, 2)
    with warehouse.read() as connection:
        reasons = connection.execute("SELECT DISTINCT reason FROM quarantine.rows").fetchall()
    assert "unique" in reasons[0][0]


def test_offered_rows_are_all_accounted_for(warehouse):
    rows = [_row(float("nan")), _row(5.0, day=1), _row(5.0, day=1), _row(6.0, day=2)]
    count = _append(warehouse, *rows)
    assert count.offered == 4
    assert count.inserted + count.duplicate + count.quarantined == 4
    assert count.quarantined == 1
    assert [value for *_, value in _values(warehouse)] == [5.0, 6.0]


def test_a_released_row_counts_as_known_from_its_release(warehouse):
    _append(warehouse, _row(100.0), _row(101.0))
    with warehouse.read() as connection:
        ids = [
            str(row[0])
            for row in connection.execute("SELECT row_id FROM quarantine.rows").fetchall()
        ]
    before = datetime.now(UTC)
    assert release_rows(warehouse, ids[:1], "ada") == 1
    ((_, known_at, _),) = _values(warehouse)
    assert known_at >= before
    with pytest.raises(WarehouseError, match="released already"):
        release_rows(warehouse, ids[:1], "ada")


class _Source(FeedBundle):
    """A source of one table whose rows are given; counts what it is asked for."""

    name = "simulated"
    assets = ("BTC",)

    def __init__(self, rows: list[dict[str, object]]) -> None:
        self.rows, self.asked = rows, []

    def first_day(self) -> date:
        return date(2024, 3, 1)

    def streams(self, table: str) -> list[WholeTable]:
        return [WholeTable(self, table)]

    def batches(
        self, table: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[pa.Table]:
        self.asked.append((known_after, known_until))
        yield _batch(
            *[
                row
                for row in self.rows
                if (known_after is None or row["known_at"] > known_after)
                and row["known_at"] <= known_until
            ]
        )


def test_a_pause_loses_nothing_and_daily_windows_equal_one_window(tmp_path):
    rows = [_row(100.0 + day, day=day) for day in range(20)]
    source = _Source(rows)
    one, daily = (Warehouse(Settings(home=tmp_path / name)) for name in ("one", "daily"))
    last = date(2024, 3, 18)
    ingest_window(one, source, "onchain_metrics", last, last)
    for day in (date(2024, 3, 3), date(2024, 3, 4), date(2024, 3, 9), last):
        ingest_window(daily, source, "onchain_metrics", day, day)
    assert _values(one) == _values(daily)
    assert len(_values(one)) == 17  # day D is known at D+1 05:00, after the decision of D


def test_a_window_asks_from_the_cursor_and_an_old_day_asks_again(warehouse):
    source = _Source([])
    day = date(2024, 3, 10)
    ingest_window(warehouse, source, "onchain_metrics", day, day)
    ingest_window(
        warehouse, source, "onchain_metrics", day + timedelta(days=3), day + timedelta(days=3)
    )
    ingest_window(warehouse, source, "onchain_metrics", day, day)
    decision = warehouse.settings.decision_time
    assert source.asked == [
        (None, decision(day)),
        (decision(day), decision(day + timedelta(days=3))),
        (decision(day - timedelta(days=1)), decision(day)),
    ]


def test_one_home_holds_one_source(warehouse):
    source = _Source([])
    ingest_window(warehouse, source, "onchain_metrics", date(2024, 3, 1), date(2024, 3, 1))
    source.name = "archive"
    with pytest.raises(WarehouseError, match="choose another VOLCAST_HOME"):
        ingest_window(warehouse, source, "onchain_metrics", date(2024, 3, 2), date(2024, 3, 2))


def test_a_coin_that_is_added_later_brings_its_history(warehouse):
    source = _Source([])
    day = date(2024, 3, 10)
    ingest_window(warehouse, source, "onchain_metrics", day, day)
    source.assets = ("BTC", "ETH")
    ingest_window(warehouse, source, "onchain_metrics", day, day)
    ingest_window(warehouse, source, "onchain_metrics", day, day)
    assert [after is None for after, _ in source.asked] == [True, True, False]
