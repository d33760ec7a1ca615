"""The effect of an event: against statsmodels' clustered regression, planted effects, and too little evidence."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t as student

from ml.events.effects import episodes, event_effect

T, N = 500, 5


def market(effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Errors with a common part and coin levels, and events that come in spells."""
    chance = np.random.default_rng(seed)
    values = chance.standard_normal((T, N)) + chance.standard_normal((T, 1)) + np.arange(N)
    active = np.zeros((T, N))
    for start in range(20, T - 20, 45):
        active[start : start + 8, chance.integers(0, N, 3)] = 1.0
    return values + effect * active, active


@pytest.mark.parametrize("horizon", [1, 5, 22])
def test_estimate_and_interval_are_those_of_a_regression_clustered_by_date(horizon: int) -> None:
    values, active = market(0.4)
    values[7, 2], active[9, 1] = np.nan, np.nan
    found = event_effect(values, active, horizon)
    given = np.isfinite(values) & np.isfinite(active)
    day, coin = np.nonzero(given)
    design = np.column_stack([active[given], *(coin == n for n in range(N))]).astype(float)
    lags = max(horizon - 1, int(4 * (T / 100) ** (2 / 9)))
    reference = sm.OLS(values[given], design).fit(
        cov_type="hac-groupsum",
        cov_kwds={"time": day, "maxlags": lags, "use_correction": False},
    )
    half = student.ppf(0.975, found.episodes - 1) * reference.bse[0]
    assert found.estimate == pytest.approx(reference.params[0], abs=1e-10)
    assert found.high_95 - found.estimate == pytest.approx(half, rel=1e-8)
    assert found.estimate - found.low_95 == pytest.approx(half, rel=1e-8)


def test_a_planted_effect_is_seen_and_none_is_not() -> None:
    found = event_effect(*market(1.0), 1)
    assert found.low_95 > 0
    assert found.low_95 < 1.0 < found.high_95
    wrong = [event_effect(*market(0.0, seed), 1) for seed in range(40)]
    assert sum(not one.low_95 <= 0 <= one.high_95 for one in wrong) <= 6


def test_levels_of_coins_are_no_effect() -> None:
    values = np.broadcast_to(10.0 * np.arange(N), (T, N)).copy()
    values += 1e-3 * np.random.default_rng(0).standard_normal((T, N))
    active = np.zeros((T, N))
    active[::20, N - 1] = 1.0  # only the coin with the largest errors
    assert abs(event_effect(values, active, 1).estimate) < 1e-2


def test_few_episodes_have_an_estimate_and_no_interval() -> None:
    values, active = market(0.4)
    active[150:] = 0.0
    found = event_effect(values, active, 1)
    assert found.episodes == 3
    assert np.isfinite(found.estimate)
    assert not found.judged
    none = event_effect(values, np.zeros((T, N)), 1)
    assert np.isnan(none.estimate)
    assert none.active_coin_days == 0
    assert none.quiet_coin_days == T * N


def test_episodes_are_apart_by_more_than_the_horizon() -> None:
    days = np.zeros(60, dtype=bool)
    days[[3, 4, 5, 9, 30]] = True
    assert episodes(days, 1) == 3
    assert episodes(days, 5) == 2
    assert episodes(days, 22) == 1
    assert episodes(np.zeros(60, dtype=bool), 1) == 0


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        event_effect(np.zeros((3, 2)), np.zeros((2, 3)), 1)
