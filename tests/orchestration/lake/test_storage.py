"""The same tables in a lake as in a file: made, written, read, published, examined, backed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.backup import BackupError, backup, restore
from orchestration.doctor import broken, examine
from orchestration.lake import connection as lake_connection
from orchestration.settings import Settings, SettingsError
from orchestration.warehouse import (
    LAYOUT_VERSION,
    Warehouse,
    WarehouseError,
    get_state,
    read_published,
    set_state,
    storage_of,
)
from tests.orchestration.doctor.homes import healthy

RUN = ("run_id", "created_at", "ingested_at", "checked_at", "quarantined_at", "lake_snapshot")


def content(connection: duckdb.DuckDBPyConnection, catalog: str = "wh") -> dict[str, Any]:
    """Types, comments and rows of every table, less what names the run and the clock."""
    tables = connection.execute(
        "SELECT schema_name || '.' || table_name, comment FROM duckdb_tables() WHERE database_name = ? AND schema_name NOT IN ('meta', 'main') ORDER BY 1",
        [catalog],
    ).fetchall()
    found: dict[str, Any] = {}
    for table, comment in tables:
        columns = connection.execute(f"DESCRIBE {table}").fetchall()
        kept = ", ".join(f'"{row[0]}"' for row in columns if row[0] not in RUN)
        rows = connection.execute(f"SELECT {kept} FROM {table} ORDER BY ALL").fetchall()
        found[table] = (comment, [row[:3] for row in columns], repr(rows))
    return found


def test_a_lake_holds_what_a_file_holds(lake: dict[str, Any], tmp_path: Path) -> None:
    file = healthy(tmp_path / "file")
    shared = healthy(tmp_path / "shared", **lake)
    with Warehouse(file).read() as ours, Warehouse(shared).read() as theirs:
        assert content(ours) == content(theirs)
    with read_published(file) as ours, read_published(shared) as theirs:
        assert content(ours, "volcast") == content(theirs, "volcast")
    assert not (tmp_path / "shared" / "warehouse.duckdb").exists()


def test_the_doctor_finds_a_lake_in_order_and_a_changed_forecast_not(
    lake: dict[str, Any], tmp_path: Path
) -> None:
    settings = healthy(tmp_path / "home", **lake)
    assert broken(examine(settings)) == []
    with Warehouse(settings).write() as connection:
        connection.execute("UPDATE forecasts.volatility SET variance = variance * 2")
    assert [item.name for item in broken(examine(settings))] != []


def test_a_backup_of_a_lake_is_a_home_with_a_file(lake: dict[str, Any], tmp_path: Path) -> None:
    settings = healthy(tmp_path / "home", **lake)
    made = backup(settings, tmp_path / "backup")
    with pytest.raises(BackupError, match="leave it empty"):
        restore(settings.model_copy(update={"home": tmp_path / "other"}), made.folder)
    file = Settings(home=tmp_path / "restored")
    restore(file, made.folder)
    with Warehouse(file).read() as ours, Warehouse(settings).read() as theirs:
        assert content(ours) == content(theirs)


def test_a_reader_sees_one_snapshot_while_others_write(
    lake: dict[str, Any], tmp_path: Path
) -> None:
    warehouse = Warehouse(Settings(home=tmp_path, **lake))
    assert not warehouse.exists()
    with warehouse.read() as reader:
        before = warehouse.snapshot(reader)
        with warehouse.write() as connection:
            set_state(connection, "key", "value")
        assert get_state(reader, "key") is None
        assert warehouse.snapshot(reader) == before
    with warehouse.read() as reader:
        assert get_state(reader, "key") == "value"
        assert (warehouse.snapshot(reader) or 0) > (before or 0)


def test_what_fails_in_the_middle_of_a_write_leaves_nothing(
    lake: dict[str, Any], tmp_path: Path
) -> None:
    warehouse = Warehouse(Settings(home=tmp_path, **lake))
    with pytest.raises(duckdb.Error), warehouse.write() as connection:  # noqa: PT012 -- the write and what fails in it
        set_state(connection, "key", "value")
        connection.execute("SELECT error('stop')")
    with warehouse.read() as connection:
        assert get_state(connection, "key") is None


def test_an_older_layout_gets_what_it_lacks(sqlite_lake: dict[str, Any], tmp_path: Path) -> None:
    settings = healthy(tmp_path / "home", **sqlite_lake)
    warehouse = Warehouse(settings)
    with warehouse.write() as connection:
        connection.execute("ALTER TABLE models.registry DROP COLUMN lake_snapshot")
        set_state(connection, "layout", "6")
    with warehouse.write() as connection:
        assert get_state(connection, "layout") == LAYOUT_VERSION
        assert connection.execute("SELECT lake_snapshot FROM models.registry").fetchone() == (None,)
    assert broken(examine(settings)) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql:host=db", "expected ducklake:sqlite"),
        ("ducklake:postgres:host=db password=hunter2-of-mine", "no password in the address"),
        ("ducklake:postgres:postgresql://me:hunter2-of-mine@db/lake", "no password in the address"),
        ("ducklake:sqlite:", "expected ducklake:sqlite"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    address: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        Settings.from_env({"VOLCAST_WAREHOUSE": address})
    assert "hunter2" not in str(refused.value)


def test_a_catalog_that_does_not_answer_is_an_error_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAST_WAREHOUSE_PASSWORD", "hunter2-of-mine")
    words = "ducklake:postgres:dbname=lake host=127.0.0.1 port=1 user=me"
    with pytest.raises(WarehouseError, match="port 1 failed") as refused:
        Warehouse(Settings(home=tmp_path, warehouse=words)).exists()
    assert "hunter2" not in str(refused.value)


def test_a_missing_extension_is_named_with_its_extra(
    sqlite_lake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_connection.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(WarehouseError, match=r"ducklake for version .* '\.\[lake\]'"),
        Warehouse(Settings(home=tmp_path, **sqlite_lake)).read(),
    ):
        pass


def test_files_elsewhere_than_the_catalog_says_are_an_error(
    sqlite_lake: dict[str, Any], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, **sqlite_lake)
    with Warehouse(settings).write():
        pass
    moved = settings.model_copy(update={"lake_data": str(tmp_path / "elsewhere")})
    with pytest.raises(WarehouseError, match="does not match existing data path"):
        storage_of(moved).exists()
    second = settings.model_copy(update={"home": tmp_path / "second", "lake_data": ""})
    with Warehouse(second).read() as connection:  # it asks the catalog
        assert get_state(connection, "layout") == LAYOUT_VERSION
