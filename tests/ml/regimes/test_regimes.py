"""Markov-switching regimes: the filter against statsmodels, planted regimes, what is refused, and what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from ml.regimes.em import expectation
from ml.regimes.fitting import as_parameters, fit_regimes, masked_regression
from ml.regimes.market import market_members, market_series
from ml.regimes.model import RegimeModel, weekdays

DAYS = np.arange("2020-01-01", "2023-06-01", dtype="datetime64[D]")
TRUTH = RegimeModel(
    first_day=DAYS[0],
    means=np.array([-8.2, -7.0, -5.5]),
    deviations=np.array([0.6, 0.5, 0.7]),
    transition=np.array([[0.95, 0.045, 0.005], [0.03, 0.94, 0.03], [0.01, 0.09, 0.90]]),
    weekday=np.array([0.1, 0.1, 0.1, 0.1, 0.1, -0.25, -0.25]),
)


def simulated(model: RegimeModel = TRUTH, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Regimes (T,) and log variance (T,)."""
    chance = np.random.default_rng(seed)
    regime = np.empty(len(DAYS), dtype=int)
    share = model.stationary
    for row in range(len(DAYS)):
        regime[row] = chance.choice(3, p=share / share.sum())
        share = model.transition[regime[row]]
    noise = chance.standard_normal(len(DAYS))
    level = model.means[regime] + model.deviations[regime] * noise
    return regime, level + model.weekday[weekdays(DAYS)]


@pytest.fixture(scope="module")
def planted():
    regime, values = simulated()
    return regime, values, fit_regimes(DAYS, values)


def test_the_filter_is_that_of_statsmodels() -> None:
    _, values = simulated()
    y = TRUTH.adjusted(DAYS, values)
    reference = MarkovRegression(y, k_regimes=3, trend="c", switching_variance=True)
    expected = reference.filter(as_parameters(TRUTH)).filtered_marginal_probabilities
    assert np.abs(TRUTH.filtered(DAYS, values) - expected).max() < 1e-9


def test_planted_regimes_are_found(planted) -> None:
    regime, values, fit = planted
    assert fit.reason == ""
    assert fit.converged
    assert fit.days == len(DAYS)
    assert fit.model.means == pytest.approx(TRUTH.means, abs=0.25)
    assert fit.model.deviations == pytest.approx(TRUTH.deviations, abs=0.15)
    assert np.diag(fit.model.transition) == pytest.approx(np.diag(TRUTH.transition), abs=0.05)
    assert fit.model.weekday == pytest.approx(TRUTH.weekday, abs=0.2)
    likely = fit.model.filtered(DAYS, values).argmax(axis=1)
    assert (likely == regime).mean() > 0.85


def test_the_fit_is_no_worse_than_statsmodels_own_climb_from_the_truth(planted) -> None:
    _, values, fit = planted
    y = fit.model.adjusted(DAYS, values)
    reference = MarkovRegression(y, k_regimes=3, trend="c", switching_variance=True)
    climbed = reference.fit(start_params=as_parameters(TRUTH), em_iter=5, disp=False)
    assert fit.log_likelihood >= climbed.llf - 1e-3
    assert fit.log_likelihood == pytest.approx(
        reference.loglike(as_parameters(fit.model)), abs=1e-6
    )


def test_the_same_values_give_the_same_fit_and_storage_keeps_every_bit(planted) -> None:
    _, values, fit = planted
    again = fit_regimes(DAYS, values)
    assert again.model.to_json() == fit.model.to_json()
    stored = RegimeModel.from_json(fit.model.to_json())
    assert np.array_equal(stored.filtered(DAYS, values), fit.model.filtered(DAYS, values))


def test_later_values_change_no_earlier_probability() -> None:
    _, values = simulated()
    poisoned = values.copy()
    poisoned[800:] += 3.0
    before, after = TRUTH.filtered(DAYS, values), TRUTH.filtered(DAYS, poisoned)
    assert np.array_equal(before[:800], after[:800])
    assert not np.array_equal(before[800], after[800])


def test_a_missing_day_is_carried_by_the_transition_matrix() -> None:
    _, values = simulated()
    values[500:503] = np.nan
    states = TRUTH.filtered(DAYS, values)
    expected = states[499] @ np.linalg.matrix_power(TRUTH.transition, 3)
    assert states[502] == pytest.approx(expected, abs=1e-12)
    assert np.allclose(states.sum(axis=1), 1.0)


def test_going_on_from_a_day_is_the_same_as_starting_over() -> None:
    _, values = simulated()
    whole = TRUTH.filtered(DAYS, values)
    further = TRUTH.continued(whole[699], TRUTH.adjusted(DAYS[700:], values[700:]))
    assert np.array_equal(whole[700:], further)


def test_missing_days_weigh_nothing_in_the_likelihood() -> None:
    """The masked statsmodels model, our EM and the sum over the filter's own predictions give one likelihood."""
    _, values = simulated()
    values[[3, 40, 41, 900]] = np.nan
    y = TRUTH.adjusted(DAYS, values)
    arguments = (TRUTH.stationary, TRUTH.transition, TRUTH.means, TRUTH.deviations)
    ours, smoothed, _ = expectation(y, *arguments)
    assert masked_regression(y).loglike(as_parameters(TRUTH)) == pytest.approx(ours, abs=1e-7)
    assert smoothed.sum(axis=1) == pytest.approx(np.ones(len(y)))
    total, state = 0.0, TRUTH.stationary
    for row, value in enumerate(y):
        prior = state if row == 0 else state @ TRUTH.transition
        if np.isnan(value):
            state = prior
            continue
        weights = prior * np.exp(TRUTH.log_density(np.array([value]))[0])
        total += np.log(weights.sum())
        state = weights / weights.sum()
    assert total == pytest.approx(ours, abs=1e-7)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full(len(DAYS), -7.0), "on every day"),
        (np.where(np.arange(len(DAYS)) < 300, -7.0, np.nan), "300 known days"),
        (np.random.default_rng(0).standard_normal(len(DAYS)) - 7.0, ""),
        (
            np.where(
                weekdays(DAYS) < 5, np.random.default_rng(0).standard_normal(len(DAYS)), np.nan
            ),
            "no known value on any Saturday or Sunday",
        ),
    ],
)
def test_what_is_no_model_of_regimes_is_refused_with_the_reason(values, reason) -> None:
    fit = fit_regimes(DAYS, values)
    assert fit.model is None
    assert fit.reason
    assert reason in fit.reason


def test_independent_noise_is_refused_whatever_the_draw() -> None:
    chance = np.random.default_rng(1)
    fits = [fit_regimes(DAYS, chance.standard_normal(len(DAYS)) - 7.0) for _ in range(3)]
    assert [fit.model for fit in fits] == [None] * 3


def test_one_wild_day_does_not_become_a_regime() -> None:
    """The likelihood of a regime of one value has no bound: the floor and the shares keep it out."""
    _, values = simulated()
    values[600] += 12.0
    fit = fit_regimes(DAYS, values)
    assert fit.model is None or fit.model.stationary.min() >= 0.03


def test_an_infinite_value_is_an_error_that_quotes_it() -> None:
    values = np.full(len(DAYS), -7.0)
    values[4] = np.inf
    with pytest.raises(ValueError, match="inf"):
        fit_regimes(DAYS, values)


def test_days_must_start_where_the_filter_starts() -> None:
    later = replace(TRUTH, first_day=DAYS[1])
    with pytest.raises(ValueError, match="2020-01-02"):
        later.filtered(DAYS, np.zeros(len(DAYS)))


def test_a_listing_does_not_move_the_market() -> None:
    chance = np.random.default_rng(2)
    common = chance.standard_normal(400)
    table = np.stack([common - 8.0, common - 6.0, common - 2.0], axis=1)
    table[:300, 2] = np.nan  # a wild coin, listed late
    members = market_members(("A", "B", "C"), table)
    assert list(members) == ["A", "B"]
    series = market_series(("A", "B", "C"), table, members)
    assert series == pytest.approx(common - 7.0)
    table[50, 0] = np.nan
    assert market_series(("A", "B", "C"), table, members)[50] == pytest.approx(common[50] - 7.0)
    table[50, 1] = np.nan
    assert np.isnan(market_series(("A", "B", "C"), table, members)[50])
