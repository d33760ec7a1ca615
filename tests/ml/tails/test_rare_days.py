"""Jump and crash days, and the probability of at least one ahead: planted excitation is found, chance is not."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from ml.baselines.jumps import jump_statistic
from ml.tails.rare_days import CRASH, JUMP, any_ahead, rare_days
from ml.tails.rare_risk import (
    COVARIATES,
    NEEDED_DAYS,
    RareRisk,
    covariates,
    fit_rare_risk,
    logistic,
)

ASSETS = ("A", "B", "C", "D")
T = 1400


def measures(chance: np.random.Generator) -> dict[str, np.ndarray]:
    shape = (T, len(ASSETS))
    variance = np.exp(-7 + 0.5 * chance.standard_normal(shape))
    weekday = np.broadcast_to((np.arange(T) % 7)[:, None], shape).astype(float)
    return {
        "price_age_days": np.zeros(shape),
        "rv_d": variance,
        "bipower_d": variance * np.exp(0.05 * chance.standard_normal(shape)),
        "quarticity_d": 1.2 * variance**2,
        "bars_expected": np.full(shape, 288.0),
        "return_d": np.sqrt(variance) * chance.standard_normal(shape),
        "rv_22d": np.full(shape, variance.mean()),
        "rv_66d": np.full(shape, variance.mean()),
        "target_weekday": weekday,
        "target_weekend_share_5": np.full(shape, 0.4),
        "target_weekend_share_22": np.full(shape, 6 / 22),
    }


def chain(excited: float, calm: float, seed: int = 3) -> np.ndarray:
    """(T, N) days that follow one another with probability `excited`, else come with `calm`."""
    chance = np.random.default_rng(seed)
    days = np.zeros((T, len(ASSETS)))
    for row in range(1, T):
        recent = days[max(0, row - 3) : row].any(axis=0)
        days[row] = chance.random(len(ASSETS)) < np.where(recent, excited, calm)
    return days


def test_a_planted_jump_is_a_jump_day_and_a_late_day_is_not_known() -> None:
    given = measures(np.random.default_rng(0))
    given["bipower_d"][700, 1] = 0.4 * given["rv_d"][700, 1]
    given["price_age_days"][800, 2] = 1.0
    found = rare_days(given, JUMP)
    assert found[700, 1] == 1.0
    assert np.isnan(found[800, 2])
    assert 0 <= np.nanmean(found) < 0.02
    parts = (given[name] for name in ("rv_d", "bipower_d", "quarticity_d", "bars_expected"))
    assert found[700, 1] == (jump_statistic(*parts)[700, 1] > 3.09)


def test_a_crash_is_measured_by_what_was_known_the_day_before() -> None:
    given = measures(np.random.default_rng(0))
    sigma = np.sqrt(given["rv_22d"][0, 0])
    given["return_d"][:] = 0.0
    given["return_d"][500, 0] = -3.1 * sigma
    given["return_d"][501, 0] = -2.9 * sigma
    given["return_d"][502, 0] = 5.0 * sigma
    found = rare_days(given, CRASH)
    assert np.isnan(found[0]).all()
    assert found[500:503, 0].tolist() == [1.0, 0.0, 0.0]
    given["rv_22d"][500, 0] *= 100  # known only on the evening of the crash
    assert rare_days(given, CRASH)[500, 0] == 1.0
    with pytest.raises(ValueError, match="'flood'"):
        rare_days(given, "flood")


def test_any_ahead_by_hand() -> None:
    days = np.array([[0.0], [1.0], [0.0], [0.0], [np.nan], [0.0], [0.0]])
    assert any_ahead(days, 2)[:, 0].tolist()[:2] == [1.0, 0.0]
    expected = [1.0, 0.0, np.nan, np.nan, 0.0, np.nan, np.nan]
    np.testing.assert_array_equal(any_ahead(days, 2)[:, 0], expected)
    np.testing.assert_array_equal(any_ahead(days, 5)[:, 0], [1.0, 0.0, *[np.nan] * 5])


def test_days_lost_at_random_do_not_raise_the_rate() -> None:
    """Which horizons are kept depends on how many of their days are known, not on what was seen in them."""
    chance = np.random.default_rng(6)
    days = (chance.random((40_000, 1)) < 0.02).astype(float)
    lost = np.where(chance.random(days.shape) < 0.3, np.nan, days)
    kept, whole = any_ahead(lost, 5), any_ahead(days, 5)
    assert np.nanmean(whole) == pytest.approx(1 - 0.98**5, abs=0.006)
    assert np.nanmean(kept) < np.nanmean(whole)
    ahead = np.isfinite(np.lib.stride_tricks.sliding_window_view(lost[1:, 0], 5))
    assert np.array_equal(np.isfinite(kept[: len(ahead), 0]), ahead.sum(axis=1) >= 4)
    known = ahead.sum(axis=1)[ahead.sum(axis=1) >= 4]
    assert np.nanmean(kept) == pytest.approx(np.mean(1 - 0.98**known), abs=0.006)


def test_the_regression_is_statsmodels() -> None:
    chance = np.random.default_rng(2)
    x, offset = chance.standard_normal((900, 3)), 0.3 * chance.standard_normal(900)
    p = 1 / (1 + np.exp(-(x @ [0.8, -0.4, 0.1] - 2.0 + offset)))
    y = (chance.random(900) < p).astype(float)
    reference = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial(), offset=offset).fit(
        tol=1e-12
    )
    intercept, beta = logistic(x, y, offset, 0.0)
    assert [intercept, *beta] == pytest.approx(reference.params, abs=1e-7)


@pytest.mark.parametrize("horizon", [1, 5])
def test_planted_excitation_is_found_and_beats_the_base_rate(horizon: int) -> None:
    rare, given = chain(0.35, 0.01), measures(np.random.default_rng(1))
    x = covariates(given, rare, horizon)
    fit = fit_rare_risk(ASSETS, x, rare, horizon)
    assert isinstance(fit, RareRisk)
    assert fit.coefficients[COVARIATES.index("own_3")] > 0.3
    assert fit.skill > 0.05
    assert fit.skill_low_95 > 0
    stirred, calm = np.where(rare[-400:].max(axis=0) > 0, 1, 0), fit.base_rate("A")
    assert stirred.any()
    shown = [fit.probability("A", x[row, 0]) for row in range(NEEDED_DAYS, T)]
    after = rare[NEEDED_DAYS:, 0] > 0
    assert np.mean(np.array(shown)[after]) > 2 * calm
    target = any_ahead(rare, horizon)[NEEDED_DAYS:, 0]
    assert np.nanmean(shown) == pytest.approx(np.nanmean(target), rel=0.25)


def test_without_excitation_the_base_rate_is_published() -> None:
    given = measures(np.random.default_rng(1))
    published = []
    for seed in range(6):
        rare = chain(0.03, 0.03, seed)
        x = covariates(given, rare, 1)
        fit = fit_rare_risk(ASSETS, x, rare, 1)
        assert fit.skill_low_95 <= 0
        assert fit.skill < 0.02
        if not fit.has_skill:
            published.append(fit.probability("B", x[-1, 1]) == fit.base_rate("B"))
    assert published
    assert all(published)


def test_what_a_day_reads_ends_with_it_and_begins_where_it_says() -> None:
    rare, given = chain(0.3, 0.02), measures(np.random.default_rng(1))
    whole = covariates(given, rare, 5)
    poisoned = {
        name: np.where(np.arange(T)[:, None] > 900, 3.0, values) for name, values in given.items()
    }
    later = np.where(np.arange(T)[:, None] > 900, 1.0, rare)
    assert np.array_equal(covariates(poisoned, later, 5)[:901], whole[:901], equal_nan=True)
    cut = {name: values[900 - NEEDED_DAYS :] for name, values in given.items()}
    alone = covariates(cut, rare[900 - NEEDED_DAYS :], 5)
    assert np.array_equal(alone[NEEDED_DAYS], whole[900])


def test_storage_keeps_every_bit_and_few_events_are_refused_with_their_number() -> None:
    rare, given = chain(0.3, 0.02), measures(np.random.default_rng(1))
    x = covariates(given, rare, 1)
    fit = fit_rare_risk(ASSETS, x, rare, 1)
    names = (
        "coin_days",
        "events",
        "skill",
        "skill_low_95",
        "skill_high_95",
        "brier",
        "brier_base",
        "held_out_days",
    )
    stored = RareRisk.from_json(fit.to_json(), 1, {name: getattr(fit, name) for name in names})
    assert stored.regression("C", x[-1, 2]) == fit.regression("C", x[-1, 2])
    assert stored.base_rate("new coin") == fit.pooled_rate
    refusal = fit_rare_risk(ASSETS, x, np.zeros((T, 4)), 1)
    assert isinstance(refusal, str)
    assert refusal.startswith("0 of ")
