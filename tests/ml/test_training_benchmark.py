"""The training benchmark: equal sizes, its own system measured, a peer that is not there named with its reason."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import training
from benchmarks.training_systems.measure import Stopwatch, Task, nearest_width
from benchmarks.training_systems.ours import measured, parameters_of
from ml.forecasts import QUANTILE_LEVELS

TASK = Task(
    length=8, covariates=2, batch=16, outputs=3, levels=list(QUANTILE_LEVELS), threads=1, steps=2,
    warmup=1, parameters=0, d_model=8, layers=1,
)  # fmt: skip


def options(tmp_path: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    return parser.parse_args(
        [
            "--repeats",
            "2",
            "--steps",
            "2",
            "--batch",
            "16",
            "--d-model",
            "8",
            "--cache",
            str(tmp_path),
        ]
    )


def test_our_own_training_is_measured_over_whole_epochs() -> None:
    watch = measured(TASK, "float32")
    assert watch.wall > 0
    assert watch.cpu > 0
    assert parameters_of(TASK) > 500


def test_too_few_steps_are_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Stopwatch(TASK)
    watch.step()
    with pytest.raises(RuntimeError, match="1 steps were made: expected 3"):
        watch.report(1, 1)
    for _ in range(2):
        watch.step()
    watch.report(10, 4, torch="2")
    assert '"parameters": 10' in capsys.readouterr().out


def test_the_width_gives_the_nearest_number_of_parameters() -> None:
    assert nearest_width(lambda width: width**2, 90, range(4, 20, 4)) == 8
    assert nearest_width(lambda width: width**2, 10**6, range(4, 20, 4)) == 16


def test_ratios_are_ours_over_theirs_and_a_missing_peer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def python_of(system: training.System, cache: Path) -> str:
        tried.append(system.name)
        if system.requirement.startswith("pytorch-forecasting"):
            raise training.SystemFailed("cannot be installed: no network")
        return "python"

    rates = {"volcast": [80.0, 100.0], "volcast, bfloat16": [150.0, 90.0]}

    def measure(system: training.System, python: str, task: Task) -> dict[str, Any]:
        rate = rates.get(system.name, [40.0]).pop(0) if rates.get(system.name) else 40.0
        assert task.parameters == parameters_of(task)
        return {
            "samples_per_second": rate, "samples_per_cpu_second": 2 * rate, "parameters": 5,
            "width": 4, "versions": {"torch": "2"},
        }  # fmt: skip

    monkeypatch.setattr(training, "python_of", python_of)
    monkeypatch.setattr(training, "measure", measure)
    figures, tables = training.run(options(tmp_path))
    assert figures["samples_per_second"]["volcast"] == 100.0
    assert figures["samples_per_second"]["volcast, bfloat16"] == 150.0
    assert figures["ratio"] == {"neuralforecast TFT": 2.5, "neuralforecast TSMixerx": 2.5}
    assert figures["not_measured"] == {"pytorch-forecasting TFT": "cannot be installed: no network"}
    assert "pytorch-forecasting TFT: not measured: cannot be installed" in capsys.readouterr().out
    assert tried.count("pytorch-forecasting TFT") == 1
    assert len(tables[0][2]) == 4


def test_an_installation_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nonesuch" / "bin").mkdir(parents=True)
    pip = tmp_path / "nonesuch" / "bin" / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr("venv.create", lambda folder, with_pip: None)
    system = training.System("x", "x.py", "", "nonesuch==1")
    with pytest.raises(training.SystemFailed, match="nonesuch==1 cannot be installed: ERROR: No"):
        training.python_of(system, tmp_path)
