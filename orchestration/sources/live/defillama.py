"""DefiLlama: dollars of stablecoins in circulation, all together and the largest one by one; one value a day.

In: ``stablecoins.llama.fi``, which needs no key. Out: rows of ``raw.onchain_metrics``, metric CirculatingUSD. Never takes the point of a
day that still runs: it moves until the day is over.

The point stamped D is the state at D 00:00; it is known twelve hours later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from math import fsum
from typing import Any

from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import NotListed, ShapeChanged
from orchestration.sources.live.rows import (
    Answer,
    Seconds,
    arrow,
    in_order,
    midnight,
    parse,
    unknown_field_notes,
    within,
)
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.transport import Policy, endpoint_of
from orchestration.sources.protocol import Page

PROVIDER = "defillama"
BASE = "https://stablecoins.llama.fi"
CHART = f"{BASE}/stablecoincharts/all"
LIST = f"{BASE}/stablecoins"
TOTAL = "ALL_STABLES"
STABLECOINS = ("USDT", "USDC", "DAI", "BUSD", "TUSD", "FDUSD", "FRAX")
METRIC = "CirculatingUSD"
DELAY = timedelta(hours=12)
DAY = timedelta(days=1)
OVERLAP = timedelta(days=7)


Pegs = dict[str, float | None]
"""An amount by peg: {"peggedUSD": 1.6e11, "peggedEUR": 3e8}."""


class _Point(Answer):
    date: Seconds
    totalCirculatingUSD: Pegs
    totalCirculating: Pegs | None = None
    totalUnreleased: Pegs | None = None
    totalMintedUSD: Pegs | None = None
    totalBridgedToUSD: Pegs | None = None


class _Stablecoin(Answer):
    id: str
    symbol: str
    circulating: Pegs | None = None
    name: Any = None
    gecko_id: Any = None
    pegType: Any = None
    pegMechanism: Any = None
    priceSource: Any = None
    price: Any = None
    circulatingPrevDay: Any = None
    circulatingPrevWeek: Any = None
    circulatingPrevMonth: Any = None
    chainCirculating: Any = None
    chains: Any = None
    delisted: Any = None


class _Listing(Answer):
    peggedAssets: list[_Stablecoin]
    chains: Any = None


class DefiLlama:
    """A stream for the total and one for each large stablecoin."""

    provider = PROVIDER

    def __init__(self, providers: Providers) -> None:
        self.config = providers.config
        self._transport = providers.transport(PROVIDER, Policy(requests=2, per=1.0))
        self._ids: dict[str, str] = {}

    def streams(self) -> list[LiveStream]:
        """See ``Connector.streams``."""
        return [self._stream(asset) for asset in (TOTAL, *STABLECOINS)]

    def probe(self) -> str:
        """See ``Connector.probe``."""
        newest = max(self._chart(TOTAL), key=lambda point: point.date, default=None)
        if newest is None:
            raise ShapeChanged(PROVIDER, endpoint_of(CHART), "an empty list")
        return f"{TOTAL} of {newest.date:%Y-%m-%d}: {_dollars(newest) or 0:,.0f} USD"

    def _stream(self, asset: str) -> LiveStream:
        notes: list[str] = []
        tells = asset == TOTAL  # of new fields, for all of them
        return LiveStream(
            name=f"{PROVIDER}/{asset}",
            table="onchain_metrics",
            provider=PROVIDER,
            read=partial(self._read, asset, notes),
            overlap=OVERLAP,
            noted=lambda: (*notes, *(unknown_field_notes(self._transport) if tells else ())),
        )

    def _read(
        self, asset: str, notes: list[str], known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        notes.clear()
        after = known_after or self.config.start_time
        points = self._chart(asset)
        over = self._transport.now()
        rows, empty = [], 0
        for point in points:
            ts, value = midnight(point.date), _dollars(point)
            if ts + DELAY <= after or ts + DAY > over:
                continue
            if value is None:
                empty += 1
                continue
            rows.append(
                {
                    "provider": PROVIDER,
                    "asset": asset,
                    "metric": METRIC,
                    "ts": ts,
                    "value": value,
                    "known_at": ts + DELAY,
                }
            )
        if empty:
            notes.append(f"{empty} days without a value")
        yield Page(within(arrow("onchain_metrics", in_order(rows, "ts")), known_after, known_until))

    def _chart(self, asset: str) -> list[_Point]:
        """The whole history: there is no shorter answer."""
        params = {} if asset == TOTAL else {"stablecoin": self._id(asset)}
        answer = self._transport.get_json(CHART, params)
        points: list[_Point] = parse(list[_Point], answer, self._transport, endpoint_of(CHART))
        if not points:
            raise ShapeChanged(PROVIDER, endpoint_of(CHART), f"no history of {asset}")
        return points

    def _id(self, symbol: str) -> str:
        """DefiLlama's number of a stablecoin; of several with one symbol the largest."""
        if not self._ids:
            listing: _Listing = parse(
                _Listing, self._transport.get_json(LIST), self._transport, endpoint_of(LIST)
            )
            by_size = sorted(
                listing.peggedAssets,
                key=lambda coin: sum(filter(None, (coin.circulating or {}).values())),
            )
            self._ids = {coin.symbol.upper(): coin.id for coin in by_size}
        if symbol not in self._ids:
            raise NotListed(PROVIDER, endpoint_of(LIST), f"no stablecoin {symbol!r}")
        return self._ids[symbol]


def _dollars(point: _Point) -> float | None:
    """The sum over pegs, which are in dollars already."""
    values = [value for value in point.totalCirculatingUSD.values() if value is not None]
    return fsum(values) if values else None
