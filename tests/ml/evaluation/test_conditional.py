"""Giacomini-White and encompassing against regressions of statsmodels, and their size and power."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.sandwich_covariance import cov_hac_simple, weights_uniform

from ml.evaluation.comparison import diebold_mariano
from ml.evaluation.conditional import encompassing, giacomini_white


def test_one_day_giacomini_white_is_n_times_the_uncentred_r_squared_of_statsmodels() -> None:
    """Giacomini and White (2006), section 3.3: regress a constant 1 on z; the statistic is n R^2."""
    difference = np.random.default_rng(0).normal(0.1, 1.0, 300)
    z = difference[1:, None] * np.column_stack([np.ones(299), difference[:-1]])
    expected = 299 * sm.OLS(np.ones(299), z).fit().rsquared  # no constant in z: uncentred
    result = giacomini_white(difference, np.zeros(300))
    assert result.statistic == pytest.approx(expected, rel=1e-9)
    assert result.observations == 299


def test_longer_horizons_add_the_covariances_of_overlapping_days() -> None:
    generator = np.random.default_rng(1)
    difference = np.convolve(generator.standard_normal(504), np.ones(5) / 5, "valid") + 0.1
    state = np.sign(generator.standard_normal(500))
    result = giacomini_white(difference, np.zeros(500), 5, state[:, None])
    z = difference[:, None] * np.column_stack([np.ones(500), state])
    omega = z.T @ z / 500
    for lag in range(1, 5):
        crossed = z[lag:].T @ z[:-lag] / 500
        omega += crossed + crossed.T
    mean = z.mean(axis=0)
    assert result.statistic == pytest.approx(500 * mean @ np.linalg.solve(omega, mean))


@pytest.mark.parametrize("horizon", [1, 5])
def test_giacomini_white_rejects_about_five_in_a_hundred_equal_models(horizon: int) -> None:
    generator = np.random.default_rng(2)
    rejected = []
    for _ in range(300):
        noise = generator.standard_normal(600 + horizon - 1)
        difference = np.convolve(noise, np.ones(horizon), "valid")
        rejected.append(giacomini_white(difference, np.zeros(600), horizon).p_value < 0.05)
    assert 0.02 < np.mean(rejected) < 0.10


def test_giacomini_white_sees_what_averages_hide() -> None:
    """Each model is better half of the time, in turn: Diebold-Mariano sees nothing."""
    generator = np.random.default_rng(3)
    seen, average = [], []
    for _ in range(60):
        state = np.repeat(np.tile([1.0, -1.0], 10), 25)
        difference = 0.5 * state + generator.standard_normal(500)
        seen.append(giacomini_white(difference, np.zeros(500)).p_value < 0.05)
        average.append(diebold_mariano(difference, np.zeros(500)).p_value < 0.05)
    assert np.mean(seen) > 0.8
    assert np.mean(average) < 0.1


@pytest.mark.parametrize("horizon", [1, 5])
def test_encompassing_is_the_hac_mean_test_of_statsmodels(horizon: int) -> None:
    generator = np.random.default_rng(4)
    own, rival = generator.standard_normal((2, 400))
    result = encompassing(own, rival, horizon)
    gain = own * (own - rival)
    regression = sm.OLS(gain, np.ones(400)).fit()
    variance = cov_hac_simple(
        regression, nlags=horizon - 1, weights_func=weights_uniform, use_correction=False
    )[0, 0]
    factor = (400 + 1 - 2 * horizon + horizon * (horizon - 1) / 400) / 400
    assert result.statistic == pytest.approx(np.sqrt(factor) * gain.mean() / np.sqrt(variance))


def test_encompassing_has_its_size_and_power() -> None:
    """The null of Harvey, Leybourne and Newbold: the rival's error is the own one plus noise of its own."""
    generator = np.random.default_rng(5)
    size, power = [], []
    for _ in range(400):
        common, own, other = generator.standard_normal((3, 300))
        size.append(encompassing(common, common + other).p_value < 0.05)
        power.append(encompassing(common + own, common + other).p_value < 0.05)
    assert 0.02 < np.mean(size) < 0.09
    assert np.mean(power) > 0.95


def test_few_days_and_wrong_shapes_are_told() -> None:
    assert np.isnan(giacomini_white(np.ones(20), np.zeros(20)).p_value)
    assert giacomini_white(np.ones(60), np.ones(60)).p_value == 1.0
    assert np.isnan(encompassing(np.ones(20), np.zeros(20)).p_value)
    assert encompassing(np.ones(60), np.ones(60)).p_value == 0.5
    with pytest.raises(ValueError, match=r"instruments of shape \(3, 1\): expected \(60,"):
        giacomini_white(np.ones(60), np.zeros(60), 1, np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"rival errors of shape \(3,\): expected \(60,\)"):
        encompassing(np.ones(60), np.ones(3))
