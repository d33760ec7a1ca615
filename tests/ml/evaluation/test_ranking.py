"""Rank association of scores with errors, by date."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from ml.evaluation.ranking import means_by_tenth, rank_association


def persistent(chance: np.random.Generator, days: int, coins: int, memory: float) -> np.ndarray:
    """(days, coins) autoregressions with a shock that all coins share."""
    shocks = chance.standard_normal((days, coins)) + 2.0 * chance.standard_normal((days, 1))
    values = np.zeros((days, coins))
    for day in range(1, days):
        values[day] = memory * values[day - 1] + shocks[day]
    return values


def test_rho_is_spearmans_with_ties_and_holes() -> None:
    chance = np.random.default_rng(3)
    score = chance.integers(0, 20, (60, 4)).astype(float)
    error = score + 10 * chance.standard_normal((60, 4))
    score[5, 2] = error[7, 1] = np.nan
    both = np.isfinite(score) & np.isfinite(error)
    found = rank_association(score, error)
    assert found.rho == pytest.approx(spearmanr(score[both], error[both]).statistic, abs=1e-12)
    assert (found.days, found.forecasts) == (60, 238)
    assert found.p_value < 0.01


def test_within_coins_a_difference_between_coins_is_no_evidence() -> None:
    chance = np.random.default_rng(4)
    level = np.array([0.0, 5.0, 10.0])
    score, error = (level + chance.standard_normal((200, 3)) for _ in range(2))
    assert rank_association(score, error).rho > 0.7
    within = rank_association(score, error, within_coins=True)
    assert abs(within.rho) < 0.15
    assert within.p_value > 0.05


def test_independent_persistent_series_are_rarely_called_associated() -> None:
    """At a nominal 5 %, where coins share their shocks and days resemble the last."""
    chance = np.random.default_rng(7)
    found = [
        rank_association(persistent(chance, 600, 10, 0.8), persistent(chance, 600, 10, 0.5)).p_value
        for _ in range(150)
    ]
    assert np.mean(np.array(found) < 0.05) < 0.12


def test_a_real_association_is_found_at_a_long_horizon() -> None:
    chance = np.random.default_rng(6)
    score = persistent(chance, 400, 5, 0.5)
    found = rank_association(score, score + 3 * persistent(chance, 400, 5, 0.5), horizon=22)
    assert found.rho > 0.1
    assert found.p_value < 0.05


def test_tenths_hold_the_means_of_equal_parts() -> None:
    score = np.arange(100.0)
    assert means_by_tenth(score, score).tolist() == [4.5 + 10 * n for n in range(10)]
    assert means_by_tenth([2, 1, np.nan, 3], [20, 10, 5, 30], parts=3).tolist() == [10, 20, 30]


def test_too_little_evidence_and_wrong_input() -> None:
    few = rank_association(np.arange(29.0)[:, None], np.arange(29.0)[:, None])
    assert np.isnan(few.rho)
    same = rank_association(np.ones((50, 2)), np.random.default_rng(0).random((50, 2)))
    assert np.isnan(same.rho)
    with pytest.raises(ValueError, match=r"scores of shape \(2, 1\), errors of \(3, 1\)"):
        rank_association(np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="horizon 0: expected"):
        rank_association(np.ones((2, 1)), np.ones((2, 1)), 0)
    with pytest.raises(ValueError, match="3 forecasts: expected at least 10"):
        means_by_tenth([1, 2, 3], [1, 2, 3])
