"""Forecasts are append-only: what a write changes is kept, what it repeats is left, and the ledger says what is stored."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from orchestration import ledger
from orchestration.doctor import examine
from orchestration.ledger import LEDGERED, withdraw_rows
from orchestration.retention import drop_old
from orchestration.settings import Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import LAYOUT_VERSION, Warehouse, get_state, replace_rows, set_state

ON = ["as_of", "model", "model_version"]
DAY = date(2024, 3, 20)


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(Settings(home=tmp_path / "home", attention_retention_days=90))


def rows(
    *variances: float, day: date = DAY, version: str = "v1", run: str = "first"
) -> pd.DataFrame:
    """One forecast of ewma per coin."""
    spec = OUTPUT_TABLES["forecasts.volatility"]
    coins = ["BTC", "ETH", "SOL"][: len(variances)]
    frame = pd.DataFrame({"asset": coins, "variance": variances}).assign(
        as_of=day, horizon=1, model="ewma", model_version=version, run_id=run, created_at=datetime.now(UTC)
    )  # fmt: skip
    return frame.reindex(columns=list(spec.columns))


def store(warehouse: Warehouse, frame: pd.DataFrame, **more: object) -> None:
    with warehouse.write() as connection:
        replace_rows(connection, "forecasts.volatility", frame, on=ON, **more)


def read(warehouse: Warehouse, query: str) -> list[tuple[object, ...]]:
    with warehouse.read() as connection:
        return connection.execute(query).fetchall()


CURRENT = "SELECT asset, variance, run_id FROM forecasts.volatility ORDER BY ALL"
OLD = "SELECT asset, (row_json->>'variance')::DOUBLE, row_json->>'run_id', superseded_by FROM forecasts.superseded ORDER BY superseded_at, asset"
LEDGER = "SELECT as_of, model_version, rows, content_hash FROM forecasts.ledger ORDER BY ALL"


def holds(warehouse: Warehouse) -> bool:
    found = {item.name: item for item in examine(warehouse.settings)}
    return found["append-only"].holds and found["superseded"].holds and found["keys"].holds


def test_the_same_values_again_change_nothing_whatever_run_gives_them(warehouse):
    store(warehouse, rows(1.0, 2.0))
    before = [read(warehouse, query) for query in (CURRENT, LEDGER, "FROM meta.state ORDER BY ALL")]
    store(warehouse, rows(1.0, 2.0, run="second"))
    assert [
        read(warehouse, query) for query in (CURRENT, LEDGER, "FROM meta.state ORDER BY ALL")
    ] == before
    assert read(warehouse, OLD) == []


def test_what_a_re_forecast_changes_or_drops_is_kept_and_the_rest_is_left(warehouse):
    store(warehouse, rows(1.0, 2.0, 3.0))
    store(warehouse, rows(1.0, 2.5, run="second"))
    assert read(warehouse, CURRENT) == [("BTC", 1.0, "first"), ("ETH", 2.5, "second")]
    assert read(warehouse, OLD) == [
        ("ETH", 2.0, "first", "second"),
        ("SOL", 3.0, "first", "second"),
    ]
    (key,), *_ = read(warehouse, "SELECT row_key FROM forecasts.superseded ORDER BY asset")
    assert json.loads(str(key)) == {"asset": "ETH", "as_of": "2024-03-20", "horizon": 1, "model": "ewma", "model_version": "v1"}  # fmt: skip
    assert holds(warehouse)


def test_the_ledger_does_not_depend_on_how_the_rows_came(warehouse, tmp_path):
    other = Warehouse(Settings(home=tmp_path / "other"))
    for day in (19, 20):
        store(warehouse, rows(1.0, 2.0, day=date(2024, 3, day)))
    both = pd.concat([rows(1.0, 2.0, day=date(2024, 3, day), run="backfill") for day in (20, 19)])
    store(other, both)
    assert read(warehouse, LEDGER) == read(other, LEDGER)
    assert len(read(warehouse, LEDGER)) == 2


def test_a_scope_without_rows_takes_the_old_ones_away_and_keeps_them(warehouse):
    store(warehouse, rows(1.0))
    store(warehouse, rows(), scope=rows(1.0)[ON])
    assert read(warehouse, CURRENT) == []
    assert [row[0] for row in read(warehouse, OLD)] == ["BTC"]
    assert read(warehouse, LEDGER) == []


def test_withdrawn_rows_are_kept(warehouse):
    store(warehouse, rows(1.0, 2.0))
    with warehouse.write() as connection:
        assert withdraw_rows(connection, "forecasts.volatility", "asset = ?", ["ETH"], "drift") == 1
    assert [(row[0], row[3]) for row in read(warehouse, OLD)] == [("ETH", "drift")]
    assert holds(warehouse)


def token_rows(day: date, weight: float) -> pd.DataFrame:
    spec = OUTPUT_TABLES["forecasts.attention_weights"]
    frame = pd.DataFrame({"token": [0, 1], "weight": [weight, 1 - weight]}).assign(
        asset="BTC", as_of=day, model="attention", model_version="v1", layer=0, head=0
    )
    return frame.reindex(columns=list(spec.columns))


def test_superseded_tokens_are_summed_up_and_retention_takes_their_lines(warehouse):
    old = date(2023, 3, 20)
    with warehouse.write() as connection:
        for day, weight in ((old, 0.5), (DAY, 0.5), (DAY, 0.4)):
            replace_rows(connection, "forecasts.attention_weights", token_rows(day, weight), on=ON)
        connection.execute("INSERT INTO models.decisions (as_of, kind, model, horizon) VALUES ('2024-03-24', 'keep', 'attention', 1)")  # fmt: skip
    ((kept, summary),) = read(warehouse, "SELECT asset, row_json FROM forecasts.superseded")
    assert kept is None
    assert json.loads(str(summary))["rows"] == 2
    assert drop_old(warehouse, warehouse.settings) == 2
    assert [row[0] for row in read(warehouse, LEDGER)] == [DAY]
    assert holds(warehouse)


def test_an_older_home_gets_its_ledger_from_what_is_stored(warehouse):
    store(warehouse, rows(1.0, 2.0))
    before = read(warehouse, LEDGER)
    with warehouse.write() as connection:
        connection.execute("DROP TABLE forecasts.ledger")
        connection.execute("DROP TABLE forecasts.superseded")
        set_state(connection, "layout", "5")
    with warehouse.write() as connection:
        assert get_state(connection, "layout") == LAYOUT_VERSION
    assert read(warehouse, LEDGER) == before
    assert holds(warehouse)


def test_every_forecast_table_is_ledgered():
    assert set(LEDGERED) == {name for name in OUTPUT_TABLES if name.startswith("forecasts.")} - {"forecasts.ledger", "forecasts.superseded"}  # fmt: skip


def test_a_clock_that_went_back_is_no_change_by_hand(warehouse, monkeypatch):
    class Behind(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=3)

    store(warehouse, rows(1.0))
    monkeypatch.setattr(ledger, "datetime", Behind)
    store(warehouse, rows(2.0))
    assert read(warehouse, "SELECT count(*) FROM forecasts.superseded WHERE superseded_at >= made_at") == [(1,)]  # fmt: skip
    assert holds(warehouse)
