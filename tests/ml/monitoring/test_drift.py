"""Drift fires where something has changed, and rarely where nothing has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from ml.monitoring.attention import attention_drift, jensen_shannon
from ml.monitoring.errors import error_drift, page_hinkley
from ml.monitoring.features import drifted_features, feature_drift
from ml.monitoring.measures import DRIFT, NOT_JUDGED, STEADY, DriftPolicy
from ml.monitoring.resampling import mean_block, stationary_paths

QUICK = DriftPolicy(
    error_level=0.05, attention_level=0.05, bootstrap_repetitions=99, least_divergence=0.0
)


def autoregressive(chance: np.random.Generator, days: int, columns: int, rho: float) -> np.ndarray:
    """(days, columns) of unit variance."""
    values = chance.standard_normal((days, columns))
    for day in range(1, days):
        values[day] = rho * values[day - 1] + np.sqrt(1 - rho**2) * values[day]
    return values


def features(seed: int, days: int = 500, coins: int = 3, rho: float = 0.6) -> dict[str, np.ndarray]:
    """Five features whose coins move together."""
    chance = np.random.default_rng(seed)
    return {
        f"f{n}": autoregressive(chance, days, coins, rho) + autoregressive(chance, days, 1, rho)
        for n in range(5)
    }


def parts(panel: dict[str, np.ndarray], at: int) -> tuple[dict, dict]:
    return {k: v[:at] for k, v in panel.items()}, {k: v[at:] for k, v in panel.items()}


def test_a_feature_that_moves_is_named_and_the_others_are_not():
    window, newest = parts(features(1), 480)
    newest["f2"] = newest["f2"] + 4.0
    assert drifted_features(feature_drift(window, newest)) == ["f2"]


def test_a_feature_that_spreads_without_moving_its_mean_is_found():
    window, newest = parts(features(2, rho=0.0), 480)
    newest["f0"] = newest["f0"] * 6.0
    assert drifted_features(feature_drift(window, newest)) == ["f0"]


def test_the_statistic_is_that_of_scipy_up_to_its_bins():
    chance = np.random.default_rng(3)
    window, newest = chance.standard_normal((600, 1)), chance.standard_normal((40, 1)) + 0.7
    found = next(
        item for item in feature_drift({"x": window}, {"x": newest}) if item.measure[0] == "k"
    )
    assert found.statistic == pytest.approx(
        ks_2samp(window.ravel(), newest.ravel()).statistic, abs=0.05
    )


def test_features_of_a_stationary_market_rarely_fire_together():
    fired = 0
    for seed in range(100):
        window, newest = parts(features(seed, days=315), 300)
        fired += bool(drifted_features(feature_drift(window, newest)))
    assert fired <= 10  # 5 of 100 asked for


def test_a_coin_listed_since_training_changes_nothing():
    window, newest = parts(features(4), 480)
    before = feature_drift(window, newest)
    longer = [
        {k: np.column_stack([v, np.full(len(v), fill)]) for k, v in side.items()}
        for side, fill in ((window, np.nan), (newest, 3.0))
    ]
    assert feature_drift(*longer) == before


@pytest.mark.parametrize(("at", "why"), [(495, "since training"), (100, "days of training")])
def test_too_few_days_are_not_judged_and_say_so(at, why):
    (found,) = feature_drift(*parts(features(5), at))
    assert found.verdict == NOT_JUDGED
    assert why in found.reason
    assert np.isnan(found.statistic)


def test_losses_that_rise_fire_page_hinkley_and_forecasts_that_turn_low_the_bias():
    chance = np.random.default_rng(6)
    errors, logs = chance.standard_normal((2, 320))
    rising, biased = logs.copy(), errors.copy()
    rising[308:] += 2.0
    biased[308:] += 2.0
    hinkley, bias = error_drift(
        np.exp(rising[:300]), np.exp(rising[300:]), biased[:300], biased[300:]
    )
    assert (hinkley.measure, hinkley.verdict) == ("page_hinkley", DRIFT)
    assert (bias.measure, bias.verdict) == ("log_bias", DRIFT)
    better = error_drift(np.exp(logs[:300]), np.exp(logs[300:] - 2.0), errors[:300], errors[300:])
    assert [item.verdict for item in better] == [STEADY, STEADY]


def test_errors_of_a_stationary_market_fire_about_as_often_as_asked_for():
    fired = np.zeros(2)
    for seed in range(200):
        series = autoregressive(np.random.default_rng(seed), 220, 2, 0.4)
        loss, error = np.exp(series[:, 0]), series[:, 1]
        found = error_drift(loss[:200], loss[200:], error[:200], error[200:], QUICK)
        fired += [item.verdict == DRIFT for item in found]
    assert (
        fired / 200 <= 0.12
    ).all()  # 5 % asked for; the reference has but ten independent samples
    assert (fired / 200 >= 0.01).all()


def test_page_hinkley_counts_from_the_lowest_point():
    z = np.array([-1.0, -1.0, 2.0, 2.0])
    assert page_hinkley(z, 0.5) == pytest.approx(3.0)
    assert page_hinkley(np.array([-1.0, -1.0]), 0.5) == pytest.approx(0.0)


def test_errors_need_a_past_and_a_present():
    ones = np.linspace(1, 2, 100)
    for old, new, why in ((ones[:20], ones, "earlier"), (ones, ones[:5], "known errors")):
        found = error_drift(old, new, old, new)
        assert {item.verdict for item in found} == {NOT_JUDGED}
        assert why in found[0].reason


def attention(seed: int, days: int = 255, rho: float = 0.5) -> np.ndarray:
    weights = np.exp(0.3 * autoregressive(np.random.default_rng(seed), days, 6, rho))
    return weights / weights.sum(axis=1, keepdims=True)


def test_attention_that_turns_elsewhere_fires_and_a_wobble_does_not():
    shares = attention(7)
    turned = shares[240:][:, ::-1] * np.array([6, 1, 1, 1, 1, 1])
    turned /= turned.sum(axis=1, keepdims=True)
    assert attention_drift(shares[:240], turned).verdict == DRIFT
    assert attention_drift(shares[:240], shares[240:]).verdict == STEADY


def test_attention_of_a_stationary_market_rarely_fires():
    fired = sum(
        attention_drift(s[:240], s[240:], QUICK).verdict == DRIFT
        for s in map(attention, range(200))
    )
    assert fired / 200 <= 0.12


def test_the_divergence_is_scipy_s_squared_distance_in_bits():
    p, q = np.array([0.1, 0.2, 0.7]), np.array([0.5, 0.5, 0.0])
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="equal groups"):
        attention_drift(np.ones((50, 3)), np.ones((20, 2)))


def test_paths_are_blocks_of_the_series_and_the_same_for_a_seed():
    rows = stationary_paths(50, 400, 10.0, 20, seed=1)
    assert rows.shape == (20, 400)
    assert ((rows >= 0) & (rows < 50)).all()
    broken = (np.diff(rows, axis=1) % 50 != 1).mean()
    assert broken == pytest.approx(0.1 * 49 / 50, abs=0.015)
    assert np.array_equal(rows, stationary_paths(50, 400, 10.0, 20, seed=1))
    assert mean_block(np.ones((50, 2)), 10) == 1.0
    assert mean_block(autoregressive(np.random.default_rng(1), 300, 1, 0.5), 5) >= 15
