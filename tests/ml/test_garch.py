"""The GARCH family against arch, and what happens when a fit does not converge."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from arch import arch_model

from ml import models
from ml.baselines.ewma import DECAY, ewma_variance
from ml.forecasts import HORIZONS
from ml.garch import estimation, recursions
from ml.garch.estimation import CONVERGED, GarchFit, expected_gain, fit_garch
from ml.panel import Panel

SPECIFICATIONS: tuple[estimation.Specification, ...] = ("garch_t", "gjr_t", "egarch_t")
ARCH: dict[str, dict[str, Any]] = {
    "garch_t": {"vol": "GARCH", "p": 1, "o": 0, "q": 1},
    "gjr_t": {"vol": "GARCH", "p": 1, "o": 1, "q": 1},
    "egarch_t": {"vol": "EGARCH", "p": 1, "o": 1, "q": 1},
}
TRUE = {
    "garch_t": np.array([0.1, 0.6, 0.1, 0.0, 0.86, 5.0]),
    "gjr_t": np.array([0.1, 0.5, 0.05, 0.09, 0.86, 5.0]),
    "egarch_t": np.array([0.1, 0.08, 0.18, -0.07, 0.97, 5.0]),
}


def simulate(specification: str, days: int = 1500, seed: int = 3) -> Any:
    """A plain simulation of each recursion, day by day."""
    mu, omega, alpha, gamma, beta, nu = TRUE[specification]
    generator = np.random.default_rng(seed)
    z = generator.standard_t(nu, days) * np.sqrt((nu - 2) / nu)
    returns, variance = np.empty(days), 12.0
    for day in range(days):
        shock = np.sqrt(variance) * z[day]
        returns[day] = mu + shock
        if specification == "egarch_t":
            log_variance = omega + beta * np.log(variance)
            log_variance += alpha * (abs(z[day]) - np.sqrt(2 / np.pi)) + gamma * z[day]
            variance = np.exp(log_variance)
        else:
            variance = omega + (alpha + gamma * (shock < 0)) * shock**2 + beta * variance
    return returns


def reference(returns: Any, specification: str) -> Any:
    return arch_model(returns, mean="Constant", dist="t", rescale=False, **ARCH[specification])


def arch_parameters(fit: GarchFit) -> Any:
    kept = [place for place in range(6) if fit.specification != "garch_t" or place != 3]
    return fit.parameters[kept]


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_filter_and_likelihood_equal_arch(specification: estimation.Specification) -> None:
    returns = simulate(specification)
    fit = fit_garch(returns, specification)
    assert fit.verdict == CONVERGED
    fixed = reference(returns, specification).fix(arch_parameters(fit))
    exponential = specification == "egarch_t"
    lane = fit.parameters[:, None]
    first = recursions.first_variance(lane, np.array([fit.backcast]), exponential)
    variance = recursions.filter_variance(returns[:, None], lane, first, exponential)
    np.testing.assert_allclose(np.sqrt(variance[:-1, 0]), fixed.conditional_volatility, rtol=1e-9)
    own = recursions.log_likelihoods(returns, lane, fit.backcast, exponential).sum()
    assert own == pytest.approx(fixed.loglikelihood, abs=1e-8)
    assert own == pytest.approx(fit.log_likelihood, abs=1e-8)


@pytest.mark.parametrize("specification", ["garch_t", "gjr_t"])
def test_forecasts_equal_arch(specification: estimation.Specification) -> None:
    returns = simulate(specification)
    fit = fit_garch(returns, specification)
    result = reference(returns, specification).fix(arch_parameters(fit))
    daily = result.forecast(horizon=22, reindex=False).variance.to_numpy()[0]
    lane = fit.parameters[:, None]
    variance = filtered(returns, fit)
    own = recursions.mean_variance(variance[-1:], lane, HORIZONS)[0, 0]
    np.testing.assert_allclose(own, [daily[:h].mean() for h in HORIZONS], rtol=1e-9)


def test_egarch_forecasts_equal_a_plain_simulation_and_that_of_arch() -> None:
    returns = simulate("egarch_t")
    fit = fit_garch(returns, "egarch_t")
    variance = filtered(returns, fit)[:, 0]
    innovations = (returns - fit.parameters[0]) / np.sqrt(variance[:-1])
    own = recursions.mean_variance_exponential(
        variance[None, -1:],
        fit.parameters[:, None],
        recursions.shock_factors(fit.parameters, innovations, 22)[None],
        HORIZONS,
    )[0, 0]
    _, omega, alpha, gamma, beta, _ = fit.parameters
    generator = np.random.default_rng(0)
    logs = np.full(400_000, np.log(variance[-1]))
    daily = [np.exp(logs).mean()]
    for _ in range(21):
        z = generator.choice(innovations, len(logs))
        logs = omega + alpha * (np.abs(z) - np.sqrt(2 / np.pi)) + gamma * z + beta * logs
        daily.append(np.exp(logs).mean())
    np.testing.assert_allclose(own, [np.mean(daily[:h]) for h in HORIZONS], rtol=0.005)
    result = reference(returns, "egarch_t").fix(arch_parameters(fit))
    simulated = result.forecast(
        horizon=22,
        method="bootstrap",
        simulations=20_000,
        reindex=False,
        random_state=np.random.RandomState(1),
    ).variance.to_numpy()[0]
    np.testing.assert_allclose(own, [simulated[:h].mean() for h in HORIZONS], rtol=0.02)


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_no_start_finds_a_higher_likelihood_and_away_from_the_maximum_nothing_passes(
    specification: estimation.Specification,
) -> None:
    returns = simulate(specification)
    fit = fit_garch(returns, specification)
    assert fit.expected_gain < 1e-4
    for start in estimation._STARTS:
        other = estimation._attempt(returns, specification, start, 2)
        assert other.log_likelihood < fit.log_likelihood + 0.01
    shifted = fit.parameters.copy()
    shifted[4] -= 0.05
    assert (
        expected_gain(returns, shifted, specification, fit.backcast) > estimation.MAX_EXPECTED_GAIN
    )


def test_an_integrated_garch_on_its_bound_counts_as_converged() -> None:
    generator = np.random.default_rng(8)
    returns = np.empty(1200)
    variance = 4.0
    for day in range(1200):
        shock = np.sqrt(variance) * generator.standard_t(4) / np.sqrt(2)
        returns[day] = shock
        variance = 0.4 + 0.35 * shock**2 + 0.65 * variance
    fit = fit_garch(returns, "garch_t")
    assert fit.parameters[2] + fit.parameters[4] == pytest.approx(1.0, abs=1e-3)
    assert fit.verdict == CONVERGED


def test_missing_days_are_passed_over() -> None:
    returns = simulate("gjr_t", 400)
    with_gaps = np.insert(returns, [100, 250, 250], np.nan)
    lane = TRUE["gjr_t"][:, None]
    first = np.array([10.0])
    whole = recursions.filter_variance(returns[:, None], lane, first, False)
    gappy = recursions.filter_variance(with_gaps[:, None], lane, first, False)
    np.testing.assert_array_equal(np.delete(gappy[:, 0], [101, 252, 253]), whole[:, 0])


def not_converging(*broken: str) -> Any:
    """`fit_garch`, with a verdict against some specifications."""

    def fit(returns: Any, specification: estimation.Specification) -> GarchFit:
        found = fit_garch(returns, specification)
        if specification in broken:
            return GarchFit(**{**vars(found), "verdict": "optimiser ended with flag 4"})
        return found

    return fit


def test_a_fit_that_does_not_converge_falls_back_and_says_so(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = date(2022, 4, 1)
    days = [trained, date(2022, 4, 5)]
    simpler = models.create("garch_t")
    simpler.fit(panel, trained, {"window_days": 400}, seed=0)
    monkeypatch.setattr("ml.garch.model.fit_garch", not_converging("egarch_t"))
    fallen = models.create("egarch_t")
    fallen.fit(panel, trained, {"window_days": 400}, seed=0)
    forecasts = fallen.forecast(panel, days)
    np.testing.assert_array_equal(forecasts.variance, simpler.forecast(panel, days).variance)
    assert set(forecasts.status[:, :3].ravel()) == {
        "fallback: garch_t (no convergence: egarch_t: optimiser ended with flag 4)"
    }
    monkeypatch.setattr("ml.garch.model.fit_garch", not_converging("egarch_t", "garch_t"))
    last = models.create("egarch_t")
    last.fit(panel, trained, {"window_days": 400}, seed=0)
    forecasts = last.forecast(panel, days)
    ewma, _ = ewma_variance(panel, panel.rows(days), DECAY)
    np.testing.assert_array_equal(forecasts.variance[:, :3, 2], ewma[:, :3])
    assert forecasts.status[0, 0].startswith("fallback: ewma (no convergence: egarch_t: optimiser")
    assert len(forecasts.to_frame()) == 2 * 3 * 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nu": 2.05}, "nu 2.0500: at most 2.05"),
        ({"beta": 0.99}, "persistence 1.090000: above 1.0"),
        ({"omega": 0.0}, "omega 0: not positive"),
        ({"mu": np.nan}, "not finite"),
    ],
)
def test_the_verdict_names_what_is_wrong(change: dict[str, float], expected: str) -> None:
    parameters = TRUE["garch_t"].copy()
    for name, value in change.items():
        parameters[recursions.PARAMETERS.index(name)] = value
    assert expected in estimation._verdict(0, parameters, "garch_t", -1000.0, 0.0)
    assert estimation._verdict(0, TRUE["garch_t"], "garch_t", -1000.0, 0.0) == CONVERGED
    assert "flag 9" in estimation._verdict(9, TRUE["garch_t"], "garch_t", -1000.0, 0.0)
    assert "gain 3" in estimation._verdict(0, TRUE["garch_t"], "garch_t", -1000.0, 3.0)
    unstable = TRUE["egarch_t"] * np.array([1, 1, 1, 1, 1.04, 1])
    assert "beta 1.008800" in estimation._verdict(0, unstable, "egarch_t", -1000.0, 0.0)


def test_forecasts_within_the_window_and_after_it_join(panel: Panel) -> None:
    model = models.create("gjr_t")
    model.fit(panel, date(2022, 4, 1), {"window_days": 400}, seed=0)
    days = [date(2022, 3, 31), date(2022, 4, 1), date(2022, 4, 2)]
    together = model.forecast(panel, days)
    for position, day in enumerate(days):
        np.testing.assert_array_equal(
            model.forecast(panel.until(day), [day]).variance[0], together.variance[position]
        )
    with pytest.raises(
        ValueError, match="cannot forecast 2022-03-31 from a panel that starts 2022-03-"
    ):
        model.forecast(panel.until(date(2022, 4, 2)).window(5), days[:1])


def test_nearly_constant_returns_do_not_break_a_fit() -> None:
    returns = np.where(np.random.default_rng(0).random(400) < 0.02, 1e-4, 0.0)
    fit = fit_garch(returns, "garch_t")
    assert fit.verdict  # whatever it says, it ends with a verdict and not an exception


def filtered(returns: Any, fit: GarchFit) -> Any:
    exponential = fit.specification == "egarch_t"
    lane = fit.parameters[:, None]
    first = recursions.first_variance(lane, np.array([fit.backcast]), exponential)
    return recursions.filter_variance(returns[:, None], lane, first, exponential)
