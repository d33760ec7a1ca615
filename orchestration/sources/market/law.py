"""The constants of the simulated market's recursions, and the draws that feed them.

In: coins, the ``MarketTruth``, a seed. Out: ``Law`` (numbers per coin) and ``DayDraws`` (noise per
day and coin). Never: holds a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestration.sources.market.coins import Coin
from orchestration.sources.market.randomness import Draws, FloatArray
from orchestration.sources.market.truth import MarketTruth

MARKET_KEY = "*"
"""Key of the draws that all coins share; no ticker can be this."""

COIN_NOISE: dict[str, tuple[float, float]] = {
    "open_interest": (0.98, 0.25),
    "active_addresses": (0.97, 0.15),
    "transactions": (0.95, 0.12),
    "fees": (0.90, 0.35),
    "hash_rate": (0.99, 0.06),
    "flow_level": (0.93, 0.25),
    "implied_volatility": (0.85, 0.05),
    "funding": (0.80, 0.30),
    "volume": (0.90, 0.25),
}
"""Autoregressive noise of each coin's series: (persistence, stationary standard deviation)."""

MARKET_NOISE: dict[str, tuple[float, float]] = {
    "news_tone": (0.70, 0.50),
    "news_volume": (0.90, 0.30),
    "fear_greed": (0.85, 6.0),
    "social": (0.92, 0.30),
    "supply": (0.97, 1.0),
    "spurious": (0.97, 1.0),
}
"""The same for series that describe the market."""

JUMPS_A_DAY = 2
"""At most this many jumps of one kind, market-wide or of one coin."""

DRIFT = 0.0004
PRICE_PULL = 0.0006
"""Daily pull of the log price to its start: a half-life of three years keeps levels readable for
decades.
"""

DRIVER_MARKET_SHARE = 0.5
"""Correlation between coins of the planted drivers."""

_MEAN_SQUARED_JUMP = 2.25 + 3.0 * np.sqrt(2.0 / np.pi) + 1.0  # of (1.5 + |n|), n standard normal


def persistence(half_life_days: float) -> float:
    """The autoregressive coefficient with this half-life."""
    return float(0.5 ** (1.0 / half_life_days))


def mix(market: FloatArray, coin: FloatArray, share: float) -> FloatArray:
    """Unit-variance noise with correlation ``share`` between coins."""
    return np.asarray(np.sqrt(share) * market + np.sqrt(1.0 - share) * coin)


class Law:
    """Numbers per coin (N,), per component (K,) or for all."""

    def __init__(self, coins: Sequence[Coin], truth: MarketTruth) -> None:
        self.truth = truth
        self.log_price = np.log([coin.price for coin in coins])
        self.beta = np.asarray([coin.beta for coin in coins])
        self.beta_rest = np.sqrt(1.0 - self.beta**2)
        self.phi = np.asarray([persistence(days) for days in truth.half_lives_days])
        self.component_sd = np.asarray(truth.component_sd)
        self.innovation_sd = self.component_sd * np.sqrt(1.0 - self.phi**2)

        flow, funding = truth.planted_lead, truth.funding_lead
        shares = flow.innovation_share + funding.innovation_share + truth.leverage_share
        total = float((self.innovation_sd**2).sum()) / (1.0 - shares)
        self.innovation_variance = total
        self.flow_sd = float(np.sqrt(flow.innovation_share * total))
        self.funding_sd = float(np.sqrt(funding.innovation_share * total))
        self.leverage_sd = float(np.sqrt(truth.leverage_share * total))
        self.phi_flow = persistence(flow.half_life_days)
        self.phi_funding = persistence(funding.half_life_days)
        self.phi_leverage = persistence(truth.leverage_half_life_days)

        self.coin_phi = np.asarray([phi for phi, _ in COIN_NOISE.values()])
        self.coin_sd = _step_sd(COIN_NOISE)
        self.market_phi = np.asarray([phi for phi, _ in MARKET_NOISE.values()])
        self.market_sd = _step_sd(MARKET_NOISE)

        daily_variance = np.asarray([coin.volatility for coin in coins]) ** 2 / 365.0
        self.base = np.log(daily_variance) - np.log(self.mean_factor())

    def driven(self) -> tuple[tuple[float, float], ...]:
        """(persistence, step standard deviation) of the flow, funding and leverage parts."""
        return (
            (self.phi_flow, self.flow_sd),
            (self.phi_funding, self.funding_sd),
            (self.phi_leverage, self.leverage_sd),
        )

    def mean_factor(self) -> float:
        """Mean of a day's quadratic variation over exp(base)."""
        stationary = float((self.component_sd**2).sum()) + sum(
            sd**2 / (1.0 - phi**2) for phi, sd in self.driven()
        )
        leave_calm, leave_turbulent = self.truth.regime_leave_probability
        turbulent = leave_calm / (leave_calm + leave_turbulent)
        calm_shift, turbulent_shift = self.truth.regime_log_shift
        regime = (1.0 - turbulent) * np.exp(calm_shift) + turbulent * np.exp(turbulent_shift)
        weekday = float(np.exp(self.truth.weekday_log_factors).mean())
        return float(np.exp(0.5 * stationary) * regime * weekday * self.jump_factor())

    def jump_factor(self) -> float:
        """Mean of quadratic variation over diffusive variance."""
        gain = self.truth.jump_excitation / (1.0 - self.truth.excitation_decay)
        return float(1.0 + sum(self.truth.jumps_per_day) / (1.0 - gain) * _MEAN_SQUARED_JUMP)


def _step_sd(noise: dict[str, tuple[float, float]]) -> FloatArray:
    return np.asarray([sd * np.sqrt(1.0 - phi**2) for phi, sd in noise.values()])


@dataclass(frozen=True)
class DayDraws:
    """The noise of a range of days, for the market (days, ...) or for coins (days, N, ...)."""

    component: FloatArray  # (..., K)
    shock: FloatArray
    flow: FloatArray
    funding: FloatArray
    jump: FloatArray  # (..., JUMPS_A_DAY)
    noise: FloatArray
    uniform: FloatArray  # (..., 6): regime or count, count, two signs, two times

    @classmethod
    def of(
        cls, draws: Draws, key: str, first: int, last: int, components: int, noises: int
    ) -> DayDraws:
        """The draws of one key."""
        width = components + 3 + JUMPS_A_DAY + noises
        normal = draws.normal("latent", key, first, last, width)
        at = components + 3
        return cls(
            component=normal[:, :components],
            shock=normal[:, components],
            flow=normal[:, components + 1],
            funding=normal[:, components + 2],
            jump=normal[:, at : at + JUMPS_A_DAY],
            noise=normal[:, at + JUMPS_A_DAY :],
            uniform=draws.uniform("latent", key, first, last, 2 + 2 * JUMPS_A_DAY),
        )

    @classmethod
    def stack(cls, parts: Sequence[DayDraws]) -> DayDraws:
        """Coins side by side on the second axis."""
        return cls(
            **{
                name: np.stack([getattr(part, name) for part in parts], axis=1)
                for name in cls.__dataclass_fields__
            }
        )
