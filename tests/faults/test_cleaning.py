"""What a run that was killed left behind is gone when the next one begins; what belongs to the living stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration import cleaning
from orchestration.cleaning import clean, running
from orchestration.runs import prepare_home
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse import Locked, Warehouse, WarehouseError

HOLDER = textwrap.dedent(
    """
    import subprocess, sys
    from pathlib import Path
    from types import SimpleNamespace
    from orchestration.cleaning import running
    from orchestration.settings import Settings

    slots = SimpleNamespace(supports_global_concurrency_limits=False)
    with running(Settings(home=Path(sys.argv[1])), SimpleNamespace(event_log_storage=slots), sys.argv[2], "daily"):
        worker = None
        if sys.argv[3] == "with a worker":
            worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
        print(worker.pid if worker else 0, flush=True)
        sys.stdin.read()
    """
)
LIVING = os.getppid()
"""A process beside this one; 4194305 is more than a process id can be."""
LEFTOVERS = (
    "artifacts/models/har/.v1.0123.part/model.safetensors",
    "artifacts/models/results-1.json.0123.part",
    "artifacts/snapshots/aa/daily.parquet",
    "artifacts/snapshots/bb/hourly.parquet.0123.part",
    "artifacts/specs/s.4194305",
    "artifacts/models/attention/v1.checkpoint/0.safetensors",
    "dagster/dagster.4194305",
    "model_cards/har/.v1.md.4194305",
    "reports/2024-03-18.4194305",
    "runs/x.part",
    "published/.volcast.duckdb.4194305",
    "published/.volcast.duckdb.4194305.wal",
    ".restore.part/moving",
    "warehouse.duckdb.tmp/spilled",
)
KEPT = (
    "artifacts/models/har/v1/model.json",
    "artifacts/models/attention/v1/model.json",
    "artifacts/models/attention/v1.checks.json",
    "artifacts/models/attention/v2.checkpoint/0.safetensors",
    "artifacts/snapshots/bb/snapshot.json",
    "artifacts/specs/s.json",
    "reports/2024-03-18.html",
    f"reports/2024-03-18.{LIVING}",
    f"model_cards/har/.v1.md.{LIVING}",
    "published/volcast.duckdb",
    "warehouse.duckdb",
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = Settings(home=tmp_path / "home")
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("VOLCAST_HOME", "")
    prepare_home(made)
    return made


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as made:
        yield made


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """start(run id, worker=...): a process that holds the locks of a run until it is killed."""
    made: list[subprocess.Popen[str]] = []
    workers: list[int] = []

    def holder(run_id: str, worker: str = "alone") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(settings.home), run_id, worker],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        workers.append(int(process.stdout.readline()))
        made.append(process)
        return process

    yield holder
    for pid in filter(None, workers):  # first: they hold the other end of a pipe
        os.kill(pid, signal.SIGKILL)
    for process in made:
        process.kill()
        process.communicate()


def _started(instance: dg.DagsterInstance) -> str:
    """A run that Dagster holds for started, with a slot of the pool."""

    @dg.job(name="daily")
    def daily() -> None:
        pass

    run = instance.create_run_for_job(daily, status=dg.DagsterRunStatus.STARTED)
    instance.event_log_storage.set_concurrency_slots("warehouse", 1)
    instance.event_log_storage.claim_concurrency_slot("warehouse", run.run_id, "raw__ohlcv")
    return run.run_id


def _put(home: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("")


def _held(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_run_ids())


def test_a_run_whose_process_was_killed_is_failed_and_gives_its_slot_back(
    settings, instance, start
):
    run_id = _started(instance)
    process = start(run_id)
    _put(settings.home, (*LEFTOVERS, *KEPT))
    before = clean(settings, instance)  # it lives: nothing is touched
    assert (before.runs, before.slots, before.files, before.alone) == ((), 0, 0, False)
    assert _held(instance) == {run_id}
    process.kill()
    process.wait()
    found = clean(settings, instance)
    assert found.runs == (run_id,)
    assert found.slots == 1
    assert _held(instance) == set()
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert [name for name in LEFTOVERS if (settings.home / name).exists()] == []
    assert [name for name in KEPT if not (settings.home / name).exists()] == []
    assert list((settings.home / "runs").glob("*.lock")) == []
    again = clean(settings, instance)
    assert (again.runs, again.slots, again.files) == ((), 0, 0)


def test_files_of_a_worker_that_outlives_its_run_are_left_to_it(settings, instance, start):
    run_id = _started(instance)
    process = start(run_id, "with a worker")
    _put(settings.home, LEFTOVERS)
    process.kill()
    process.wait()
    found = clean(settings, instance)
    assert found.runs == (run_id,)
    assert (found.alone, found.files) == (False, 0)
    assert [name for name in LEFTOVERS if not (settings.home / name).exists()] == []


@pytest.mark.parametrize("shared", [True, False])
def test_files_of_who_holds_the_warehouse_are_left_to_them(settings, instance, shared):
    """A command outside of a run: it has none of a run's locks."""
    mine = ("warehouse.duckdb.tmp/spilled", "published/.volcast.duckdb.4194305")
    _put(settings.home, mine)
    with Warehouse(settings).lock(shared=shared):
        assert clean(settings, instance).files == 0
        assert [name for name in mine if not (settings.home / name).exists()] == []
    assert clean(settings, instance).files == 2


def test_nobody_opens_the_warehouse_while_files_are_removed(settings, instance, monkeypatch):
    _put(settings.home, ("warehouse.duckdb.tmp/spilled",))
    waits: list[type[Exception]] = []

    def opening(path: Path) -> int:
        impatient = settings.model_copy(update={"lock_timeout_seconds": 0.1})
        try:
            with Warehouse(impatient).lock(shared=True):
                pass
        except WarehouseError as error:
            waits.append(type(error))
        return 1

    monkeypatch.setattr(cleaning, "_remove", opening)
    assert clean(settings, instance).files == 1
    assert waits == [Locked]


def test_what_a_restore_gathered_stays_until_there_is_a_warehouse(settings, instance):
    _put(settings.home, (".restore.part/warehouse.duckdb",))
    assert clean(settings, instance).files == 0
    _put(settings.home, ("warehouse.duckdb",))
    assert clean(settings, instance).files == 1


def test_the_lock_of_a_run_that_another_instance_knows_is_kept_for_it(settings, instance):
    run_id = _started(instance)
    _put(settings.home, (f"runs/{run_id}.lock", "runs/old.lock"))
    os.utime(settings.home / "runs" / "old.lock", (0, 0))
    with dg.DagsterInstance.ephemeral() as other:
        assert clean(settings, other).runs == ()
    assert [path.name for path in (settings.home / "runs").glob("*.lock")] == [f"{run_id}.lock"]
    found = clean(settings, instance)
    assert (found.runs, found.slots) == ((run_id,), 1)
    assert list((settings.home / "runs").glob("*.lock")) == []


def test_the_lock_of_a_run_that_ended_well_goes_with_the_next(settings, instance):
    run_id = _started(instance)
    with running(settings, instance, run_id, "daily"):
        pass
    instance.report_run_failed(instance.get_run_by_id(run_id))
    with running(settings, instance, "r2", "daily") as found:
        assert found.runs == ()
        assert [path.name for path in (settings.home / "runs").glob("*.lock")] == ["r2.lock"]


def test_a_run_that_could_not_tell_dagster_its_end_is_found_dead_by_the_next(settings, instance):
    """As on a full disk: the run is over, and its step still counts as started, with its slot."""
    run_id = _started(instance)
    with running(settings, instance, run_id, "daily"):
        pass
    assert clean(settings, instance).runs == ()  # it may be telling it just now
    with running(settings, instance, "r2", "daily") as found:
        assert (found.runs, found.slots) == ((run_id,), 1)
    assert _held(instance) == set()


def test_a_lock_that_cannot_be_settled_stays_and_stops_no_run(settings, instance, caplog):
    class Full:
        def get_run_by_id(self, run_id: str) -> None:
            raise OSError(28, "No space left on device")

    run_id = _started(instance)
    with running(settings, instance, run_id, "daily"):
        pass
    cleaning.settle(Full())
    assert "No space left" in caplog.text
    assert clean(settings, instance).runs == (run_id,)


def test_a_run_with_a_process_a_step_is_not_judged_by_its_lock(settings, instance):
    with running(settings, instance, "r1", "ingest_in_processes"):
        assert list((settings.home / "runs").glob("*.lock")) == []


def test_slots_of_a_run_that_has_ended_are_freed(settings, instance):
    run_id = _started(instance)
    instance.report_run_failed(instance.get_run_by_id(run_id))
    assert _held(instance) == {run_id}
    assert clean(settings, instance).slots == 1
    assert _held(instance) == set()


def test_a_fault_of_cleaning_stops_no_run(settings, caplog):
    class Broken:
        @property
        def event_log_storage(self) -> Any:
            raise OSError("disk I/O error")

    with running(settings, Broken(), "r1", "daily") as found:  # type: ignore[arg-type]
        assert found.slots == 0
    assert "disk I/O error" in caplog.text


def test_cleaning_a_home_in_order_takes_no_time(settings, instance):
    for version in range(300):
        _put(settings.home, (f"artifacts/models/har/v{version}/model.json",))
        _put(settings.home, (f"artifacts/snapshots/s{version}/snapshot.json",))
    clean(settings, instance)
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        clean(settings, instance)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05, seconds
