"""Whole runs: killed at seeded moments, and many at once with a reader throughout; the tables are those of an undisturbed backfill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from datetime import date
from pathlib import Path

import duckdb
import pytest

from tests.end_to_end.homes import Home, day_before
from tests.faults.conftest import AS_OF
from tests.faults.homes import copy_home, fingerprint, published_fingerprint
from tests.faults.invariants import broken_invariants
from tests.faults.kills import same, unfinished

pytestmark = pytest.mark.timeout(3600)

KILLED_RUNS = 6
LAST = day_before(AS_OF, -2)
"""Two days after AS_OF."""
BY_RUN = (
    "evaluation.leaderboard",
    "evaluation.tests",
    "evaluation.traffic_lights",
    "meta.state",
    "quality.validations",
    "raw.batches",
)
"""Kept as at the last day of each run, or one row a run: of three runs and a backfill they differ as they would without a fault."""


@pytest.fixture(scope="module")
def undisturbed(quick_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The next three days, each in a run of its own that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    home = Home(copy_home(quick_home.path, folder / "home"), quick_home.environment)
    for day in (AS_OF, day_before(AS_OF, -1), LAST):
        home.run("run", "--as-of", day.isoformat())
        if day == AS_OF:
            copy_home(home.path, folder / "first-day")
    return home


@pytest.mark.faults
def test_runs_that_are_killed_again_and_again_are_finished_by_the_next(
    quick_home: Home, undisturbed: Home, tmp_path: Path
) -> None:
    home = Home(copy_home(quick_home.path, tmp_path / "home"), quick_home.environment)
    first_day = Home(undisturbed.path.with_name("first-day"), quick_home.environment)
    chance = random.Random(7)
    seconds = _seconds_of_a_run(quick_home, tmp_path)
    struck = 0
    for _ in range(KILLED_RUNS):
        process = _start(home, AS_OF)
        time.sleep(chance.uniform(0.15, 0.95) * seconds)
        if process.poll() is None:
            whole = chance.random() < 0.5  # dbt and the worker with it, or not
            (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
            struck += 1
        process.communicate(timeout=300)  # until the last that shares its output has ended
        assert broken_invariants(home) == []
    assert struck > 0
    home.run("run", "--as-of", AS_OF.isoformat())
    same(fingerprint(home), fingerprint(first_day), "tables")
    same(published_fingerprint(home), published_fingerprint(first_day), "published tables")
    assert unfinished(home.path) == []
    assert broken_invariants(home) == []
    assert _unfinished_runs(home) == []


@pytest.mark.faults
def test_two_daily_runs_and_a_backfill_at_once_with_a_reader_throughout(
    quick_home: Home, undisturbed: Home, tmp_path: Path
) -> None:
    home = Home(copy_home(quick_home.path, tmp_path / "home"), quick_home.environment)
    revisions: list[int] = []
    faults: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                with duckdb.connect(str(home.settings.published_path), read_only=True) as opened:
                    found = opened.execute(
                        "SELECT value::INT, (SELECT count(*) FROM forecasts.volatility) FROM meta.state WHERE key = 'revision'"
                    ).fetchall()
                    revisions.append(found[0][0])
            except duckdb.Error as error:
                faults.append(str(error))
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    middle = day_before(AS_OF, -1)
    runs = [
        home.start("run", "--as-of", AS_OF.isoformat()),
        home.start("run", "--as-of", middle.isoformat()),
        home.start("backfill", "--from", AS_OF.isoformat(), "--to", LAST.isoformat()),
    ]
    outputs = [process.communicate(timeout=1800)[0] for process in runs]
    stop.set()
    reader.join()
    assert [process.returncode for process in runs] == [0, 0, 0], outputs
    assert faults == []
    assert revisions == sorted(revisions)
    assert revisions[-1] > revisions[0]
    found, expected = fingerprint(home), fingerprint(undisturbed)
    same(_less(found), _less(expected), "tables")
    assert unfinished(home.path) == []
    assert broken_invariants(home) == []


def _less(tables: dict[str, str]) -> dict[str, str]:
    return {name: content for name, content in tables.items() if name not in BY_RUN}


def _start(home: Home, day: date) -> subprocess.Popen[str]:
    """A run as the leader of a process group."""
    import sys

    from orchestration.settings import PROJECT_ROOT

    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "run", "--as-of", day.isoformat()],
        env=home.variables,
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _seconds_of_a_run(quick_home: Home, folder: Path) -> float:
    """How long a whole run of the day takes on this machine, now."""
    home = Home(copy_home(quick_home.path, folder / "timed"), quick_home.environment)
    began = time.monotonic()
    home.run("run", "--as-of", AS_OF.isoformat())
    return time.monotonic() - began


def _unfinished_runs(home: Home) -> list[str]:
    """Runs that Dagster believes to go on."""
    import sqlite3

    with sqlite3.connect(home.settings.dagster_home / "history" / "runs.db") as connection:
        rows = connection.execute("SELECT run_id FROM runs WHERE status IN ('STARTED', 'STARTING', 'CANCELING')")  # fmt: skip
        return [run_id for (run_id,) in rows]
