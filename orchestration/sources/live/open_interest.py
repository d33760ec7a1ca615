"""Daily open interest of perpetual swaps, in USD.

In: a ccxt venue. Out: batches of ``raw.open_interest``, one row for a UTC day: its value at the end of that day. Never: takes coins or
contracts for dollars; what cannot be turned into USD with the venue's own price is left out and counted in a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from orchestration.sources.live.config import BENCHMARK_ASSET, Providers
from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
from orchestration.sources.live.history import sweep
from orchestration.sources.live.open_interest_rules import DAY_MS, RULES, UNKNOWN
from orchestration.sources.live.rows import (
    arrow,
    from_ms,
    midnight,
    to_ms,
    unknown_field_notes,
)
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.swap_venue import SwapVenue
from orchestration.sources.protocol import Page, Stream

TABLE = "open_interest"
DAY = timedelta(days=1)
DELAY = timedelta(minutes=5)
"""From the end of the day until its value counts as known."""
OVERLAP = timedelta(days=2)
ENDPOINT, MARK = "fetchOpenInterestHistory", "fetchMarkOHLCV"


@dataclass(frozen=True)
class Held:
    """Open interest as the venue gives it: ``usd`` where it says so, ``coins`` where it counts those."""

    ms: int
    usd: float | None
    coins: float | None


class OpenInterest:
    """Open interest of one venue, by its ccxt id; see the module."""

    def __init__(self, venue_id: str, providers: Providers) -> None:
        self.provider = venue_id
        self.config = providers.config
        self.venue = SwapVenue(venue_id, providers)
        self.rules = RULES.get(venue_id, UNKNOWN)
        self._notes: dict[str, list[str]] = {}

    def streams(self) -> Sequence[Stream]:
        """A stream for each coin."""
        return [
            LiveStream(
                f"{self.provider}/open_interest/{coin}",
                TABLE,
                self.provider,
                partial(self._read, coin),
                assets=(coin,),
                overlap=OVERLAP,
                noted=partial(self._noted, coin),
            )
            for coin in self.config.coins
        ]

    def probe(self) -> str:
        """The newest day of BTC. Raises ``ProviderError``."""
        now = self.venue.transport.clock()
        days = [
            day
            for page in self._read(BENCHMARK_ASSET, now - 3 * DAY, now)
            for day in page.rows.to_pylist()
        ]
        if not days:
            raise ProviderRefused(self.provider, ENDPOINT, "no value in the last three days")
        last = days[-1]
        return f"{last['symbol']} open interest of {last['ts']:%Y-%m-%d}, {last['close']:,.0f} USD"

    def _noted(self, coin: str) -> Sequence[str]:
        return (*self._notes.get(coin, ()), *unknown_field_notes(self.venue.transport))

    def _read(
        self, coin: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        notes = self._notes[coin] = []
        rules = self.rules
        if not self.venue.supports(ENDPOINT):
            raise ProviderRefused(self.provider, ENDPOINT, "ccxt has no such history of this venue")
        symbol = self.venue.perpetual(coin)
        now = self.venue.transport.now()
        delay = DELAY if rules.snapshot else DAY + DELAY  # from the stamp until it is known
        last = min(known_until, now) - delay
        start = self.config.start_time
        first = (
            start + (DAY if rules.snapshot else 0 * DAY)
            if known_after is None
            else known_after - delay
        )
        asked = first
        if rules.earlier_refused and rules.keeps:
            asked = max(first, now - rules.keeps + timedelta(hours=1))
        given: datetime | None = None
        odd = unpriced = 0
        for part in sweep(
            partial(self._ask, symbol),
            lambda held: held.ms,
            to_ms(asked),
            to_ms(last),
            spacing=DAY_MS,
            cut=rules.cut,
            window=rules.window_ms,
        ):
            days = {}
            for held in part.entries:
                day = self._day(from_ms(held.ms))
                if day is None:
                    odd += 1
                elif day >= start or known_after is not None:
                    days[day] = held
            closes = self._closes(symbol, days)
            unpriced += len(days) - len(closes)
            given = given or min(days, default=None)
            rows = [
                self._row(coin, symbol, day, usd)
                for day, usd in closes.items()
                if (known_after is None or day + DAY + DELAY > known_after)
                and day + DAY + DELAY <= known_until
            ]
            yield Page(arrow(TABLE, rows), min(from_ms(part.until), last) + delay)
        notes += self._remarks(coin, symbol, first, last, given, odd, unpriced)

    def _ask(self, symbol: str, since: int, until: int) -> list[Held]:
        rules = self.rules
        found = self.venue.call(
            ENDPOINT,
            symbol,
            "1d",
            None if rules.by_end else since,
            rules.limit,
            {**rules.params, "until": until},
        )
        if rules.answer:
            self.venue.check_answer(rules.answer, ENDPOINT)
        return [
            Held(
                int(self._number("timestamp", entry.get("timestamp"))),
                self._number("openInterestValue", entry.get("openInterestValue"), needed=False),
                self._number("openInterestAmount", entry.get("openInterestAmount"), needed=False),
            )
            for entry in found
        ]

    def _day(self, stamp: datetime) -> datetime | None:
        """Midnight at the start of the day whose end the value is; None for a stamp that ends no day of a venue that we know."""
        start = midnight(stamp)
        if self.provider in RULES:
            if stamp - start >= timedelta(minutes=1):
                return None
            return start - DAY if self.rules.snapshot else start
        return start if stamp == start else start + DAY

    def _closes(self, symbol: str, days: Mapping[datetime, Held]) -> dict[datetime, float]:
        """USD by day, of the days for which the venue says enough."""
        closes = {day: held.usd for day, held in days.items() if held.usd is not None}
        silent = {
            day: held.coins
            for day, held in days.items()
            if held.usd is None and held.coins is not None
        }
        if silent and self.rules.priced_by:
            prices = self._mark_prices(symbol, min(silent), max(silent))
            size = float(self.venue.markets[symbol].get("contractSize") or 1.0)
            closes |= {
                day: coins * size * prices[day] for day, coins in silent.items() if day in prices
            }
        return {day: closes[day] for day in sorted(closes)}

    def _mark_prices(self, symbol: str, first: datetime, last: datetime) -> dict[datetime, float]:
        """Closing mark price by day."""
        found = self.venue.call(
            MARK, symbol, "1d", to_ms(first), self.rules.limit, {"until": to_ms(last)}
        )
        self.venue.check_answer(self.rules.priced_by, MARK)
        return {from_ms(candle[0]): float(candle[4]) for candle in found}

    def _row(self, coin: str, symbol: str, day: datetime, usd: float) -> dict[str, Any]:
        return {
            "venue": self.provider,
            "symbol": symbol,
            "asset": coin,
            "ts": day,
            "close": usd,
            "resolution": "1d",
            "known_at": day + DAY + DELAY,
        }

    def _remarks(
        self,
        coin: str,
        symbol: str,
        first: datetime,
        last: datetime,
        given: datetime | None,
        odd: int,
        unpriced: int,
    ) -> Iterator[str]:
        keeps = self.rules.keeps
        if keeps and first < last - keeps and (given is None or given - first > OVERLAP):
            since = f"given from {given:%Y-%m-%d}" if given else "nothing given"
            asked = first - DAY if self.rules.snapshot else first
            yield f"{self.provider} keeps {keeps.days} days of open interest: {coin} asked from {asked:%Y-%m-%d}, {since}"
        if odd:
            yield f"{odd} values of {symbol} left out: stamped within a day"
        if unpriced:
            yield f"{unpriced} values of {symbol} left out: no USD value and no price beside them"

    def _number(self, name: str, value: Any, *, needed: bool = True) -> Any:
        if value is None and not needed:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ShapeChanged(
                self.provider, ENDPOINT, f"field {name}: expected a number, got {value!r}"
            )
        return number
