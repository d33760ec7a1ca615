"""Deribit's volatility index DVOL: the 30-day implied volatility of BTC and ETH options.

In: ``public/get_volatility_index_data``, JSON-RPC over GET. Out: batches of ``raw.implied_volatility``, annualised percent, hourly and daily.
Never: gives a candle that has not ended, or tells an error of Deribit's from a network fault by its text.

The endpoint gives at most 1,000 candles, the newest, and where to go on (``continuation``). It is asked window by window, oldest first, so
that a reader who is killed goes on where it stopped; within a window the continuation is followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from orchestration.sources.live.config import BENCHMARK_ASSET, Providers
from orchestration.sources.live.errors import ProviderRefused, ProviderUnavailable
from orchestration.sources.live.rows import (
    Answer,
    arrow,
    from_ms,
    parse,
    to_ms,
    unknown_field_notes,
)
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.venue import VENUE_POLICY
from orchestration.sources.protocol import Page, Stream

PROVIDER = "deribit"
TABLE = "implied_volatility"
ENDPOINT = "public/get_volatility_index_data"
URL = f"https://www.deribit.com/api/v2/{ENDPOINT}"
INDEXED = ("BTC", "ETH")
"""Coins that have an index."""
FIRST = datetime(2021, 3, 24, tzinfo=UTC)
LENGTHS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
RESOLUTIONS = {"1h": "3600", "1d": "1D"}
OVERLAPS = {"1h": timedelta(hours=6), "1d": timedelta(days=3)}
DELAY = timedelta(minutes=1)
"""From the end of a candle until it counts as known."""
POINTS = 1000
PASSING = frozenset({10028, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888})
"""Codes of errors that pass: too many requests, retry, settlement, queue full, maintenance, internal, unavailable, timed out."""


class RpcError(Answer):
    code: int
    message: str
    data: Any = None


class Candles(Answer):
    data: list[Annotated[list[float], Field(min_length=5)]]
    continuation: int | None


class RpcAnswer(Answer):
    result: Candles
    jsonrpc: str | None = None
    id: Any = None
    usIn: int | None = None
    usOut: int | None = None
    usDiff: int | None = None
    testnet: bool | None = None


class DeribitVolatility:
    """See the module."""

    provider = PROVIDER

    def __init__(self, providers: Providers) -> None:
        self.config = providers.config
        self.transport = providers.transport(PROVIDER, VENUE_POLICY)

    def streams(self) -> Sequence[Stream]:
        """A stream for each coin that has an index, and each resolution."""
        return [
            LiveStream(
                f"{PROVIDER}/dvol/{coin}/{resolution}",
                TABLE,
                PROVIDER,
                partial(self._read, coin, resolution),
                assets=(coin,),
                overlap=OVERLAPS[resolution],
                noted=partial(unknown_field_notes, self.transport),
            )
            for coin in self.config.coins
            if coin in INDEXED
            for resolution in LENGTHS
        ]

    def probe(self) -> str:
        """The newest hour of BTC. Raises ``ProviderError``."""
        now = self.transport.clock()
        hours = [
            hour
            for page in self._read(BENCHMARK_ASSET, "1h", now - OVERLAPS["1h"], now)
            for hour in page.rows.to_pylist()
        ]
        if not hours:
            raise ProviderRefused(PROVIDER, ENDPOINT, "no hour in the last six")
        return f"{hours[-1]['symbol']} 1h of {hours[-1]['ts']:%Y-%m-%d %H:%M}, close {hours[-1]['close']:g} %"

    def _read(
        self, coin: str, resolution: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        length = LENGTHS[resolution]
        start = max(FIRST, self.config.start_time)
        if known_after is not None:
            start = max(FIRST, known_after - length - DELAY)
        start = _floor(start, length)
        last = _floor(known_until - length - DELAY, length)
        while start <= last:
            end = min(start + (POINTS - 1) * length, last)
            candles = self._candles(coin, resolution, start, end)
            closed = min(known_until - DELAY, self.transport.now())  # the answer told its time
            rows = [
                {
                    "venue": PROVIDER,
                    "symbol": f"{coin}-DVOL",
                    "asset": coin,
                    "resolution": resolution,
                    "ts": ts,
                    **dict(zip(("open", "high", "low", "close"), values, strict=True)),
                    "known_at": ts + length + DELAY,
                }
                for ts, values in candles.items()
                if ts + length <= closed
                and (known_after is None or ts + length + DELAY > known_after)
            ]
            yield Page(arrow(TABLE, rows), min(end + length, closed) + DELAY)
            start = end + length

    def _candles(
        self, coin: str, resolution: str, start: datetime, end: datetime
    ) -> dict[datetime, list[float]]:
        """Open, high, low, close by opening time, in order.

        The stretch is a little wider than wanted: whether its ends belong to it is not documented.
        """
        found: dict[datetime, list[float]] = {}
        since = to_ms(start) - 1
        until = to_ms(end + LENGTHS[resolution]) - 1
        while True:
            result = self._ask(coin, RESOLUTIONS[resolution], since, until)
            fresh = {from_ms(candle[0]): candle[1:5] for candle in result.data}
            more = result.continuation is not None and bool(fresh.keys() - found.keys())
            found |= fresh
            if not more or result.continuation is None or result.continuation <= since:
                return {ts: found[ts] for ts in sorted(found) if start <= ts <= end}
            until = result.continuation

    def _ask(self, coin: str, resolution: str, since: int, until: int) -> Candles:
        params: dict[str, str | int] = {
            "currency": coin,
            "start_timestamp": since,
            "end_timestamp": until,
            "resolution": resolution,
        }
        response = self.transport.get(URL, params=params)
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer:
            error: RpcError = parse(RpcError, answer["error"], self.transport, ENDPOINT)
            kind = ProviderUnavailable if error.code in PASSING else ProviderRefused
            raise kind(PROVIDER, ENDPOINT, f"error {error.code} {error.message}")
        if response.status_code >= 300:
            raise ProviderRefused(PROVIDER, ENDPOINT, f"{response.status_code} {answer!r:.120}")
        checked: RpcAnswer = parse(RpcAnswer, answer, self.transport, ENDPOINT)
        return checked.result


def _floor(value: datetime, length: timedelta) -> datetime:
    """The last beginning of a candle at or before ``value``."""
    epoch = from_ms(0)
    return epoch + (value - epoch) // length * length
