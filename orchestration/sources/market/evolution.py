"""One day's step of the simulated market's states.

In: the state after yesterday and today's draws. Out: the state after today, and today's record.
Never: draws.

The log of a coin's diffusive variance of day t, in squared daily log-return units, is a sum:

log v_t = base + sum_k x_{k,t} + regime_t + weekday_t + leverage_t + excitation_t + flow_t +
funding_t

x_{k,t}      = phi_k x_{k,t-1} + s_k eta_{k,t}          half-lives of 1, 7, 40 and 200 days: long
memory leverage_t   = phi leverage_{t-1} - s_l e_{t-1}         e: the standardised return shock of
the day flow_t       = phi flow_{t-1} + s_z z_{t-2}             z: what exchange flows show two days
earlier funding_t    = phi funding_{t-1} + s_w w_{t-1}          w: what funding shows one day
earlier excitation_t = decay excitation_{t-1} + c jumps_{t-1}

The day's log return is sqrt(v_t) e_t plus its jumps plus a drift that pulls weakly to the starting
price.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestration.sources.market.coins import Coin
from orchestration.sources.market.law import (
    DRIFT,
    DRIVER_MARKET_SHARE,
    JUMPS_A_DAY,
    MARKET_KEY,
    PRICE_PULL,
    DayDraws,
    Law,
    mix,
)
from orchestration.sources.market.randomness import Draws, FloatArray

_FAST = 0.2
_SLOW = 1.0 / 200.0


@dataclass
class State:
    """Everything that tomorrow depends on; arrays over coins (N,) unless said otherwise."""

    x: FloatArray  # (N, K)
    flow: FloatArray
    funding: FloatArray
    leverage: FloatArray
    excitation: FloatArray
    turbulent: float
    market_intensity: FloatArray  # (1,)
    coin_intensity: FloatArray
    market_jumps: FloatArray  # (1,) of yesterday
    coin_jumps: FloatArray
    shock: FloatArray
    flow_drivers: deque[FloatArray]  # the last ones, oldest first
    funding_drivers: deque[FloatArray]
    log_price: FloatArray
    log_price_slow: FloatArray
    return_ema: FloatArray
    coin_noise: FloatArray  # (N, A)
    market_noise: FloatArray  # (M,)

    @classmethod
    def initial(cls, law: Law, draws: Draws, coins: Sequence[Coin], first: int) -> State:
        """The slow components start from their stationary law, the driven ones from nothing."""
        count, components = len(coins), law.phi.size
        market = draws.normal("initial", MARKET_KEY, first, first, components)[0]
        own = np.stack(
            [draws.normal("initial", coin.asset, first, first, components)[0] for coin in coins]
        )
        none = np.zeros(count)
        return cls(
            x=law.component_sd * mix(market, own, law.truth.market_share),
            flow=none,
            funding=none,
            leverage=none,
            excitation=none,
            turbulent=0.0,
            market_intensity=np.zeros(1),
            coin_intensity=none,
            market_jumps=np.zeros(1),
            coin_jumps=none,
            shock=none,
            flow_drivers=deque([none] * law.truth.planted_lead.lead_days),
            funding_drivers=deque([none] * law.truth.funding_lead.lead_days),
            log_price=law.log_price,
            log_price_slow=law.log_price,
            return_ema=none,
            coin_noise=np.zeros((count, law.coin_phi.size)),
            market_noise=np.zeros(law.market_phi.size),
        )


def advance(
    state: State, law: Law, market: DayDraws, coins: DayDraws, row: int, weekday: float
) -> dict[str, FloatArray]:
    """Move ``state`` over the day at ``row`` of the draws; the record has the names of
    ``DailyStates``.
    """
    innovation = _advance_variance(state, law, market, coins, row)
    regime = law.truth.regime_log_shift[int(state.turbulent)]
    log_variance = law.base + state.x.sum(axis=1) + regime + weekday
    log_variance = log_variance + state.leverage + state.excitation + state.flow + state.funding
    sd = np.exp(0.5 * log_variance)

    jump_size, jump_at = _advance_jumps(state, law, market, coins, row, sd)
    shock = law.beta * market.shock[row] + law.beta_rest * coins.shock[row]
    drift = DRIFT - PRICE_PULL * (state.log_price - law.log_price)
    log_return = sd * shock + drift + jump_size.sum(axis=1)
    opened = state.log_price
    state.shock = shock
    state.log_price = opened + log_return
    state.log_price_slow = state.log_price_slow + _SLOW * (state.log_price - state.log_price_slow)
    state.return_ema = state.return_ema + _FAST * (log_return / sd - state.return_ema)
    state.coin_noise = law.coin_phi * state.coin_noise + law.coin_sd * coins.noise[row]
    state.market_noise = law.market_phi * state.market_noise + law.market_sd * market.noise[row]
    return {
        "turbulent": np.asarray(state.turbulent),
        "market_noise": state.market_noise,
        "log_variance": log_variance,
        "long_memory": state.x,
        "leverage": state.leverage,
        "excitation": state.excitation,
        "flow_lead": state.flow,
        "funding_lead": state.funding,
        "innovation": innovation,
        "flow_driver": state.flow_drivers[-1],
        "funding_driver": state.funding_drivers[-1],
        "shock": shock,
        "jump_size": jump_size,
        "jump_at": jump_at,
        "log_price_open": opened,
        "log_return": log_return,
        "return_ema": state.return_ema,
        "log_price_slow": state.log_price_slow,
        "coin_noise": state.coin_noise,
    }


def _advance_variance(
    state: State, law: Law, market: DayDraws, coins: DayDraws, row: int
) -> FloatArray:
    truth = law.truth
    eta = mix(market.component[row], coins.component[row], truth.market_share)  # (N, K)
    pushed = law.innovation_sd * eta
    flow_push = law.flow_sd * state.flow_drivers.popleft()
    funding_push = law.funding_sd * state.funding_drivers.popleft()
    leverage_push = -law.leverage_sd * state.shock
    state.x = law.phi * state.x + pushed
    state.flow = law.phi_flow * state.flow + flow_push
    state.funding = law.phi_funding * state.funding + funding_push
    state.leverage = law.phi_leverage * state.leverage + leverage_push
    state.excitation = truth.excitation_decay * state.excitation + truth.jump_excitation * (
        state.market_jumps + state.coin_jumps
    )
    if market.uniform[row, 0] < truth.regime_leave_probability[int(state.turbulent)]:
        state.turbulent = 1.0 - state.turbulent
    state.flow_drivers.append(mix(market.flow[row], coins.flow[row], DRIVER_MARKET_SHARE))
    state.funding_drivers.append(mix(market.funding[row], coins.funding[row], DRIVER_MARKET_SHARE))
    return np.asarray(pushed.sum(axis=1) + flow_push + funding_push + leverage_push)


def _advance_jumps(
    state: State, law: Law, market: DayDraws, coins: DayDraws, row: int, sd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sizes in log return and times as fractions of the day: (N, 2 * JUMPS_A_DAY), market-wide ones
    first.
    """
    truth = law.truth
    decay, gain = truth.excitation_decay, truth.jump_excitation
    state.market_intensity = decay * state.market_intensity + gain * state.market_jumps
    state.coin_intensity = decay * state.coin_intensity + gain * state.coin_jumps
    uniform = market.uniform[row][None]
    common, state.market_jumps = _jumps(
        market.jump[row][None], uniform, truth.jumps_per_day[0] + state.market_intensity
    )
    single, state.coin_jumps = _jumps(
        coins.jump[row], coins.uniform[row], truth.jumps_per_day[1] + state.coin_intensity
    )
    times = slice(2 + JUMPS_A_DAY, 2 + 2 * JUMPS_A_DAY)
    size = np.concatenate([law.beta[:, None] * common, single], axis=1) * sd[:, None]
    common_at = np.broadcast_to(uniform[:, times], single.shape)
    return size, np.concatenate([common_at, coins.uniform[row][:, times]], axis=1)


def _jumps(
    normal: FloatArray, uniform: FloatArray, intensity: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compound Poisson jumps in units of the day's standard deviation, falls a little likelier than
    rises.
    """
    none = np.exp(-intensity)
    drawn = uniform[:, 1]
    count = (drawn > none).astype(float) + (drawn > none * (1.0 + intensity))
    sign = np.where(uniform[:, 2 : 2 + JUMPS_A_DAY] < 0.55, -1.0, 1.0)
    happens = np.arange(JUMPS_A_DAY) < count[:, None]
    return np.where(happens, sign * (1.5 + np.abs(normal)), 0.0), count
