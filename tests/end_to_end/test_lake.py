"""The daily line on a lake: the same tables as on a file, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.homes import AS_OF, SMALL_MARKET, Home, lake_environment

ENVIRONMENT = {
    **SMALL_MARKET,
    "VOLCAST_ASSETS": "BTC,ETH",
    "VOLCAST_SIMULATED_START": "2023-08-01",
    "VOLCAST_MODELS": "random_walk,log_har",
    "VOLCAST_PORTFOLIO": "",
}
RUN_COLUMNS = {
    "run_id", "created_at", "ingested_at", "batch_id", "checked_at", "validation_id", "lake_snapshot", "attempted_at", "succeeded_at", "stored_at",
}  # fmt: skip


def tables(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows in order, less what names the run and the clock."""
    found = {}
    with home.warehouse.read() as connection:
        for (table,) in connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = 'wh' AND schema_name <> 'meta' ORDER BY 1"
        ).fetchall():
            names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
            kept = ", ".join(f'"{name}"' for name in names if name not in RUN_COLUMNS)
            found[table] = connection.execute(f"SELECT {kept} FROM {table} ORDER BY ALL").fetchall()
    return found


def test_a_day_on_a_lake_gives_the_rows_of_a_day_on_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    file = Home(tmp_path / "file", dict(ENVIRONMENT))
    lake = Home(tmp_path / "lake", {**ENVIRONMENT, **lake_environment(request, monkeypatch)})
    for home in (file, lake):
        home.run("run", "--as-of", AS_OF.isoformat())
    ours, theirs = tables(file), tables(lake)
    assert ours.keys() == theirs.keys()
    for table, rows in ours.items():
        assert repr(rows) == repr(theirs[table]), table
    pinned = lake.rows("SELECT count(*), count(lake_snapshot) FROM models.registry")
    assert pinned[0][0] == pinned[0][1] > 0
    shown = lake.run("as-of", "BTC", AS_OF.isoformat(), "--horizon", "1")
    assert "as they stood in snapshot" in shown
    assert "today's tables say the same" in shown
    assert "snapshots" in lake.run("status")
    assert not (lake.path / "warehouse.duckdb").exists()
