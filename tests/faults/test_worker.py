"""A worker that is killed, stopped, ends without results or leaves garbage: the step says so, and no number is made of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import dagster as dg
import pytest

from orchestration.settings import Settings
from orchestration.workers import WorkerFailed, run_worker

WORKER = """
import os, signal, sys, time
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_custom_message({{"other": 1}})
    {act}
"""
FITS = [{"model": "random_walk", "trained_as_of": "2024-03-17", "window_days": 400, "seed": 1}]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """work(what the worker does, stall minutes): results, or the error of the step."""
    (tmp_path / "code").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "a_worker")
    spec = {"snapshot": str(tmp_path / "s"), "output": str(tmp_path / "out"), "fits": FITS}

    def run(act: str, stall_minutes: float = 5):
        (tmp_path / "code" / "a_worker.py").write_text(WORKER.format(act=act))
        settings = Settings(home=tmp_path / "home", worker_stall_minutes=stall_minutes)
        seen: list[object] = []

        @dg.asset
        def training(context):
            try:
                seen.append(run_worker(context, settings, spec, tmp_path / "specs" / "s.json"))
            except WorkerFailed as error:
                seen.append(error)
            return dg.MaterializeResult()

        assert dg.materialize([training]).success
        assert [path.name for path in (tmp_path / "specs").iterdir()] == ["s.json"]
        return seen[0]

    return run


def test_a_killed_worker_is_named_with_its_signal(work):
    error = work("os.kill(os.getpid(), signal.SIGKILL)")
    assert "no result for random_walk of 2024-03-17" in str(error)
    assert "SIGKILL" in str(error)


def test_a_stopped_worker_is_killed_after_the_stall_time(work):
    began = time.monotonic()
    error = work("os.kill(os.getpid(), signal.SIGSTOP)", stall_minutes=1.5 / 60)
    assert "neither computed nor reported" in str(error)
    assert "VOLCAST_WORKER_STALL_MINUTES" in str(error)
    assert time.monotonic() - began < 60


def test_a_worker_that_computes_without_a_word_is_not_stalled(work):
    busy = "end = time.monotonic() + 4\n    while time.monotonic() < end: pass\n    sys.exit(7)"
    assert "ended with code 7" in str(work(busy, stall_minutes=2 / 60))


def test_a_worker_that_ends_well_without_results_is_a_failure(work):
    assert "no result for random_walk of 2024-03-17" in str(work("pass"))


@pytest.mark.parametrize("garbage", ['{"half', "[1, 2]", "[{}]", "\\x00\\x01", "{}"])
def test_garbage_for_results_is_no_result(work, tmp_path, garbage):
    from ml.worker import WorkerSpec

    spec = {"snapshot": str(tmp_path / "s"), "output": str(tmp_path / "out"), "fits": FITS}
    path = Path(WorkerSpec(**spec).results_uri())
    path.parent.mkdir(parents=True)
    path.write_bytes(garbage.encode().decode("unicode_escape").encode("latin-1"))
    error = work("os.kill(os.getpid(), signal.SIGKILL)")
    assert isinstance(error, WorkerFailed)
    assert "no result for random_walk" in str(error)


def test_results_that_a_killed_worker_left_whole_are_used(work, tmp_path):
    from ml.worker import WorkerSpec

    spec = {"snapshot": str(tmp_path / "s"), "output": str(tmp_path / "out"), "fits": FITS}
    path = Path(WorkerSpec(**spec).results_uri())
    path.parent.mkdir(parents=True)
    row = {"model": "random_walk", "trained_as_of": "2024-03-17", "code_version": "c", "config": {}, "seed": 1, "status": "ok"}  # fmt: skip
    path.write_text(json.dumps([row]))
    [found] = work("os.kill(os.getpid(), signal.SIGKILL)")
    assert found["status"] == "ok"
