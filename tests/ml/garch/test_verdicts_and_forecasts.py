"""Verdicts name what is wrong, retries help or fallbacks follow, and forecasts without a peer equal plain simulations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from ml.forecasts import HORIZONS
from ml.garch import ascent, densities, reference
from ml.garch.estimation import Fits, fit
from ml.garch.forecasting import conditional, daily_variance, mean_variance, negative_share, outlook
from ml.garch.specification import Specification, Variance
from ml.garch.verdicts import CONVERGED, fit_and_judge, judge
from ml.garch.windows import Windows
from tests.ml.garch.samples import exogenous, jumpy_returns, member, values, vector


def changed(fits: Fits, **values_: float) -> Fits:
    parameters = fits.parameters.copy()
    for name, value in values_.items():
        parameters[:, fits.specification.place(name)] = value
    return replace(fits, parameters=parameters)


@pytest.fixture(scope="module")
def good() -> tuple[Fits, Windows]:
    windows = Windows.separate(jumpy_returns(1200))
    return fit(Specification("garch", "t"), windows, tolerance=1e-8), windows


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nu": 2.05}, "nu 2.0500: at its bound 2.05"),
        ({"beta": 0.99}, "expected at most 1"),
        ({"omega": 0.0}, "omega 0: at its bound"),
        ({"mu": np.nan}, "not finite"),
    ],
)
def test_the_verdict_names_what_is_wrong(
    good: tuple[Fits, Windows], change: dict[str, float], expected: str
) -> None:
    fits, windows = good
    assert judge(fits, windows).verdicts[0] == CONVERGED
    assert expected in judge(changed(fits, **change), windows).verdicts[0]


def test_a_climb_that_ended_early_is_not_converged(good: tuple[Fits, Windows]) -> None:
    fits, windows = good
    early = fit(Specification("garch", "t"), windows, tolerance=1e-8, max_evaluations=2)
    verdict = judge(early, windows).verdicts[0]
    assert "gradient not zero" in verdict
    assert "evaluations used up" in verdict
    stuck = replace(fits, endings=np.array([ascent.STUCK]), gain=np.array([3.0]))
    assert "gain 3 in log likelihood" in judge(stuck, windows).verdicts[0]


def test_away_from_the_maximum_the_curvature_is_refused() -> None:
    windows = Windows.separate(jumpy_returns(1200))
    fits = fit(Specification("gjr", "t"), windows, tolerance=1e-8)
    away = changed(fits, mu=12.0)
    assert "does not curve down" in judge(away, windows).verdicts[0]


def test_returns_without_arch_effects_are_refused_or_flat_but_never_raise() -> None:
    generator = np.random.default_rng(0)
    flat = [
        generator.standard_normal(600),
        np.where(generator.random(400) < 0.02, 1e-4, 0.0),
        np.zeros(400),
    ]
    for specification in (
        Specification("garch", "t"),
        Specification("egarch", "t"),
        Specification("component", "t"),
    ):
        judged = fit_and_judge(specification, Windows.separate(flat))
        assert all(isinstance(verdict, str) and verdict for verdict in judged.verdicts)
        assert judged.verdicts[2] != CONVERGED


def test_an_integrated_garch_on_its_bound_counts_as_converged() -> None:
    generator = np.random.default_rng(8)
    returns, variance = np.empty(1200), 4.0
    for day in range(1200):
        shock = np.sqrt(variance) * generator.standard_t(4) / np.sqrt(2)
        returns[day] = shock
        variance = 0.4 + 0.35 * shock**2 + 0.65 * variance
    judged = fit_and_judge(Specification("garch", "t"), Windows.separate([returns]))
    assert judged.persistence[0] == pytest.approx(1.0, abs=1e-3)
    assert judged.verdicts[0] == CONVERGED
    # On the bound alpha + beta = 1 the two are one parameter.
    assert judged.errors.robust[0, 2] == pytest.approx(judged.errors.robust[0, 3], rel=1e-3)


def test_retries_mend_a_fit_that_started_badly() -> None:
    windows = Windows.separate(jumpy_returns(900))
    specification = Specification("gjr", "t")
    start = np.array([[40.0, 1e-6, 0.9, 0.0, 0.05, 400.0]])
    spoilt = judge(fit(specification, windows, start, max_evaluations=1), windows)
    assert spoilt.verdicts[0] != CONVERGED
    mended = fit_and_judge(specification, windows, start)
    assert mended.verdicts[0] == CONVERGED


def simulated(
    specification: Specification, found: Any, theta: dict[str, float], paths: int = 40_000
) -> Any:
    """(22,) mean variance of each day ahead of the last, by drawing past innovations."""
    generator = np.random.default_rng(4)
    z = generator.choice(found.innovations, (22, paths))
    h = np.full(paths, np.exp(found.log_variance[-1]))
    q = np.full(paths, found.trend[-1]) if len(found.trend) else h
    departure = (
        found.log_measure - theta.get("xi", 0.0) - theta.get("phi_u", 0.0) * found.log_variance[:-1]
    )
    daily = [h.mean()]
    for day in range(21):
        e2 = h * z[day] ** 2
        if specification.variance == "component":
            following = theta["omega"] + theta["rho"] * q + theta["phi"] * (e2 - h)
            h = following + theta["alpha"] * (e2 - q) + theta["beta"] * (h - q)
            q = following
        else:
            log_x = theta["xi"] + theta["phi_u"] * np.log(h) + generator.choice(departure, paths)
            h = np.exp(theta["omega"] + theta["beta"] * np.log(h) + theta["gamma"] * log_x)
        daily.append(h.mean())
    return np.array(daily)


@pytest.mark.parametrize("variance", ["component", "realized"])
def test_forecasts_without_a_peer_equal_a_plain_simulation(variance: Variance) -> None:
    specification = member(variance)
    returns = jumpy_returns(1500)[0]
    _, measure = exogenous(returns)
    theta = vector(specification)
    initial = reference.backcast(returns - returns.mean())
    found = conditional(specification, theta, initial, returns, measure=measure)
    ours = daily_variance(found, outlook(found, 22, 0), np.array([1500]), 22)[0]
    np.testing.assert_allclose(
        ours, simulated(specification, found, values(specification)), rtol=0.03
    )


def test_an_exogenous_term_returns_to_its_mean() -> None:
    specification = member("garch", terms=("a", "b"))
    returns = jumpy_returns(800)[0]
    terms, _ = exogenous(returns)
    terms[:, 0] = np.convolve(terms[:, 0], np.ones(5) / 5, mode="same")
    theta = values(specification)
    found = conditional(specification, vector(specification), 10.0, returns, terms)
    ahead = outlook(found, 22, 0)
    ours = daily_variance(found, ahead, np.array([800]), 22)[0]
    assert 0.6 < ahead.term_decay[0] < 0.95
    assert ahead.term_decay[1] < 0.15
    h, expected = np.exp(found.log_variance[-1]), []
    for day in range(22):
        expected.append(h)
        x = ahead.term_mean + ahead.term_decay ** (day + 1) * (terms[-1] - ahead.term_mean)
        h = (
            theta["omega"]
            + (theta["alpha"] + theta["beta"]) * h
            + theta["pi_a"] * x[0]
            + theta["pi_b"] * x[1]
        )
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("variance", ["garch", "gjr", "egarch", "aparch", "figarch", "component"])
def test_a_place_gives_the_same_forecast_alone_and_in_a_block(variance: Variance) -> None:
    specification = member(variance)
    returns = jumpy_returns(600)[0]
    found = conditional(specification, vector(specification), 10.0, returns)
    ahead = outlook(found, 22, 0)
    together = mean_variance(found, ahead, np.arange(601), HORIZONS)
    for place in (0, 17, 600):
        np.testing.assert_array_equal(
            mean_variance(found, ahead, np.array([place]), HORIZONS)[0], together[place]
        )
    until = conditional(specification, vector(specification), 10.0, returns[:400])
    np.testing.assert_allclose(until.log_variance, found.log_variance[:401], rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(nu=st.floats(2.6, 40.0), skew=st.floats(-0.7, 0.7))
def test_the_negative_share_of_variance_is_that_of_the_density(nu: float, skew: float) -> None:
    shape, fixed, slopes = np.array([nu, skew]), np.zeros(densities.CONSTANTS), np.zeros(3)
    densities.constants(densities.SKEWED, shape, fixed)
    expected = integrate.quad(
        lambda z: z * z * np.exp(densities.log_density(densities.SKEWED, shape, fixed, z, slopes)),
        -np.inf,
        0,
        limit=400,
    )[0]
    assert negative_share(shape) == pytest.approx(expected, abs=2e-3)
    assert negative_share(np.array([nu, 0.0])) == pytest.approx(0.5)
