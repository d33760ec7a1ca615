"""Generalised Pareto tails: against scipy, closed forms, and the promised share of intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, expon, genpareto
from scipy.stats import t as student

from ml.tails.peaks import PROBABILITIES, fit_pareto, maximum_likelihood


@pytest.mark.parametrize("shape", [-0.25, 0.0, 0.2, 0.5])
def test_the_maximum_is_scipys(shape: float) -> None:
    peaks = genpareto.rvs(shape, scale=0.7, size=120, random_state=np.random.default_rng(3))
    ours = maximum_likelihood(peaks)
    theirs, _, scale = genpareto.fit(peaks, floc=0)
    assert genpareto.logpdf(peaks, ours[0], scale=ours[1]).sum() >= (
        genpareto.logpdf(peaks, theirs, scale=scale).sum() - 1e-6
    )
    assert ours == pytest.approx((theirs, scale), abs=2e-3)


def test_quantiles_are_those_of_the_fitted_distribution() -> None:
    losses = np.sort(student.rvs(4, size=1500, random_state=np.random.default_rng(1)))[::-1][:76]
    fit = fit_pareto(losses, 1500, 1)
    assert (fit.exceedances, fit.threshold) == (75, losses[-1])
    expected = fit.threshold + genpareto.isf(
        np.array(PROBABILITIES) / (75 / 1500), fit.shape, scale=fit.scale
    )
    assert fit.quantiles == pytest.approx(expected, rel=1e-9)
    assert fit.quantiles[0] > fit.quantiles[1] > fit.quantiles[2] > fit.threshold
    for low, middle, high in zip(fit.low, fit.quantiles, fit.high, strict=True):
        assert low <= middle <= high


def test_an_exponential_tail_has_its_own_quantile() -> None:
    exact = expon.isf((np.arange(2000) + 0.5) / 2000)  # the exponential's own quantiles as sample
    fit = fit_pareto(exact[:101], 2000, 1)
    assert fit.shape == pytest.approx(0.0, abs=0.05)
    assert fit.quantiles == pytest.approx(expon.isf(PROBABILITIES), rel=0.02)


def test_intervals_hold_about_as_often_as_they_promise() -> None:
    """400 samples of Student t of 4 degrees: 95 % within 2.3 standard errors. Without the error of zeta the last is near 90 %."""
    chance = np.random.default_rng(9)
    truth = student.isf(PROBABILITIES, 4)
    held = np.zeros(3)
    for _ in range(400):
        fit = fit_pareto(
            np.sort(student.rvs(4, size=1500, random_state=chance))[::-1][:76], 1500, 1
        )
        held += [
            low <= true <= high for low, true, high in zip(fit.low, truth, fit.high, strict=True)
        ]
    assert (held >= 370).all()
    assert (held <= 390).all()


@pytest.mark.parametrize("horizon", [1, 22])
def test_the_interval_is_scipys_constrained_optimum_over_shape_scale_and_zeta(horizon: int) -> None:
    losses = np.sort(student.rvs(4, size=1500, random_state=np.random.default_rng(1)))[::-1][:76]
    fit, peaks = fit_pareto(losses, 1500, horizon), losses[:-1] - losses[-1]

    def likelihood(at: np.ndarray) -> float:
        shape, log_scale, zeta = at
        exceeding = genpareto.logpdf(peaks, shape, scale=np.exp(log_scale)).sum()
        return float(exceeding + binom.logpmf(75, 1500, zeta))

    best = np.array([fit.shape, np.log(fit.scale), 75 / 1500])
    allowed = likelihood(best) - 0.5 * 3.841458820694124 * horizon
    for place, p in ((1, 0.005), (2, 0.01)):
        for side, ours in ((1, fit.low[place]), (-1, fit.high[place])):
            found = minimize(
                lambda at, side=side, p=p: side * genpareto.isf(p / at[2], at[0], losses[-1], np.exp(at[1])),
                best,
                method="SLSQP",
                bounds=[(-0.5, 0.95), (-5, 5), (0.0101, 0.3)],
                constraints={"type": "ineq", "fun": lambda at: likelihood(at) - allowed},
            )  # fmt: skip
            assert found.success
            assert ours == pytest.approx(side * found.fun, rel=5e-3)


def test_overlapping_horizons_widen_the_interval_and_nothing_else() -> None:
    losses = np.sort(student.rvs(5, size=1500, random_state=np.random.default_rng(4)))[::-1][:76]
    day, week = fit_pareto(losses, 1500, 1), fit_pareto(losses, 1500, 5)
    assert week.quantiles == day.quantiles
    assert week.independent == 15.0
    assert week.low[0] < day.low[0]
    assert week.high[0] > day.high[0]


@pytest.mark.parametrize(
    ("losses", "observations", "message"),
    [
        ([3.0, 2.0, 1.0], 60, "2 exceedances"),
        ([*range(20, 0, -1)], 10, "of 10 returns"),
        ([*range(1, 20)], 400, "largest first"),
        ([np.inf, *range(20, 0, -1)], 400, "finite"),
        ([1.0] * 20, 400, "differ"),
    ],
)
def test_bad_input_is_named(losses, observations, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_pareto(losses, observations, 1)
