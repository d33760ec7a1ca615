"""Target leverage of a long position, and which limit it is that binds.

In: a forecast volatility, its uncertainty, the expected shortfall of one unit of the position, a policy.
Out: a leverage, the hard limit above which none may be, and a reason with the figures. Never: an order, a leverage
without a reason, or one above any limit of the policy. What is advised from day to day is `ml.risk.leverage_path`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LeveragePolicy:
    """What the desk allows."""

    target_volatility: float = 0.20
    """Annualised volatility of the leveraged position to aim at, a fraction."""
    max_leverage: float = 3.0
    """Never more than this, however calm the market."""
    es_budget: float = 0.10
    """Most of the capital that the expected shortfall at 97.5 % over the horizon may take, a fraction."""
    band: float = 0.20
    """No trade while the target lies within this fraction of the last advice; 0 switches it off."""
    max_change: float = 0.10
    """Most that leverage may rise in a day, in units of leverage (0.10 = a tenth of the capital is bought)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "band" and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} {value}: expected a positive number")
        if not 0.0 <= self.band < 1.0:
            raise ValueError(f"band {self.band}: expected a fraction from 0 to below 1")


@dataclass(frozen=True)
class LeverageTarget:
    """A leverage by today's figures alone, and why it is not higher."""

    leverage: float
    limit: float
    """The lesser of the maximum leverage and what the shortfall budget allows: no advice lies above it."""
    limit_name: str  # 'max_leverage' or 'es_budget': which of the two the limit is
    binding: str  # 'volatility_target', 'uncertainty', 'es_budget' or 'max_leverage'
    reason: str


def target_leverage(
    volatility: float,
    uncertainty: float,
    expected_shortfall: float,
    policy: LeveragePolicy | None = None,
) -> LeverageTarget:
    """The smallest of three: target / forecast volatility * (1 - uncertainty); max_leverage; es_budget / ES.

    `volatility` is the annualised forecast, `expected_shortfall` that of one unit of the position at 97.5 % over the
    horizon, both positive fractions; `uncertainty` lies in [0, 1]. Raises ValueError otherwise.
    'volatility_target' binds where it would without its cut for uncertainty too; 'uncertainty' where the cut alone puts
    it below the two hard limits.
    Source of volatility targeting: Moreira and Muir (2017), "Volatility-managed portfolios", Journal of Finance 72.
    """
    rules = policy or LeveragePolicy()
    for name, value in (("volatility", volatility), ("expected_shortfall", expected_shortfall)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} {value}: expected a positive fraction")
    if not 0.0 <= uncertainty <= 1.0:
        raise ValueError(f"uncertainty {uncertainty}: expected a number from 0 to 1")
    certain = rules.target_volatility / volatility
    cut = certain * (1.0 - uncertainty)
    shortfall_limit = rules.es_budget / expected_shortfall
    limit = min(rules.max_leverage, shortfall_limit)
    limit_name = "max_leverage" if rules.max_leverage <= shortfall_limit else "es_budget"
    if cut > limit:
        binding = limit_name
    else:
        binding = "volatility_target" if certain <= limit else "uncertainty"
    leverage = min(cut, limit)
    by_volatility = (
        f"volatility target {rules.target_volatility:.0%} / forecast {volatility:.1%} "
        f"× (1 - uncertainty {uncertainty:.2f}) = {cut:.2f}"
    )
    by_shortfall = f"expected shortfall budget {rules.es_budget:.0%} / ES 97.5 % of {expected_shortfall:.1%} = {shortfall_limit:.2f}"
    if binding == "max_leverage":
        reason = f"maximum leverage {limit:.2f} ({by_volatility})"
    elif binding == "es_budget":
        reason = f"{by_shortfall} ({by_volatility})"
    elif binding == "uncertainty":
        held = by_shortfall if limit_name == "es_budget" else f"maximum leverage {limit:.2f}"
        reason = f"{by_volatility} (without the uncertainty: {held})"
    else:
        reason = by_volatility
    return LeverageTarget(leverage, limit, limit_name, binding, reason)
