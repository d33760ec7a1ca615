"""Runs beside each other: step processes, two runs at once, a killed run, a reader throughout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import duckdb
import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import AS_OF, Home, day_before

INGEST_IN_PROCESSES = textwrap.dedent(
    """
    import dagster as dg
    from orchestration.definitions import ASSETS, GATES
    from orchestration.platform import Platform
    from orchestration.settings import Settings

    def build():
        job = dg.define_asset_job(
            "ingest_in_processes",
            selection=dg.AssetSelection.groups("ingest"),
            executor_def=dg.multiprocess_executor.configured({"max_concurrent": 4}),
        )
        defs = dg.Definitions(assets=ASSETS, asset_checks=GATES, jobs=[job], resources={"platform": Platform(Settings.from_env())})
        return defs.resolve_job_def("ingest_in_processes")

    if __name__ == "__main__":
        import sys
        import steps
        with dg.DagsterInstance.get() as instance:
            result = dg.execute_job(
                dg.reconstructable(steps.build), instance=instance, tags={"dagster/partition": sys.argv[1]}, raise_on_error=False
            )
            print("SUCCESS" if result.success else [event.message for event in result.all_events if event.is_failure])
    """
)


@pytest.mark.slow
def test_steps_in_processes_of_their_own_do_not_hit_each_others_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "steps.py").write_text(INGEST_IN_PROCESSES)
    instance = tmp_path / "dagster"
    instance.mkdir()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "steps.py"), AS_OF.isoformat()],
        env={
            **home.variables,
            "DAGSTER_HOME": str(instance),
            "PYTHONPATH": f"{PROJECT_ROOT}:{tmp_path}",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.strip().endswith("SUCCESS"), done.stdout + done.stderr[-3000:]
    assert home.rows("SELECT count(DISTINCT table_name) FROM raw.batches") == [(7,)]


@pytest.mark.slow
def test_two_runs_at_once_and_a_reader_lose_nothing(finished: Home, tmp_path: Path) -> None:
    home = Home(
        tmp_path / "home", {**finished.environment, "VOLCAST_MODELS": "random_walk,harx_cal"}
    )
    home.run("run", "--as-of", day_before(AS_OF, 2).isoformat())
    reads: list[int] = []
    faults: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                with duckdb.connect(
                    str(home.settings.published_path), read_only=True
                ) as connection:
                    reads.append(
                        connection.execute("SELECT count(*) FROM forecasts.volatility").fetchall()[
                            0
                        ][0]
                    )
            except duckdb.Error as error:
                faults.append(str(error))
            time.sleep(0.05)

    reader = threading.Thread(target=read)
    reader.start()
    runs = [home.start("run", "--as-of", day.isoformat()) for day in (day_before(AS_OF), AS_OF)]
    outputs = [process.communicate(timeout=600)[0] for process in runs]
    stop.set()
    reader.join()
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert faults == []
    assert reads == sorted(reads)
    assert reads[-1] > reads[0]
    days = f"as_of >= DATE '{day_before(AS_OF, 2)}' AND model IN ('random_walk', 'harx_cal')"
    assert home.table_hash("forecasts.volatility", where=days) == finished.table_hash(
        "forecasts.volatility", where=days
    )


@pytest.mark.slow
def test_a_run_killed_half_way_is_finished_by_the_next(finished: Home, tmp_path: Path) -> None:
    home = Home(
        tmp_path / "home", {**finished.environment, "VOLCAST_MODELS": "random_walk,harx_cal"}
    )
    for seconds in (9, 14, 20):
        process = home.start("run", "--as-of", AS_OF.isoformat())
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
    home.run("run", "--as-of", AS_OF.isoformat())
    assert home.table_hash("features.daily") == finished.table_hash("features.daily")
    day = f"as_of = DATE '{AS_OF}' AND model IN ('random_walk', 'harx_cal')"
    assert home.table_hash("forecasts.volatility", where=day) == finished.table_hash(
        "forecasts.volatility", where=day
    )
