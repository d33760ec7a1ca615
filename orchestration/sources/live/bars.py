"""Closed bars of one spot market, page by page, from any ccxt venue.

In: a venue, a symbol and a stretch of time. Out: batches of ``raw.ohlcv``, oldest first, each with the moment up to which the stretch is
covered. Never: gives a bar that has not ended, takes an empty page for the end of the history, or fills a hole.

Venues differ in what a page is: the oldest bars from ``since`` (Binance, Bybit), all of a window however few (OKX), or the newest bars
whatever ``since`` says (Kraken). A page that starts late is asked for again up to its first bar, because a venue that gives the newest rows
of a window leaves out the oldest; an empty page is followed by a look at the daily bars, so that years before a listing cost a few calls.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
from orchestration.sources.live.rows import from_columns, from_ms, to_ms
from orchestration.sources.live.venue import Venue

LENGTHS = {"1m": timedelta(minutes=1), "5m": timedelta(minutes=5), "1h": timedelta(hours=1)}
"""Bars that can be asked for."""
DELAY = timedelta(minutes=1)
"""From the end of a bar until it counts as known."""
DAY = timedelta(days=1)
ENDPOINT = "fetchOHLCV"
LONGEST_PAGE = 1000
SHORTEST_PAGE = 100
_EARLIEST_MS, _LATEST_MS = 1_230_940_800_000, 4_102_444_800_000
"""2009 and 2100: a stamp outside of them has another unit, and a bar that is not of the time asked for would be missed by nobody."""
_OHLC = ("open", "high", "low", "close", "volume")
_BINANCE = (
    "ts", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_OKX = ("ts", "open", "high", "low", "close", "volume", "volCcy", "quote_volume", "confirm")
CANDLES: dict[str, tuple[str, ...]] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "bybit": ("ts", "open", "high", "low", "close", "volume", "quote_volume"),
    "kraken": ("ts", "open", "high", "low", "close", "vwap", "volume", "trades"),
    "kucoin": ("ts", "open", "close", "high", "low", "volume", "quote_volume"),
    "mexc": ("ts", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    "okx": _OKX,
    "okxus": _OKX,
}
"""A venue's own candle, value by value, where it says more than ccxt's six."""
LISTS: dict[str, tuple[str, ...]] = {
    "binance": (),
    "binanceus": (),
    "bybit": ("result", "list"),
    "kraken": ("result", "*"),
    "okx": ("data",),
}
"""Where a venue's answer has its candles; * is the market."""


@dataclass(frozen=True)
class Stretch:
    """Bars, and the time up to which every bar that opened is in these or earlier ones."""

    rows: pa.Table
    until: datetime


Candle = tuple[int, list[float | None], dict[str, float | None]]
"""Open time in ms; open, high, low, close, volume; what else the venue says."""


def bar_table(
    venue: str, symbol: str, interval: str, ts: pa.Array, columns: Mapping[str, pa.Array]
) -> pa.Table:
    """Bars as a batch of ``raw.ohlcv``; ``ts`` is the open time."""
    known_at = pc.add(ts, pa.scalar(LENGTHS[interval] + DELAY, pa.duration("us")))
    return from_columns(
        "ohlcv",
        {
            "venue": venue,
            "symbol": symbol,
            "interval": interval,
            "ts": ts,
            "known_at": known_at,
            **columns,
        },
    )


class SpotVenue(Venue):
    """A venue of which only spot markets are loaded and whose candles keep what ccxt leaves out."""

    @cached_property
    def exchange(self) -> Any:
        """See ``Venue.exchange``. ccxt's own parser runs first; the venue's candle is put behind its six values."""
        made = super().exchange
        made.has["fetchCurrencies"] = False
        markets = made.options.get("fetchMarkets")
        if isinstance(markets, dict) and "spot" in (markets.get("types") or ()):
            kinds = markets["types"]
            markets["types"] = (
                {kind: kind == "spot" for kind in kinds} if isinstance(kinds, dict) else ["spot"]
            )
        unified = made.parse_ohlcv
        made.parse_ohlcv = lambda candle, market=None: [*unified(candle, market), candle]
        return made

    def market_id(self, symbol: str) -> str:
        """The venue's own name of a unified symbol."""
        return str(self.markets[symbol]["id"])


class VenueBars:
    """Bars of one interval from one venue."""

    def __init__(self, venue: SpotVenue, interval: str) -> None:
        self.venue, self.interval = venue, interval
        self.length = LENGTHS[interval]
        self._page_limit: int | None = None

    def stretches(
        self, symbol: str, since: datetime, known_until: datetime, before: datetime | None = None
    ) -> Iterator[Stretch]:
        """Closed bars that opened from ``since`` on and before ``before``. Ends when there are no more up to now."""
        while since + self.length <= self._closed(known_until) and (not before or since < before):
            end = self._closed(known_until)
            want = min(self._limit, math.ceil((min(end, before or end) - since) / self.length) + 1)
            page = self._page(symbol, since, want)
            end = self._closed(known_until)  # the answer told the venue's time
            bars = [c for c in page if from_ms(c[0]) + self.length <= end]
            inside = [c for c in bars if before is None or from_ms(c[0]) < before]
            if inside:
                since = from_ms(inside[-1][0]) + self.length
            elif bars:
                since = from_ms(bars[0][0])
            elif page:
                return  # nothing but the bar that has not ended
            else:
                since = self._after_hole(symbol, since + want * self.length, end)
            yield Stretch(self._table(symbol, inside), since)
            if len(bars) < len(page):
                return

    def _closed(self, known_until: datetime) -> datetime:
        """What has ended by then has ended, by our clock and the venue's."""
        return min(known_until - DELAY, self.venue.transport.now())

    @property
    def _limit(self) -> int:
        if self._page_limit is None:
            features = (self.venue.exchange.features or {}).get("spot") or {}
            limit = (features.get(ENDPOINT) or {}).get("limit")
            self._page_limit = min(int(limit or SHORTEST_PAGE), LONGEST_PAGE)
        return self._page_limit

    def _page(self, symbol: str, since: datetime, want: int) -> list[Candle]:
        found = self._fetch(symbol, self.interval, since, want)
        while found and (hole := (from_ms(found[0][0]) - since) // self.length) > 0:
            again = self._fetch(symbol, self.interval, since, min(want, hole))
            front = [candle for candle in again if candle[0] < found[0][0]]
            if not front:
                break
            self._page_limit = min(self._limit, max(len(found), SHORTEST_PAGE))
            found = front + found
        return found

    def _after_hole(self, symbol: str, since: datetime, end: datetime) -> datetime:
        """Where bars go on at or after ``since``, by the venue's daily bars; ``end`` where they do not."""
        if since >= end or "1d" not in (self.venue.exchange.timeframes or {}):
            return since
        asked = since - 2 * DAY  # a venue's day may begin at another hour
        while asked < end:
            days = self._fetch(symbol, "1d", asked, self._limit)
            starts = [start for start in (from_ms(c[0]) for c in days) if start + DAY > since]
            if starts:
                return max(since, starts[0])
            asked += self._limit * DAY
        return end

    def _fetch(self, symbol: str, interval: str, since: datetime, limit: int) -> list[Candle]:
        """Candles from ``since`` on, in order, one for each open time."""
        timeframes = self.venue.exchange.timeframes or {interval: interval}
        if interval not in timeframes:
            raise ProviderRefused(
                self.venue.id, ENDPOINT, f"no {interval} bars, it has {', '.join(timeframes)}"
            )
        rows = self.venue.call(ENDPOINT, symbol, interval, to_ms(since), limit)
        if not rows:
            self._must_be_a_list(symbol)
        found = {candle[0]: candle for candle in (self._candle(row) for row in rows)}
        return [found[ts] for ts in sorted(found) if ts >= to_ms(since)]

    def _must_be_a_list(self, symbol: str) -> None:
        """ccxt takes an absent list for an empty one; only the venue's own answer tells them apart."""
        place = LISTS.get(self.venue.id)
        if place is None:
            return
        found = json.loads(self.venue.exchange.last_http_response or "null")
        for name in place:
            key = self.venue.market_id(symbol) if name == "*" else name
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, list):
            raise self._changed(
                ".".join(place) or "(the whole answer)", f"expected a list, got {str(found)[:80]!r}"
            )

    def _candle(self, row: Sequence[Any]) -> Candle:
        """ccxt's six values and the venue's own candle, checked."""
        ts, values, raw = row[0], list(row[1:6]), row[6] if len(row) > 6 else None
        for name, value in zip(("ts", *_OHLC), (ts, *values), strict=True):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise self._changed(name, f"expected a number, got {value!r} in {str(raw)[:120]}")
        if not _EARLIEST_MS <= ts < _LATEST_MS:
            raise self._changed(
                "ts", f"expected milliseconds since 1970, got {ts!r} in {str(raw)[:120]}"
            )
        fields = CANDLES.get(self.venue.id)
        if fields is None or not isinstance(raw, list):
            return int(ts), values, {}
        if len(raw) < len(fields):
            raise self._changed(
                fields[len(raw)], f"missing, the candle has {len(raw)} of {len(fields)} values"
            )
        for place in range(len(fields), len(raw)):
            self.venue.transport.seen.unknown_fields.setdefault(
                f"{self.venue.id} {ENDPOINT}: value {place + 1}", repr(raw[place])[:80]
            )
        more: dict[str, float | None] = {}
        for name in ("quote_volume", "trades", "taker_buy_volume", "vwap"):
            if name in fields:
                value = raw[fields.index(name)]
                try:
                    more[name] = float(value)
                except (TypeError, ValueError):
                    raise self._changed(name, f"expected a number, got {value!r}") from None
        vwap = more.pop("vwap", None)
        if vwap is not None:
            more["quote_volume"] = vwap * float(values[-1])
        return int(ts), values, more

    def _changed(self, name: str, detail: str) -> ShapeChanged:
        return ShapeChanged(self.venue.id, ENDPOINT, f"field {name}: {detail}")

    def _table(self, symbol: str, candles: Sequence[Candle]) -> pa.Table:
        ts = pa.array([c[0] for c in candles], pa.int64()).cast(pa.timestamp("ms", "UTC"))
        columns = {
            name: pa.array([c[1][place] for c in candles], pa.float64())
            for place, name in enumerate(_OHLC)
        }
        for name in ("quote_volume", "trades", "taker_buy_volume"):
            columns[name] = pa.array([c[2].get(name) for c in candles], pa.float64())
        return bar_table(
            self.venue.id, symbol, self.interval, ts.cast(pa.timestamp("us", "UTC")), columns
        )
