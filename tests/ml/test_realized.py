"""Realised measures against closed forms, simulated processes and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml import realized

DAYS, BARS, DAILY_VARIANCE = 400, 288, 4e-4

day_returns = arrays(np.float64, st.integers(2, 40), elements=st.floats(-0.25, 0.25, width=32))


@pytest.fixture(scope="module")
def brownian() -> tuple[np.ndarray, np.ndarray]:
    """Returns (T, bars) of a driftless constant-variance process and its log price path (T, bars + 1), daily variance 4e-4.

    The path has twenty steps a bar, so that highs and lows miss little.
    """
    rng = np.random.default_rng(5)
    steps = rng.normal(0, np.sqrt(DAILY_VARIANCE / (BARS * 20)), (DAYS, BARS * 20))
    path = np.concatenate([np.zeros((DAYS, 1)), np.cumsum(steps, axis=1)], axis=1)
    return np.diff(path[:, ::20], axis=1), path


@pytest.fixture(scope="module")
def prices(brownian: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    path = np.exp(brownian[1])
    return {
        "open_": path[:, 0],
        "high": path.max(axis=1),
        "low": path.min(axis=1),
        "close": path[:, -1],
    }


def test_variance_estimators_find_the_variance_of_brownian_motion(
    brownian: tuple[np.ndarray, np.ndarray], prices: dict[str, np.ndarray]
) -> None:
    returns, _ = brownian
    estimates = {
        "realized": (realized.realized_variance(returns), 0.01),
        "bipower": (realized.bipower_variation(returns), 0.01),
        "parkinson": (realized.parkinson(prices["high"], prices["low"]), 0.08),
        "garman_klass": (realized.garman_klass(**prices), 0.08),
        "rogers_satchell": (realized.rogers_satchell(**prices), 0.08),
    }
    for name, (values, tolerance) in estimates.items():
        assert values.shape == (DAYS,)
        assert values.mean() == pytest.approx(DAILY_VARIANCE, rel=tolerance), name


def test_quarticity_of_gaussian_returns_is_the_square_of_the_variance(
    brownian: tuple[np.ndarray, np.ndarray],
) -> None:
    mean = realized.realized_quarticity(brownian[0]).mean()
    assert mean == pytest.approx(DAILY_VARIANCE**2, rel=0.02)


def test_range_estimators_are_steadier_than_a_squared_daily_return(
    prices: dict[str, np.ndarray],
) -> None:
    squared = np.log(prices["close"] / prices["open_"]) ** 2
    # Parkinson's efficiency is 4.9 and Garman-Klass's 7.4 times that of the squared return
    assert squared.var() / realized.parkinson(prices["high"], prices["low"]).var() > 3.5
    assert squared.var() / realized.garman_klass(**prices).var() > 5


def test_bipower_variation_leaves_a_jump_out(brownian: tuple[np.ndarray, np.ndarray]) -> None:
    returns = brownian[0].copy()
    returns[:, 100] += 0.05
    jump = realized.jump_variation(returns).mean()
    assert jump == pytest.approx(0.05**2, rel=0.1)
    assert realized.jump_variation(brownian[0]).mean() < 0.1 * DAILY_VARIANCE


def test_a_constant_absolute_return_has_equal_realized_and_bipower_variance_but_for_the_scale() -> (
    None
):
    returns = np.array([0.01, -0.01, 0.01, -0.01])
    assert realized.realized_variance(returns) == pytest.approx(4e-4)
    assert realized.bipower_variation(returns) == pytest.approx(np.pi / 2 * 4e-4)
    assert realized.realized_quarticity(returns) == pytest.approx(4 / 3 * 4e-8)


@given(day_returns)
def test_semivariances_add_up_to_the_realized_variance(returns: np.ndarray) -> None:
    negative, positive = realized.semivariances(returns)
    assert negative + positive == pytest.approx(float(realized.realized_variance(returns)))
    assert realized.semivariances(-returns) == (positive, negative)


@given(day_returns)
def test_measures_scale_with_the_square_of_returns_and_many_days_equal_one_by_one(
    returns: np.ndarray,
) -> None:
    days = np.stack([returns, 2 * returns])
    for measure in (realized.realized_variance, realized.bipower_variation):
        both = measure(days)
        assert both.shape == (2,)
        assert both[0] == pytest.approx(float(measure(returns)), rel=1e-12)
        assert both[1] == pytest.approx(4 * both[0])


def test_rogers_satchell_is_zero_for_a_day_that_only_rises_or_only_falls() -> None:
    assert realized.rogers_satchell(100.0, 120.0, 100.0, 120.0) == pytest.approx(0.0)
    assert realized.rogers_satchell(120.0, 120.0, 100.0, 100.0) == pytest.approx(0.0)


def test_parkinson_and_garman_klass_match_their_formulas_on_one_day() -> None:
    assert realized.parkinson(np.e, 1.0) == pytest.approx(1 / (4 * np.log(2)))
    assert realized.garman_klass(1.0, np.e, 1.0, np.e) == pytest.approx(0.5 - (2 * np.log(2) - 1))


def test_yang_zhang_finds_the_variance_of_days_that_follow_each_other(
    brownian: tuple[np.ndarray, np.ndarray],
) -> None:
    path = brownian[1] + np.concatenate([[0], np.cumsum(brownian[1][:-1, -1])])[:, None]
    prices = np.exp(path)
    estimate = realized.yang_zhang(
        prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1]
    )
    assert estimate == pytest.approx(DAILY_VARIANCE, rel=0.1)


def test_yang_zhang_counts_overnight_moves() -> None:
    flat = np.ones(22)
    overnight = np.tile([0.01, -0.01], 11)
    estimate = realized.yang_zhang(flat, flat, flat, flat, overnight=overnight)
    assert estimate == pytest.approx(np.var(overnight, ddof=1))


def test_corwin_schultz_finds_the_spread_of_a_price_that_only_bounces() -> None:
    spread = 0.02
    bid, ask = 1 - spread / 2, 1 + spread / 2
    estimate = realized.corwin_schultz([ask, ask], [bid, bid], [ask, bid])
    assert estimate == pytest.approx(spread, rel=1e-3)


def test_corwin_schultz_ignores_a_gap_between_the_days_and_is_never_negative() -> None:
    moved = realized.corwin_schultz([1.02, 1.12], [1.0, 1.10], [1.02, 1.11])
    still = realized.corwin_schultz([1.02, 1.04], [1.0, 1.02], [1.02, 1.03])
    assert moved == pytest.approx(float(still), abs=2e-3)
    assert realized.corwin_schultz([1.01, 1.31], [1.0, 1.3], [1.01, 1.3]) >= 0


def test_amihud_is_the_mean_move_per_million_traded() -> None:
    assert realized.amihud([0.01, -0.02], [1e6, 1e6]) == pytest.approx(0.015)
    assert np.isnan(realized.amihud([0.01, 0.01], [1e6, 0.0]))


def test_a_return_after_a_gap_starts_at_its_own_open() -> None:
    returns = realized.log_returns([110.0, 121.0], [100.0, 110.0], [np.nan, 100.0])
    assert returns == pytest.approx(np.log([1.1, 1.21]))


def test_one_bar_has_no_bipower_variation() -> None:
    assert np.isnan(realized.bipower_variation([0.01]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: realized.parkinson(1.0, -2.0), "low -2"),
        (lambda: realized.realized_variance([]), r"returns of shape \(0,\)"),
        (lambda: realized.corwin_schultz([1.0], [1.0], [1.0]), "expected two days"),
        (lambda: realized.amihud([0.1], [1.0, 2.0]), r"quote_volume of shape \(2,\)"),
    ],
)
def test_errors_quote_the_bad_value(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
