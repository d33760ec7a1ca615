"""The skewed t against arch's, its polynomial quantiles against exact ones, and its fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arch.univariate import SkewStudent

from ml.attention.tails import (
    LEAST_DEGREES,
    MOST_SKEW,
    NORMAL,
    OUTER_LEVELS,
    QUANTILE_ACCURACY,
    fit_tails,
    moved,
    negative_log_likelihood,
    outer_quantiles,
    splice,
    standardised_quantile,
)

SHAPES = [(2.5, 0.0), (3.0, -0.6), (6.0, 0.3), (40.0, 0.75), (8.0, -0.1)]


def tails(nu: float, skew: float, location: float = 0.0, log_scale: float = 0.0) -> torch.Tensor:
    return torch.tensor([location, log_scale, nu, skew], dtype=torch.float64)


@pytest.mark.parametrize(("nu", "skew"), SHAPES)
def test_the_likelihood_is_archs(nu: float, skew: float) -> None:
    errors = np.linspace(-4, 4, 81)
    ours = -negative_log_likelihood(torch.from_numpy(errors), tails(nu, skew, 0.2, -0.7))
    residuals, variance = errors - 0.2, np.full(81, math.exp(-1.4))
    theirs = SkewStudent().loglikelihood(np.array([nu, skew]), residuals, variance, individual=True)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("nu", "skew"), SHAPES)
def test_the_exact_quantiles_are_archs(nu: float, skew: float) -> None:
    theirs = SkewStudent().ppf(np.array(OUTER_LEVELS), np.array([nu, skew]))
    ours = [standardised_quantile(u, np.array(nu), np.array(skew)) for u in OUTER_LEVELS]
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_the_polynomial_quantiles_are_exact_to_the_stated_accuracy_everywhere() -> None:
    random = np.random.default_rng(0)
    inverse = random.uniform(1e-4, 1 / LEAST_DEGREES, 5000)
    skew = random.uniform(-MOST_SKEW, MOST_SKEW, 5000)
    inverse[:500], skew[500:1000], skew[1000:1500] = 1 / LEAST_DEGREES, MOST_SKEW, -MOST_SKEW
    nu = 1 / inverse
    given = np.stack([np.zeros(5000), np.zeros(5000), nu, skew], axis=1)
    exact = np.stack([standardised_quantile(u, nu, skew) for u in OUTER_LEVELS], axis=1)
    double = outer_quantiles(torch.from_numpy(given)).numpy()
    assert np.abs(double - exact).max() < QUANTILE_ACCURACY
    single = outer_quantiles(torch.from_numpy(given).float()).numpy()
    assert np.abs(single - exact).max() < 1e-5
    assert (np.diff(double, axis=1) > 0).all()


def test_location_and_scale_move_and_stretch_the_quantiles() -> None:
    standard = outer_quantiles(tails(5.0, 0.2))
    torch.testing.assert_close(
        outer_quantiles(tails(5.0, 0.2, 0.3, -0.5)), 0.3 + math.exp(-0.5) * standard
    )


def test_the_fit_finds_the_distribution_that_errors_came_from() -> None:
    random = np.random.default_rng(1)
    draw = SkewStudent(seed=random).simulate(np.array([5.0, 0.3]))(20_000)
    errors = np.concatenate([0.1 + 0.5 * draw, [np.nan] * 10])
    location, log_scale, nu, skew = fit_tails(errors)
    assert location == pytest.approx(0.1, abs=0.02)
    assert math.exp(log_scale) == pytest.approx(0.5, rel=0.05)
    assert nu == pytest.approx(5.0, rel=0.15)
    assert skew == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(fit_tails(errors), [location, log_scale, nu, skew])


def test_too_few_or_constant_errors_give_nearly_normal_tails() -> None:
    assert fit_tails(np.full(50, 0.3)).tolist() == list(NORMAL)
    assert fit_tails(np.zeros(500)).tolist() == list(NORMAL)


def test_the_likelihood_has_finite_gradients_at_the_ends_of_its_range() -> None:
    for nu, skew in ((LEAST_DEGREES, MOST_SKEW), (450.0, -MOST_SKEW), (LEAST_DEGREES, 0.0)):
        given = tails(nu, skew).float().requires_grad_()
        negative_log_likelihood(torch.tensor([-30.0, 0.0, 1e-6, 30.0]), given).sum().backward()
        assert given.grad is not None
        assert torch.isfinite(given.grad).all()


def test_moved_tails_start_at_the_base_and_stay_in_their_range() -> None:
    base = torch.tensor([[0.1, -0.6, 2.15, 0.7], [0.0, -1.0, 50.0, -0.7]], dtype=torch.float64)
    torch.testing.assert_close(moved(base, torch.zeros(3, 2, 4).double()), base.expand(3, 2, 4))
    far = moved(base, 1e3 * torch.randn(200, 2, 4, dtype=torch.float64))
    assert (far[..., 2] >= LEAST_DEGREES).all()
    assert (far[..., 3].abs() <= MOST_SKEW + 1e-12).all()
    assert ((far - base)[..., :2].abs() <= 1 + 1e-12).all()


def test_spliced_quantiles_keep_the_inner_ones_and_rise() -> None:
    inner = torch.linspace(-1, 1, 11, dtype=torch.float64).expand(4, 11)
    outer = torch.tensor(
        [
            [-3.0, -2.0, 2.0, 3.0],
            [-0.1, 0.0, 0.1, 0.2],
            [-3.0, 0.0, 0.1, 3.0],
            [-9.0, -8.0, -7.0, -6.0],
        ],
        dtype=torch.float64,
    )
    spliced = splice(inner, outer)
    torch.testing.assert_close(spliced[:, 2:-2], inner[:, 2:-2])
    torch.testing.assert_close(spliced[0, [0, 1, -2, -1]], outer[0])
    assert (spliced.diff(dim=-1) >= 0).all()
