"""Fits of a walk-forward evaluation on workers: the forecasts of one process, found by all that they depend on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml.evaluation.folds import WalkForward
from ml.evaluation.walk_forward import WalkForwardResult, walk_forward
from ml.models import create
from ml.panel import Panel
from ml.snapshot import write_snapshot
from ml.walk_worker import WalkSpec, main
from ml.worker import code_version

FIRST, ROWS = 440, 496
RULE = WalkForward(steps=28, initial_train_size=400, fixed_train_size=True)
CONFIGS: dict[str, dict[str, Any]] = {"random_walk": {}, "garch_t": {}}


@pytest.fixture(scope="module")
def snapshot(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    folder = str(tmp_path_factory.mktemp("walk") / "snapshot")
    write_snapshot(folder, *market, "simulated", pd.to_datetime(market[0]["as_of"]).max().date())
    return folder


def walked(panel: Panel, folder: Path) -> WalkForwardResult:
    folds = list(RULE.split(ROWS, FIRST))
    return walk_forward(
        panel, CONFIGS, folds, create, code_version=code_version(), folder=folder, minimum_rows=90
    )


def spec(snapshot: str, folder: Path, *tasks: tuple[str, int], **more: Any) -> WalkSpec:
    given = {"configs": CONFIGS, "rule": asdict(RULE), "rows": ROWS, "first": FIRST, "seed": 0}
    return WalkSpec(
        snapshot=snapshot, folder=str(folder), tasks=tasks, minimum_rows=90, **{**given, **more}
    )


def work(tmp_path: Path, wanted: WalkSpec) -> int:
    path = tmp_path / f"{wanted.identity()}.json"
    path.write_text(wanted.model_dump_json())
    return main([str(path)])


def test_workers_make_the_forecasts_of_one_process(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], snapshot: str, tmp_path: Path
) -> None:
    panel = Panel.from_frames(*market)
    alone = walked(panel, tmp_path / "alone")
    assert alone.fits_made == 4
    shared = tmp_path / "shared"
    assert work(tmp_path, spec(snapshot, shared, ("garch_t", 1), ("random_walk", 0))) == 0
    assert work(tmp_path, spec(snapshot, shared, ("garch_t", 0), ("random_walk", 1))) == 0
    found = walked(panel, shared)
    assert (found.fits_made, found.fits_reused) == (0, 4)
    pd.testing.assert_frame_equal(found.forecasts, alone.forecasts)
    pd.testing.assert_frame_equal(found.refusals, alone.refusals)
    assert found.data_version == alone.data_version


def test_a_fit_that_fails_is_named_and_the_others_are_made(
    snapshot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs = {"random_walk": {"nonsense": 1}, "garch_t": {}}
    wanted = spec(snapshot, tmp_path / "f", ("random_walk", 0), ("garch_t", 0), configs=configs)
    assert work(tmp_path, wanted) == 3
    assert "nonsense" in caplog.text
    assert len(list((tmp_path / "f").rglob("*.parquet"))) == 1


def test_other_code_than_the_spec_s_makes_no_fit(
    snapshot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = spec(snapshot, tmp_path / "f", ("random_walk", 0), code_version="0" * 12)
    assert work(tmp_path, wanted) == 2
    assert "give the workers the same volcast" in caplog.text
    assert not (tmp_path / "f").exists()
