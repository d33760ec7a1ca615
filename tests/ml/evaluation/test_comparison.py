"""Comparison tests against hand computations, statsmodels and arch, and their size under the null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.bootstrap import MCS, SPA
from scipy.stats import t as student
from statsmodels.stats.sandwich_covariance import cov_hac_simple, weights_uniform

from ml.evaluation.comparison import (
    BOOTSTRAP_SEED,
    bartlett_variance,
    block_size,
    diebold_mariano,
    fewest_days,
    mincer_zarnowitz,
    model_confidence_set,
    superior_predictive_ability,
)


def overlapping(n: int, horizon: int, generator: np.random.Generator) -> Any:
    """A moving average of order h-1: loss differences of horizons that overlap."""
    noise = generator.standard_normal(n + horizon - 1)
    return np.convolve(noise, np.ones(horizon) / horizon, "valid")


def test_one_day_diebold_mariano_is_a_paired_t_test_with_the_small_sample_factor() -> None:
    difference = np.random.default_rng(0).normal(0.1, 1.0, 50)
    base = np.full(50, 2.0)
    result = diebold_mariano(base + difference, base)
    plain = difference.mean() / np.sqrt(difference.var() / 50)
    assert result.statistic == pytest.approx(np.sqrt(49 / 50) * plain)
    assert result.p_value == pytest.approx(2 * student.sf(abs(result.statistic), 49))


def test_diebold_mariano_by_hand_for_two_days() -> None:
    # d = 1, 3, 1, 3, ... : mean 2, gamma0 = 1, gamma1 = -(n-1)/n; the sum is not positive at n = 30,
    # so Bartlett weights: V = 1 - 29/30; factor (30 + 1 - 4 + 2/30) / 30
    difference = np.tile([1.0, 3.0], 15)
    result = diebold_mariano(difference, np.zeros(30), horizon=2)
    variance = 1 - 29 / 30
    assert bartlett_variance(difference, 1) == pytest.approx(variance)
    expected = np.sqrt((27 + 2 / 30) / 30) * 2 / np.sqrt(variance / 30)
    assert result.statistic == pytest.approx(expected)


@pytest.mark.parametrize("horizon", [1, 5, 22])
def test_diebold_mariano_equals_the_hac_regression_of_statsmodels(horizon: int) -> None:
    difference = overlapping(300, horizon, np.random.default_rng(horizon)) + 0.05
    result = diebold_mariano(difference, np.zeros(300), horizon)
    regression = sm.OLS(difference, np.ones(300)).fit()
    covariance = cov_hac_simple(
        regression, nlags=horizon - 1, weights_func=weights_uniform, use_correction=False
    )
    correction = (300 + 1 - 2 * horizon + horizon * (horizon - 1) / 300) / 300
    expected = np.sqrt(correction) * difference.mean() / np.sqrt(covariance[0, 0])
    assert result.statistic == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 5, 22])
def test_diebold_mariano_rejects_about_five_in_a_hundred_equal_models(horizon: int) -> None:
    generator = np.random.default_rng(7)
    zeros = np.zeros(500)
    rejections = [
        diebold_mariano(overlapping(500, horizon, generator), zeros, horizon).p_value < 0.05
        for _ in range(400)
    ]
    assert 0.025 < np.mean(rejections) < 0.10


def test_too_few_or_equal_losses_give_no_verdict() -> None:
    few = diebold_mariano(np.ones(29), np.zeros(29))
    assert np.isnan(few.p_value)
    assert few.observations == 29
    assert np.isnan(diebold_mariano(np.arange(65.0), np.zeros(65), horizon=22).p_value)
    equal = diebold_mariano(np.ones(40), np.ones(40))
    assert (equal.statistic, equal.p_value) == (0.0, 1.0)
    with_gap = np.append(np.random.default_rng(0).standard_normal(40), np.nan)
    assert diebold_mariano(with_gap, np.zeros(41)).observations == 40
    with pytest.raises(ValueError, match="horizon 0"):
        fewest_days(0)


def loss_table(n: int = 300) -> pd.DataFrame:
    generator = np.random.default_rng(11)
    common = generator.standard_normal(n) ** 2
    return pd.DataFrame(
        {
            "good": common + 0.1 * generator.standard_normal(n),
            "as_good": common + 0.1 * generator.standard_normal(n),
            "bad": common + 0.5 + 0.1 * generator.standard_normal(n),
        }
    )


def test_the_confidence_set_is_that_of_arch() -> None:
    losses = loss_table()
    p_values = model_confidence_set(losses, horizon=5)
    procedure = MCS(losses, size=0.1, reps=1000, block_size=block_size(300, 5), seed=BOOTSTRAP_SEED)
    procedure.compute()
    assert p_values.to_dict() == procedure.pvalues["Pvalue"].to_dict()
    assert p_values["bad"] < 0.1
    assert p_values[["good", "as_good"]].min() >= 0.1
    assert block_size(300, 5) == 7
    assert block_size(300, 22) == 22


def test_twins_share_the_confidence_set_and_few_days_give_none() -> None:
    losses = loss_table().assign(twin=lambda frame: frame["bad"])
    p_values = model_confidence_set(losses)
    assert p_values["twin"] == p_values["bad"]
    assert model_confidence_set(losses[["good"]])["good"] == 1.0
    assert model_confidence_set(losses.iloc[:20]).isna().all()
    with pytest.raises(ValueError, match=r"size 1.5: expected"):
        model_confidence_set(losses, size=1.5)


def test_superior_predictive_ability_is_that_of_arch() -> None:
    losses = loss_table()
    beaten = superior_predictive_ability(losses["bad"], losses[["good", "as_good"]])
    unbeaten = superior_predictive_ability(losses["good"], losses[["as_good", "bad"]])
    procedure = SPA(
        losses["good"].to_numpy(),
        losses[["as_good", "bad"]].to_numpy(),
        reps=1000,
        block_size=7,
        seed=BOOTSTRAP_SEED,
    )
    procedure.compute()
    assert beaten.p_value < 0.01
    assert unbeaten.p_value == procedure.pvalues["consistent"] > 0.05
    assert np.isnan(superior_predictive_ability(np.ones(10), np.ones((10, 2))).p_value)
    with pytest.raises(ValueError, match=r"losses of shape \(3, 2\)"):
        superior_predictive_ability(np.ones(10), np.ones((3, 2)))


@pytest.mark.parametrize("horizon", [1, 5])
def test_mincer_zarnowitz_is_the_hac_wald_test_of_statsmodels(horizon: int) -> None:
    generator = np.random.default_rng(2)
    forecast = np.exp(overlapping(400, 20, generator))
    realized = forecast * generator.gamma(4, 0.25, 400)
    result = mincer_zarnowitz(realized, forecast, horizon)
    regression = sm.OLS(realized / forecast, np.column_stack([1 / forecast, np.ones(400)])).fit(
        cov_type="HAC", cov_kwds={"maxlags": horizon - 1, "use_correction": False}
    )
    wald = regression.wald_test((np.eye(2), np.array([0.0, 1.0])), use_f=False, scalar=True)
    assert result.statistic == pytest.approx(float(wald.statistic), rel=1e-6)
    assert result.p_value == pytest.approx(float(wald.pvalue), rel=1e-6)
    assert mincer_zarnowitz(1.4 * realized, forecast, horizon).p_value < 1e-6
    assert np.isnan(mincer_zarnowitz(realized[:20], forecast[:20]).p_value)


def test_mincer_zarnowitz_seldom_rejects_unbiased_forecasts() -> None:
    generator = np.random.default_rng(3)
    rejections = []
    for _ in range(300):
        forecast = np.exp(generator.standard_normal(400))
        realized = forecast * generator.gamma(4, 0.25, 400)
        rejections.append(mincer_zarnowitz(realized, forecast).p_value < 0.05)
    assert 0.02 < np.mean(rejections) < 0.10
