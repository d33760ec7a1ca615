"""The Crypto Fear & Greed Index of alternative.me: one number from 0 to 100 a day.

In: ``api.alternative.me/fng/``, which needs no key. Out: rows of ``raw.sentiment_metrics``. Never asks for more days than it needs.

The reading stamped D is published at D 00:00 and made from D-1; it counts as known an hour later.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import ProviderRefused, ShapeChanged
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
from orchestration.sources.schema import MARKET_ASSET

PROVIDER = "alternative.me"
URL = "https://api.alternative.me/fng/"
METRIC = "fear_greed"
FIRST_DAY = datetime(2018, 2, 1, tzinfo=UTC)
DELAY = timedelta(hours=1)
OVERLAP = timedelta(days=3)
EVERYTHING = 0
"""``limit`` that gives the whole history."""


class _Reading(Answer):
    value: float  # in quotes
    value_classification: str
    timestamp: Seconds
    time_until_update: str | None = None  # of the newest alone


class _Metadata(Answer):
    error: str | None


class _Index(Answer):
    name: str | None = None
    data: list[_Reading] | None
    metadata: _Metadata


class FearGreed:
    """One stream of one series."""

    provider = PROVIDER

    def __init__(self, providers: Providers) -> None:
        self.config = providers.config
        self._transport = providers.transport(PROVIDER, Policy(requests=1, per=1.0))

    def streams(self) -> list[LiveStream]:
        """See ``Connector.streams``."""
        return [
            LiveStream(
                name=f"{PROVIDER}/{METRIC}",
                table="sentiment_metrics",
                provider=PROVIDER,
                read=self._read,
                overlap=OVERLAP,
                noted=lambda: unknown_field_notes(self._transport),
            )
        ]

    def probe(self) -> str:
        """See ``Connector.probe``."""
        newest = self._newest(1)[0]
        return f"{newest.timestamp:%Y-%m-%d}: {newest.value:g}, {newest.value_classification[:20]}"

    def _read(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        since = midnight(known_after or self.config.start_time)
        days = (self._transport.clock() - since) // timedelta(days=1) + 1
        rows = [
            {
                "provider": PROVIDER,
                "asset": MARKET_ASSET,
                "metric": METRIC,
                "ts": midnight(reading.timestamp),
                "value": reading.value,
                "label": reading.value_classification,
                "known_at": midnight(reading.timestamp) + DELAY,
            }
            for reading in self._newest(EVERYTHING if since <= FIRST_DAY else days)
            if midnight(reading.timestamp) >= since
        ]
        until = min(known_until, self._transport.now())
        yield Page(within(arrow("sentiment_metrics", in_order(rows, "ts")), known_after, until))

    def _newest(self, limit: int) -> list[_Reading]:
        """The newest ``limit`` readings. Raises ``ProviderRefused`` where the answer is an error."""
        answer = self._transport.get_json(URL, {"limit": limit, "format": "json"})
        index: _Index = parse(_Index, answer, self._transport, endpoint_of(URL))
        if index.metadata.error:
            raise ProviderRefused(PROVIDER, endpoint_of(URL), index.metadata.error[:200])
        if not index.data:
            raise ShapeChanged(PROVIDER, endpoint_of(URL), "field data: no reading")
        return index.data
