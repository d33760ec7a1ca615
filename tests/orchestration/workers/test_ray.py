"""Training as jobs of a real Ray cluster on loopback: the models of a subprocess, also when a node dies; and nothing runs on after a stop."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.settings import Settings
from orchestration.workers import Shard, WorkerFailed, fan_out
from tests.orchestration.workers import market
from tests.services import ray_cluster
from tests.services.ray_cluster import RayCluster

if find_spec("dagster_ray") is None:
    pytest.skip("needs the extra `ray`", allow_module_level=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    modules = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (modules / f"{name}.py").write_text(text)
    with ray_cluster.running(modules) as found:
        yield found


@pytest.fixture
def settings(cluster: RayCluster, home: Path) -> Settings:
    return Settings(
        home=home,
        workers="ray",
        workers_at_once=2,
        ray_address=cluster.address,
        worker_memory="200MB",
        ray_resources={"trainer": 1},
    )


WAITS_ONCE = """
import os, sys, time
from pathlib import Path
from ml.worker import main

place = sys.argv[1]
if "-1-of-" in place and not Path(place + ".begun").exists():
    Path(place + ".begun").write_text(str(os.getpid()))
    time.sleep(600)
sys.exit(main(sys.argv[1:]))
"""
SLEEPS = """
import os, sys, time
from pathlib import Path
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"fit": {"text": "x" * 60_000}})
    Path(sys.argv[1] + ".pid").write_text(str(os.getpid()))
    time.sleep(float(os.environ.get("SECONDS", 600)))
"""
FAILS = "import sys\nsys.exit(7)\n"
TALKS = """
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    for number in range(30):
        pipes.report_custom_message({"fit": {"number": number, "text": "x" * 30_000}})
"""
MODULES = {"waits_once": WAITS_ONCE, "sleeps": SLEEPS, "fails": FAILS, "talks": TALKS}


def when(wanted: Callable[[], bool], act: Callable[[], Any], seconds: float = 600) -> None:
    """Do something in another thread once it is time."""

    def wait() -> None:
        deadline = time.monotonic() + seconds
        while not wanted() and time.monotonic() < deadline:
            time.sleep(0.1)
        act()

    threading.Thread(target=wait, daemon=True).start()


def jobs_of(cluster: RayCluster) -> list[Any]:
    from ray.job_submission import JobSubmissionClient  # reads how to authenticate, once

    return list(JobSubmissionClient(cluster.address).list_jobs())


def outcomes(settings: Settings, shards: list[Shard]) -> list[Any]:
    ended: list[Any] = []

    @dg.op
    def training(context: dg.OpExecutionContext) -> None:
        ended.extend(fan_out(context, settings, shards))

    @dg.job
    def night() -> None:
        training()

    night.execute_in_process()
    return ended


def test_a_node_that_dies_in_a_job_changes_no_model(
    cluster, settings, snapshot, alone, tmp_path, small_shards, monkeypatch
):
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "waits_once")
    spec = market.spec_of(snapshot, tmp_path / "models", market.CHEAP)
    begun: list[Path] = []

    def node_of(part: str) -> str:
        """The node of the running job whose name holds ``part``."""
        return next(
            str(job.driver_node_id)
            for job in jobs_of(cluster)
            if part in str(job.submission_id) and str(job.status) == "RUNNING"
        )

    def has_begun() -> bool:
        begun[:] = [one for one in (tmp_path / "models").rglob("*.begun") if one.read_text()]
        return bool(begun)

    when(has_begun, lambda: cluster.kill_node(node_of("-1-of-")))
    results, workers, lines = market.run_in_asset(settings, spec)
    assert market.same(results) == market.same(alone)
    assert sorted({ended.attempts for _, ended in workers}) == [1, 2]
    assert sum("lost its worker" in line for line in lines) == 1
    assert any("fit 1/" in line for line in lines)  # the workers' own lines
    assert all("on node" in ended.worker for _, ended in workers)
    assert not _alive(begun[0])
    cluster.add_node()


@pytest.mark.slow
def test_messages_longer_than_a_chunk_of_the_log_come_whole(settings, tmp_path):
    [ended] = outcomes(settings, [Shard("talks", {}, str(tmp_path / "one.json"), "fit")])
    assert ended.problem is None
    assert [message["number"] for message in ended.messages] == list(range(30))
    assert {len(message["text"]) for message in ended.messages} == {30_000}


@pytest.mark.slow
def test_a_job_that_fails_by_itself_is_not_run_again(settings, tmp_path):
    [ended] = outcomes(settings, [Shard("fails", {}, str(tmp_path / "one.json"), "fit")])
    assert (ended.problem, ended.lost) == ("the worker ended with code 7", False)
    assert ended.attempts == 1


def _alive(pid_file: Path) -> bool:
    return Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_stopped_run_stops_its_job(cluster, settings, tmp_path):
    pid = tmp_path / "one.json.pid"
    when(pid.exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        outcomes(settings, [Shard("sleeps", {}, str(tmp_path / "one.json"), "fit")])
    newest = max(jobs_of(cluster), key=lambda job: job.start_time or 0)
    assert str(newest.status) == "STOPPED"
    assert not _alive(pid)


@pytest.mark.slow
def test_a_job_whose_process_is_killed_is_lost(settings, tmp_path):
    pid = tmp_path / "one.json.pid"
    when(pid.exists, lambda: os.kill(int(pid.read_text()), signal.SIGKILL))
    once = settings.model_copy(update={"worker_retries": 0})
    [ended] = outcomes(once, [Shard("sleeps", {}, str(tmp_path / "one.json"), "fit")])
    assert ended.lost
    assert "was lost (FAILED)" in str(ended.problem)
    assert len(ended.messages) == 0  # of a lost worker only its results count


@pytest.mark.slow
def test_a_job_that_says_nothing_is_stopped_and_lost(settings, tmp_path):
    once = settings.model_copy(update={"worker_retries": 0, "worker_stall_minutes": 5 / 60})
    [ended] = outcomes(once, [Shard("sleeps", {}, str(tmp_path / "one.json"), "fit")])
    assert ended.lost
    assert "neither computed nor reported" in str(ended.problem)
    assert not _alive(tmp_path / "one.json.pid")


def test_an_address_without_ray_is_named(home, tmp_path):
    nowhere = Settings(home=home, workers="ray", ray_address="http://user:pass-w0rd@127.0.0.1:9")
    with pytest.raises(WorkerFailed, match=r"Ray at http://\*\*\*@127.0.0.1:9") as failed:
        outcomes(nowhere, [Shard("fails", {}, str(tmp_path / "one.json"), "fit")])
    assert "pass-w0rd" not in str(failed.value)
    with pytest.raises(WorkerFailed, match="expected VOLCAST_RAY_ADDRESS=http"):
        outcomes(Settings(home=home, workers="ray"), [])
