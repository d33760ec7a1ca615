"""QLIKE of the classical models on the archive against the reference figures of shared/data/README.md.

Walk forward over 2021-09-01 .. 2023-12-31 on ten coins: linear models refitted every 7 days, GARCH every 30.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import models
from ml.evaluation.aggregation import mean_by_model
from ml.evaluation.folds import WalkForward
from ml.evaluation.leaderboard import leaderboard
from ml.evaluation.scores import score_frame
from ml.evaluation.verdicts import comparison_tests
from ml.forecasts import concatenate
from ml.panel import Panel
from tests.ml.archive_frames import archive_frames

pytestmark = pytest.mark.archive

FIRST, LAST = date(2021, 9, 1), date(2023, 12, 31)
REFIT_DAYS = {"random_walk": 7, "ewma": 7, "log_har": 7, "harx_cal": 7, "garch_t": 30}
REFERENCE = {
    "random_walk": (0.834, 0.500, 0.351),
    "ewma": (0.528, 0.355, 0.280),
    "garch_t": (0.541, 0.403, 0.465),
    "log_har": (0.475, 0.325, 0.253),
    "harx_cal": (0.427, 0.294, 0.223),
}


@pytest.fixture(scope="module")
def frames(archive_folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return archive_frames(archive_folder)


@pytest.fixture(scope="module")
def scores(frames: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    panel = Panel.from_frames(*frames)
    start, stop = panel.row(FIRST), panel.row(LAST) + 1
    parts = []
    for name, steps in REFIT_DAYS.items():
        blocks = []
        for fold in WalkForward(steps, initial_train_size=start, fixed_train_size=False).split(
            stop
        ):
            days = [panel.days[row].item() for row in fold.test]
            model = models.create(name)
            model.fit(panel, days[0], {}, seed=0)
            blocks.append(model.forecast(panel, days))
        parts.append(concatenate(blocks).to_frame())
    forecasts = pd.concat(parts).assign(source="archive", model_version="parity")
    return score_frame(forecasts, frames[1])


@pytest.mark.parametrize("model", REFERENCE)
def test_mean_qlike_is_within_two_percent_of_the_reference(
    scores: pd.DataFrame, model: str
) -> None:
    found = mean_by_model(scores, "qlike").xs(model, level="model")
    np.testing.assert_allclose(found.to_numpy(), REFERENCE[model], rtol=0.02)


def test_intervals_of_calibrated_models_cover_what_they_say(scores: pd.DataFrame) -> None:
    calibrated = scores[scores["model"] != "garch_t"]
    cover = calibrated.groupby(["model", "horizon"])[["covered_80", "covered_98"]].mean()
    assert cover["covered_80"].between(0.75, 0.85).all()
    assert cover["covered_98"].between(0.95, 0.995).all()


def test_harx_cal_leads_the_board_and_its_lead_is_no_accident(scores: pd.DataFrame) -> None:
    board = leaderboard(scores)
    for horizon in (1, 5, 22):
        rows = board[board["horizon"] == horizon].set_index("model")
        assert rows.index[0] == "harx_cal"
        assert bool(rows.loc["harx_cal", "in_mcs_90"])
        assert (rows["qlike_ratio_harx_cal"].drop("harx_cal") > 1).all()
    daily = board[board["horizon"] == 1].set_index("model")
    assert (daily["dm_p_value"].drop("harx_cal") < 0.01).all()
    tests = comparison_tests(scores)
    assert len(tests) == len(tests.drop_duplicates(["test", "horizon", "asset", "model"]))
