"""Funding rates of perpetual swaps: what was settled, and what runs now.

In: a ccxt venue. Out: batches of ``raw.funding_rates``: a stream of settled rates for each coin, and one snapshot of the running rates of
all coins, whose symbol ends in ``(current)``. Never: mixes the two, or gives a settlement before it happened.

A settled rate is known a minute after its settlement; a running one when it was read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from orchestration.sources.live.config import BENCHMARK_ASSET, Providers
from orchestration.sources.live.errors import NotListed, ProviderRefused, ShapeChanged
from orchestration.sources.live.funding_rules import (
    HALF_MINUTE,
    RULES,
    UNKNOWN,
    Rate,
    Settlement,
    with_intervals,
)
from orchestration.sources.live.history import Part, sweep
from orchestration.sources.live.rows import arrow, to_ms, unknown_field_notes, within
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.swap_venue import SwapVenue
from orchestration.sources.protocol import Page, Stream

TABLE = "funding_rates"
DELAY = timedelta(minutes=1)
"""From the settlement until its rate counts as known."""
OVERLAP = timedelta(days=1)
CONTEXT = timedelta(hours=48)
"""Settlements before the first wanted one that its interval is told from."""
CURRENT = "(current)"
HISTORY, RUNNING, ALL_RUNNING = "fetchFundingRateHistory", "fetchFundingRate", "fetchFundingRates"
INTERVALS = "fetchFundingIntervals"


class Funding:
    """Funding of one venue, by its ccxt id; see the module."""

    def __init__(self, venue_id: str, providers: Providers) -> None:
        self.provider = venue_id
        self.config = providers.config
        self.venue = SwapVenue(venue_id, providers)
        self.rules = RULES.get(venue_id, UNKNOWN)
        self._notes: dict[str, list[str]] = {}

    def streams(self) -> Sequence[Stream]:
        """The running rates first: they are of the moment at which reading starts."""
        coins = self.config.coins
        running = LiveStream(
            f"{self.provider}/funding-now",
            TABLE,
            self.provider,
            self._read_running,
            assets=coins,
            snapshot=True,
            noted=partial(self._noted, CURRENT),
        )
        return [running, *(self._history(coin) for coin in coins)]

    def probe(self) -> str:
        """The newest settlement of BTC. Raises ``ProviderError``."""
        now = self.venue.transport.clock()
        rates = [
            rate
            for page in self._read(BENCHMARK_ASSET, now - 2 * OVERLAP, now)
            for rate in page.rows.to_pylist()
        ]
        if not rates:
            raise ProviderRefused(self.provider, HISTORY, "no settlement in the last two days")
        last = rates[-1]
        return (
            f"{last['symbol']} funding of {last['ts']:%Y-%m-%d %H:%M}, {last['rate']:.4%} "
            f"for {last['interval_hours']:g} h"
        )

    def _history(self, coin: str) -> LiveStream:
        return LiveStream(
            f"{self.provider}/funding/{coin}",
            TABLE,
            self.provider,
            partial(self._read, coin),
            assets=(coin,),
            overlap=OVERLAP,
            noted=partial(self._noted, coin),
        )

    def _noted(self, name: str) -> Sequence[str]:
        return (*self._notes.get(name, ()), *unknown_field_notes(self.venue.transport))

    # settled rates

    def _read(
        self, coin: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        notes = self._notes[coin] = []
        symbol = self.venue.perpetual(coin)
        last = min(known_until, self.venue.transport.now()) - DELAY
        wanted = self.config.start_time if known_after is None else known_after - DELAY
        parts = self._settlements(symbol, wanted - CONTEXT, last)
        first: datetime | None = None
        for rates, complete in with_intervals(parts, self.rules.hours):
            inside = [
                rate
                for rate in rates
                if rate.ts <= last
                and (rate.ts > wanted or (known_after is None and rate.ts == wanted))
            ]
            first = first or (inside[0].ts if inside else None)
            yield Page(self._rows(coin, symbol, inside), min(complete, last) + DELAY)
        notes += self._gap(coin, wanted, last, first)

    def _settlements(
        self, symbol: str, since: datetime, last: datetime
    ) -> Iterator[Part[Settlement]]:
        return sweep(
            partial(self._ask, symbol),
            lambda settled: settled.ms,
            to_ms(since),
            to_ms(last + HALF_MINUTE),
            spacing=self.rules.spacing_ms,
            cut=self.rules.cut,
            window=self.rules.window_ms,
        )

    def _ask(self, symbol: str, since: int, until: int) -> list[Settlement]:
        rules = self.rules
        if rules.by_end:
            found = self.venue.call(
                HISTORY, symbol, None, rules.limit, {rules.by_end: str(until + 1)}
            )
        else:
            found = self.venue.call(HISTORY, symbol, since, rules.limit, {"until": until})
        if rules.answer:
            self.venue.check_answer(rules.answer, HISTORY)
        return [self._settlement(entry) for entry in found]

    def _settlement(self, entry: Mapping[str, Any]) -> Settlement:
        info = entry.get("info")
        rate = entry.get("fundingRate")
        if self.rules.rate and isinstance(info, Mapping):
            rate = info.get(self.rules.rate)
        return Settlement(
            int(self._number(HISTORY, "timestamp", entry.get("timestamp"))),
            self._number(HISTORY, self.rules.rate or "fundingRate", rate),
        )

    def _rows(self, coin: str, symbol: str, rates: Sequence[Rate]) -> Any:
        return arrow(
            TABLE,
            (
                {
                    "venue": self.provider,
                    "symbol": symbol,
                    "asset": coin,
                    "ts": rate.ts,
                    "rate": rate.rate,
                    "interval_hours": rate.hours,
                    "known_at": rate.ts + DELAY,
                }
                for rate in rates
            ),
        )

    def _gap(
        self, coin: str, wanted: datetime, last: datetime, first: datetime | None
    ) -> list[str]:
        """What is missing because the venue forgets, or because we do not know how it pages."""
        keeps = self.rules.keeps
        if self.rules.known and (keeps is None or wanted >= last - keeps):
            return []
        if first is not None and first - wanted <= OVERLAP:
            return []
        why = (
            f"keeps {keeps.days} days of funding"
            if keeps
            else "is asked in 30-day stretches, its own paging is not known to us"
        )
        given = f"given from {first:%Y-%m-%d %H:%M}" if first else "nothing given"
        return [f"{self.provider} {why}: {coin} asked from {wanted:%Y-%m-%d}, {given}"]

    # running rates

    def _read_running(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        notes = self._notes[CURRENT] = []
        symbols: dict[str, str] = {}
        for coin in self.config.coins:
            try:
                symbols[self.venue.perpetual(coin)] = coin
            except NotListed as error:
                notes.append(error.detail)
        if not symbols:
            raise NotListed(self.provider, RUNNING, "none of the coins is listed")
        rows = []
        intervals: Mapping[str, Any] | None = None
        for symbol, entry in self._running(list(symbols), notes):
            now = self.venue.transport.clock()
            interval = entry.get("interval")
            if interval is None and self.venue.supports(INTERVALS):
                intervals = self.venue.call(INTERVALS) if intervals is None else intervals
                interval = (intervals.get(symbol) or {}).get("interval")
            stated = re.fullmatch(r"(\d+)h", str(interval))
            hours = float(stated[1]) if stated else self.rules.current_hours
            if hours is None:
                notes.append(f"no interval for the running rate of {symbol}: no row")
                continue
            rate = self._number(
                ALL_RUNNING, f"{symbol}.fundingRate", entry.get("fundingRate"), entry
            )
            rows.append(
                {
                    "venue": self.provider,
                    "symbol": f"{symbol}{CURRENT}",
                    "asset": symbols[symbol],
                    "ts": now,
                    "rate": rate,
                    "interval_hours": hours,
                    "known_at": now,
                }
            )
        yield Page(
            within(arrow(TABLE, rows), known_after, known_until, self.venue.transport.clock())
        )

    def _running(
        self, symbols: Sequence[str], notes: list[str]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self.venue.supports(ALL_RUNNING):
            found = self.venue.call(ALL_RUNNING, list(symbols))
            notes += [f"no running rate of {symbol}" for symbol in symbols if symbol not in found]
            yield from ((symbol, found[symbol]) for symbol in symbols if symbol in found)
        elif self.venue.supports(RUNNING):
            for symbol in symbols:
                yield symbol, self.venue.call(RUNNING, symbol, self._last_eight_hours())
        else:
            notes.append("ccxt has no running rate of this venue")

    def _last_eight_hours(self) -> dict[str, int]:
        """Deribit's running rate is of a stretch; ccxt would end it by the clock of this machine."""
        if self.provider != "deribit":
            return {}
        now = self.venue.transport.clock()
        return {"start_timestamp": to_ms(now - timedelta(hours=8)), "end_timestamp": to_ms(now)}

    def _number(
        self, endpoint: str, name: str, value: Any, entry: Mapping[str, Any] | None = None
    ) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            seen = "" if entry is None else f" in {str(entry.get('info'))[:160]}"
            raise ShapeChanged(
                self.provider, endpoint, f"field {name}: expected a number, got {value!r}{seen}"
            )
        return number
