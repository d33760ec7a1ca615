"""HAR-DRD correlations: positive definite whatever the hours, fitted right, refusals named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ml.risk.correlations import choose_coins, realized_correlations, usable_days
from ml.risk.covariance import (
    LEAST_UNCONDITIONAL,
    WINDOW_DAYS,
    NotPositiveDefinite,
    bounded_least_squares,
    covariance,
    fit_correlations,
    forecast_correlations,
    require_positive_definite,
)


def hours(days: int, coins: int, seed: int = 0, mixing: float = 0.6) -> np.ndarray:
    """(days, 24, coins) returns of a common factor whose weight moves slowly."""
    generator = np.random.default_rng(seed)
    level = np.zeros(days)
    for day in range(1, days):
        level[day] = 0.95 * level[day - 1] + 0.3 * generator.standard_normal()
    weight = mixing * np.exp(0.5 * level)[:, None, None]
    common = weight * generator.standard_normal((days, 24, 1))
    return 0.01 * (common + generator.standard_normal((days, 24, coins)))


def names(count: int) -> list[str]:
    return [f"C{place:02d}" for place in range(count)]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.floats(0.0, 5.0))
def test_every_forecast_is_a_correlation_matrix_and_positive_definite(
    seed: int, coins: int, mixing: float
) -> None:
    returns = hours(300, coins, seed, mixing)
    fit = fit_correlations(returns, names(coins), "2024-01-07")
    assert fit.refused == {}
    found = forecast_correlations(fit, returns, "2024-01-08")
    least = LEAST_UNCONDITIONAL * np.linalg.eigvalsh(fit.unconditional)[0]
    for horizon, matrix in found.matrices.items():
        assert (np.diagonal(matrix) == 1.0).all()
        assert (matrix == matrix.T).all()
        assert np.linalg.eigvalsh(matrix)[0] >= least * (1 - 1e-6) > 0
        weights = fit.weights[horizon]
        assert min(weights) >= 0
        assert sum(weights) <= 1 - LEAST_UNCONDITIONAL + 1e-9
    if (
        coins > 24
    ):  # a day of 24 hours alone is singular: the mean of the window is what makes it definite
        assert np.linalg.eigvalsh(realized_correlations(returns[-1:])[0])[0] < 1e-10


def test_realised_correlation_is_that_of_the_hours_about_zero() -> None:
    returns = hours(3, 4)
    x = returns[1]
    expected = (x.T @ x) / np.sqrt(np.outer((x**2).sum(0), (x**2).sum(0)))
    assert realized_correlations(returns)[1] == pytest.approx(expected)


def test_bounded_least_squares_agrees_with_a_general_solver() -> None:
    generator = np.random.default_rng(1)
    for _ in range(40):
        x = generator.standard_normal((30, 3))
        y = x @ generator.normal(0.2, 0.6, 3) + 0.1 * generator.standard_normal(30)
        gram, cross = x.T @ x, x.T @ y
        ours = bounded_least_squares(gram, cross, 0.95)
        theirs = minimize(
            lambda w, g=gram, c=cross: 0.5 * w @ g @ w - c @ w,
            np.full(3, 0.1),
            bounds=[(0, None)] * 3,
            constraints={"type": "ineq", "fun": lambda w: 0.95 - w.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        ).x
        assert ours == pytest.approx(theirs, abs=1e-3)  # as near as the general solver comes
        loss, other = (0.5 * w @ gram @ w - cross @ w for w in (ours, theirs))
        assert loss <= other + 1e-9 * abs(other)


def test_persistence_is_found_and_its_absence_too() -> None:
    moving = fit_correlations(hours(WINDOW_DAYS, 4), names(4), "2024-01-07")
    still = fit_correlations(
        0.01 * np.random.default_rng(2).standard_normal((WINDOW_DAYS, 24, 4)), names(4), "x"
    )
    assert sum(moving.weights[1]) > 0.5
    assert sum(still.weights[1]) < 0.15


def test_the_fit_reads_nothing_but_its_window_and_a_day_is_alike_alone_and_in_a_block() -> None:
    returns = hours(600, 3)
    fit = fit_correlations(returns[:580], names(3), "2024-01-07")
    other = returns.copy()
    other[:80] = 7.0
    assert fit.weights == fit_correlations(other[:580], names(3), "2024-01-07").weights
    block = forecast_correlations(fit, returns[:590], "x")
    alone = forecast_correlations(fit, returns[568:590], "x")
    assert all((block.matrices[h] == alone.matrices[h]).all() for h in (1, 5, 22))


def test_a_young_coin_is_refused_by_name_and_costs_the_others_nothing() -> None:
    returns = hours(400, 3)
    returns[:300, :, 1] = np.nan
    fit = fit_correlations(returns, names(3), "2024-01-07")
    assert fit.columns == (0, 2)
    assert "2400 of 9600 hours known in the 400 days to 2024-01-07" in fit.refused[1]
    assert fit.days == 400
    found = forecast_correlations(fit, returns, "2024-01-08")
    assert found.columns == (0, 2)
    assert found.refused == fit.refused


def test_a_coin_without_the_hours_of_the_day_is_refused_and_the_others_keep_theirs() -> None:
    returns = hours(320, 4)
    fit = fit_correlations(returns[:313], names(4), "2024-01-07")
    whole = forecast_correlations(fit, returns, "2024-01-14")
    returns[-1, :6, 2] = np.nan
    found = forecast_correlations(fit, returns, "2024-01-14")
    assert found.columns == (0, 1, 3)
    assert "18 of 24 hours known in the day to 2024-01-14" in found.refused[2]
    assert found.matrices[1] == pytest.approx(whole.matrices[1][np.ix_([0, 1, 3], [0, 1, 3])])
    returns[-1] = np.nan
    assert set(forecast_correlations(fit, returns, "2024-01-14").refused) == {0, 1, 2, 3}


def test_two_coins_that_are_one_are_refused_by_name_not_mended() -> None:
    returns = hours(300, 3)
    twin = np.concatenate([returns, 2.0 * returns[:, :, :1]], axis=2)
    fit = fit_correlations(twin, ["BTC", "ETH", "SOL", "WBTC"], "2024-01-07")
    assert fit.columns == (0, 1, 2)
    assert "combination of those of BTC" in fit.refused[3]
    assert "expected above 1e-08" in fit.refused[3]


def refused_on_a_day(returns: np.ndarray, coins: list[str]) -> dict[str, str]:
    found = choose_coins(returns, range(len(coins)), 1, 1, "2024-01-07")
    assert sorted([*found.kept, *found.refused]) == list(range(len(coins)))
    return {coins[column]: reason for column, reason in found.refused.items()}


@pytest.mark.parametrize("flat", [0, 2, 4])
def test_a_price_that_stood_still_is_refused_alone_and_for_that(flat: int) -> None:
    coins = ["BTC", "ETH", "SOL", "XRP", "ADA"]
    returns = hours(1, 5)
    returns[:, :, flat] = 0.0
    returns[:, 7, (flat + 1) % 5] = np.nan  # an hour that another coin lacks costs nobody the day
    refused = refused_on_a_day(returns, coins)
    assert refused == {
        coins[flat]: "its price did not move in the day to 2024-01-07: expected a move"
    }


def test_a_coin_goes_by_the_days_that_it_spoils_not_by_its_hours() -> None:
    returns = hours(22, 4)
    returns[0, :, 1] = returns[1, :, 1] = np.nan  # 48 hours, but 2 days
    returns[5:9, :5, 3] = np.nan  # 20 hours on 4 days
    choice = choose_coins(returns, range(4), 22, 18, "2024-01-07")
    assert choice.kept == (0, 1, 2)
    assert choice.refused[3] == (
        "508 of 528 hours known in the 22 days to 2024-01-07: with it the 4 coins share 20 hours and a move of each on 16 of 22 days, "
        "without it on 20: expected at least 18"
    )
    returns[10:13, :, 3] = 0.0
    alone = choose_coins(returns, range(4), 22, 18, "2024-01-07")
    assert alone.kept == (0, 1, 2)
    assert alone.refused[3] == (
        "its price did not move on 3 of the 22 days to 2024-01-07: expected a move on at least 18 of them"
    )


def test_of_coins_that_only_together_lack_the_hours_one_goes() -> None:
    returns = hours(1, 4)
    returns[0, :3, 1] = np.nan
    returns[0, 3:5, 2] = np.nan
    assert set(refused_on_a_day(returns, list("ABCD"))) == {"B"}
    returns[0, 5:, 2] = 0.0  # C moved, but in no hour that all coins have
    returns[0, :3, 2] = 0.02
    assert set(refused_on_a_day(returns, list("ABCD"))) == {"C"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([(1, 1), (5, 4), (22, 18)]))
def test_what_is_kept_is_usable_and_a_coin_without_a_fault_is_never_refused(
    seed: int, coins: int, window: tuple[int, int]
) -> None:
    length, fewest = window
    generator = np.random.default_rng(seed)
    returns = hours(length, coins + 1, seed)
    for column in range(coins):  # the last coin has every hour
        days = generator.random(length) < generator.choice([0.05, 0.3])
        returns[days, : generator.integers(1, 24), column] = generator.choice([np.nan, 0.0])
        returns[generator.random(length) < 0.05, :, column] = 0.0
    choice = choose_coins(returns, range(coins + 1), length, fewest, "x")
    assert coins in choice.kept
    assert usable_days(returns[:, :, list(choice.kept)]).sum() >= fewest
    assert set(choice.kept) | set(choice.refused) == set(range(coins + 1))


def test_coins_that_could_not_be_kept_alone_are_all_refused() -> None:
    returns = hours(22, 3)
    returns[:, :8, 1] = np.nan
    returns[:10, :, 2] = np.nan
    choice = choose_coins(returns, range(3), 22, 18, "2024-01-07")
    assert choice.kept == (0,)
    assert list(choice.refused) == [1, 2]
    still = returns[:, :, [0]].copy()
    still[3] = 0.0  # a price that stood still has no correlation
    assert not usable_days(still)[3]


def test_a_covariance_that_is_none_names_coins_and_eigenvalue() -> None:
    bad = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, -0.9], [0.9, -0.9, 1.0]])
    with pytest.raises(
        NotPositiveDefinite, match=r"BTC, ETH, SOL is not positive definite: eigenvalue -0\.8"
    ):
        require_positive_definite(bad, ["BTC", "ETH", "SOL"])  # fmt: skip
    with pytest.raises(NotPositiveDefinite, match="along BTC and WBTC"):
        require_positive_definite(
            np.array([[1.0, 0.2, 1.1], [0.2, 1.0, 0.2], [1.1, 0.2, 1.0]]), ["BTC", "ETH", "WBTC"]
        )
    with pytest.raises(NotPositiveDefinite, match="covariance of BTC and ETH is nan"):
        require_positive_definite(np.array([[1.0, np.nan], [np.nan, 1.0]]), ["BTC", "ETH"])
    with pytest.raises(NotPositiveDefinite, match=r"0\.2 one way and 0\.3 the other"):
        require_positive_definite(np.array([[1.0, 0.2], [0.3, 1.0]]), ["BTC", "ETH"])
    with pytest.raises(NotPositiveDefinite, match=r"shape \(2, 2\): expected \(3, 3\)"):
        require_positive_definite(np.eye(2), ["BTC", "ETH", "SOL"])
    with pytest.raises(ValueError, match=r"variance -1\.0 of ETH"):
        covariance([1.0, -1.0], np.eye(2), ["BTC", "ETH"])
