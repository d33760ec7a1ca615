from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import duckdb
import pandas as pd
import pytest

from orchestration.settings import Settings
from orchestration.warehouse import (
    LAYOUT_VERSION,
    Warehouse,
    WarehouseError,
    bump_revision,
    get_state,
    read_published,
    replace_rows,
    set_state,
)


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Settings(home=tmp_path / "home"))


def _holder(warehouse: Warehouse, seconds: float) -> subprocess.Popen[str]:
    """A process that opens the warehouse for writing, says so, and holds it."""
    code = textwrap.dedent(
        f"""
        import time
        from orchestration.settings import Settings
        from orchestration.warehouse import Warehouse, set_state
        with Warehouse(Settings(home={str(warehouse.settings.home)!r})).write() as connection:
            set_state(connection, "half", "done")
            print("held", flush=True)
            time.sleep({seconds})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_two_writers_wait_for_each_other(warehouse):
    holder = _holder(warehouse, 1.0)
    started = time.monotonic()
    with warehouse.write() as connection:
        set_state(connection, "second", "writer")
    assert time.monotonic() - started > 0.5
    assert holder.wait(timeout=10) == 0
    with warehouse.read() as connection:
        assert get_state(connection, "half") == "done"
        assert get_state(connection, "second") == "writer"


def test_a_waiter_goes_on_after_the_writer_is_killed_and_its_half_is_gone(warehouse):
    holder = _holder(warehouse, 60)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=10)
    started = time.monotonic()
    with warehouse.write() as connection:
        assert get_state(connection, "half") is None
    assert time.monotonic() - started < 5


def test_a_waiter_gives_up_with_advice(warehouse):
    impatient = Warehouse(warehouse.settings.model_copy(update={"lock_timeout_seconds": 0.3}))
    holder = _holder(warehouse, 30)
    try:
        with pytest.raises(WarehouseError, match="still locked after"), impatient.write():
            pass
    finally:
        holder.kill()
        holder.wait(timeout=10)


def test_a_failing_write_leaves_nothing(warehouse):
    def fail_half_way() -> None:
        with warehouse.write() as connection:
            set_state(connection, "x", "1")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    with warehouse.read() as connection:
        assert get_state(connection, "x") is None


def test_an_unknown_layout_is_refused(warehouse):
    with warehouse.write() as connection:
        set_state(connection, "layout", "99")
    with pytest.raises(WarehouseError, match="layout '99'"), warehouse.write():
        pass


def test_the_layout_before_gets_the_columns_that_it_lacks_and_keeps_its_rows(warehouse):
    with warehouse.write() as connection:
        connection.execute("ALTER TABLE forecasts.attention_weights DROP COLUMN provider")
        connection.execute("DROP TABLE evaluation.walk_forward")
        connection.execute(
            "INSERT INTO forecasts.attention_weights (asset, as_of, model_version, layer, head, token, weight) "
            "VALUES ('BTC', DATE '2024-01-01', 'v', 0, 0, 0, 1.0)"
        )
        set_state(connection, "layout", "2")
    with warehouse.write() as connection:
        assert get_state(connection, "layout") == LAYOUT_VERSION
    with warehouse.read() as connection:
        found = connection.execute(
            "SELECT asset, weight, provider FROM forecasts.attention_weights"
        ).fetchall()
        assert found == [("BTC", 1.0, None)]
        assert connection.execute("SELECT count(*) FROM evaluation.walk_forward").fetchone() == (0,)


def test_publishing_twice_makes_one_copy(warehouse):
    with warehouse.write() as connection:
        bump_revision(connection)
    assert warehouse.publish() is True
    assert warehouse.publish() is False
    with warehouse.write() as connection:
        bump_revision(connection)
    assert warehouse.publish() is True


def test_the_published_copy_keeps_comments_and_cannot_be_written_or_look_around(
    warehouse, tmp_path
):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with warehouse.write() as connection:
        bump_revision(connection)
    warehouse.publish()
    with read_published(warehouse.settings) as connection:
        comment = connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE schema_name = 'forecasts' AND table_name = 'volatility' "
            "AND column_name = 'variance'"
        ).fetchone()
        assert comment is not None
        assert "squared log-return" in comment[0]
        with pytest.raises(duckdb.Error):
            connection.execute("INSERT INTO meta.state VALUES ('a', 'b')")
        with pytest.raises(duckdb.Error):
            connection.execute(f"SELECT * FROM '{tmp_path / 'secret.csv'}'")
        with pytest.raises(duckdb.Error):
            connection.execute("SET enable_external_access = true")


def test_readers_see_a_whole_copy_while_others_are_swapped_in(warehouse):
    with warehouse.write() as connection:
        bump_revision(connection)
    warehouse.publish()
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with read_published(warehouse.settings) as connection:
                seen.append(int(get_state(connection, "revision", catalog=None) or -1))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(8):
        with warehouse.write() as connection:
            bump_revision(connection)
        warehouse.publish()
    stop.set()
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert len(set(seen)) > 1
    assert seen == sorted(seen)


def test_replacing_rows_twice_gives_the_same_rows_and_refuses_a_repeated_key(warehouse):
    frame = pd.DataFrame(
        [
            {
                "suite": "raw.ohlcv",
                "expectation": "*",
                "as_of": pd.Timestamp("2024-01-01"),
                "overridden_by": "ada",
                "reason": "known outage",
                "created_at": pd.Timestamp("2024-01-02", tz="UTC"),
            }
        ]
    )
    for _ in range(2):
        with warehouse.write() as connection:
            assert replace_rows(connection, "quality.overrides", frame, on=["suite", "as_of"]) == 1
    with warehouse.read() as connection:
        assert connection.execute("SELECT count(*) FROM quality.overrides").fetchone() == (1,)
    with (
        pytest.raises(WarehouseError, match="repeat a key"),
        warehouse.write() as connection,
    ):
        replace_rows(connection, "quality.overrides", pd.concat([frame, frame]), on=["suite"])
    with pytest.raises(WarehouseError, match="missing"), warehouse.write() as connection:
        replace_rows(connection, "quality.overrides", frame.drop(columns="reason"), on=["suite"])


def test_nothing_published_is_an_error_that_says_what_to_run(warehouse):
    with pytest.raises(WarehouseError, match="volcast demo"), read_published(warehouse.settings):
        pass


def test_no_two_connections_spill_into_one_folder_and_none_leaves_it_behind(warehouse):
    """Pages of two processes in one folder overwrite each other: DuckDB's names for them carry no process id."""
    setting = "SELECT current_setting('temp_directory')"
    with warehouse.read() as one, warehouse.read() as other:
        folders = {connection.execute(setting).fetchone()[0] for connection in (one, other)}
        one.execute("SET memory_limit = '60MB'")
        one.execute("CREATE TEMP TABLE held AS SELECT i, hash(i) AS h FROM range(9000000) t(i)")
        spilled = list(warehouse.settings.home.glob("warehouse.duckdb.tmp*/*"))
        assert one.execute("SELECT sum(i), count(h) FROM held").fetchone() == (
            40499995500000,
            9000000,
        )
    assert len(folders) == 2
    assert spilled
    assert not list(warehouse.settings.home.glob("warehouse.duckdb.tmp*"))
