"""Pages on the machine: space, locks, killed runs, a daemon that is down, a damaged home, ports, clocks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from orchestration.alerts.causes import open_causes
from orchestration.cli.operating import _check_port
from orchestration.settings import PROJECT_ROOT
from orchestration.status import status_tables
from orchestration.warehouse import Warehouse, WarehouseError, set_state
from tests.orchestration.small_home import NOW, YESTERDAY, small_home, store_run
from tests.runbook.pages import assert_quoted

WRITES = """
import sys, time
from pathlib import Path
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse
with Warehouse(Settings(home=Path(sys.argv[1]), source="live")).write() as connection:
    connection.execute("DELETE FROM forecasts.volatility")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that writes to the small home and does not end."""
    warehouse = small_home(tmp_path / "home", lock_timeout_seconds=0.2)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(warehouse.settings.home)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
    )
    assert process.stdout.readline() == "writing\n"
    yield SimpleNamespace(process=process, warehouse=warehouse, settings=warehouse.settings)
    process.kill()
    process.wait()


def cells(settings) -> dict[str, str]:
    """The rows of the first table of `volcast status`."""
    home = status_tables(settings)[0]
    return dict(
        zip(*([str(cell) for cell in column.cells] for column in home.columns), strict=True)
    )


def test_no_space(tmp_path, monkeypatch):
    settings = small_home(tmp_path / "home").settings
    assert open_causes(settings, NOW) == []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(total=2**34, used=0, free=2**29)
    )
    (cause,) = open_causes(settings, NOW)
    assert_quoted("no-space", cause.title)
    assert cause.section == "no-space"


def test_lock_held(tmp_path):
    warehouse = small_home(tmp_path / "home", lock_timeout_seconds=0.2)
    with warehouse.lock():
        with pytest.raises(WarehouseError) as waited, warehouse.write():
            pass
        row = cells(warehouse.settings)["warehouse"]
    assert_quoted("lock-held", str(waited.value))
    assert f"process {os.getpid()} (" in str(waited.value)
    assert row.startswith("a first run is writing")


def test_killed_run(writer):
    store_run(writer.settings, status="STARTED", start=NOW - timedelta(hours=7))
    (cause,) = open_causes(writer.settings, NOW)
    assert_quoted("hung-run", cause.title)
    assert (cause.section, cause.day) == ("hung-run", "2026-03-11")
    os.kill(writer.process.pid, signal.SIGKILL)
    began = time.monotonic()
    patient = Warehouse(writer.settings.model_copy(update={"lock_timeout_seconds": 10}))
    with patient.write() as connection:  # the kernel freed the lock, and what it deleted is there
        assert connection.execute("SELECT count(*) FROM forecasts.volatility").fetchone() == (8,)
    assert time.monotonic() - began < 5
    store_run(writer.settings, start=NOW)
    assert "daily 2026-03-11 [green]succeeded[/]" in cells(writer.settings)["last run"]


def test_forecasts_missing(tmp_path):
    settings = small_home(tmp_path / "home", newest=YESTERDAY - timedelta(days=1)).settings
    store_run(settings, day=YESTERDAY - timedelta(days=1), start=NOW - timedelta(days=1))
    (cause,) = open_causes(settings, NOW)
    assert_quoted("forecasts-missing", cause.title)
    assert "volcast backfill --from 2026-03-11 --to 2026-03-11" in cause.todo
    assert cells(settings)["forecasts"] == "newest 2026-03-10 (8 rows)"


def test_home_damaged(tmp_path):
    warehouse = small_home(tmp_path / "home")
    settings = warehouse.settings
    with warehouse.write() as connection:
        set_state(connection, "layout", "99")
    with pytest.raises(WarehouseError) as newer, warehouse.write():
        pass
    assert_quoted("home-damaged", str(newer.value), line=1)
    (cause,) = open_causes(settings, NOW)
    assert (cause.key, cause.section) == ("home", "home-damaged")
    assert "'99'" in cause.lines[0]

    content = settings.warehouse_path.read_bytes()
    settings.warehouse_path.write_bytes(content[:4096] + b"\0" * 4096 + content[8192:20_000])
    with pytest.raises(WarehouseError) as damaged, warehouse.read():
        pass
    assert_quoted("home-damaged", str(damaged.value))
    (cause,) = open_causes(settings, NOW)
    assert (cause.key, cause.section, cause.severity) == ("home", "home-damaged", "critical")
    assert "cannot open" in cells(settings)["warehouse"]


def test_port_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="cannot be used") as taken:
            _check_port("127.0.0.1", other.getsockname()[1])
    assert_quoted("port-taken", str(taken.value))


def test_clock_wrong(tmp_path):
    warehouse = small_home(tmp_path / "home")
    assert open_causes(warehouse.settings, NOW - timedelta(minutes=4)) == []
    (cause,) = [
        c for c in open_causes(warehouse.settings, NOW - timedelta(hours=3)) if c.key == "clock"
    ]
    assert_quoted("clock-wrong", cause.title)
    assert "180 minutes" in cause.title
