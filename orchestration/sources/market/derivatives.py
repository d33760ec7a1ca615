"""Funding, open interest and implied volatility of the simulated market.

In: the latent market. Out: batches of ``raw.funding_rates``, ``raw.open_interest``,
``raw.implied_volatility``. Never: uses a state that is later than the value's own day, the planted
funding driver excepted, which is the point.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa

from orchestration.sources.market.coins import OPTION_ASSETS
from orchestration.sources.market.emit import (
    DAY,
    HOUR,
    MINUTE,
    Calendar,
    Column,
    IntArray,
    KnownWindow,
    table_of,
)
from orchestration.sources.market.expectation import implied_volatility
from orchestration.sources.market.latent import LatentMarket
from orchestration.sources.market.randomness import BLOCK_DAYS, FloatArray
from orchestration.sources.schema import FUNDING_RATES, IMPLIED_VOLATILITY, OPEN_INTEREST

DERIVATIVES_VENUE = "binanceusdm"
OPTIONS_VENUE = "deribit"
HOURLY_FUNDING_ASSETS = ("BTC", "ETH")
_BASE_RATE = 1e-4  # per 8 hours, the usual resting value
_GAP_PROBABILITY = 0.05  # of a venue and block of days to have a hole of several days
_LONGEST_GAP_DAYS = 5


class SimulatedFunding:
    """``raw.funding_rates``: two venues every 8 hours, one every hour with another symbol style.

    The 8-hour rate of day t follows returns up to day t-1 and the driver w_t, which enters variance
    ``lead_days`` later.
    """

    def __init__(self, market: LatentMarket, calendar: Calendar) -> None:
        self.market = market
        self.calendar = calendar

    @property
    def table(self) -> Literal["funding_rates"]:
        """The raw table."""
        return "funding_rates"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, 1)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        if not days:
            return
        number = np.arange(days.start, days.stop)
        for position, coin in enumerate(self.market.coins):
            level = self._level(position, number)
            for venue in ("binanceusdm", "bybit"):
                symbol = f"{coin.asset}/USDT:USDT"
                yield self._rates(venue, symbol, coin.asset, 8, number, level, window)
            if coin.asset in HOURLY_FUNDING_ASSETS:
                yield self._rates("dydx", f"{coin.asset}-USD", coin.asset, 1, number, level, window)

    def _level(self, position: int, number: IntArray) -> FloatArray:
        states = self.market.through(int(number[-1]))
        rows = number - self.market.first
        before = np.maximum(rows - 1, 0)
        trend = np.where(rows > 0, states.return_ema[before, position], 0.0)
        driver = states.funding_driver[rows, position]
        level = 1.0 + 1.2 * trend + driver + states.noise("funding")[rows, position]
        return np.asarray(_BASE_RATE * level)  # (day,)

    def _rates(
        self,
        venue: str,
        symbol: str,
        asset: str,
        interval_hours: int,
        number: IntArray,
        level: FloatArray,
        window: KnownWindow,
    ) -> pa.Table:
        first, last = int(number[0]), int(number[-1])
        a_day = 24 // interval_hours
        noise = self.market.draws.normal(f"funding.{venue}", asset, first, last, a_day)
        per_8_hours = np.clip(level[:, None] + 0.25 * _BASE_RATE * noise, -0.0075, 0.0075)
        ts = number[:, None] * DAY + np.arange(a_day) * interval_hours * HOUR
        known_at = ts + MINUTE
        there = ~self._gaps(venue, number)[:, None]
        columns: dict[str, Column] = {
            "venue": venue,
            "symbol": symbol,
            "asset": asset,
            "ts": ts.ravel(),
            "rate": np.round(per_8_hours * interval_hours / 8.0, 8).ravel(),
            "interval_hours": np.full(ts.size, float(interval_hours)),
            "known_at": known_at.ravel(),
        }
        return table_of(FUNDING_RATES, columns, (there & window.holds(known_at)).ravel())

    def _gaps(self, venue: str, number: IntArray) -> np.ndarray:
        """Days on which a venue gives nothing, for all coins at once."""
        starts = (number // BLOCK_DAYS) * BLOCK_DAYS
        missing = np.zeros(number.size, dtype=bool)
        for start in np.unique(starts):
            drawn = self.market.draws.uniform("funding.gap", venue, int(start), int(start), 3)[0]
            begin = start + int(drawn[1] * (BLOCK_DAYS - _LONGEST_GAP_DAYS))
            length = 1 + int(drawn[2] * _LONGEST_GAP_DAYS)
            if drawn[0] < _GAP_PROBABILITY:
                missing |= (number >= begin) & (number < begin + length)
        return missing


class SimulatedOpenInterest:
    """``raw.open_interest``: daily bars in USD that follow the price and fall after jumps."""

    def __init__(self, market: LatentMarket, calendar: Calendar) -> None:
        self.market = market
        self.calendar = calendar

    @property
    def table(self) -> Literal["open_interest"]:
        """The raw table."""
        return "open_interest"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, 2)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        if not days:
            return
        number = np.arange(days.start, days.stop)
        states = self.market.through(days.stop - 1)
        rows = number - self.market.first
        before = np.maximum(rows - 1, 0)
        known_at = number * DAY + DAY + 5 * MINUTE
        for position, coin in enumerate(self.market.coins):
            level = (
                np.log(0.8 * coin.quote_volume)
                + 0.8 * (states.log_price_open[:, position] + states.log_return[:, position])
                - 0.8 * self.market.law.log_price[position]
                + states.noise("open_interest")[:, position]
                - 0.5 * states.excitation[:, position]
            )
            opened, closed = level[before], level[rows]
            reach = 0.01 * np.abs(
                self.market.draws.normal("open_interest", coin.asset, days.start, days.stop - 1, 2)
            )
            values = {
                "open": opened,
                "high": np.maximum(opened, closed) + reach[:, 0],
                "low": np.minimum(opened, closed) - reach[:, 1],
                "close": closed,
            }
            columns: dict[str, Column] = {
                "venue": DERIVATIVES_VENUE,
                "symbol": f"{coin.asset}/USDT:USDT",
                "asset": coin.asset,
                "ts": number * DAY,
                **{name: np.round(np.exp(value), 2) for name, value in values.items()},
                "resolution": "1d",
                "known_at": known_at,
            }
            yield table_of(OPEN_INTEREST, columns, window.holds(known_at))


class SimulatedImpliedVolatility:
    """``raw.implied_volatility``: an index for BTC and ETH, daily throughout and hourly from
    ``hourly_from`` on.

    The index is the expected volatility of the next 30 days times a premium and noise. It knows the
    variance state of its day, never the planted drivers that will move it later.
    """

    def __init__(self, market: LatentMarket, calendar: Calendar, hourly_from: int) -> None:
        self.market = market
        self.calendar = calendar
        self.hourly_from = hourly_from

    @property
    def table(self) -> Literal["implied_volatility"]:
        """The raw table."""
        return "implied_volatility"

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``."""
        window = KnownWindow.of(known_after, known_until)
        days = window.days(self.calendar.first, self.calendar.last, 2)
        return self._tables(window, days)

    def _tables(self, window: KnownWindow, days: range) -> Iterator[pa.Table]:
        if not days:
            return
        number = np.arange(days.start, days.stop)
        for asset in (coin.asset for coin in self.market.coins if coin.asset in OPTION_ASSETS):
            path = self._path(asset, number)  # (day, 25) from the day's open to its close
            daily = (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1])
            yield self._index(asset, "1d", number * DAY, DAY, daily, window)
            late = number >= self.hourly_from
            ts = (number[late, None] * DAY + np.arange(24) * HOUR).ravel()
            opened, closed = path[late, :-1].ravel(), path[late, 1:].ravel()
            hourly = (opened, np.maximum(opened, closed), np.minimum(opened, closed), closed)
            yield self._index(asset, "1h", ts, HOUR, hourly, window)

    def _path(self, asset: str, number: IntArray) -> FloatArray:
        position = self.market.position(asset)
        level = np.log(implied_volatility(self.market, position, int(number[-1])))
        rows = number - self.market.first
        opened, closed = level[np.maximum(rows - 1, 0)], level[rows]
        first, last = int(number[0]), int(number[-1])
        noise = self.market.draws.normal("implied_volatility", asset, first, last, 23)
        part = np.arange(25) / 24.0
        path = opened[:, None] + (closed - opened)[:, None] * part
        path[:, 1:-1] += 0.006 * noise
        return np.asarray(np.round(100.0 * np.exp(path), 2))

    def _index(
        self,
        asset: str,
        resolution: str,
        ts: IntArray,
        length: int,
        values: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
        window: KnownWindow,
    ) -> pa.Table:
        known_at = ts + length + MINUTE
        columns: dict[str, Column] = {
            "venue": OPTIONS_VENUE,
            "symbol": f"{asset}-DVOL",
            "asset": asset,
            "resolution": resolution,
            "ts": ts,
            **dict(zip(("open", "high", "low", "close"), values, strict=True)),
            "known_at": known_at,
        }
        return table_of(IMPLIED_VOLATILITY, columns, window.holds(known_at))
