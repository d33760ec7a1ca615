"""Snapshots: what a forecast read can be read again, also after upkeep; and a warehouse moved into a lake is the same one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestration.as_of import known_when_made
from orchestration.doctor import broken, examine
from orchestration.lake.migrate import EXCEPT_ROWS, migrate
from orchestration.lake.upkeep import keep_in_order, size_of_lake
from orchestration.settings import Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import (
    Warehouse,
    WarehouseError,
    bump_revision,
    replace_rows,
    set_state,
)
from tests.orchestration.doctor.homes import DAYS, healthy
from tests.orchestration.lake.test_storage import content

DAY = DAYS[-1]


def forecast_again(warehouse: Warehouse, factor: float) -> None:
    """The forecasts of the last day, made anew from what the lake holds now."""
    spec = OUTPUT_TABLES["forecasts.volatility"]
    with warehouse.read() as connection:
        rows = connection.execute(
            "SELECT * FROM forecasts.volatility WHERE as_of = ?", [DAY]
        ).df()[list(spec.columns)]  # fmt: skip
        snapshot = warehouse.snapshot(connection)
    rows = rows.assign(
        volatility=rows["volatility"] * factor,
        variance=rows["variance"] * factor**2,
        created_at=datetime.now(UTC),
    )
    rows["as_of"] = pd.to_datetime(rows["as_of"]).dt.date
    for attempt in warehouse.writes():
        with attempt as connection:
            replace_rows(
                connection,
                spec.name,
                rows,
                on=["as_of", "model", "model_version"],
                snapshot=snapshot,
            )


def change_features(warehouse: Warehouse) -> None:
    for attempt in warehouse.writes():
        with attempt as connection:
            connection.execute("UPDATE features.daily SET funding_age_days = 0.9")


def test_as_of_shows_the_features_that_a_forecast_read_and_what_changed_since(
    one_lake: dict[str, Any], tmp_path: Path
) -> None:
    settings = healthy(tmp_path / "home", **one_lake)
    warehouse = Warehouse(settings)
    forecast_again(warehouse, 1.01)
    assert not [line for line in known_when_made(settings, "BTC", DAY, 1).differs if "features" in line]  # fmt: skip
    change_features(warehouse)
    found = known_when_made(settings, "BTC", DAY, 1)
    assert float(found.features["funding_age_days"]) == pytest.approx(0.3)
    assert float(found.features_today["funding_age_days"]) == pytest.approx(0.9)
    assert any("funding_age_days was" in line for line in found.differs)
    assert {item.horizon for item in found.forecasts} == {1}
    replaced = [item for item in found.forecasts if item.superseded_at]
    assert replaced
    assert all(item.made_at and item.volatility for item in replaced)
    assert all(item.lake_snapshot for item in found.forecasts if not item.superseded_at)


def test_as_of_of_a_file_tells_rows_apart_by_when_they_came(tmp_path: Path) -> None:
    settings = healthy(tmp_path / "home")
    found = known_when_made(settings, "BTC", DAY)
    bars = next(seen for seen in found.raw if seen.table == "raw.ohlcv")
    assert (bars.rows, bars.arrived_since, found.features_snapshot) == (72, 0, None)
    with Warehouse(settings).write() as connection:
        connection.execute(
            "INSERT INTO raw.ohlcv BY NAME SELECT * REPLACE (ts + INTERVAL 1 MINUTE AS ts, now() + INTERVAL 1 HOUR AS ingested_at) "
            "FROM raw.ohlcv WHERE symbol = 'BTC/USDT' LIMIT 1"
        )
    assert "raw.ohlcv: 1 rows known by the decision time arrived after the forecast was made" in known_when_made(settings, "BTC", DAY).differs  # fmt: skip


def test_as_of_without_a_forecast_says_where_to_look(tmp_path: Path) -> None:
    settings = healthy(tmp_path / "home")
    with pytest.raises(WarehouseError, match="no forecast of DOGE"):
        known_when_made(settings, "DOGE", DAY)


def test_upkeep_lets_old_snapshots_go_but_not_those_that_a_forecast_read(
    one_lake: dict[str, Any], tmp_path: Path
) -> None:
    settings = healthy(tmp_path / "home", **one_lake)
    warehouse = Warehouse(settings)
    forecast_again(warehouse, 1.01)
    change_features(warehouse)
    before = known_when_made(settings, "BTC", DAY)
    with warehouse.read() as connection:
        tables = content(connection)
    later = datetime.now(UTC) + timedelta(days=settings.lake_keep_days + 2)
    done = keep_in_order(warehouse, later)
    assert done.expired > 5
    assert done.after.snapshots < done.before.snapshots
    assert done.after.files < done.before.files
    assert done.deleted_files > 0
    again = known_when_made(settings, "BTC", DAY)
    assert again.features == before.features != again.features_today
    with warehouse.read() as connection:
        assert content(connection) == tables
        assert size_of_lake(connection).pinned == done.after.pinned > 0
    assert broken(examine(settings)) == []


def test_upkeep_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="is a file"):
        keep_in_order(Warehouse(Settings(home=tmp_path)), datetime.now(UTC))


def test_a_file_moves_into_a_lake_and_back_with_every_row(
    one_lake: dict[str, Any], tmp_path: Path
) -> None:
    origin = healthy(tmp_path / "home")
    with Warehouse(origin).write() as connection:
        set_state(connection, "source", "simulated, seed 7")
        bump_revision(connection)
    assert Warehouse(origin).publish()
    content_before = origin.warehouse_path.read_bytes()
    target = Settings(home=origin.home, **one_lake)
    moved = migrate(origin, target)
    assert origin.warehouse_path.read_bytes() == content_before
    with Warehouse(origin).read() as ours, Warehouse(target).read() as theirs:
        assert content(ours) == content(theirs)
    assert sum(item.rows for item in moved) > 200
    assert max(item.rows for item in moved) < EXCEPT_ROWS
    assert broken(examine(target)) == []
    with pytest.raises(WarehouseError, match="rows are never mixed"):
        migrate(origin, target)
    back = Settings(home=tmp_path / "back")
    migrate(target, back)
    with Warehouse(origin).read() as ours, Warehouse(back).read() as theirs:
        assert content(ours) == content(theirs)


@pytest.mark.slow
def test_a_migration_that_was_stopped_goes_on_and_a_row_that_differs_is_sent_again(
    sqlite_lake: dict[str, Any], tmp_path: Path
) -> None:
    origin = healthy(tmp_path / "home")
    target = Settings(home=origin.home, **sqlite_lake)

    class Stopped(Exception):
        pass

    def stop(item: Any) -> None:
        if item.table == "forecasts.volatility":
            raise Stopped

    with pytest.raises(Stopped):
        migrate(origin, target, stop)
    with Warehouse(target).write() as connection:
        connection.execute("UPDATE forecasts.risk SET var_975 = 1")
    moved = {item.table: item.was_there for item in migrate(origin, target)}
    assert moved["forecasts.volatility"]
    assert not moved["raw.ohlcv"]
    assert not moved["forecasts.risk"]
    with Warehouse(origin).read() as ours, Warehouse(target).read() as theirs:
        assert content(ours) == content(theirs)
