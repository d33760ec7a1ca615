"""The optimiser and the two engines: equal results, bounds kept, nothing that hangs on neighbours, threads or chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ml.garch import ascent
from ml.garch.estimation import fit, fit_from_all
from ml.garch.inference import standard_errors
from ml.garch.quadratic import bounded_step
from ml.garch.specification import Specification, Variance
from ml.garch.verdicts import persistence
from ml.garch.windows import Windows
from tests.ml.garch.samples import (
    VARIANCE_VALUES,
    exogenous,
    jumpy_returns,
    member,
    members,
    vector,
)

FAST = [
    Specification("garch", "t"),
    Specification("gjr", "t"),
    Specification("garch", "t", "zero"),
    Specification("gjr", "t", "zero"),
]


@pytest.fixture(scope="module")
def coins() -> list[Any]:
    """Eleven series of different lengths: more than lanes, none alike."""
    return [
        series[: 500 + 37 * number] for number, series in enumerate(jumpy_returns(900, coins=11))
    ]


@pytest.mark.parametrize("specification", FAST, ids=lambda one: one.name)
def test_the_fast_engine_finds_what_the_readable_one_finds(
    specification: Specification, coins: list[Any]
) -> None:
    windows = Windows.separate(coins)
    fast = fit(specification, windows, tolerance=1e-10, engine="fast")
    plain = fit(specification, windows, tolerance=1e-10, engine="generic")
    assert (fast.endings == ascent.CONVERGED).all()
    np.testing.assert_allclose(fast.log_likelihood, plain.log_likelihood, atol=1e-7)
    np.testing.assert_allclose(fast.parameters, plain.parameters, rtol=2e-3, atol=1e-4)
    ours = standard_errors(fast, windows)
    theirs = standard_errors(fast, windows, engine="generic")
    for name in ("robust", "hessian", "outer"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-5)


@pytest.mark.parametrize("specification", FAST[:2], ids=lambda one: one.name)
def test_a_fit_is_the_same_alone_in_a_batch_and_on_threads(
    specification: Specification, coins: list[Any]
) -> None:
    together = fit(specification, Windows.separate(coins))
    threaded = fit(specification, Windows.separate(coins), threads=3)
    np.testing.assert_array_equal(together.parameters, threaded.parameters)
    for place in (0, 4, 10):
        alone = fit(specification, Windows.separate([coins[place]]))
        np.testing.assert_array_equal(alone.parameters[0], together.parameters[place])
        assert alone.log_likelihood[0] == together.log_likelihood[place]


def test_a_warm_walk_finds_the_maxima_of_cold_starts_in_fewer_evaluations(coins: list[Any]) -> None:
    specification = FAST[1]
    long = [np.concatenate([coins[place], coins[place + 1]]) for place in range(0, 8, 2)]
    warm = fit(specification, Windows.rolling(long, 1000, step=1))
    cold = fit(specification, Windows.rolling(long, 1000, step=1, chain_length=1))
    np.testing.assert_allclose(warm.log_likelihood, cold.log_likelihood, atol=0.01)
    assert warm.evaluations.mean() < 0.5 * cold.evaluations.mean()


@pytest.mark.parametrize("variance", VARIANCE_VALUES)
def test_every_member_climbs_to_a_maximum_inside_its_bounds(variance: Variance) -> None:
    specification = member(variance, terms=("a", "b") if variance in ("garch", "realized") else ())
    returns = jumpy_returns(700)[0]
    terms, measure = exogenous(returns)
    windows = Windows.separate(
        [returns],
        [terms] if specification.terms else None,
        [measure] if specification.variance == "realized" else None,
    )
    found = fit_from_all(specification, windows)
    assert found.endings[0] == ascent.CONVERGED
    generator = np.random.default_rng(0)
    for _ in range(5):
        start = found.parameters * generator.uniform(0.8, 1.2, found.parameters.shape)
        again = fit(specification, windows, start)
        # APARCH with delta below 1 has a cusp in the mean at every return, and small maxima between them.
        assert again.log_likelihood[0] < found.log_likelihood[0] + (
            0.3 if variance == "aparch" else 0.01
        )
    coordinates = specification.coordinates
    slack = coordinates.normals @ coordinates.from_natural(found.parameters[0]) - coordinates.limits
    assert (slack - coordinates.limit_scales * np.log(returns.var()) > -1e-6).all()
    assert persistence(specification, found.parameters[0]) <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_bounded_step_solves_its_quadratic_programme(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size, bounds = int(generator.integers(2, 9)), int(generator.integers(1, 12))
    factor = generator.standard_normal((size, size + 3))
    scale = 10 ** generator.uniform(-3, 3, size)
    information = factor @ factor.T * np.outer(scale, scale)
    score = 3 * generator.standard_normal(size) * scale
    normals = generator.standard_normal((bounds, size)) * scale
    slack = np.where(generator.random(bounds) < 0.3, 0.0, generator.random(bounds))
    step, work = np.zeros(size), np.zeros((3 * size + 2 * bounds + 8, max(size, bounds)))
    gain = bounded_step(score, information, normals, slack, 0.0, step, work)
    inner, pull, rows = information / np.outer(scale, scale), score / scale, normals / scale
    best = minimize(
        lambda y: 0.5 * y @ inner @ y - pull @ y,
        np.zeros(size),
        jac=lambda y: inner @ y - pull,
        constraints={"type": "ineq", "fun": lambda y: rows @ y + slack, "jac": lambda y: rows},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    assert (normals @ step + slack > -1e-8).all()
    assert gain == pytest.approx(-best.fun, rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.01, 50.0))
def test_a_fit_scales_with_its_returns(factor: float) -> None:
    returns = jumpy_returns(500)[0]
    one = fit(FAST[1], Windows.separate([returns]), tolerance=1e-9)
    other = fit(FAST[1], Windows.separate([factor * returns]), tolerance=1e-9)
    assert other.log_likelihood[0] == pytest.approx(
        one.log_likelihood[0] - 500 * np.log(factor), abs=1e-5
    )
    scaled = one.parameters[0] * np.array([factor, factor**2, 1, 1, 1, 1])
    np.testing.assert_allclose(other.parameters[0], scaled, rtol=2e-3, atol=1e-4 * factor)


@pytest.mark.parametrize("specification", members(), ids=lambda one: one.name)
def test_coordinates_lead_back_to_natural_parameters(specification: Specification) -> None:
    theta = vector(specification)
    coordinates = specification.coordinates
    np.testing.assert_allclose(
        coordinates.to_natural(coordinates.from_natural(theta)), theta, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variance": "arch"}, "variance 'arch': expected one of garch"),
        ({"density": "ged"}, "density 'ged': expected one of normal"),
        ({"mean": "ar"}, "0 lags for mean 'ar'"),
        ({"mean": "constant", "lags": 2}, "2 lags for mean 'constant'"),
        ({"variance": "figarch", "terms": ("a",)}, "exogenous terms"),
    ],
)
def test_a_specification_refuses_what_it_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Specification(**arguments)


def test_fit_refuses_data_that_do_not_fit_the_member() -> None:
    returns = jumpy_returns(400)[0]
    terms, measure = exogenous(returns)
    with pytest.raises(ValueError, match="return nan at 3"):
        Windows.separate([np.insert(returns, 3, np.nan)])
    with pytest.raises(ValueError, match="0 columns of terms for garch_x_t: expected 2"):
        fit(Specification(terms=("a", "b")), Windows.separate([returns]))
    with pytest.raises(ValueError, match="expected non-negative values"):
        fit(Specification(terms=("a", "b")), Windows.separate([returns], [terms - 0.5]))
    with pytest.raises(ValueError, match="without a realised measure"):
        fit(Specification("realized"), Windows.separate([returns]))
    with pytest.raises(ValueError, match=r"realised measure 0\.0: expected positive"):
        fit(Specification("realized"), Windows.separate([returns], measure=[measure * 0]))
    with pytest.raises(ValueError, match="engine 'fast' for egarch_t"):
        fit(Specification("egarch"), Windows.separate([returns]), engine="fast")
