"""Snapshots of spot order books, as they stand when they are read.

In: a ccxt venue. Out: batches of ``raw.order_books``: both sides as JSON, best first, kept as given. Never: judges a book; one that is
empty or crossed is passed on, and only one that cannot be read is an error.

``ts`` is the venue's stamp where it has one that is not after the moment of reading, which is ``known_at``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from orchestration.sources.live.bars import SpotVenue
from orchestration.sources.live.config import BENCHMARK_ASSET, Providers
from orchestration.sources.live.errors import ShapeChanged
from orchestration.sources.live.rows import arrow, from_ms, within
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.protocol import Page, Stream

TABLE = "order_books"
ENDPOINT = "fetchOrderBook"
LEVELS = 100
NEAREST_LEVELS = {"htx": 150, "kucoin": 50}
"""Venues that refuse 100, or answer it with the whole book; KuCoin gives 100 for 50."""
_SIDES = {
    "bids": ("bids", "bid", "b", "buy", "levels"),
    "asks": ("asks", "ask", "a", "sell", "levels"),
}
"""What venues call the two sides."""


class OrderBooks:
    """Spot order books of one venue, by its ccxt id; see the module."""

    def __init__(self, venue_id: str, providers: Providers) -> None:
        self.provider = venue_id
        self.config = providers.config
        self.venue = SpotVenue(venue_id, providers)

    def streams(self) -> Sequence[Stream]:
        """A stream for each coin."""
        return [
            LiveStream(
                f"{self.provider}/order_book/{coin}",
                TABLE,
                self.provider,
                partial(self._read, coin),
                assets=(coin,),
                snapshot=True,
            )
            for coin in self.config.coins
        ]

    def probe(self) -> str:
        """BTC's best prices. Raises ``ProviderError``."""
        symbol = self.venue.spot(BENCHMARK_ASSET)
        book = self._book(symbol)
        best = [f"{side[0][0]:,.10g}" if side else "none" for side in (book["bids"], book["asks"])]
        return f"{symbol} book, best bid {best[0]}, best ask {best[1]}"

    def _read(
        self, coin: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        symbol = self.venue.spot(coin)
        book = self._book(symbol)
        now = self.venue.transport.clock()
        stamp = book.get("timestamp")
        ts = min(from_ms(stamp), now) if isinstance(stamp, int | float) and stamp > 0 else now
        row = {
            "venue": self.provider,
            "symbol": symbol,
            "asset": coin,
            "ts": ts,
            "bids": _text(book["bids"]),
            "asks": _text(book["asks"]),
            "known_at": now,
        }
        yield Page(within(arrow(TABLE, [row]), known_after, known_until, now))

    def _book(self, symbol: str) -> dict[str, Any]:
        levels = NEAREST_LEVELS.get(self.provider, LEVELS)
        book = self.venue.call(ENDPOINT, symbol, levels)
        return {**book, **{side: self._side(book, side) for side in _SIDES}}

    def _side(self, book: Mapping[str, Any], name: str) -> list[list[float]]:
        """Price and amount of each level. Raises ``ShapeChanged``."""
        found = book.get(name) or []
        if not found and not _has_list(
            json.loads(self.venue.exchange.last_http_response), _SIDES[name]
        ):
            raise ShapeChanged(self.provider, ENDPOINT, f"field {name}: missing")
        for place, level in enumerate(found):
            for part, value in zip(("price", "amount"), (*level, None, None), strict=False):
                if not isinstance(value, int | float) or not math.isfinite(value):
                    raise ShapeChanged(
                        self.provider,
                        ENDPOINT,
                        f"field {name}.{place}.{part}: expected a number, got {value!r}",
                    )
        return [[float(level[0]), float(level[1])] for level in found]


def _text(side: Sequence[Sequence[float]]) -> str:
    return json.dumps(side, separators=(",", ":"), allow_nan=False)


def _has_list(answer: Any, names: Sequence[str]) -> bool:
    """Whether a list goes by one of ``names`` anywhere in the answer: ccxt takes an absent side for an empty one."""
    if isinstance(answer, Mapping):
        return any(
            (key in names and isinstance(value, list | dict)) or _has_list(value, names)
            for key, value in answer.items()
        )
    return isinstance(answer, list) and any(_has_list(item, names) for item in answer)
