"""Training as pods, against an API server on loopback that runs their commands: the models of a subprocess, evictions, and nothing left after a stop."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.workers import Shard, WorkerFailed, fan_out
from orchestration.workers.pod_spec import pod_of
from tests.orchestration.workers import market
from tests.services import kubernetes_api
from tests.services.kubernetes_api import Api

pytest.importorskip("dagster_k8s")

POD = PROJECT_ROOT / "deploy" / "kubernetes" / "worker-pod.yaml"
EVICTED_ONCE = """
import sys, time
from pathlib import Path
from ml.worker import main

begun = Path(sys.argv[1] + ".begun")
if "-1-of-" in sys.argv[1] and not begun.exists():
    begun.touch()
    time.sleep(600)
sys.exit(main(sys.argv[1:]))
"""
SLEEPS = """
import sys, time
from pathlib import Path
Path(sys.argv[1] + ".begun").touch()
time.sleep(600)
"""
MODULES = {
    "evicted_once": EVICTED_ONCE,
    "sleeps": SLEEPS,
    "fails": "import sys\nsys.exit(7)\n",
    "dies": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    modules = tmp_path / "modules"
    modules.mkdir()
    for name, text in MODULES.items():
        (modules / f"{name}.py").write_text(text)
    with kubernetes_api.running(tmp_path) as found:
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig))
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(found.kubeconfig)
        )
        found.environment = {"PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(modules)])}
        yield found


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, workers="k8s", workers_at_once=2, k8s_pod=POD, worker_memory="1GiB")


def outcomes(settings: Settings, *shards: Shard) -> list[Any]:
    ended: list[Any] = []

    @dg.op
    def training(context: dg.OpExecutionContext) -> None:
        ended.extend(fan_out(context, settings, shards))

    @dg.job
    def night() -> None:
        training()

    night.execute_in_process()
    return ended


def when(wanted: Callable[[], Any], act: Callable[[], Any]) -> None:
    def wait() -> None:
        deadline = time.monotonic() + 600
        while not wanted() and time.monotonic() < deadline:
            time.sleep(0.1)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_an_evicted_pod_changes_no_model(
    api, settings, snapshot, alone, tmp_path, small_shards, monkeypatch
):
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "evicted_once")
    spec = market.spec_of(snapshot, tmp_path / "models", market.CHEAP)
    first = str(tmp_path / "models" / "specs" / "all-1-of-")

    def of_the_first() -> str:
        return next(
            name
            for name, pod in api.pods.items()
            if pod.body["spec"]["containers"][0]["command"][-1].startswith(first)
        )

    begun = lambda: list((tmp_path / "models" / "specs").glob("*.begun"))  # noqa: E731
    when(begun, lambda: api.evict(of_the_first()))
    results, workers, lines = market.run_in_asset(settings, spec)
    assert market.same(results) == market.same(alone)
    assert sorted({ended.attempts for _, ended in workers}) == [1, 2]
    assert sum("lost its worker" in line and "Evicted" in line for line in lines) == 1
    assert any("fit 1/" in line for line in lines)
    assert all("on node node-" in ended.worker for _, ended in workers)
    assert api.pods == {}


def test_a_stopped_run_deletes_its_pods(api, settings, tmp_path):
    shards = [Shard("sleeps", {}, str(tmp_path / f"{n}.json"), "fit", f"{n}/2") for n in (1, 2)]
    when(
        lambda: len(list(tmp_path.glob("*.begun"))) == 2,
        lambda: os.kill(os.getpid(), signal.SIGINT),
    )
    processes = api.pods
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        outcomes(settings, *shards)
    assert processes == {}
    assert sum(method == "DELETE" for method, _ in api.calls) == 2


@pytest.mark.parametrize(
    ("module", "problem", "lost"),
    [
        ("fails", "the worker ended with code 7", False),
        ("dies", "was ended by signal 9 (OOMKilled): where it is OOMKilled, raise", True),
    ],
)
def test_what_ended_a_pod_is_said(api, settings, tmp_path, module, problem, lost):
    once = settings.model_copy(update={"worker_retries": 0})
    [ended] = outcomes(once, Shard(module, {}, str(tmp_path / "one.json"), "fit"))
    assert problem in ended.problem
    assert ended.lost is lost
    assert api.pods == {}


def test_a_pod_that_waits_for_a_node_is_deleted_with_its_run(api, settings, tmp_path):
    api.schedules = False
    soon = settings.model_copy(update={"worker_stall_minutes": 1 / 60})
    when(lambda: len(api.calls) > 6, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        outcomes(soon, Shard("sleeps", {}, str(tmp_path / "one.json"), "fit"))
    assert api.pods == {}


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (503, 2)])
def test_a_pod_that_is_refused_is_tried_again_only_where_that_may_help(
    api, settings, tmp_path, status, attempts
):
    api.refuse = (status, "exceeded quota")
    [ended] = outcomes(settings, Shard("fails", {}, str(tmp_path / "one.json"), "fit"))
    assert ended.attempts == attempts
    if attempts == 1:
        assert "Kubernetes refused the pod: 403" in ended.problem
        assert "exceeded quota" in ended.problem


def test_a_pod_whose_node_goes_is_lost(api, settings, tmp_path):
    when(lambda: list(tmp_path.glob("*.begun")), lambda: api.lose_node(next(iter(api.pods))))
    once = settings.model_copy(update={"worker_retries": 0})
    [ended] = outcomes(once, Shard("sleeps", {}, str(tmp_path / "one.json"), "fit"))
    assert ended.lost
    assert "is gone: deleted, or its node with it" in ended.problem


def rendered(settings: Settings, needs_gpu: bool = True) -> dict[str, Any]:
    shard = Shard("ml.worker", {}, "s3://bucket/specs/a.json", "fit", needs_gpu=needs_gpu)
    return pod_of(settings, shard, "0123456789ab")


def test_the_pod_is_valid_and_takes_no_more_than_it_needs(settings):
    import kubernetes_validate

    pod = rendered(settings.model_copy(update={"device": "cuda"}))
    pod["metadata"]["name"] = "volcast-worker"
    kubernetes_validate.validate(pod, "1.34", strict=True)
    spec, worker = pod["spec"], pod["spec"]["containers"][0]
    assert worker["command"] == ["python", "-m", "ml.worker", "s3://bucket/specs/a.json"]
    assert worker["resources"]["limits"] == {"memory": str(2**30), "nvidia.com/gpu": "1"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert worker["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["metadata"]["namespace"] == "volcast"


def test_a_gpu_is_asked_for_only_by_fits_that_use_one(settings):
    for device, needs_gpu in (("cuda", False), ("cpu", True), ("auto", True)):
        pod = rendered(settings.model_copy(update={"device": device}), needs_gpu)
        assert set(pod["spec"]["containers"][0]["resources"]["limits"]) == {"memory"}


def test_a_pod_that_cannot_be_made_is_an_error_that_says_so(home, tmp_path):
    with pytest.raises(WorkerFailed, match="no image; name it in VOLCAST_K8S_IMAGE"):
        rendered(Settings(home=home, workers="k8s"))
    other = tmp_path / "pod.yaml"
    other.write_text("kind: Deployment\n")
    with pytest.raises(WorkerFailed, match="expected one Pod"):
        rendered(Settings(home=home, workers="k8s", k8s_pod=other))
