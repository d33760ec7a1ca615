"""Advised leverage of a position, and which limit it is that binds.

In: a forecast volatility, its uncertainty, the expected shortfall of one unit of the position, a policy.
Out: a leverage and a sentence. Never: an order, a leverage without a reason, or one above any limit of the policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LeveragePolicy:
    """What the desk allows."""

    target_volatility: float = 0.40
    """Annualised volatility of the leveraged position to aim at, a fraction."""
    max_leverage: float = 3.0
    """Never more than this, however calm the market."""
    es_budget: float = 0.10
    """Most of the capital that the expected shortfall at 97.5 % over the horizon may take, a fraction."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} {value}: expected a positive number")


@dataclass(frozen=True)
class LeverageAdvice:
    """A leverage and why it is not higher."""

    leverage: float
    binding: str  # 'volatility_target', 'max_leverage' or 'es_budget'
    reason: str


def advise(
    volatility: float,
    uncertainty: float,
    expected_shortfall: float,
    policy: LeveragePolicy | None = None,
) -> LeverageAdvice:
    """The smallest of three limits: target / forecast volatility * (1 - uncertainty); max_leverage; es_budget / ES.

    `volatility` is the annualised forecast, `expected_shortfall` that of one unit of the position at 97.5 % over the
    horizon, both positive fractions; `uncertainty` lies in [0, 1]. Raises ValueError otherwise.
    Source of volatility targeting: Moreira and Muir (2017), "Volatility-managed portfolios", Journal of Finance 72.
    """
    rules = policy or LeveragePolicy()
    for name, value in (("volatility", volatility), ("expected_shortfall", expected_shortfall)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} {value}: expected a positive fraction")
    if not 0.0 <= uncertainty <= 1.0:
        raise ValueError(f"uncertainty {uncertainty}: expected a number from 0 to 1")
    limits = {
        "volatility_target": rules.target_volatility / volatility * (1.0 - uncertainty),
        "max_leverage": rules.max_leverage,
        "es_budget": rules.es_budget / expected_shortfall,
    }
    binding = min(limits, key=lambda name: limits[name])
    leverage = limits[binding]
    reasons = {
        "volatility_target": (
            f"volatility target {rules.target_volatility:.0%} / forecast {volatility:.1%} "
            f"× (1 - uncertainty {uncertainty:.2f}) = {leverage:.2f}"
        ),
        "max_leverage": (
            f"maximum leverage {rules.max_leverage:.2f}; the volatility target alone would allow "
            f"{limits['volatility_target']:.2f}"
        ),
        "es_budget": (
            f"expected shortfall budget {rules.es_budget:.0%} / ES 97.5 % of {expected_shortfall:.1%} = {leverage:.2f}; "
            f"the volatility target alone would allow {limits['volatility_target']:.2f}"
        ),
    }
    return LeverageAdvice(leverage, binding, reasons[binding])
