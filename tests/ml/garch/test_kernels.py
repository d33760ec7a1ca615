"""Compiled kernels against the plain reference recursions, and analytic scores against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import polygamma, psi

from ml.garch import densities, reference, special
from ml.garch.jit import kernel
from ml.garch.likelihood import likelihood, prepare
from ml.garch.simd import (
    LANES,
    exponent,
    load,
    mantissa,
    splat,
    store,
    where_negative,
)
from ml.garch.specification import Specification
from tests.ml.garch.samples import exogenous, jumpy_returns, members, values, vector

DAYS = 250


def evaluated(
    specification: Specification, theta: Any, initial: int = 0
) -> tuple[float, Any, Any, Any, Any]:
    """Log likelihood, score, information, daily scores and path at natural parameters, with arch's backcast."""
    returns = jumpy_returns(DAYS)[0]
    terms, measure = exogenous(returns)
    days, size = DAYS - specification.lags, len(theta)
    cut, slopes = np.empty(days), np.empty((days, len(specification.mean_parameters)))
    own, observed = np.empty((days, len(specification.terms))), np.zeros(days)
    backcast = prepare(
        specification.layout,
        returns,
        terms[:, : own.shape[1]].copy(),
        np.log(measure),
        0,
        DAYS,
        cut,
        slopes,
        own,
        observed,
    )
    path = np.empty(days + 1)
    columns = slopes.shape[1] + len(specification.variance_parameters) + own.shape[1]
    sensitivity = np.empty((days + 1, columns))
    score, information, daily = np.zeros(size), np.zeros((size, size)), np.zeros((days, size))
    value = likelihood(
        specification.layout, cut, slopes, own, observed, theta, backcast, initial, path, sensitivity,
        score, information, daily,
    )  # fmt: skip
    return value, score, information, daily, path


@pytest.mark.parametrize("specification", members(), ids=lambda one: one.name)
def test_likelihood_and_variances_equal_the_plain_reference(specification: Specification) -> None:
    returns = jumpy_returns(DAYS)[0]
    terms, measure = exogenous(returns)
    parameters = values(specification)
    value, _, _, _, path = evaluated(specification, vector(specification))
    ahead = np.column_stack([np.ones(DAYS - 2), returns[1:-1], returns[:-2]])
    least_squares = np.linalg.lstsq(ahead, returns[2:], rcond=None)[0]
    initial = reference.backcast(returns[2:] - ahead @ least_squares)
    own_terms = terms if specification.terms else None
    expected = reference.log_likelihood(
        specification, parameters, returns, initial, own_terms, measure
    )
    assert value == pytest.approx(expected, rel=1e-11)
    departures = reference.residuals(specification, parameters, returns)
    rows = None if own_terms is None else own_terms[2:]
    plain = reference.variances(specification, parameters, departures, initial, rows, measure[2:])
    np.testing.assert_allclose(np.exp(path), plain, rtol=1e-10)


@pytest.mark.parametrize("specification", members(), ids=lambda one: one.name)
def test_the_score_is_the_derivative_of_the_likelihood(specification: Specification) -> None:
    theta = vector(specification)
    _, score, information, daily, _ = evaluated(specification, theta)
    np.testing.assert_allclose(daily.sum(axis=0), score, rtol=1e-9, atol=1e-9)
    for place in range(len(theta)):
        step = 1e-6 * max(abs(theta[place]), 0.05)
        moved = [theta.copy(), theta.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        difference = (
            evaluated(specification, moved[0])[0] - evaluated(specification, moved[1])[0]
        ) / (2 * step)
        tolerance = 1e-5 * (abs(score[place]) + np.sqrt(information[place, place]))
        assert difference == pytest.approx(score[place], abs=tolerance), specification.parameters[
            place
        ]


@pytest.mark.parametrize("variance", ["garch", "gjr"])
def test_the_score_follows_a_backcast_that_moves_with_the_mean(variance: Any) -> None:
    specification = Specification(variance, "normal", "ar", 1)
    theta = vector(specification)
    score = evaluated(specification, theta, initial=1)[1]
    for place in range(2):
        moved = [theta.copy(), theta.copy()]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        difference = (
            evaluated(specification, moved[0], 1)[0] - evaluated(specification, moved[1], 1)[0]
        ) / 2e-6
        assert difference == pytest.approx(score[place], rel=1e-5)


@pytest.mark.parametrize("specification", members(), ids=lambda one: one.name)
def test_the_information_is_symmetric_and_positive(specification: Specification) -> None:
    information = evaluated(specification, vector(specification))[2]
    np.testing.assert_array_equal(information, information.T)
    scale = np.sqrt(np.diag(information))
    assert np.linalg.eigvalsh(information / np.outer(scale, scale)).min() > 0


@settings(max_examples=25, deadline=None)
@given(nu=st.floats(2.2, 60.0), skew=st.floats(-0.8, 0.8))
def test_densities_have_mass_one_mean_zero_and_variance_one(nu: float, skew: float) -> None:
    fixed, slopes, shape = np.zeros(densities.CONSTANTS), np.zeros(3), np.array([nu, skew])
    densities.constants(densities.SKEWED, shape, fixed)
    mode = -fixed[2] / fixed[5]

    def moment(power: int) -> float:
        def integrand(z: float) -> float:
            return float(
                z**power * np.exp(densities.log_density(densities.SKEWED, shape, fixed, z, slopes))
            )

        left = integrate.quad(integrand, -np.inf, mode, limit=200)[0]
        return float(left + integrate.quad(integrand, mode, np.inf, limit=200)[0])

    assert moment(0) == pytest.approx(1.0, abs=1e-7)
    assert moment(1) == pytest.approx(0.0, abs=1e-5)
    if nu > 2.6:  # below, the integral over the tail converges too slowly for quad
        assert moment(2) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("nu", [2.5, 4.0, 30.0])
def test_a_skewed_t_without_skew_is_the_student_t_and_its_information_too(nu: float) -> None:
    fixed, plain, slopes = np.zeros(densities.CONSTANTS), np.zeros(densities.CONSTANTS), np.zeros(3)
    skewed, student = np.array([nu, 0.0]), np.array([nu])
    densities.constants(densities.SKEWED, skewed, fixed)
    densities.constants(densities.STUDENT, student, plain)
    for z in (-6.0, -0.4, 0.0, 2.5):
        expected = stats.t.logpdf(z, nu, scale=np.sqrt((nu - 2) / nu))
        assert densities.log_density(densities.SKEWED, skewed, fixed, z, slopes) == pytest.approx(
            expected
        )
        assert densities.log_density(densities.STUDENT, student, plain, z, slopes) == pytest.approx(
            expected
        )
    by_quadrature, closed = np.zeros((4, 4)), np.zeros((4, 4))
    densities.expected_information(densities.SKEWED, skewed, fixed, by_quadrature)
    densities.expected_information(densities.STUDENT, student, plain, closed)
    np.testing.assert_allclose(by_quadrature[:3, :3], closed[:3, :3], atol=1e-6)


@pytest.mark.parametrize("x", [0.05, 0.7, 1.5, 7.99, 8.0, 40.0, 251.0])
def test_digamma_and_trigamma_equal_scipy(x: float) -> None:
    assert special.digamma(x) == pytest.approx(psi(x), rel=1e-11, abs=1e-12)
    assert special.trigamma(x) == pytest.approx(polygamma(1, x), rel=1e-11)


@kernel
def lanes_at_work(values_: Any, found: Any) -> None:
    x, y = load(values_, 0), load(values_, LANES)
    store(found, 0, (x + y * x - splat(2.0)) / y)
    store(found, LANES, where_negative(x, splat(-1.0), y))
    store(found, 2 * LANES, exponent(y) + mantissa(y))


def test_lanes_compute_elementwise() -> None:
    x, y = np.linspace(-3, 4, LANES), np.geomspace(0.01, 900, LANES)
    found = np.zeros(3 * LANES)
    lanes_at_work(np.concatenate([x, y]), found)
    np.testing.assert_allclose(found[:LANES], (x + y * x - 2) / y, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(found[LANES : 2 * LANES], np.where(x < 0, -1, y))
    half, power = np.frexp(y)
    np.testing.assert_array_equal(found[2 * LANES :], (power - 1) + 2 * half)
