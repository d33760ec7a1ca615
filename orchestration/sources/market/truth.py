"""What is true in the simulated market: every lead, lag and share that a test may hold a forecast
to.

In: nothing. Out: frozen dataclasses with plain numbers. Never: draws anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PlantedLead:
    """A series that drives the latent log variance before it happens, beyond what prices tell.

    The driver is white noise with unit variance: its value of day ``t`` enters the latent log
    variance of day ``t + lead_days``, explains ``innovation_share`` of that day's innovation
    variance, and decays with ``half_life_days``.
    """

    name: str
    table: str
    metrics: tuple[str, ...]
    lead_days: int
    innovation_share: float
    half_life_days: float
    sign: str


@dataclass(frozen=True)
class MarketTruth:
    """The law of the simulated market. Shares are fractions of the daily innovation variance of log
    variance.
    """

    planted_lead: PlantedLead
    funding_lead: PlantedLead
    spurious_metric: str
    """A persistent sentiment metric with no relation to anything."""
    half_lives_days: tuple[float, ...]
    """Half-lives of the autoregressive components whose sum gives log variance its long memory."""
    component_sd: tuple[float, ...]
    """Stationary standard deviations of these components."""
    market_share: float
    """Correlation between coins of the components' innovations."""
    leverage_share: float
    """Share of the leverage effect: a return shock of day t lowers log variance from day t+1 on, a
    fall raises it.
    """
    leverage_lag_days: int
    leverage_half_life_days: float
    weekday_log_factors: tuple[float, ...]
    """Added to the log variance, Monday first."""
    regime_log_shift: tuple[float, float]
    """Added to the log variance of every coin in the calm and in the turbulent regime."""
    regime_leave_probability: tuple[float, float]
    """Daily probability of leaving the calm and the turbulent regime."""
    jumps_per_day: tuple[float, float]
    """Base intensity of market-wide and of single-coin jumps."""
    jump_excitation: float
    """Added to the intensity, and to log variance, of the next day per jump."""
    excitation_decay: float
    implied_volatility_premium: float
    """Implied over expected volatility of the next 30 days; it knows the variance state, not the
    planted drivers.
    """
    implied_volatility_days: int
    fear_greed_lag_days: int
    """Fear & Greed of day D is made from returns up to D minus this."""
    onchain_delay_hours: tuple[float, float]
    """Usual range of the delay after the end of a day."""
    flow_revision_days: int
    """Exchange flows are released with noise, and replaced by their true value this many days
    later.
    """
    flow_signal: float
    """Standard deviation of log(inflow / outflow) that the driver causes."""
    flow_noise: float
    """Standard deviation of what else is in it, for ever."""
    flow_first_release_noise: float
    """Standard deviation of what the revision takes away."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


TRUTH = MarketTruth(
    planted_lead=PlantedLead(
        name="exchange_flows",
        table="onchain_metrics",
        metrics=("FlowInExUSD", "FlowOutExUSD"),
        lead_days=2,
        innovation_share=0.18,
        half_life_days=7.0,
        sign="more inflow than outflow raises variance",
    ),
    funding_lead=PlantedLead(
        name="funding",
        table="funding_rates",
        metrics=("rate",),
        lead_days=1,
        innovation_share=0.04,
        half_life_days=7.0,
        sign="higher funding raises variance",
    ),
    spurious_metric="moon_phase_chatter",
    half_lives_days=(1.0, 7.0, 40.0, 200.0),
    component_sd=(0.30, 0.28, 0.42, 0.50),
    market_share=0.65,
    leverage_share=0.06,
    leverage_lag_days=1,
    leverage_half_life_days=7.0,
    weekday_log_factors=(0.10, 0.14, 0.16, 0.16, 0.12, -0.45, -0.23),
    regime_log_shift=(-0.15, 0.60),
    regime_leave_probability=(0.01, 0.04),
    jumps_per_day=(0.010, 0.015),
    jump_excitation=0.10,
    excitation_decay=0.7,
    implied_volatility_premium=1.10,
    implied_volatility_days=30,
    fear_greed_lag_days=1,
    onchain_delay_hours=(3.0, 13.0),
    flow_revision_days=7,
    flow_signal=0.25,
    flow_noise=0.07,
    flow_first_release_noise=0.085,
)
"""The only law there is: a market with another seed has other prices, never another law."""
