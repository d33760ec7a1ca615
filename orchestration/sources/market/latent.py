"""The daily states behind the simulated market, kept from its first day to the last one asked for.

In: seed, coins, first day. Out: ``DailyStates``. Never: looks at the end of the market; a day is
the same whether one asks for it on the day or a year on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from orchestration.sources.market.coins import Coin
from orchestration.sources.market.evolution import State, advance
from orchestration.sources.market.law import (
    COIN_NOISE,
    MARKET_KEY,
    MARKET_NOISE,
    DayDraws,
    Law,
)
from orchestration.sources.market.randomness import BLOCK_DAYS, Draws, FloatArray
from orchestration.sources.market.truth import TRUTH, MarketTruth

EPOCH = date(1970, 1, 1)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def day_of(number: int) -> date:
    """The inverse of ``day_number``."""
    return EPOCH + timedelta(days=int(number))


def weekday_of(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 is Monday; 1970-01-01 was a Thursday."""
    return (days + 3) % 7


@dataclass(frozen=True)
class DailyStates:
    """Arrays over days (T) and coins (N): what each coin's day is made of. See ``evolution`` for
    the recursions.
    """

    day: NDArray[np.int64]  # (T,) days since 1970
    turbulent: FloatArray  # (T,) 0 or 1
    market_noise: FloatArray  # (T, M) as MARKET_NOISE
    log_variance: FloatArray  # (T, N) of the day's diffusive variance
    long_memory: FloatArray  # (T, N, K) one column per half-life
    leverage: FloatArray  # (T, N)
    excitation: FloatArray  # (T, N)
    flow_lead: FloatArray  # (T, N)
    funding_lead: FloatArray  # (T, N)
    innovation: FloatArray  # (T, N) what is new in log variance
    flow_driver: FloatArray  # (T, N) z
    funding_driver: FloatArray  # (T, N) w
    shock: FloatArray  # (T, N) e
    jump_size: FloatArray  # (T, N, 4) log return, market-wide ones first
    jump_at: FloatArray  # (T, N, 4) fraction of the day
    log_price_open: FloatArray  # (T, N)
    log_return: FloatArray  # (T, N)
    return_ema: FloatArray  # (T, N) of standardised returns, the day included
    log_price_slow: FloatArray  # (T, N)
    coin_noise: FloatArray  # (T, N, A) as COIN_NOISE

    def noise(self, name: str) -> FloatArray:
        """The noise of one of the coins' series: (T, N)."""
        return self.coin_noise[:, :, list(COIN_NOISE).index(name)]

    def shared_noise(self, name: str) -> FloatArray:
        """The noise of one of the market's series: (T,)."""
        return self.market_noise[:, list(MARKET_NOISE).index(name)]


class LatentMarket:
    """The states of a market, extended block by block when a later day is asked for. Safe between
    threads.
    """

    def __init__(
        self, seed: int, coins: Sequence[Coin], first_day: date, truth: MarketTruth = TRUTH
    ) -> None:
        self.draws = Draws(seed)
        self.coins = tuple(coins)
        self.truth = truth
        self.first = day_number(first_day)
        self.law = Law(self.coins, truth)
        self._lock = threading.Lock()
        self._states: DailyStates | None = None
        self._state = State.initial(self.law, self.draws, self.coins, self.first)
        self._next = self.first

    def through(self, last: int) -> DailyStates:
        """Every state from the first day to at least day ``last`` (days since 1970)."""
        with self._lock:
            blocks = [] if self._states is None else [self._states]
            while self._next <= last:
                end = (self._next // BLOCK_DAYS + 1) * BLOCK_DAYS - 1
                blocks.append(self._extend(self._next, end))
                self._next = end + 1
            if self._states is None or len(blocks) > 1:
                self._states = _join(blocks)
            return self._states

    def row(self, day: int) -> int:
        """Row of a day (days since 1970) in ``through``."""
        return day - self.first

    def position(self, asset: str) -> int:
        """Column of a coin in ``through``."""
        return [coin.asset for coin in self.coins].index(asset)

    def weekday_factor(self, days: NDArray[np.int64]) -> FloatArray:
        """The weekly cycle's part of log variance on these days."""
        return np.asarray(self.truth.weekday_log_factors)[weekday_of(days)]

    def regime_shift(self, turbulent: FloatArray) -> FloatArray:
        """The regime's part of log variance."""
        calm, rough = self.truth.regime_log_shift
        return np.where(turbulent > 0, rough, calm)

    def _extend(self, first: int, last: int) -> DailyStates:
        components = len(self.truth.half_lives_days)
        market = DayDraws.of(self.draws, MARKET_KEY, first, last, components, len(MARKET_NOISE))
        coins = DayDraws.stack(
            [
                DayDraws.of(self.draws, coin.asset, first, last, components, len(COIN_NOISE))
                for coin in self.coins
            ]
        )
        days = np.arange(first, last + 1)
        weekday = self.weekday_factor(days)
        records = [
            advance(self._state, self.law, market, coins, row, float(weekday[row]))
            for row in range(days.size)
        ]
        arrays = {name: np.stack([record[name] for record in records]) for name in records[0]}
        return DailyStates(day=days, **arrays)


def _join(blocks: Sequence[DailyStates]) -> DailyStates:
    return DailyStates(
        **{
            item.name: np.concatenate([getattr(block, item.name) for block in blocks])
            for item in fields(DailyStates)
        }
    )
