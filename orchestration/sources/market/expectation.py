"""The market's own expectation of variance, from which implied volatility is made.

In: the latent states of a coin. Out: expected mean variance of the coming days and the implied
volatility. Never: uses the planted drivers that have not reached variance yet.
"""

from __future__ import annotations

import numpy as np

from orchestration.sources.market.latent import LatentMarket
from orchestration.sources.market.randomness import FloatArray


def expected_variance(market: LatentMarket, position: int, last: int, days: int) -> FloatArray:
    """Mean daily quadratic variation expected for the next ``days`` at the end of each day up to
    ``last``: (T,).

    Each autoregressive part decays at its own rate and adds the variance of what is still to come
    (log-normal mean); the regime goes back to its long-run mix.
    """
    states, law, truth = market.through(last), market.law, market.truth
    rows = slice(0, last - market.first + 1)
    parts = np.concatenate(
        [
            states.long_memory[rows, position],
            states.flow_lead[rows, position, None],
            states.funding_lead[rows, position, None],
            states.leverage[rows, position, None],
        ],
        axis=1,
    )  # (T, P)
    driven = law.driven()
    phi = np.concatenate([law.phi, [phi for phi, _ in driven]])
    step = np.concatenate([law.innovation_sd, [sd for _, sd in driven]])
    ahead = np.arange(1, days + 1)
    decay = phi[:, None] ** ahead  # (P, days)
    to_come = (step[:, None] ** 2 * (1.0 - decay**2) / (1.0 - phi[:, None] ** 2)).sum(axis=0)
    mean = np.exp(parts @ decay + 0.5 * to_come)  # (T, days)

    leave_calm, leave_turbulent = truth.regime_leave_probability
    long_run = leave_calm / (leave_calm + leave_turbulent)
    stay = (1.0 - leave_calm - leave_turbulent) ** ahead
    turbulent = long_run + (states.turbulent[rows, None] - long_run) * stay
    calm_shift, turbulent_shift = truth.regime_log_shift
    regime = (1.0 - turbulent) * np.exp(calm_shift) + turbulent * np.exp(turbulent_shift)

    weekday = np.exp(truth.weekday_log_factors).mean()
    scale = np.exp(law.base[position]) * weekday * law.jump_factor()
    return np.asarray(scale * (mean * regime).mean(axis=1))


def implied_volatility(market: LatentMarket, position: int, last: int) -> FloatArray:
    """The index at the end of each day up to ``last``, as an annualised fraction: (T,)."""
    truth = market.truth
    variance = expected_variance(market, position, last, truth.implied_volatility_days)
    noise = market.through(last).noise("implied_volatility")[: variance.size, position]
    return np.asarray(truth.implied_volatility_premium * np.sqrt(365.0 * variance) * np.exp(noise))
