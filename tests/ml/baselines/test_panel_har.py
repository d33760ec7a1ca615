"""The panel HAR: its regressors, its two steps against independent solutions, and what held-out blocks may see."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from ml.baselines.panel_har import (
    choose_penalty,
    corrected,
    fit_regression,
    level_correction,
)
from ml.baselines.panel_regressors import (
    LOOKBACK_DAYS,
    NAMES,
    panel_design,
    realised_range,
    trailing_mean,
)
from ml.models import create
from ml.panel import Panel, RealizedVersions
from tests.ml.archive_frames import COINS
from tests.ml.baselines.realised_frames import archive_bars, hourly_frame, measured_frames


def made_up(days: int = 300, coins: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x (T, N, 3) and y (T, N) with one set of slopes and a level for each coin."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((days, coins, 3)) * [1.0, 5.0, 0.1]
    y = x @ [0.5, 0.1, -2.0] + np.arange(coins) + 0.4 * generator.standard_normal((days, coins))
    return x, y


def test_the_realised_range_of_a_random_walk_is_its_variance() -> None:
    """Parkinson: E[log(high / low)^2] = 4 log 2 * variance, and it is less noisy than squared returns."""
    generator = np.random.default_rng(3)
    sigma, days = 0.004, 400
    steps = sigma / math.sqrt(600) * generator.standard_normal((days, 24, 600))
    path = np.concatenate([np.zeros((days, 24, 1)), steps.cumsum(axis=-1)], axis=-1)
    ranges = path.max(axis=-1) - path.min(axis=-1)
    panel = hours_only(ranges)
    found = realised_range(panel)[:, 0]
    truth = 24 * sigma**2
    assert found.mean() == pytest.approx(truth, rel=0.06)  # a path of 600 steps misses extremes
    squared = (path[..., -1] ** 2).sum(axis=-1)
    assert found.var() < 0.4 * squared.var()


def hours_only(ranges: np.ndarray) -> Panel:
    """One coin with hourly ranges (T, 24) and nothing else."""
    days = np.datetime64("2021-01-01", "D") + np.arange(len(ranges))
    none = np.zeros(0)
    realized = RealizedVersions(
        days[:0], none.astype(np.int64), days[:0], none.astype(bool), none, none, none
    )
    hourly = ranges.astype(np.float32)[..., None, None]
    return Panel("test", days, ("BTC",), {}, hourly, ("high_low_range",), realized)


def test_a_day_with_too_few_hours_has_no_realised_range() -> None:
    ranges = np.full((3, 24), 0.01)
    ranges[1, :5] = np.nan
    ranges[2, :3] = np.nan
    found = realised_range(hours_only(ranges))[:, 0]
    assert np.isnan(found[1])
    assert found[2] == pytest.approx(found[0])  # scaled to 24 hours


def test_a_trailing_mean_reads_its_window_alone_and_wants_most_of_it() -> None:
    values = np.arange(20.0)[:, None]
    found = trailing_mean(values, 5)
    assert np.isnan(found[3, 0]) == (math.ceil(0.8 * 5) > 4)
    assert found[10, 0] == pytest.approx(8.0)
    values[7:9] = np.nan
    assert np.isnan(trailing_mean(values, 5)[10, 0])


def test_the_slopes_are_those_of_a_ridge_on_standardised_regressors() -> None:
    x, y = made_up()
    usable = np.random.default_rng(1).random(y.shape) > 0.2
    found = fit_regression(x, y, y, usable, 0.1, horizon=1)
    rows = [(x[:, n][usable[:, n]], y[:, n][usable[:, n]]) for n in range(y.shape[1])]
    centred = np.concatenate([own - own.mean(axis=0) for own, _ in rows])
    target = np.concatenate([own - own.mean() for _, own in rows])
    scale = centred.std(axis=0)

    def objective(slopes: np.ndarray) -> float:
        return float(np.mean((target - centred / scale @ slopes) ** 2) + 0.1 * (slopes**2).sum())

    expected = minimize(objective, np.zeros(3), tol=1e-12).x / scale
    np.testing.assert_allclose(found.slopes, expected, atol=2e-5 / scale.min())
    assert found.slopes[0] < 0.5 * 0.97  # the ridge shrinks


def test_the_forecast_has_the_mean_of_the_variance_and_not_of_its_logarithm() -> None:
    x, y = made_up(days=3000)
    usable = np.ones(y.shape, dtype=bool)
    found = fit_regression(x, y, y, usable, 1e-6, horizon=1)
    ratio = np.exp(y - found.predict(x)).mean(axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.02)
    assert (found.intercept - np.arange(4)).mean() == pytest.approx(0.08, abs=0.02)  # 0.4^2 / 2


def test_the_level_correction_is_the_least_qlike_and_bounded_beyond_what_it_saw() -> None:
    generator = np.random.default_rng(2)
    level = generator.standard_normal(4000)
    spread = np.exp(0.3 * level)  # errors are wilder in turbulent times: their mean exp rises
    error = spread * generator.standard_normal(4000) - 0.3
    found = level_correction(level, error, 1e-9)
    terms = np.column_stack([np.ones(4000), level, level**2])

    def objective(at: np.ndarray) -> float:
        fitted = terms @ at
        return float(np.mean(np.exp(error - fitted) + fitted))

    best = minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(found[:3], best, atol=1e-4)
    assert found[1] > 0.1
    high = found[4]
    mean = np.zeros(1)
    np.testing.assert_allclose(
        corrected(np.array([high + 5.0]), mean, found) - 5.0,
        corrected(np.array([high]), mean, found),
    )
    strong = level_correction(level, error, 1e6)
    assert np.abs(strong[1:3]).max() < 1e-4  # the ridge leaves the constant alone
    assert strong[0] == pytest.approx(np.log(np.mean(np.exp(error))), abs=1e-4)


def test_held_out_forecasts_do_not_know_their_own_block() -> None:
    x, y = made_up(days=400)
    usable = np.ones(y.shape, dtype=bool)
    _, before = choose_penalty(x, y, y, usable, horizon=5)
    changed = y.copy()
    changed[160:240] += 3.0  # the third of five blocks
    _, after = choose_penalty(x, changed, changed, usable, horizon=5)
    np.testing.assert_array_equal(after[160:240], before[160:240])
    assert not np.array_equal(after[:160], before[:160])


def test_every_regressor_is_there_and_reads_no_more_than_its_lookback(panel: Panel) -> None:
    full = panel_design(panel)
    assert full.shape == (len(panel.days), len(panel.assets), len(NAMES))
    row = 400
    short = panel_design(panel.rows_between(row - LOOKBACK_DAYS, row + 1))[-1]
    np.testing.assert_array_equal(short, full[row])
    known = full[row, list(panel.assets).index("BTC")]
    assert np.isfinite(known).all()


def test_without_hourly_bars_it_says_what_it_needs(panel: Panel) -> None:
    daily_only = Panel(
        panel.source, panel.days, panel.assets, panel.features, panel.hourly[..., :0], (), panel.realized
    )  # fmt: skip
    model = create("har_panel")
    model.fit(daily_only, date(2022, 4, 1), {"window_days": 400}, seed=0)
    assert set(model.state().meta["status"].values()) == {
        "needs features.hourly, has no high_low_range"
    }


def test_missing_hours_at_the_end_of_a_day_are_no_calm(panel: Panel) -> None:
    """A quarter of the last hours may be missing; without the last one the newest complete day's stands in."""
    row, field = 400, panel.hourly_fields.index("high_low_range")
    place = [NAMES.index(f"range_last_{hours}h") for hours in (1, 4)]
    hourly = panel.hourly.copy()
    hourly[row, 23, :, field] = np.nan
    holed = replace(panel, hourly=hourly)
    found, whole = panel_design(holed)[:, 0][:, place], panel_design(panel)[:, 0][:, place]
    assert found[row, 0] == whole[row - 1, 0]
    squared = panel.hourly[row, 20:23, 0, field].astype(np.float64) ** 2 / (4 * math.log(2))
    assert found[row, 1] == pytest.approx(np.log(squared.mean() * 4 + 1e-9))
    np.testing.assert_array_equal(found[:row], whole[:row])


def test_a_coin_whose_rows_all_lie_in_one_block_has_held_out_forecasts_too() -> None:
    x, y = made_up(days=1000)
    usable = np.ones(y.shape, dtype=bool)
    usable[:850, 3] = False  # listed late, within the last of five blocks
    _, predicted = choose_penalty(x, y, y, usable, horizon=5)
    assert np.isfinite(predicted[850:, 3]).all()
    assert (
        abs((y[850:, 3] - predicted[850:, 3]).mean()) > 0.5
    )  # its own level is unknown to that fold


@pytest.mark.archive
def test_it_beats_harx_cal_on_the_archive(archive_folder: Path) -> None:
    """Two half-years before September 2021, where its regressors were chosen: at least 3 % better at each horizon."""
    bars = archive_bars(archive_folder, COINS)
    daily, realized = measured_frames(bars, "archive")
    panel = Panel.from_frames(daily, realized, hourly_frame(bars, "archive"))
    losses: dict[str, list[np.ndarray]] = {"har_panel": [], "harx_cal": []}
    for trained in (date(2020, 8, 31), date(2021, 3, 1)):
        days = [day.item() for day in panel.days[panel.row(trained) : panel.row(trained) + 170]]
        target = np.stack([panel.target(h)[panel.rows(days)] for h in (1, 5, 22)], axis=-1)
        for name, found in losses.items():
            model = create(name)
            model.fit(panel, trained, {"window_days": 1500}, seed=0)
            ratio = target / model.forecast(panel, days).variance
            found.append(ratio - np.log(ratio) - 1)
    means = {name: np.nanmean(np.concatenate(found), axis=(0, 1)) for name, found in losses.items()}
    assert (means["har_panel"] < 0.97 * means["harx_cal"]).all()
