"""HEAVY against arch and against simulated markets whose parameters are known."""

from __future__ import annotations

import numpy as np
import pytest
from arch import arch_model

from ml.baselines.heavy import fit_equation, quasi_likelihood
from ml.models import create
from ml.panel import Panel


def simulated(days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Realised variance and returns of HEAVY with alpha_R 0.4, beta_R 0.5 and alpha 0.3, beta 0.6, both of mean 1."""
    generator = np.random.default_rng(seed)
    variance, returns = np.empty(days), np.empty(days)
    mu = h = 1.0
    for day in range(days):
        variance[day] = mu * generator.gamma(6, 1 / 6)
        returns[day] = np.sqrt(h) * generator.standard_normal()
        mu, h = 0.1 + 0.4 * variance[day] + 0.5 * mu, 0.1 + 0.3 * variance[day] + 0.6 * h
    return 4e-4 * variance, 0.02 * returns


def test_the_equation_of_realised_variance_is_the_garch_of_its_root_that_arch_fits() -> None:
    """The same quasi-likelihood: log s + RV/s is that of a zero-mean GARCH(1,1) on sqrt(RV); ours has its mean given."""
    variance, _ = simulated(3000, 0)
    ours = fit_equation(variance, variance)
    root = 100 * np.sqrt(variance)
    theirs = arch_model(root, mean="Zero", p=1, q=1, rescale=False).fit(disp="off").params
    assert ours[1] == pytest.approx(theirs["alpha[1]"], abs=0.01)
    assert ours[2] == pytest.approx(theirs["beta[1]"], abs=0.01)
    assert ours[0] * 1e4 == pytest.approx(theirs["omega"], rel=0.05)
    arch_value = quasi_likelihood(
        variance, variance, theirs["omega"] / 1e4, theirs["alpha[1]"], theirs["beta[1]"]
    )
    assert quasi_likelihood(variance, variance, *ours) <= arch_value + 1e-4
    assert ours[0] / (1 - ours[1] - ours[2]) == pytest.approx(variance.mean())


def test_both_equations_are_found_again() -> None:
    found = []
    for seed in range(5):
        variance, returns = simulated(2500, seed)
        found.append([fit_equation(variance, variance), fit_equation(returns**2, variance)])
    mean = np.mean(found, axis=0)
    np.testing.assert_allclose(mean[0, 1:], [0.4, 0.5], atol=0.04)
    np.testing.assert_allclose(mean[1, 1:], [0.3, 0.6], atol=0.08)


@pytest.mark.parametrize("target", ["realized", "returns"])
def test_forecasts_follow_the_recursion_day_by_day(panel: Panel, target: str) -> None:
    trained = panel.days[450].item()
    model = create("heavy")
    model.fit(panel, trained, {"window_days": 400, "target": target}, seed=0)
    (omega_r, alpha_r, beta_r), (omega, alpha, beta) = model.state().tensors["parameters"][0]
    values = panel.realized_variance()[:451, 0]
    mu = omega_r / (1 - alpha_r - beta_r)
    h, last = (omega + alpha * mu) / (1 - beta), mu
    for value in values[-250:]:
        last = value if np.isfinite(value) else last
        mu, h = omega_r + alpha_r * last + beta_r * mu, omega + alpha * last + beta * h
    path = []
    for _ in range(22):
        path.append(mu if target == "realized" else h)
        mu, h = omega_r + (alpha_r + beta_r) * mu, omega + alpha * mu + beta * h
    expected = [np.mean(path[:k]) for k in (1, 5, 22)]
    np.testing.assert_allclose(model.forecast(panel, [trained]).variance[0, 0], expected, rtol=1e-9)


def test_an_unknown_target_is_quoted(panel: Panel) -> None:
    with pytest.raises(ValueError, match="target 'rv': expected one of realized, returns"):
        create("heavy").fit(panel, panel.days[450].item(), {"target": "rv"}, seed=0)
