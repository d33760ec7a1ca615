"""Several homes write to one lake at once: nothing is lost, nothing is there twice, nobody has to help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse import Conflict, Locked, Warehouse, get_state, set_state

WRITER = """
import sys, json
from datetime import UTC, datetime, timedelta
from pathlib import Path
import pyarrow as pa
from orchestration.raw_rows import append_batch
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, bump_revision

home, storage, writer, rounds = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
warehouse = Warehouse(Settings(home=home, **storage))
ts = datetime(2024, 3, 1, tzinfo=UTC)
def bars(venue, day):
    return pa.Table.from_pylist([{
        "venue": venue, "symbol": "BTC/USDT", "interval": "1h", "ts": ts + timedelta(days=day, hours=hour), "open": 100.0, "high": 102.0, "low": 99.0,
        "close": 101.0, "volume": 5.0, "quote_volume": 500.0, "trades": 9.0, "taker_buy_volume": 2.0,
        "known_at": ts + timedelta(days=day, hours=hour + 1), "source": "simulated"} for hour in range(4)], schema=TABLES["ohlcv"].arrow)
for day in range(rounds):
    until = ts + timedelta(days=day + 1, minutes=30)
    append_batch(warehouse, TABLES["ohlcv"], bars("binance", day), None, until)  # every writer brings the same
    append_batch(warehouse, TABLES["ohlcv"], bars(writer, day), None, until)  # and rows of its own
    for attempt in warehouse.writes():
        with attempt as connection:
            bump_revision(connection)
    print("acknowledged", day, flush=True)
"""


def start(
    folder: Path, storage: dict[str, Any], name: str, rounds: int, home: str = ""
) -> subprocess.Popen[str]:
    import json

    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder / (home or name)), json.dumps(storage), name, str(rounds)],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def held(warehouse: Warehouse) -> dict[str, tuple[int, int]]:
    """Rows and distinct bars by venue."""
    with warehouse.read() as connection:
        return {
            venue: (rows, bars)
            for venue, rows, bars in connection.execute(
                "SELECT venue, count(*), count(DISTINCT ts) FROM raw.ohlcv GROUP BY 1"
            ).fetchall()
        }


@pytest.mark.parametrize(
    "writers", [2, pytest.param(4, marks=pytest.mark.slow)], ids=["two", "four"]
)
def test_homes_that_ingest_at_once_lose_nothing_and_bring_nothing_twice(
    writers: int, lake: dict[str, Any], tmp_path: Path
) -> None:
    rounds = 3
    names = [f"venue{number}" for number in range(writers)]
    processes = [start(tmp_path, lake, name, rounds) for name in names]
    for process in processes:
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output
    warehouse = Warehouse(Settings(home=tmp_path / "reader", **lake))
    assert held(warehouse) == dict.fromkeys(("binance", *names), (4 * rounds, 4 * rounds))
    with warehouse.read() as connection:
        revision = int(get_state(connection, "revision") or "0")
        batches = connection.execute(
            "SELECT count(*), count(DISTINCT batch_id), sum(rows_inserted) FROM raw.batches"
        ).fetchone()
    stored = batches[0] if batches else 0
    assert batches == (stored, stored, 4 * rounds * (writers + 1))
    assert revision == stored + writers * rounds  # each one counted


def test_a_writer_that_lost_the_race_is_told_and_tries_again(
    lake: dict[str, Any], tmp_path: Path
) -> None:
    ours = Warehouse(Settings(home=tmp_path / "ours", **lake))
    theirs = Warehouse(Settings(home=tmp_path / "theirs", **lake))
    with ours.write():
        pass
    with pytest.raises(Conflict, match="another writer was first"), ours.write() as connection:  # noqa: PT012 -- the race
        set_state(connection, "ours", "1")
        with theirs.write() as other:
            set_state(other, "theirs", "1")
    tries = 0
    for attempt in ours.writes():
        with attempt as connection:
            tries += 1
            set_state(connection, "ours", str(tries))
            if tries == 1:
                with theirs.write() as other:
                    set_state(other, "theirs", "2")
    assert tries == 2
    with ours.read() as connection:
        assert (get_state(connection, "ours"), get_state(connection, "theirs")) == ("2", "2")


def test_a_race_that_is_lost_for_too_long_is_an_error(
    sqlite_lake: dict[str, Any], tmp_path: Path
) -> None:
    ours = Warehouse(Settings(home=tmp_path / "ours", lock_timeout_seconds=0.2, **sqlite_lake))
    theirs = Warehouse(Settings(home=tmp_path / "theirs", **sqlite_lake))
    with pytest.raises(Conflict):  # noqa: PT012 -- the race
        for attempt in ours.writes():
            with attempt as connection:
                set_state(connection, "ours", "1")
                with theirs.write() as other:
                    set_state(other, "theirs", "1")


def test_a_writer_that_is_killed_leaves_a_lake_that_opens_with_all_that_it_acknowledged(
    lake: dict[str, Any], tmp_path: Path
) -> None:
    process = start(tmp_path, lake, "venue0", 1000)
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        if line.startswith("acknowledged"):
            acknowledged = int(line.split()[1])
        if acknowledged >= 1:
            break
    time.sleep(0.05)  # in the middle of the next write
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    warehouse = Warehouse(Settings(home=tmp_path / "venue0", **lake))
    found = held(warehouse)
    assert found["venue0"][0] == found["venue0"][1] >= 4 * (acknowledged + 1)
    assert found["binance"][0] == found["binance"][1]
    with warehouse.write() as connection:  # and it can be written to
        set_state(connection, "after", "1")


def test_one_home_builds_features_at_a_time(lake: dict[str, Any], tmp_path: Path) -> None:
    ours = Warehouse(Settings(home=tmp_path / "ours", **lake))
    with ours.write():
        pass
    theirs = Warehouse(Settings(home=tmp_path / "theirs", lock_timeout_seconds=0.1, **lake))
    with ours.building(), pytest.raises(Locked, match="another home still builds"), theirs.building():  # fmt: skip
        pass
    with theirs.building():
        pass
