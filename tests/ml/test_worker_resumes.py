"""A worker that is killed while a network trains: the next one goes on from its checkpoint and makes the same bytes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml.snapshot import write_snapshot
from ml.worker import FitSpec, WarmFrom, WorkerSpec, main

ROOT = Path(__file__).parents[2]
TRAINED = date(2022, 4, 1)
CONFIG: dict[str, Any] = {
    "daily_tokens": 8,
    "hourly_hours": 24,
    "anchor": "harx_cal",
    "d_model": 10,
    "n_seeds": 2,
    "batch_size": 24,
    "epochs": 4,
    "min_steps": 1,
    "patience": 4,
    "min_group_samples": 50,
}


@pytest.fixture(scope="module")
def snapshot(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    folder = str(tmp_path_factory.mktemp("snapshot"))
    hourly = pd.DataFrame(
        {
            "asset": ["BTC"],
            "ts": [pd.Timestamp("2022-01-01", tz="UTC")],
            "known_on": [date(2022, 1, 1)],
            "log_return": [0.01],
        }
    )
    write_snapshot(folder, *market[:2], hourly, "simulated", date(2022, 5, 18))
    return folder


def attention_fit(day: date = TRAINED, warm_from: WarmFrom | None = None, **more: Any) -> FitSpec:
    return FitSpec(
        model="attention", trained_as_of=day, window_days=300, seed=0, config={**CONFIG, **more},
        warm_from=warm_from,
    )  # fmt: skip


def write_spec(folder: Path, snapshot: str, *fits: FitSpec) -> tuple[Path, WorkerSpec]:
    folder.mkdir(exist_ok=True)
    spec = WorkerSpec(snapshot=snapshot, output=str(folder / "models"), device="cpu", fits=fits)
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json())
    return path, spec


def results_of(spec: WorkerSpec) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(Path(spec.results_uri()).read_text())
    return results


def start(path: Path, stderr: Path) -> subprocess.Popen[bytes]:
    with stderr.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ml.worker", str(path)], cwd=ROOT, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def artifact_bytes(result: dict[str, Any]) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(Path(result["uri"]).iterdir())}


@pytest.mark.slow
def test_a_worker_killed_in_the_second_network_goes_on_and_makes_the_same_bytes(
    tmp_path: Path, snapshot: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole_path, whole = write_spec(tmp_path / "whole", snapshot, attention_fit())
    assert main([str(whole_path)]) == 0
    path, spec = write_spec(tmp_path / "killed", snapshot, attention_fit())
    output = tmp_path / "killed" / "models" / "attention"
    process = start(path, tmp_path / "first.log")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(
        output.glob("*.checkpoint/network-1.safetensors")
    ):
        assert process.poll() is None, (tmp_path / "first.log").read_text()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(output.glob("*/model.json"))
    with caplog.at_level(logging.INFO, "ml"):
        assert main([str(path)]) == 0
    log = caplog.text
    assert log.count("training goes on after epoch") == 2
    assert "goes on after epoch 4" in log  # the network that was finished is not trained again
    (made,), (expected,) = results_of(spec), results_of(whole)
    assert artifact_bytes(made) == artifact_bytes(expected)
    assert made["artifact_hash"] == expected["artifact_hash"]
    assert made["curves"] == expected["curves"]
    assert [len(curve) for curve in made["curves"]] == [5, 5]
    assert not list(output.glob("*.checkpoint"))


def test_a_refit_starts_from_the_version_before_it_in_the_spec_or_by_its_address(
    tmp_path: Path, snapshot: str
) -> None:
    before = date(2022, 3, 4)
    warm = {"warm_start": True, "n_seeds": 1, "epochs": 4}
    path, spec = write_spec(
        tmp_path / "chain",
        snapshot,
        attention_fit(before, **warm),
        attention_fit(TRAINED, WarmFrom(trained_as_of=before), **warm),
    )
    assert main([str(path)]) == 0
    cold, refit = results_of(spec)
    assert [len(result["curves"][0]) for result in (cold, refit)] == [5, 3]
    assert refit["notes"] == ["started from the version of 2022-03-04"]
    by_address = WarmFrom(
        trained_as_of=before, uri=cold["uri"], artifact_hash=cold["artifact_hash"]
    )
    path, spec = write_spec(
        tmp_path / "alone", snapshot, attention_fit(TRAINED, by_address, **warm)
    )
    assert main([str(path)]) == 0
    (alone,) = results_of(spec)
    assert artifact_bytes(alone) == artifact_bytes(refit)
    path, spec = write_spec(tmp_path / "cold", snapshot, attention_fit(TRAINED, **warm))
    assert main([str(path)]) == 0
    (without,) = results_of(spec)
    assert without["version"] != refit["version"]
    assert without["notes"] == []


def test_a_warm_start_from_what_is_not_there_fails_with_the_reason(
    tmp_path: Path, snapshot: str
) -> None:
    earlier = WarmFrom(trained_as_of=date(2022, 3, 4))
    other = earlier.model_copy(update={"uri": str(tmp_path / "none"), "artifact_hash": "0" * 64})
    path, spec = write_spec(
        tmp_path,
        snapshot,
        attention_fit(warm_from=earlier, warm_start=True),
        attention_fit(warm_from=other, warm_start=True),
    )
    assert main([str(path)]) == 3
    statuses = [result["status"] for result in results_of(spec)]
    assert "expected that fit of attention before it in the spec, or a uri" in statuses[0]
    assert "the artefact is missing or unfinished" in statuses[1]


@pytest.mark.parametrize(
    ("model", "warm", "message"),
    [
        ("ewma", {"trained_as_of": "2022-03-01"}, "ewma cannot start from an earlier version"),
        ("attention", {"trained_as_of": "2022-04-01"}, "expected a day before 2022-04-01"),
        ("attention", {"trained_as_of": "2022-03-01", "uri": "x"}, "uri and artifact_hash"),
    ],
)
def test_a_wrong_warm_start_is_refused_with_the_spec(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, warm: dict[str, str], message: str
) -> None:
    fit = {"model": model, "trained_as_of": "2022-04-01", "window_days": 300, "seed": 0}
    path = tmp_path / "spec.json"
    path.write_text(
        json.dumps({"snapshot": "s", "output": "m", "fits": [{**fit, "warm_from": warm}]})
    )
    assert main([str(path)]) == 2
    assert message in caplog.text


CHECKED = {"n_seeds": 1, "epochs": 3, "learning_rate": 4e-3, "min_gain_t": 0.0}


def checked_fit(check: bool = True) -> FitSpec:
    return attention_fit(**CHECKED).model_copy(update={"check_explanations": check})


@pytest.mark.slow
def test_checks_of_explanations_lie_beside_an_artefact_that_they_do_not_change(
    tmp_path: Path, snapshot: str
) -> None:
    path, spec = write_spec(tmp_path / "plain", snapshot, checked_fit(check=False))
    assert main([str(path)]) == 0
    (plain,) = results_of(spec)
    assert not list(Path(spec.output).glob("attention/*.checks.json"))
    path, spec = write_spec(tmp_path / "checked", snapshot, checked_fit())
    output = Path(spec.output) / "attention"
    process = start(path, tmp_path / "first.log")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(output.glob("*.checkpoint/check-*")):
        assert process.poll() is None, (tmp_path / "first.log").read_text()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(output.glob("*/model.json"))  # the artefact is finished, its checks are not
    assert not list(output.glob("*.checks.json"))
    assert main([str(path)]) == 0
    (result,) = results_of(spec)
    assert artifact_bytes(result) == artifact_bytes(plain)
    assert result["reused"]
    assert re.fullmatch(r"explanations checked in \d+ s: .*\d+ (pass|fail).*", result["notes"][0])
    (checks,) = output.glob("*.checks.json")
    assert not list(output.glob("*.checkpoint"))
    # asked for an artefact that was made without them, they are made then, with the same bytes
    path, spec = write_spec(tmp_path / "plain", snapshot, checked_fit())
    assert main([str(path)]) == 0
    (later,) = Path(spec.output).glob("attention/*.checks.json")
    assert later.read_bytes() == checks.read_bytes()
    assert main([str(path)]) == 0
    assert results_of(spec)[0]["notes"] == []


def test_checks_that_break_leave_the_fit_and_say_so(
    tmp_path: Path, snapshot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise FloatingPointError("validation loss nan")

    monkeypatch.setattr("ml.attention.twins.explanation_checks", broken)
    path, spec = write_spec(tmp_path, snapshot, checked_fit())
    assert main([str(path)]) == 0
    (result,) = results_of(spec)
    assert result["status"] == "ok"
    said = "explanations were not checked: FloatingPointError: validation loss nan"
    assert result["notes"] == [said]
    assert not list(Path(spec.output).glob("attention/*.checks.json"))
