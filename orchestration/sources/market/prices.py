"""Intraday bars of the simulated market: 5-minute paths that add up to the day's latent state.

In: the latent market. Out: batches of ``raw.ohlcv``: hourly bars of every coin, 5-minute bars of
some from a day on. Never: an hourly bar that is not the sum of its 5-minute bars.

Within a day the variance v_t is spread over 288 slots by a profile (low in the Asian night, high in
US hours, small peaks at funding times) times noise, scaled to sum to v_t. Returns are Gaussian with
these variances and are bridged to the day's return; jumps fall into one slot. The extremes inside a
slot are those of a Brownian bridge, drawn exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa

from orchestration.sources.market.coins import Coin
from orchestration.sources.market.emit import (
    DAY,
    HOUR,
    MINUTE,
    Calendar,
    IntArray,
    KnownWindow,
    table_of,
)
from orchestration.sources.market.latent import DailyStates, LatentMarket
from orchestration.sources.market.law import MARKET_KEY
from orchestration.sources.market.outages import Outages, outages
from orchestration.sources.market.randomness import BLOCK_DAYS, FloatArray
from orchestration.sources.schema import OHLCV

VENUE = "binance"
SLOTS = 288  # of 5 minutes
LONGEST_DELAY_DAYS = 3
"""No bar is known later than this after its day began, one that an outage held back included."""

_VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")
_MEAN_TRADE = 1500.0  # USDT


@dataclass(frozen=True)
class Bars:
    """Bars of one coin: arrays (days, bars a day)."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    quote_volume: FloatArray
    trades: FloatArray
    taker_buy_volume: FloatArray

    def hourly(self) -> Bars:
        """The same days in bars of twelve slots."""

        def hours(values: FloatArray) -> FloatArray:
            return values.reshape(values.shape[0], 24, -1)  # (day, hour, slot)

        return Bars(
            open=hours(self.open)[:, :, 0],
            high=hours(self.high).max(axis=2),
            low=hours(self.low).min(axis=2),
            close=hours(self.close)[:, :, -1],
            volume=hours(self.volume).sum(axis=2),
            quote_volume=hours(self.quote_volume).sum(axis=2),
            trades=hours(self.trades).sum(axis=2),
            taker_buy_volume=hours(self.taker_buy_volume).sum(axis=2),
        )


def intraday_profile() -> FloatArray:
    """Log variance of each slot, up to a constant: (SLOTS,)."""
    hour = (np.arange(SLOTS) + 0.5) / 12.0
    daily = 0.40 * np.cos(2.0 * np.pi * (hour - 16.0) / 24.0)
    half_daily = 0.18 * np.cos(4.0 * np.pi * (hour - 14.5) / 24.0)
    funding = 0.35 * sum(np.exp(-(((hour - at) / 0.4) ** 2)) for at in (0.0, 8.0, 16.0))
    return np.asarray(daily + half_daily + funding)


class SimulatedPrices:
    """``raw.ohlcv`` of the simulated market."""

    def __init__(
        self,
        market: LatentMarket,
        calendar: Calendar,
        fine_assets: Sequence[str],
        fine_from: int,
    ) -> None:
        self.market = market
        self.calendar = calendar
        self.fine_assets = tuple(fine_assets)
        self.fine_from = fine_from
        self._profile = intraday_profile()

    @property
    def table(self) -> Literal["ohlcv"]:
        """The raw table."""
        return "ohlcv"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, LONGEST_DELAY_DAYS)
        return self._blocks(window, days)

    def _blocks(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        first = days.start
        while first < days.stop:
            last = min((first // BLOCK_DAYS + 1) * BLOCK_DAYS, days.stop) - 1
            states = self.market.through(last)
            rows = slice(self.market.row(first), self.market.row(last) + 1)
            broken = outages(self.market.draws, first, last)
            common = self.market.draws.normal("intraday", MARKET_KEY, first, last, SLOTS + 24)
            tables = []
            for position, coin in enumerate(self.market.coins):
                bars = self._paths(coin, position, states, rows, common)
                tables.append(_table(coin, "1h", bars.hourly(), states.day[rows], broken, window))
                if coin.asset in self.fine_assets and last >= self.fine_from:
                    tables.append(
                        _table(coin, "5m", bars, states.day[rows], broken, window, self.fine_from)
                    )
            yield pa.concat_tables(tables)
            first = last + 1

    def _paths(
        self,
        coin: Coin,
        position: int,
        states: DailyStates,
        rows: slice,
        common: FloatArray,
    ) -> Bars:
        days = states.day[rows]
        first, last, count = int(days[0]), int(days[-1]), days.size
        own = self.market.draws.normal("intraday", coin.asset, first, last, 4 * SLOTS + 24)
        uniform = self.market.draws.uniform("intraday", coin.asset, first, last, 2 * SLOTS)
        noise, shape, volume, taker = (
            own[:, at * SLOTS : (at + 1) * SLOTS] for at in range(4)
        )  # (day, slot) each
        hour_shape = 0.25 * (common[:, SLOTS:] + own[:, 4 * SLOTS :])  # (day, hour)

        day_variance = np.exp(states.log_variance[rows, position])[:, None]
        weight = np.exp(self._profile + np.repeat(hour_shape, 12, axis=1) + 0.2 * shape)
        share = weight / weight.sum(axis=1, keepdims=True)
        variance = day_variance * share
        rest = np.sqrt(1.0 - coin.beta**2)
        diffusive = np.sqrt(variance) * (coin.beta * common[:, :SLOTS] + rest * noise)
        jumps = states.jump_size[rows, position]  # (day, jump)
        wanted = states.log_return[rows, position] - jumps.sum(axis=1)
        # Gaussian bridge: independent slots, given that they add up to the day's return
        missing = wanted - diffusive.sum(axis=1)
        returns = diffusive + share * missing[:, None]
        slot = np.minimum((states.jump_at[rows, position] * SLOTS).astype(int), SLOTS - 1)
        np.add.at(returns, (np.arange(count)[:, None], slot), jumps)

        closed = states.log_price_open[rows, position][:, None] + np.cumsum(returns, axis=1)
        opened = closed - returns
        opened[:, 1:] = closed[:, :-1]
        reach = [
            np.sqrt(returns**2 - 2.0 * variance * np.log(uniform[:, at : at + SLOTS]))
            for at in (0, SLOTS)
        ]
        high = 0.5 * (opened + closed + reach[0])
        low = 0.5 * (opened + closed - reach[1])
        price = {
            name: np.round(np.exp(value), coin.decimals)
            for name, value in (("open", opened), ("high", high), ("low", low), ("close", closed))
        }

        level = 0.55 * (states.log_variance[rows, position] - self.market.law.base[position])
        level = level + states.noise("volume")[rows, position]
        surprise = np.abs(returns) / np.sqrt(variance)
        activity = share**0.7 / (share**0.7).sum(axis=1, keepdims=True)
        quote = coin.quote_volume * np.exp(level)[:, None] * activity
        quote = np.round(quote * np.exp(0.25 * volume) * (0.7 + 0.4 * surprise), 2)
        base = np.round(2.0 * quote / (price["open"] + price["close"]), 8)
        lean = 0.5 + 0.12 * np.tanh(returns / np.sqrt(variance)) + 0.03 * taker
        return Bars(
            **price,
            volume=base,
            quote_volume=quote,
            trades=np.ceil(quote / _MEAN_TRADE),
            taker_buy_volume=np.round(base * np.clip(lean, 0.05, 0.95), 8),
        )


def _table(
    coin: Coin,
    interval: str,
    bars: Bars,
    days: IntArray,
    broken: Outages,
    window: KnownWindow,
    from_day: int = 0,
) -> pa.Table:
    a_day = bars.open.shape[1]
    length = DAY // a_day
    ts = days[:, None] * DAY + np.arange(a_day) * length
    known_at = ts + length + MINUTE
    hour = (ts - days[:, None] * DAY) // HOUR
    hit = (hour >= broken.start[:, None]) & (hour < broken.end[:, None])
    late = hit & ~broken.lost[:, None]
    known_at = np.where(late, np.maximum(known_at, broken.restored_at[:, None]), known_at)
    there = ~(hit & broken.lost[:, None]) & (days[:, None] >= from_day)
    keep = (there & window.holds(known_at)).ravel()
    return table_of(
        OHLCV,
        {
            "venue": VENUE,
            "symbol": coin.symbol,
            "interval": interval,
            "ts": ts.ravel(),
            "known_at": known_at.ravel(),
            **{name: getattr(bars, name).ravel() for name in _VALUES},
        },
        keep,
    )
