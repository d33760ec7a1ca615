"""The pooled HAR: its two ends, what lies between, and what held-out blocks may see."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from ml.baselines.pooled import STRENGTHS, choose_strength, shrunk_coefficients
from ml.models import create
from ml.panel import Panel
from tests.ml.archive_frames import archive_frames


def coins(
    days: int = 400, count: int = 5, slopes: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """x (T, N, 4) and y (T, N) of coins with levels of their own whose slopes differ by `slopes`."""
    generator = np.random.default_rng(seed)
    x = np.concatenate(
        [np.ones((days, count, 1)), generator.standard_normal((days, count, 3)) + np.arange(count)[:, None]],
        axis=-1,
    )  # fmt: skip
    beta = np.array([0.5, 0.3, -0.2]) + slopes * generator.standard_normal((count, 3))
    y = (x[..., 1:] * beta).sum(axis=-1) + np.arange(count)
    return x, y + 0.5 * generator.standard_normal((days, count))


def test_without_shrinkage_each_coin_has_its_own_regression() -> None:
    x, y = coins()
    usable = np.ones(y.shape, dtype=bool)
    found = shrunk_coefficients(x, y, usable, 0.0)
    for coin in range(5):
        fit = sm.OLS(y[:, coin], x[:, coin]).fit()
        smearing = np.log(np.mean(np.exp(fit.resid)))
        expected = fit.params + np.array([smearing, 0, 0, 0])
        np.testing.assert_allclose(found[coin], expected, atol=2e-4)  # a ridge of 0.01


def test_with_all_of_it_every_coin_has_the_slopes_of_the_fixed_effects_regression() -> None:
    x, y = coins()
    usable = np.random.default_rng(1).random(y.shape) > 0.3
    found = shrunk_coefficients(x, y, usable, 1e9)
    day, coin = np.nonzero(usable)
    dummies = np.eye(5)[coin]
    fit = sm.OLS(y[day, coin], np.column_stack([x[day, coin, 1:], dummies])).fit()
    np.testing.assert_allclose(found[:, 1:], np.tile(fit.params[:3], (5, 1)), atol=1e-4)
    smearing = np.log(np.mean(np.exp(fit.resid)))
    np.testing.assert_allclose(found[:, 0], fit.params[3:] + smearing, atol=2e-3)


def test_between_the_ends_slopes_lie_between() -> None:
    x, y = coins(slopes=0.3)
    usable = np.ones(y.shape, dtype=bool)
    own, some, pool = (shrunk_coefficients(x, y, usable, k)[:, 1:] for k in (0.0, 400.0, 1e9))
    assert (np.abs(some - pool) < np.abs(own - pool)).mean() > 0.9
    np.testing.assert_allclose(some, 0.5 * (own + pool), atol=0.05)  # 400 rows against 400


def test_the_data_choose_how_far_to_pool() -> None:
    alike = choose_strength(*coins(days=300), np.ones((300, 5), dtype=bool), 1)[0]
    unlike = choose_strength(*coins(days=300, slopes=0.6), np.ones((300, 5), dtype=bool), 1)[0]
    assert alike >= 500
    assert unlike <= 150
    assert {alike, unlike} <= set(STRENGTHS)


def test_held_out_days_of_one_coin_do_not_see_those_of_another() -> None:
    x, y = coins(days=200)
    usable = np.ones(y.shape, dtype=bool)
    _, predicted = choose_strength(x, y, usable, 5)
    changed = y.copy()
    changed[80 - 4 : 120 + 4, 1] += 100.0  # block 3 is days 80..119; targets reach 5 days
    for strength in (0.0, 1e9):
        before, after = (
            _block(x, values, usable, strength) for values in (y, changed)
        )  # the fit that forecasts days 80..119
        np.testing.assert_array_equal(before, after)
    assert np.isfinite(predicted).all()


def _block(x: np.ndarray, y: np.ndarray, usable: np.ndarray, strength: float) -> np.ndarray:
    kept = usable.copy()
    kept[80 - 4 : 120 + 4] = False
    return shrunk_coefficients(x, y, kept, strength)


def test_a_young_coin_is_forecast_from_the_slopes_of_the_others(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    """After 180 days on the market: HARX-cal refuses it, the pool does not."""
    daily, realized, _ = market
    listed = pd.Timestamp("2021-11-01")
    young = (daily["asset"] == "LTC") & (daily["as_of"] < listed)
    gone = (realized["asset"] == "LTC") & (realized["day"] < listed)
    panel = Panel.from_frames(daily[~young], realized[~gone])
    trained = date(2022, 4, 1)
    pooled, single = create("har_pooled"), create("harx_cal")
    for model in (pooled, single):
        model.fit(panel, trained, {"window_days": 400}, seed=0)
    assert single.forecast(panel, [trained]).status[0, 2].startswith("needs 180")
    assert pooled.forecast(panel, [trained]).status[0, 2] == "ok"


@pytest.mark.archive
def test_pooling_does_not_harm_on_the_archive(archive_folder: Path) -> None:
    """Over three half-years the pooled HAR is no more than 1 % worse than HARX-cal at any horizon."""
    panel = Panel.from_frames(*archive_frames(archive_folder))
    losses = {}
    for name in ("har_pooled", "harx_cal"):
        found = []
        for first in (date(2021, 9, 1), date(2022, 9, 1), date(2023, 3, 1)):
            start = panel.row(first)
            days = [panel.days[row].item() for row in range(start, start + 60)]
            model = create(name)
            model.fit(panel, first, {}, seed=0)
            ratio = np.stack([panel.target(h)[start : start + 60] for h in (1, 5, 22)], axis=-1)
            ratio = ratio / model.forecast(panel, days).variance
            found.append(ratio - np.log(ratio) - 1)
        losses[name] = np.nanmean(np.stack(found), axis=(0, 1, 2))
    assert (losses["har_pooled"] < 1.01 * losses["harx_cal"]).all()
