"""The backtest of leverage on paths whose figures are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.risk.leverage_backtest import (
    carried,
    constant_leverage,
    equal_weights,
    ewma_leverage,
    follow_weights,
    held,
    performance,
    returns_of,
)


def test_a_constant_return_compounds_and_trades_back_what_the_market_moved() -> None:
    path = follow_weights(np.full((4, 1), 2.0), np.full((4, 1), 0.05), cost=0.0)
    assert path.capital == pytest.approx(1.1 ** np.arange(5))
    drifted = 2.0 * 1.05 / 1.1  # two of exposure has become 2.1 of a capital of 1.1
    assert path.turnover == pytest.approx([2.0, *[2.0 - drifted] * 3])
    found = performance(path)
    assert found.growth_per_year == pytest.approx(365 * math.log(1.1))
    assert found.realised_volatility == pytest.approx(math.sqrt(365) * 0.1)
    assert found.turnover_per_year == pytest.approx(365 * (2.0 - drifted))
    assert (found.worst_drawdown, found.days) == (0.0, 4)
    assert math.isnan(found.sharpe)


def test_all_of_the_capital_in_one_coin_never_trades_again() -> None:
    returns = np.random.default_rng(2).normal(0, 0.03, (50, 1))
    path = follow_weights(np.ones((50, 1)), returns, cost=0.01)
    assert path.turnover[0] == 1.0
    assert path.turnover[1:] == pytest.approx(np.zeros(49), abs=1e-12)
    assert path.capital[-1] == pytest.approx(0.99 * np.prod(1 + returns))
    assert performance(path).turnover_per_year == pytest.approx(0.0, abs=1e-9)


def test_costs_are_taken_of_what_is_traded() -> None:
    weights, still = np.array([[1.0], [0.0], [2.0]]), np.zeros((3, 1))
    path = follow_weights(weights, still, cost=0.01)
    assert path.turnover.tolist() == [1.0, 1.0, 2.0]
    assert path.capital == pytest.approx([1, 0.99, 0.99**2, 0.99**2 * 0.98])
    assert performance(path).mean_leverage == 1.0


def test_the_worst_drawdown_is_from_a_peak_the_start_included() -> None:
    returns = np.array([[-0.1], [0.5], [-0.4], [0.1], [-0.2]])
    found = performance(follow_weights(np.ones((5, 1)), returns, cost=0.0))
    assert found.worst_drawdown == pytest.approx(1 - 0.6 * 1.1 * 0.8)
    only_falls = performance(follow_weights(np.ones((2, 1)), [[-0.1], [-0.1]], cost=0.0))
    assert only_falls.worst_drawdown == pytest.approx(0.19)


def test_a_position_that_loses_everything_stays_at_zero() -> None:
    path = follow_weights(np.full((3, 1), 3.0), [[0.1], [-0.4], [0.5]], cost=0.0)
    assert path.capital.tolist() == [1.0, pytest.approx(1.3), 0.0, 0.0]
    assert path.leverage.tolist() == [3.0, 3.0, 0.0]
    assert path.turnover[2] == 0.0
    found = performance(path)
    assert (found.worst_drawdown, found.growth_per_year) == (1.0, -math.inf)


def test_equal_parts_of_two_coins() -> None:
    weights = equal_weights([[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan]])
    assert weights.tolist() == [[0.5, 1.0], [0.0, 2.0], [0.0, 0.0]]
    path = follow_weights(weights[:1], [[0.1, -0.05]], cost=0.0)
    assert path.net_return[0] == pytest.approx(0.5 * 0.1 - 1.0 * 0.05)


def test_strategies_side_by_side_are_each_as_alone() -> None:
    chance = np.random.default_rng(3)
    weights, returns = chance.uniform(0, 2, (30, 4)), chance.normal(0, 0.05, (30, 4))
    weights[:10, 2] = 0.0
    returns[20, 3] = -0.9  # ruin at a leverage above 1.1
    weights[20, 3] = 2.0
    together = follow_weights(weights[:, :, None], returns[:, :, None])
    for n in range(4):
        alone = follow_weights(weights[:, [n]], returns[:, [n]])
        assert alone.capital.tolist() == together.capital[:, n].tolist()
        assert performance(alone) == performance(together.part(0, 29, n)) or n == 3
    assert together.capital[-1, 3] == 0.0
    later = follow_weights(weights[10:, [2]], returns[10:, [2]])
    assert performance(together.part(10, 29, 2)) == performance(later)


@given(st.integers(1, 19), st.integers(0, 10))
def test_what_comes_later_changes_nothing_before(cut: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    weights, returns = chance.uniform(0, 2, (20, 3)), chance.normal(0, 0.05, (20, 3))
    whole = follow_weights(weights, returns)
    other_weights, other_returns = weights.copy(), returns.copy()
    other_weights[cut:] = chance.uniform(0, 2, (20 - cut, 3))
    other_returns[cut:] = chance.normal(0, 0.05, (20 - cut, 3))
    other = follow_weights(other_weights, other_returns)
    assert other.capital[: cut + 1].tolist() == whole.capital[: cut + 1].tolist()
    assert other.turnover[:cut].tolist() == whole.turnover[:cut].tolist()
    assert other.turnover[cut] != whole.turnover[cut]
    smoothed, changed = (
        ewma_leverage(np.square(values) + 1e-6, 0.2, 3.0) for values in (returns, other_returns)
    )
    assert smoothed[:cut].tolist() == changed[:cut].tolist()


def test_a_day_s_return_meets_the_weight_set_before_it() -> None:
    prices = np.array([[100.0], [110.0], [99.0]])
    path = follow_weights([[1.0], [0.0]], returns_of(prices), cost=0.0)
    assert path.net_return == pytest.approx([0.1, 0.0])  # out before the fall, in before the rise


def test_a_price_not_seen_is_the_last_one_seen() -> None:
    prices = np.array([[np.nan], [100.0], [np.nan], [121.0], [121.0]])
    assert returns_of(prices)[:, 0] == pytest.approx([0.0, 0.0, 0.21, 0.0])
    kept = held([[np.nan], [1.0], [np.nan], [np.nan], [2.0]], longest=1)
    assert kept[:, 0].tolist() == pytest.approx([np.nan, 1.0, 1.0, np.nan, 2.0], nan_ok=True)


def test_constant_and_ewma_leverage_by_their_definitions() -> None:
    variance = 0.6**2 / 365
    assert constant_leverage([np.nan, *[variance] * 60], 0.2, 3.0) == pytest.approx(1 / 3)
    assert constant_leverage([variance] * 60, 6.0, 3.0) == 3.0
    assert ewma_leverage(np.full((5, 1), variance), 0.2, 3.0)[:, 0] == pytest.approx([1 / 3] * 5)
    values = np.array([[np.nan], [1.0], [np.nan], [4.0]]) * 1e-4
    found = ewma_leverage(values, 0.2, 3.0, decay=0.9)[:, 0]
    weighted = (0.9**2 * 1e-4 + 4e-4) / (0.9**2 + 1)
    assert np.isnan(found[0])
    assert found[1] == found[2] == pytest.approx(0.2 / math.sqrt(365e-4))
    assert found[3] == pytest.approx(0.2 / math.sqrt(365 * weighted))


def test_wrong_inputs_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"weight nan on day 1 of column 0"):
        follow_weights([[1.0], [np.nan]], [[0.0], [0.0]])
    with pytest.raises(
        ValueError, match=r"weight -0.5 on day 0 of column 1: expected a number from 0"
    ):
        follow_weights([[1.0, -0.5]], [[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"return -1.2 on day 0 of column 0"):
        follow_weights([[1.0]], [[-1.2]])
    with pytest.raises(ValueError, match=r"weights of shape \(2, 1\), returns of \(1, 1\)"):
        follow_weights([[1.0], [1.0]], [[0.0]])
    with pytest.raises(ValueError, match=r"weights of shape \(0, 1\)"):
        follow_weights(np.empty((0, 1)), np.empty((0, 1)))
    with pytest.raises(ValueError, match=r"cost 1.0: expected a fraction"):
        follow_weights([[1.0]], [[0.0]], cost=1.0)
    with pytest.raises(ValueError, match=r"price 0.0: expected a positive number"):
        returns_of([[1.0], [0.0]])
    with pytest.raises(ValueError, match="2 realised variances: expected at least 60"):
        constant_leverage([1e-4, np.nan, 1e-4], 0.2, 3.0)
    with pytest.raises(ValueError, match=r"realised variance 0.0: expected a positive"):
        constant_leverage([0.0] * 60, 0.2, 3.0)


def test_a_coin_without_a_price_keeps_its_leverage_and_is_dropped_when_it_stays_away() -> None:
    leverage = np.array([[1.0], [2.0], [3.0], [np.nan], [5.0], [6.0], [7.0]])
    priced = np.array([[0], [1], [0], [0], [0], [1], [1]], dtype=bool)
    found = carried(leverage, priced, 2)
    assert found[:, 0] == pytest.approx([np.nan, 2, 2, 2, np.nan, 6, 7], nan_ok=True)
    ended = carried([[1.0], [np.nan], [3.0], [4.0]], [[True], [True], [False], [True]], 7)
    assert ended[:, 0] == pytest.approx([1, np.nan, np.nan, 4], nan_ok=True)
    with pytest.raises(ValueError, match=r"shape \(7, 1\), prices of \(1, 1\)"):
        carried(leverage, [[True]], 7)
