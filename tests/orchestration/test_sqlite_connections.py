"""Dagster's storage through connections that stay open: what is stored is there for others, and few files stay open."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from orchestration.runs import prepare_home
from orchestration.settings import Settings
from orchestration.sqlite_connections import MOST_FILES


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(Settings.from_env({"VOLCAST_HOME": str(tmp_path)}))
    with dg.DagsterInstance.get() as made:
        yield made


def open_files(folder: Path) -> set[str]:
    links = (os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}"))  # fmt: skip
    return {name for name in links if name.startswith(str(folder)) and name.endswith(".db")}


@dg.job
def two_steps():
    @dg.op
    def first() -> int:
        return 1

    @dg.op
    def second(number: int) -> int:
        return number + 1

    second(first())


def test_another_connection_reads_an_event_while_ours_stay_open(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = two_steps.execute_in_process(instance=instance)
    files = open_files(tmp_path)
    assert any(run.run_id in name for name in files)
    path = next(name for name in files if run.run_id in name)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as other:
        (count,) = other.execute("SELECT count(*) FROM event_logs").fetchone()
    assert count == len(instance.all_logs(run.run_id)) > 8


def test_few_files_stay_open_over_many_runs_and_none_after_the_end(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    for _ in range(MOST_FILES + 3):
        two_steps.execute_in_process(instance=instance)
    assert 0 < len(open_files(tmp_path)) <= MOST_FILES + 1  # and the file of runs
    instance.dispose()
    assert not open_files(tmp_path)


def test_a_commit_waits_for_no_disk(instance: dg.DagsterInstance) -> None:
    """FULL, SQLite's own default, is 2; NORMAL is 1."""
    storage = instance.event_log_storage
    with storage.index_connection() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_events_of_several_threads_are_all_stored(instance: dg.DagsterInstance) -> None:
    """The thread that shows a run's progress reads while the run writes."""
    run = instance.get_run_by_id(two_steps.execute_in_process(instance=instance).run_id)
    before = len(instance.all_logs(run.run_id))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: instance.report_engine_event(f"{n}", dagster_run=run), range(40)))
    assert len(instance.all_logs(run.run_id)) == before + 40
