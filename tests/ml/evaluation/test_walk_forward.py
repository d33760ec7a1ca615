"""The walk-forward runner: what it forecasts, that it resumes, that processes change nothing, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import models
from ml.evaluation.folds import Fold, WalkForward
from ml.evaluation.scores import score_frame
from ml.evaluation.walk_forward import (
    FORECAST_COLUMNS,
    REFUSAL_COLUMNS,
    Step,
    WalkForwardError,
    first_rows,
    walk_forward,
)
from ml.panel import Panel

START = date(2022, 2, 1)
MODELS = ("random_walk", "log_har")


@pytest.fixture(scope="module")
def folds(panel: Panel) -> list[Fold]:
    """Refits every 14 days on 350 rows, from February 2022 on."""
    first = panel.row(START)
    return list(WalkForward(steps=7, initial_train_size=350, refit=2).split(first + 45, first))


def test_forecasts_are_those_of_a_loop_by_hand(panel: Panel, folds: list[Fold]) -> None:
    result = walk_forward(panel, MODELS, folds, models.create)
    assert tuple(result.forecasts.columns) == FORECAST_COLUMNS
    assert tuple(result.refusals.columns) == REFUSAL_COLUMNS
    assert (result.fits_made, result.fits_reused) == (8, 0)
    model = models.create("log_har")
    model.fit(
        panel,
        folds[2].test.start and panel.days[folds[2].test.start].item(),
        {"window_days": 351},
        0,
    )
    days = [panel.days[row].item() for row in folds[3].test]  # the second fold of the second fit
    expected = model.forecast(panel, days).to_frame().sort_values(["as_of", "asset", "horizon"])
    own = result.forecasts[result.forecasts["model"] == "log_har"]
    own = own[own["as_of"].isin(pd.to_datetime(days))]
    np.testing.assert_array_equal(own["variance"], expected["variance"])
    np.testing.assert_array_equal(own["q975"], expected["q975"])
    assert (own["trained_as_of"] == pd.Timestamp(panel.days[folds[2].fit_row])).all()
    assert set(result.refusals["asset"]) == {"NEW"}
    assert not result.forecasts.duplicated(["asset", "as_of", "horizon", "model"]).any()
    assert len(result.forecasts) == 2 * 3 * 45 * 3


def test_scores_read_what_it_gives(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], panel: Panel, folds: list[Fold]
) -> None:
    result = walk_forward(panel, ("random_walk",), folds, models.create)
    scores = score_frame(result.forecasts, market[1])
    assert scores["qlike"].notna().all()
    assert len(scores) == len(result.forecasts)


def test_nothing_later_than_a_day_changes_its_forecast(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], panel: Panel, folds: list[Fold]
) -> None:
    daily, realized, hourly = market
    last = panel.days[folds[2].test.stop - 1]
    poisoned_daily, poisoned = daily.copy(), realized.copy()
    numbers = daily.select_dtypes("number").columns
    poisoned_daily.loc[daily["as_of"] > last, numbers] = 123.0
    poisoned.loc[realized["known_on"] > last, ["realized_variance", "return", "close"]] = 123.0
    poisoned_hours = hourly.copy()
    poisoned_hours.loc[hourly["known_on"] > last, "high_low_range"] = 123.0
    expected = walk_forward(panel, MODELS, folds, models.create).forecasts
    found = walk_forward(
        Panel.from_frames(poisoned_daily, poisoned, poisoned_hours), MODELS, folds, models.create
    ).forecasts
    past = expected["as_of"] <= last
    pd.testing.assert_frame_equal(
        found[found["as_of"] <= last].reset_index(drop=True), expected[past].reset_index(drop=True)
    )


def test_an_interrupted_run_goes_on_and_an_equal_one_makes_nothing(
    panel: Panel, folds: list[Fold], tmp_path: Path
) -> None:
    seen: list[Step] = []

    def interrupt(step: Step) -> None:
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk_forward(panel, MODELS, folds, models.create, folder=tmp_path, progress=interrupt)
    assert [step.done for step in seen] == [1, 2, 3]
    assert seen[0].total == 8
    resumed = walk_forward(panel, MODELS, folds, models.create, folder=tmp_path)
    assert (resumed.fits_made, resumed.fits_reused) == (5, 3)
    fresh = walk_forward(panel, MODELS, folds, models.create)
    pd.testing.assert_frame_equal(resumed.forecasts, fresh.forecasts)
    pd.testing.assert_frame_equal(resumed.refusals, fresh.refusals)
    again = walk_forward(panel, MODELS, folds, models.create, folder=tmp_path)
    assert (again.fits_made, again.fits_reused) == (0, 8)
    damaged = next(tmp_path.rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    mended = walk_forward(panel, MODELS, folds, models.create, folder=tmp_path)
    assert (mended.fits_made, mended.fits_reused) == (1, 7)
    pd.testing.assert_frame_equal(mended.forecasts, fresh.forecasts)


def test_what_a_fit_depends_on_starts_it_anew_and_nothing_else_does(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    panel: Panel,
    folds: list[Fold],
    tmp_path: Path,
) -> None:
    walk_forward(panel, {"ewma": {}}, folds, models.create, folder=tmp_path)

    def made(data: Panel = panel, config: float = 0.94, **more: object) -> int:
        return walk_forward(
            data, {"ewma": {"decay": config} if config != 0.94 else {}}, folds, models.create,
            folder=tmp_path, **more,  # type: ignore[arg-type]
        ).fits_made  # fmt: skip

    assert made() == 0
    assert made(config=0.9) == 4
    assert made(seed=1) == 4
    assert made(code_version="other") == 4
    daily, realized, hourly = market
    revised = realized.copy()
    third = panel.days[folds[4].test.start]  # the third fit starts here
    revised.loc[revised["day"] == third, "realized_variance"] *= 1.1
    assert made(Panel.from_frames(daily, revised, hourly)) == 2
    longer = [
        *folds[:-1],
        Fold(folds[-1].train, range(folds[-1].test.start, folds[-1].test.stop + 3), True),
    ]
    result = walk_forward(panel, {"ewma": {}}, longer, models.create, folder=tmp_path)
    assert (result.fits_made, result.fits_reused) == (1, 3)


def test_two_processes_give_the_same_frames(
    panel: Panel, folds: list[Fold], tmp_path: Path
) -> None:
    one = walk_forward(panel, MODELS, folds, models.create)
    two = walk_forward(panel, MODELS, folds, models.create, workers=2, folder=tmp_path)
    pd.testing.assert_frame_equal(two.forecasts, one.forecasts)
    pd.testing.assert_frame_equal(two.refusals, one.refusals)
    assert two.data_version == one.data_version == panel.data_hash()[:12]


KILLED = """
import sys, time
from ml import models
from ml.evaluation.folds import WalkForward
from ml.evaluation.walk_forward import walk_forward
from ml.panel import Panel
from tests.ml.archive_frames import frames_from_bars, made_up_bars

panel = Panel.from_frames(*frames_from_bars(made_up_bars(days=320), "simulated"))
folds = list(WalkForward(steps=4, initial_train_size=240).split(320))

def tell(step):
    print(step.done, step.reused, flush=True)
    if sys.argv[2] == "slow":
        time.sleep(0.3)

result = walk_forward(panel, ("log_har",), folds, models.create, folder=sys.argv[1], progress=tell)
print(result.fits_made, result.fits_reused, int(result.forecasts["variance"].notna().sum()))
"""


def test_a_killed_run_loses_no_finished_fit(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(
        [*command, "slow"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = subprocess.run(
        [*command, "fast"], capture_output=True, text=True, env=environment, check=True
    )
    made, reused, count = map(int, finished.stdout.split("\n")[-2].split())
    assert made + reused == 20
    assert reused >= 4
    assert count == 3 * 3 * 80


def test_a_young_coin_is_refused_until_it_has_enough_rows(panel: Panel, folds: list[Fold]) -> None:
    rows = first_rows(panel)
    assert rows["BTC"] <= 1
    assert rows["NEW"] == pytest.approx(439, abs=2)
    result = walk_forward(
        panel, ("random_walk",), folds, models.create, minimum_rows=len(panel.days)
    )
    assert result.forecasts.empty
    reasons = result.refusals[result.refusals["asset"] == "BTC"]["reason"]
    assert reasons.str.match(rf"needs {len(panel.days)} training rows, has 35\d").all()


def test_a_gap_keeps_the_fit_from_the_days_before_the_test(panel: Panel) -> None:
    first = panel.row(START)
    folds = list(WalkForward(steps=30, initial_train_size=300, gap=21).split(first + 30, first))
    result = walk_forward(panel, ("log_har",), folds, models.create)
    trained = result.forecasts["trained_as_of"].unique()
    assert trained == [pd.Timestamp(START) - pd.Timedelta(days=21)]


def test_a_failing_fit_and_wrong_arguments_are_named(panel: Panel, folds: list[Fold]) -> None:
    with pytest.raises(
        WalkForwardError, match=r"ewma fitted on 2022-02-01: ValueError: decay 2\.0"
    ):
        walk_forward(panel, {"ewma": {"decay": 2.0}}, folds, models.create)
    with pytest.raises(ValueError, match="no models: expected at least one"):
        walk_forward(panel, (), folds, models.create)
    with pytest.raises(ValueError, match="no folds: expected at least one"):
        walk_forward(panel, MODELS, [], models.create)
    with pytest.raises(ValueError, match="workers 0: expected a positive number"):
        walk_forward(panel, MODELS, folds, models.create, workers=0)
    with pytest.raises(ValueError, match="ewma: window_days 5 in the config; the folds say"):
        walk_forward(panel, {"ewma": {"window_days": 5}}, folds, models.create)
    beyond = [Fold(range(10), range(10, len(panel.days) + 1), True)]
    with pytest.raises(
        ValueError, match=f"a fold ends at row {len(panel.days) + 1}: the panel has"
    ):
        walk_forward(panel, MODELS, beyond, models.create)
