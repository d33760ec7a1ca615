"""The worker: a spec in, artefacts and results out, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster_pipes import encode_env_var

from ml import artifacts, models
from ml.panel import Panel
from ml.snapshot import write_snapshot
from ml.worker import (
    FitSpec,
    WorkerSpec,
    _heartbeat,
    code_version,
    main,
    model_version,
    resolve_device,
)

ROOT = Path(__file__).parents[2]
TRAINED = date(2022, 4, 1)


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


def fit_of(model: str, trained_as_of: date = TRAINED) -> FitSpec:
    return FitSpec(model=model, trained_as_of=trained_as_of, window_days=400, seed=0)


def write_spec(folder: Path, snapshot: str, *fits: FitSpec, **more: Any) -> tuple[Path, WorkerSpec]:
    spec = WorkerSpec(snapshot=snapshot, output=str(folder / "models"), fits=fits, **more)
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json())
    return path, spec


def run(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ml.worker", str(path)], cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def results_of(spec: WorkerSpec) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(Path(spec.results_uri()).read_text())
    return results


def test_fits_are_stored_reported_and_used_again(tmp_path: Path, snapshot: str) -> None:
    path, spec = write_spec(tmp_path, snapshot, fit_of("ewma"), fit_of("harx_cal"))
    done = run(path)
    assert done.returncode == 0, done.stderr
    first = results_of(spec)
    assert [(result["model"], result["status"], result["reused"]) for result in first] == [
        ("ewma", "ok", False),
        ("harx_cal", "ok", False),
    ]
    for result in first:
        assert result["version"].startswith("2022-04-01-")
        assert (result["train_start"], result["train_end"]) == ("2021-02-26", "2022-04-01")
        assert (result["device"], result["seed"], result["code_version"]) == (
            "cpu",
            0,
            code_version(),
        )
        assert result["config"] == {"window_days": 400}
        assert result["metrics"]["coins_forecast"] == 3
        assert 0 < result["metrics"]["in_window_qlike_22"] < 2
        state = artifacts.load(result["uri"], result["artifact_hash"])
        forecasts = models.from_state(state).forecast(Panel.read(snapshot), [TRAINED])
        assert len(forecasts.to_frame()) == 9
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "models").rglob("model.*")}
    assert run(path).returncode == 0
    again = results_of(spec)
    assert all(result["reused"] for result in again)
    changing = ("reused", "seconds")
    assert [{k: v for k, v in r.items() if k not in changing} for r in again] == [
        {k: v for k, v in r.items() if k not in changing} for r in first
    ]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_fit_that_fails_is_reported_and_the_others_are_made(
    tmp_path: Path, snapshot: str
) -> None:
    beyond = fit_of("ewma", date(2030, 1, 1))
    path, spec = write_spec(tmp_path, snapshot, beyond, fit_of("log_har"))
    done = run(path)
    assert done.returncode == 3
    failed, made = results_of(spec)
    assert failed["status"] == (
        "failed: ValueError: as_of 2030-01-01: the panel has 2021-01-04 to 2022-05-18"
    )
    assert failed["artifact_hash"] is None
    assert "Traceback" in done.stderr
    assert made["status"] == "ok"


def test_a_killed_worker_leaves_nothing_half_and_the_next_run_completes(
    tmp_path: Path, snapshot: str
) -> None:
    fits = [fit_of("harx_cal", date(2022, 3, day)) for day in range(1, 31)]
    path, spec = write_spec(tmp_path, snapshot, *fits)
    output = tmp_path / "models" / "harx_cal"
    process = subprocess.Popen(
        [sys.executable, "-m", "ml.worker", str(path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        output.exists() and len(list(output.glob("2022*"))) > 2
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = list(output.glob("2022*"))
    assert 2 < len(finished) < 30
    for folder in finished:
        stored = artifacts.stored_hash(str(folder))
        assert stored is not None
        artifacts.load(str(folder), stored)
    assert not Path(spec.results_uri()).exists()
    assert run(path).returncode == 0
    results = results_of(spec)
    assert [result["status"] for result in results] == ["ok"] * 30
    assert sum(result["reused"] for result in results) == len(finished)


def test_a_damaged_artifact_is_fitted_again(tmp_path: Path, snapshot: str) -> None:
    path, spec = write_spec(tmp_path, snapshot, fit_of("log_har"))
    run(path)
    before = results_of(spec)[0]
    tensors = Path(before["uri"]) / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    done = run(path)
    assert "it was changed, train the model again; fitting it again" in done.stderr
    after = results_of(spec)[0]
    assert (after["status"], after["reused"]) == ("ok", False)
    assert after["artifact_hash"] == before["artifact_hash"]


def test_dagster_pipes_gets_lines_and_results(tmp_path: Path, snapshot: str) -> None:
    path, _ = write_spec(tmp_path, snapshot, fit_of("random_walk"))
    context, messages = tmp_path / "context.json", tmp_path / "messages.jsonl"
    names = [
        "asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key", "partition_key_range",
        "partition_time_window", "job_name",
    ]  # fmt: skip
    context.write_text(
        json.dumps({**dict.fromkeys(names), "run_id": "r", "retry_number": 0, "extras": {}})
    )
    done = run(
        path,
        DAGSTER_PIPES_CONTEXT=encode_env_var({"path": str(context)}),
        DAGSTER_PIPES_MESSAGES=encode_env_var({"path": str(messages)}),
    )
    assert done.returncode == 0, done.stderr
    sent = [json.loads(line) for line in messages.read_text().splitlines()]
    custom = [m["params"]["payload"] for m in sent if m["method"] == "report_custom_message"]
    assert [payload["fit"]["model"] for payload in custom] == ["random_walk"]
    assert custom[0]["fit"]["status"] == "ok"
    lines = [m["params"]["message"] for m in sent if m["method"] == "log"]
    assert any("fit 1/1 random_walk 2022-04-01: ok" in line for line in lines)
    assert sent[-1]["method"] == "closed"


def test_torch_is_not_imported_for_classical_models(tmp_path: Path, snapshot: str) -> None:
    path, _ = write_spec(tmp_path, snapshot, fit_of("harx_cal"), fit_of("egarch_t"))
    program = f"import sys; from ml.worker import main; print(main([{str(path)!r}]), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "False"]


def test_a_changed_snapshot_is_not_trained_on(
    tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
) -> None:
    folder = tmp_path / "snapshot"
    hourly = pd.DataFrame(
        {
            "asset": ["BTC"],
            "ts": [pd.Timestamp("2022-01-01", tz="UTC")],
            "known_on": [date(2022, 1, 1)],
        }
    )
    write_snapshot(str(folder), *market[:2], hourly, "simulated", TRAINED)
    market[0].assign(rv_d=1.0).to_parquet(folder / "daily.parquet")
    path, spec = write_spec(tmp_path, str(folder), fit_of("ewma"))
    done = run(path)
    assert done.returncode == 1
    assert "write the snapshot again" in done.stderr
    assert not Path(spec.output).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "prophet"}, "model 'prophet': expected one of random_walk"),
        ({"window_days": 0}, "greater than 0"),
        ({"config": {"window_days": 10}}, "config has window_days 10, the fit 400"),
        ({"windows": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_spec_ends_with_2_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], message: str
) -> None:
    fit = {**fit_of("ewma").model_dump(mode="json"), **change}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"snapshot": "s", "output": "m", "fits": [fit]}))
    assert main([str(path)]) == 2
    assert message in caplog.text


def test_a_missing_spec_or_argument_ends_with_2(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert "cannot read the spec" in caplog.text
    assert main([]) == 2
    assert "expected one argument" in caplog.text


def test_other_code_than_the_spec_s_makes_no_model(
    tmp_path: Path, snapshot: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = write_spec(tmp_path, snapshot, fit_of("ewma"), code_version="0" * 12)
    assert main([str(path)]) == 2
    assert "give the workers the same volcast" in caplog.text
    assert not (tmp_path / "models").exists()


def test_a_worker_that_computes_says_so_and_one_that_waits_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOLCAST_WORKER_HEARTBEAT", "0.05")
    beats: list[dict[str, Any]] = []
    with _heartbeat(beats.append):
        end = time.process_time() + 0.5
        while time.process_time() < end:
            pass
        time.sleep(0.2)
        computed = len(beats)
        time.sleep(1.0)
    assert computed > 1
    assert len(beats) == computed


def test_the_version_names_data_settings_seed_and_code() -> None:
    version = model_version(TRAINED, "a" * 64, {"window_days": 400}, 0)
    assert version.startswith("2022-04-01-")
    assert len(version) == len("2022-04-01-") + 8
    others = {
        model_version(TRAINED, "b" * 64, {"window_days": 400}, 0),
        model_version(TRAINED, "a" * 64, {"window_days": 401}, 0),
        model_version(TRAINED, "a" * 64, {"window_days": 400}, 1),
    }
    assert len(others | {version}) == 4


def test_device_is_chosen_by_what_the_model_needs() -> None:
    assert resolve_device("auto", models.MODELS["harx_cal"]) == "cpu"
    assert resolve_device("cuda", models.MODELS["harx_cal"]) == "cpu"
    assert resolve_device("cpu", models.MODELS["attention"]) == "cpu"
    import torch

    if torch.cuda.is_available():
        assert resolve_device("auto", models.MODELS["attention"]) == "cuda"
    else:
        with pytest.raises(ValueError, match="device 'cuda': no CUDA device here"):
            resolve_device("cuda", models.MODELS["attention"])
