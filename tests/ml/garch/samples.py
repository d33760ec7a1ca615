"""Made-up returns and example parameters that the tests of the family share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.garch.specification import Density, Mean, Specification, Variance

DENSITIES: tuple[Density, ...] = ("normal", "t", "skewt")
VARIANCE_VALUES: dict[Variance, dict[str, float]] = {
    "garch": {"omega": 0.4, "alpha": 0.1, "beta": 0.86},
    "gjr": {"omega": 0.4, "alpha": 0.05, "gamma": 0.08, "beta": 0.87},
    "egarch": {"omega": 0.1, "alpha": 0.18, "gamma": -0.07, "beta": 0.95},
    "aparch": {"omega": 0.15, "alpha": 0.1, "gamma": 0.2, "beta": 0.86, "delta": 1.4},
    "figarch": {"omega": 0.5, "phi": 0.1, "d": 0.4, "beta": 0.3},
    "component": {"omega": 0.1, "rho": 0.99, "phi": 0.03, "alpha": 0.08, "beta": 0.8},
    "realized": {"omega": 0.2, "beta": 0.55, "gamma": 0.4},
}
OTHER_VALUES = {
    "mu": 0.1, "ar1": 0.04, "ar2": -0.06, "pi_a": 0.03, "pi_b": 0.05, "nu": 5.0, "lambda": -0.12,
    "xi": -0.3, "phi_u": 0.95, "tau1": -0.06, "tau2": 0.08, "sigma_u": 0.5,
}  # fmt: skip


def member(
    variance: Variance, density: Density = "t", mean: Mean = "constant", terms: tuple[str, ...] = ()
) -> Specification:
    return Specification(variance, density, mean, 2 if mean == "ar" else 0, terms)


def members() -> list[Specification]:
    """Every variance with every density, around an AR(2), with exogenous terms where the member takes them."""
    return [
        member(
            variance,
            density,
            "ar",
            ("a", "b") if variance in ("garch", "gjr", "egarch", "realized") else (),
        )
        for variance in VARIANCE_VALUES
        for density in DENSITIES
    ]


def values(specification: Specification) -> dict[str, float]:
    """Example parameters by name, in the member's order."""
    known = {**OTHER_VALUES, **VARIANCE_VALUES[specification.variance]}
    return {name: known[name] for name in specification.parameters}


def vector(specification: Specification) -> Any:
    return np.array(list(values(specification).values()))


def jumpy_returns(
    days: int = 1500, seed: int = 3, coins: int = 1, persistence: float = 0.98
) -> list[Any]:
    """Percent returns of GJR-t processes, simulated day by day."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(coins):
        nu, alpha, gamma = (
            generator.uniform(3.5, 7),
            generator.uniform(0.05, 0.12),
            generator.uniform(0, 0.06),
        )
        beta = persistence - alpha - gamma / 2
        z = generator.standard_t(nu, days) * np.sqrt((nu - 2) / nu)
        returns, variance = np.empty(days), 12.0
        for day in range(days):
            shock = np.sqrt(variance) * z[day]
            returns[day] = 0.1 + shock
            variance = (
                12 * (1 - persistence) + (alpha + gamma * (shock < 0)) * shock**2 + beta * variance
            )
        found.append(returns)
    return found


def exogenous(returns: Any, seed: int = 5) -> tuple[Any, Any]:
    """(n, 2) non-negative terms and (n,) a positive realised measure: a noisy reading of the days' own variance."""
    generator = np.random.default_rng(seed)
    level = np.empty(len(returns))
    level[0] = returns.var()
    for day in range(1, len(returns)):
        level[day] = 0.5 + 0.85 * level[day - 1] + 0.12 * returns[day] ** 2
    return generator.random((len(returns), 2)), level * np.exp(
        generator.normal(-0.2, 0.4, len(returns))
    )
