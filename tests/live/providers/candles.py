"""What the spot venues of the tests offer: candles by coin and interval, and the ways in which a venue serves them badly.

In: times. Out: a ``Book`` that venue handlers share, so that several venues can offer the same market. The bar that has not ended is served
as venues do, with the values of the moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.live.conftest import NOW

LENGTH = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}


@dataclass(frozen=True)
class Candle:
    """One bar; numbers have at most eight decimals, so that text and float are the same."""

    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    taker_buy_volume: float

    @property
    def ms(self) -> int:
        return int(self.ts.timestamp() * 1000)


def candles(start: datetime, end: datetime, interval: str, seed: int = 7) -> list[Candle]:
    """A bar for every interval that opens in [start, end)."""
    chance, found, price = random.Random(seed), [], 60_000.0
    while start < end:
        opened, price = price, round(price * (1 + chance.uniform(-0.002, 0.002)), 2)
        high = round(max(opened, price) + chance.randrange(500) / 100, 2)
        low = round(min(opened, price) - chance.randrange(500) / 100, 2)
        volume = round(chance.uniform(1, 90), 5)
        quote = round(volume * price, 8)
        taken = round(volume / 3, 5)
        found.append(
            Candle(start, opened, high, low, price, volume, quote, chance.randrange(1, 900), taken)
        )
        start += LENGTH[interval]
    return found


@dataclass
class Book:
    """The market. ``bars`` may be changed while it is served; ``clock`` is the venue's own."""

    bars: dict[tuple[str, str], list[Candle]]
    clock: Callable[[], datetime]
    delisted: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    disorder: bool = False
    """Pages come shuffled, and some of their rows twice."""
    drop: int | None = None
    """This value is missing in every candle."""
    extra: str | None = None
    """Every candle has one value more."""

    @property
    def coins(self) -> list[str]:
        return sorted({coin for coin, _ in self.bars} - self.unlisted)

    def offered(self, coin: str, interval: str) -> list[Candle]:
        """What the venue shows now, the bar that has not ended among it, with the values of the moment."""
        if interval == "1d":
            return _days(self.bars[next(key for key in self.bars if key[0] == coin)])
        now, length = self.clock(), LENGTH[interval]
        shown = [bar for bar in self.bars.get((coin, interval), []) if bar.ts <= now]
        if shown and shown[-1].ts + length > now:
            shown[-1] = replace(shown[-1], close=shown[-1].low, volume=0.001, trades=1)
        return shown

    def served(self, rows: Iterable[list[object]]) -> list[list[object]]:
        """The rows of a page, as badly as the book was told to serve them."""
        page = [list(row) for row in rows]
        if self.drop is not None:
            for row in page:
                del row[self.drop]
        if self.extra is not None:
            for row in page:
                row.append(self.extra)
        if self.disorder and page:
            chance = random.Random(len(page))
            page += chance.choices(page, k=min(3, len(page)))
            chance.shuffle(page)
        return page


def _days(bars: list[Candle]) -> list[Candle]:
    first = {}
    for bar in bars:
        day = bar.ts.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        first.setdefault(day, replace(bar, ts=day))
    return list(first.values())


def expected(bars: list[Candle], venue: str, interval: str = "5m") -> list[dict[str, Any]]:
    """What raw.ohlcv should say of ``bars`` that have ended and are known."""
    length = {"1m": 60, "5m": 300, "1h": 3600}[interval]
    has_quote, has_trades = venue != "bitstamp", venue in ("binance", "kraken")
    rows = []
    for bar in bars:
        known_at = bar.ts + timedelta(seconds=length + 60)
        if known_at <= NOW:
            rows.append(
                {
                    "venue": venue, "symbol": "BTC/USDT", "interval": interval, "ts": bar.ts, "open": bar.open, "high": bar.high,
                    "low": bar.low, "close": bar.close, "volume": bar.volume,
                    "quote_volume": (
                        pytest.approx(bar.quote_volume) if venue == "kraken" else bar.quote_volume if has_quote else None
                    ),
                    "trades": float(bar.trades) if has_trades else None,
                    "taker_buy_volume": bar.taker_buy_volume if venue == "binance" else None,
                    "known_at": known_at, "source": "live",
                }
            )  # fmt: skip
    return rows
