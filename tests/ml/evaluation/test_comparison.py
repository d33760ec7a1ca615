"""Comparison tests against hand computations, statsmodels and arch, and their size under the null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.bootstrap import MCS, SPA, StepM
from scipy.stats import t as student
from statsmodels.stats.sandwich_covariance import (
    cov_cluster,
    cov_hac_simple,
    cov_nw_groupsum,
    weights_uniform,
)

from ml.evaluation.comparison import (
    BOOTSTRAP_SEED,
    bartlett_variance,
    block_size,
    diebold_mariano,
    fewest_days,
    mincer_zarnowitz,
    model_confidence_set,
    panel_diebold_mariano,
    stepwise_superior,
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


def studentised(benchmark: Any, losses: pd.DataFrame) -> pd.DataFrame:
    """Losses over the benchmark's in units of the long-run sd that arch computes."""
    procedure = SPA(benchmark, losses, reps=1, block_size=7, seed=0)
    procedure.compute()
    return losses.sub(benchmark, axis=0) / np.sqrt(procedure._loss_diff_var)


def test_superior_predictive_ability_is_that_of_arch_on_studentised_losses() -> None:
    losses = loss_table()
    beaten = superior_predictive_ability(losses["bad"], losses[["good", "as_good"]])
    unbeaten = superior_predictive_ability(losses["good"], losses[["as_good", "bad"]])
    procedure = SPA(
        np.zeros(300),
        studentised(losses["good"], losses[["as_good", "bad"]]).to_numpy(),
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


def test_a_noisy_model_does_not_hide_a_better_one() -> None:
    """What dividing by the sd is for (Hansen 2005, section 3.1)."""
    generator = np.random.default_rng(4)
    base = generator.standard_normal(400) ** 2
    losses = pd.DataFrame(
        {
            "better": base - 0.05 + 0.2 * generator.standard_normal(400),
            "noisy": base + 0.3 + 8.0 * generator.standard_normal(400),
        }
    )
    assert superior_predictive_ability(base, losses).p_value < 0.01
    assert stepwise_superior(base, losses) == ["better"]
    plain = SPA(base, losses, reps=1000, block_size=7, seed=BOOTSTRAP_SEED)
    plain.compute()
    assert plain.pvalues["consistent"] > 0.1


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


def panel_losses(generator: np.random.Generator, days: int = 200, coins: int = 8) -> Any:
    """Loss differences (T, N) of coins that move together, some missing."""
    common = generator.standard_normal((days, 1))
    values = common + 0.5 * generator.standard_normal((days, coins))
    values[: days // 3, -2:] = np.nan  # two coins are listed later
    return values


def test_panel_diebold_mariano_is_the_date_clustered_regression_of_statsmodels() -> None:
    difference = panel_losses(np.random.default_rng(0)) + 0.2
    given = np.isfinite(difference)
    day = np.broadcast_to(np.arange(200)[:, None], difference.shape)[given]
    regression = sm.OLS(difference[given], np.ones(given.sum())).fit()
    one = cov_cluster(regression, day, use_correction=False)[0, 0]
    result = panel_diebold_mariano(difference, np.zeros_like(difference))
    expected = np.sqrt(199 / 200) * difference[given].mean() / np.sqrt(one)
    assert result.statistic == pytest.approx(expected, rel=1e-9)
    assert result.observations == 200
    five = cov_nw_groupsum(regression, 4, day, weights_func=weights_uniform, use_correction=0)[0, 0]
    factor = (200 + 1 - 10 + 20 / 200) / 200
    expected = np.sqrt(factor) * difference[given].mean() / np.sqrt(five)
    found = panel_diebold_mariano(difference, np.zeros_like(difference), 5).statistic
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_balanced_panel_is_tested_as_its_daily_means() -> None:
    difference = panel_losses(np.random.default_rng(1))[:, :6]
    panel = panel_diebold_mariano(difference, np.zeros_like(difference), 5)
    daily = diebold_mariano(difference.mean(axis=1), np.zeros(200), 5)
    assert panel.statistic == pytest.approx(daily.statistic)
    assert np.isnan(panel_diebold_mariano(difference[:20], difference[:20]).p_value)
    assert panel_diebold_mariano(difference, difference).p_value == 1.0
    with pytest.raises(ValueError, match=r"losses of shape \(200,\): expected \(days, coins\)"):
        panel_diebold_mariano(difference[:, 0], difference[:, 0])


def test_clustering_by_date_keeps_the_size_that_pooling_loses() -> None:
    generator = np.random.default_rng(2)
    clustered, pooled = [], []
    for _ in range(200):
        difference = panel_losses(generator)
        clustered.append(panel_diebold_mariano(difference, np.zeros_like(difference)).p_value)
        flat = difference[np.isfinite(difference)]
        pooled.append(diebold_mariano(flat, np.zeros_like(flat)).p_value)
    assert 0.01 < np.mean(np.array(clustered) < 0.05) < 0.10
    assert np.mean(np.array(pooled) < 0.05) > 0.3


@pytest.mark.parametrize(("horizon", "shift"), [(1, 0.2), (5, 0.2), (22, 0.3)])
def test_diebold_mariano_finds_a_difference_that_is_there(horizon: int, shift: float) -> None:
    generator = np.random.default_rng(8)
    zeros = np.zeros(1000)
    scale = np.sqrt(horizon)  # keeps the variance of a day's difference at 1
    found = [
        diebold_mariano(scale * overlapping(1000, horizon, generator) + shift, zeros, horizon)
        for _ in range(100)
    ]
    power = np.mean([result.p_value < 0.05 for result in found])
    assert power > {1: 0.95, 5: 0.7, 22: 0.3}[horizon]


def test_stepwise_superior_is_that_of_arch_and_names_the_better_models() -> None:
    losses = loss_table()
    found = stepwise_superior(losses["bad"], losses[["good", "as_good"]])
    procedure = StepM(
        np.zeros(300), studentised(losses["bad"], losses[["good", "as_good"]]),
        size=0.05, reps=1000, block_size=7, seed=BOOTSTRAP_SEED,
    )  # fmt: skip
    procedure.compute()
    assert found == list(procedure.superior_models) == ["good", "as_good"]
    three = losses.assign(barely=losses["bad"] - 0.011)
    assert stepwise_superior(losses["bad"], three[["good", "barely"]]) == ["good", "barely"]
    assert stepwise_superior(losses["good"], losses[["as_good", "bad"]]) == []
    assert stepwise_superior(losses["good"], losses[["good"]]) == []
    assert stepwise_superior(losses["good"][:20], losses[["bad"]][:20]) == []
    with pytest.raises(ValueError, match="losses of 300 days: expected 20"):
        stepwise_superior(losses["good"][:20], losses[["bad"]])
    with pytest.raises(ValueError, match=r"size 0: expected"):
        stepwise_superior(losses["good"], losses[["bad"]], size=0)


def test_spa_stepm_and_the_confidence_set_keep_their_size_and_have_power() -> None:
    """40 tables of five equal models and a bad one: seldom a false winner, the bad one always out."""
    generator = np.random.default_rng(9)
    spa, steps, kept_all, bad_out = [], [], [], []
    for _ in range(40):
        losses = pd.DataFrame(generator.standard_normal((250, 5)), columns=list("abcde"))
        spa.append(
            superior_predictive_ability(losses["a"], losses.drop(columns="a")).p_value < 0.05
        )
        steps.append(bool(stepwise_superior(losses["a"], losses.drop(columns="a"))))
        p_values = model_confidence_set(losses.assign(bad=losses["a"] + 0.5 + losses["b"] / 4))
        kept_all.append((p_values.drop("bad") >= 0.1).all())
        bad_out.append(p_values["bad"] < 0.1)
    assert np.mean(spa) <= 0.15
    assert np.mean(steps) <= 0.15
    assert np.mean(kept_all) >= 0.75
    assert np.mean(bad_out) > 0.9
