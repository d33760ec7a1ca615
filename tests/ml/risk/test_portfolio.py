"""Risk of a portfolio: one coin is its own case, parts add up, simulation agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ml.forecasts import QUANTILE_LEVELS
from ml.risk.covariance import NotPositiveDefinite
from ml.risk.holdings import Portfolio, PortfolioError
from ml.risk.mixture import mixture_var_es
from ml.risk.portfolio import (
    PORTFOLIO_COLUMNS,
    linear_returns,
    portfolio_risk,
    portfolio_variance,
    simple_returns,
)
from ml.risk.tails import fit_tail
from ml.risk.var_es import SUFFIXES, var_es

SCORES = norm.ppf(QUANTILE_LEVELS)


def quantiles(variance: Any, spread: float = 0.6) -> np.ndarray:
    """(n, 11) annualised volatilities of log-normal variances with these means."""
    mean = np.asarray(variance)[:, None]
    return np.sqrt(365 * mean * np.exp(spread * SCORES - spread**2 / 2))


def book(**weights: float) -> Portfolio:
    return Portfolio("desk", weights)


PAST = np.random.default_rng(1).standard_t(5, 400)


@pytest.mark.parametrize("horizon", [1, 5, 22])
@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_portfolio_of_one_coin_has_the_figures_of_the_coin(weight: float, horizon: int) -> None:
    variance = np.array([0.0015])
    found = portfolio_risk(
        book(BTC=weight), variance, quantiles(variance), np.eye(1), horizon, weight * PAST
    )
    prefix = "" if weight > 0 else "short_"
    coin = {
        **var_es(0.0015, horizon, fit_tail(PAST)),
        **mixture_var_es(quantiles(variance), horizon),
    }
    for suffix in SUFFIXES.values():
        for measure in ("var", "es"):
            name = f"{measure}_{suffix}"
            assert found.measures[name] == pytest.approx(float(coin[prefix + name]), rel=1e-9)
            assert found.measures[f"mixture_{name}"] == pytest.approx(
                float(coin[f"mixture_{prefix}{name}"][0]), rel=1e-9
            )
    assert found.shares == {"BTC": 1.0}
    assert found.diversification_ratio == pytest.approx(1.0)


@given(st.integers(0, 500), st.integers(1, 6), st.sampled_from([1, 5, 22]))
def test_parts_add_up_and_diversification_never_hurts(seed: int, coins: int, horizon: int) -> None:
    generator = np.random.default_rng(seed)
    loadings = generator.uniform(0.3, 0.9, coins)
    correlation = np.outer(loadings, loadings)
    np.fill_diagonal(correlation, 1.0)
    variance = generator.uniform(1e-4, 4e-3, coins)
    weights = generator.uniform(0.01, 0.5, coins)
    found = portfolio_risk(
        Portfolio("desk", {f"C{i}": float(w) for i, w in enumerate(weights)}),
        variance,
        quantiles(variance),
        correlation,
        horizon,
        PAST,
    )
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.diversification_ratio >= 1.0 - 1e-12
    scaled = weights * np.sqrt(variance)
    assert found.variance == pytest.approx(float(scaled @ correlation @ scaled))
    assert tuple(found.measures) == PORTFOLIO_COLUMNS
    for prefix in ("", "mixture_"):
        var, es = (
            np.array([found.measures[f"{prefix}{m}_{s}"] for s in SUFFIXES.values()])
            for m in ("var", "es")
        )
        assert (np.diff(var) >= 0).all()
        assert (es >= var - 1e-12).all()
        assert (es <= weights.sum()).all()


@pytest.mark.parametrize("weights", [(0.7, 0.5, 0.3), (1.0, -0.6, 0.2), (-0.8, -0.3, 0.1)])
def test_simulation_agrees_for_long_short_and_hedged_books(weights: tuple[float, ...]) -> None:
    """Variances at one quantile together, normal returns given them, exact simple losses at the end of 22 days."""
    w = np.array(weights)
    variance = np.array([0.0010, 0.0020, 0.0030])
    correlation = np.array([[1, 0.7, 0.5], [0.7, 1, 0.6], [0.5, 0.6, 1]])
    levels = quantiles(variance, 0.5)
    found = portfolio_risk(book(A=w[0], B=w[1], C=w[2]), variance, levels, correlation, 22, PAST)
    generator = np.random.default_rng(2)
    draws = 1_000_000
    score = np.clip(generator.standard_normal(draws), norm.ppf(0.001), norm.ppf(0.999))
    scale = np.exp(0.25 * score - 0.0625) * np.sqrt(22)  # root of exp(0.5 score - 0.125)
    r = generator.standard_normal((draws, 3)) @ np.linalg.cholesky(correlation).T
    r *= scale[:, None] * np.sqrt(variance)
    loss = np.sort(-(w * np.expm1(r)).sum(axis=1))
    # what y leaves open of each coin enters by its mean: exact for one coin, good for one side, less so for a hedge
    within = 0.02 if w[1] * w[0] > 0 else 0.08
    for level, suffix in SUFFIXES.items():
        cut = int(draws * level)
        assert found.measures[f"mixture_var_{suffix}"] == pytest.approx(loss[cut], rel=within)
        assert found.measures[f"mixture_es_{suffix}"] == pytest.approx(
            loss[cut:].mean(), rel=within
        )


def test_too_few_past_forecasts_leave_the_simulation_out_and_nothing_else() -> None:
    variance = np.array([0.001, 0.002])
    past = np.append(PAST[:59], np.nan)
    found = portfolio_risk(
        book(BTC=0.5, ETH=0.5), variance, quantiles(variance), np.eye(2), 1, past
    )
    assert found.observations == 59
    assert np.isnan(found.measures["var_95"])
    assert found.measures["mixture_var_95"] > 0
    more = portfolio_risk(
        book(BTC=0.5, ETH=0.5), variance, quantiles(variance), np.eye(2), 1, PAST[:60]
    )
    assert more.measures["var_95"] > 0


def test_what_cannot_be_is_an_error_that_names_the_coins() -> None:
    variance = np.array([0.001, 0.002])
    broken = np.array([[1.0, 1.2], [1.2, 1.0]])
    with pytest.raises(NotPositiveDefinite, match=r"eigenvalue .* along BTC and ETH"):
        portfolio_risk(book(BTC=1, ETH=1), variance, quantiles(variance), broken, 1, PAST)
    doubled = np.array([[1.0, 0.5], [0.5, 2.0]])
    with pytest.raises(ValueError, match=r"correlation of ETH with itself is 2\.0: expected 1"):
        portfolio_risk(book(BTC=1, ETH=1), variance, quantiles(variance), doubled, 1, PAST)
    with pytest.raises(ValueError, match=r"correlation of shape \(1, 1\): expected \(2, 2\)"):
        portfolio_risk(book(BTC=1, ETH=1), variance, quantiles(variance), np.eye(1), 1, PAST)
    with pytest.raises(ValueError, match="variance nan of ETH"):
        portfolio_risk(
            book(BTC=1, ETH=1), np.array([0.001, np.nan]), quantiles(variance), np.eye(2), 1, PAST
        )


def test_a_hedge_whose_loss_turns_back_is_refused_not_shown_with_es_below_var() -> None:
    """Short 20 times a calm coin against a wild one that moves with it: far enough out, the loss falls again."""
    variance = np.array([1e-5, 0.02])
    correlation = np.array([[1.0, 0.95], [0.95, 1.0]])
    with pytest.raises(PortfolioError, match=r"desk: .*es_\d+ of .* below VaR"):
        portfolio_risk(
            book(A=-20.0, B=1.0), variance, quantiles(variance, 1.2), correlation, 22, PAST
        )


def test_variances_and_returns_by_hand() -> None:
    w = np.array([0.5, -0.25])
    correlation = np.array([[1.0, 0.4], [0.4, 1.0]])
    expected = 0.25 * 0.04 + 0.0625 * 0.09 - 2 * 0.125 * 0.4 * 0.06
    variance = np.tile([0.04, 0.09], (3, 1))
    block = portfolio_variance(w, variance, np.tile(correlation, (3, 1, 1)))
    assert block == pytest.approx(expected)
    assert block[1] == portfolio_variance(w, variance[1], correlation)
    r = np.log([[1.1, 0.8], [np.nan, 1.0]])
    assert simple_returns(w, r)[0] == pytest.approx(0.05 + 0.05)
    assert linear_returns(w, r)[0] == pytest.approx(0.5 * np.log(1.1) - 0.25 * np.log(0.8))
    assert np.isnan(simple_returns(w, r)[1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("weight", [1e-300, 1e-160, 1e-16])
def test_a_variance_that_is_no_position_is_refused_by_name(weight: float) -> None:
    variance, matrix = np.array([0.001, 0.002]), np.array([[1.0, 0.5], [0.5, 1.0]])
    with pytest.raises(PortfolioError, match=r"desk: daily variance .*: expected a finite number"):
        portfolio_risk(book(BTC=weight, ETH=-weight), variance, quantiles(variance), matrix, 1, PAST)  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_figures_of_a_small_position_are_those_of_a_large_one_scaled() -> None:
    variance, matrix = np.array([0.001, 0.002]), np.array([[1.0, 0.5], [0.5, 1.0]])
    small, large = (
        portfolio_risk(book(BTC=w, ETH=w), variance, quantiles(variance), matrix, 5, PAST)
        for w in (1e-13, 0.5)
    )
    for name, value in large.measures.items():
        assert small.measures[name] == pytest.approx(2e-13 * value, rel=1e-9), name
