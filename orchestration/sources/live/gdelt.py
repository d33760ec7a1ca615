"""GDELT DOC 2.0: how much the world's news write about crypto and in what tone; one value a day.

In: ``api.gdeltproject.org``, which needs no key and asks for one request in five seconds. Out: rows of ``raw.sentiment_metrics``: gdelt_tone
(mostly -10 to 10, negative is critical), gdelt_article_count, and for the market gdelt_total_articles (all that GDELT monitored that day, by
which a count is put into proportion). Never takes a day that still runs, nor a day on which GDELT monitored nothing for a day without news.

Day D is known at D+1 01:00.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator

from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import ProviderUnavailable, ShapeChanged
from orchestration.sources.live.rows import (
    Answer,
    arrow,
    midnight,
    parse,
    unknown_field_notes,
    within,
)
from orchestration.sources.live.stream import LiveStream
from orchestration.sources.live.transport import Policy, endpoint_of
from orchestration.sources.protocol import Page
from orchestration.sources.schema import MARKET_ASSET

PROVIDER = "gdelt"
URL = "https://api.gdeltproject.org/api/v2/doc/doc"
ENDPOINT = endpoint_of(URL)
QUERIES = {
    MARKET_ASSET: "(bitcoin OR ethereum OR cryptocurrency)",
    "BTC": "bitcoin",
    "ETH": "ethereum",
}
COUNT, TONE = ("timelinevolraw", "Article Count"), ("timelinetone", "Average Tone")
"""Mode and the name of its series."""
FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DELAY = timedelta(hours=25)
OVERLAP = timedelta(days=3)
WINDOW_DAYS = 365
SHORTEST_DAYS = 14
"""Of a week or less GDELT gives hours."""
POLICY = Policy(requests=1, per=5.5, first_wait=6.0, read_timeout=60.0)
ASKED_TOO_OFTEN = "Please limit requests"


def _from_text(value: Any) -> Any:
    """``20240630T000000Z``."""
    return datetime.strptime(str(value), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


class _Point(Answer):
    date: Annotated[datetime, BeforeValidator(_from_text)]
    value: float
    norm: float | None = None  # with counts: all articles of the day


class _Series(Answer):
    series: str
    data: list[_Point]


class _Timeline(Answer):
    timeline: list[_Series]
    query_details: Any = None


class Gdelt:
    """A stream for the market and one for each coin that has a query of its own."""

    provider = PROVIDER

    def __init__(self, providers: Providers) -> None:
        self.config = providers.config
        self._transport = providers.transport(PROVIDER, POLICY)

    def streams(self) -> list[LiveStream]:
        """See ``Connector.streams``."""
        coins = [coin for coin in self.config.coins if coin in QUERIES]
        return [
            LiveStream(
                name=f"{PROVIDER}/{asset}",
                table="sentiment_metrics",
                provider=PROVIDER,
                read=partial(self._read, asset),
                assets=() if asset == MARKET_ASSET else (asset,),
                overlap=OVERLAP,
                noted=self._new_fields if asset == MARKET_ASSET else tuple,
            )
            for asset in (MARKET_ASSET, *coins)
        ]

    def _new_fields(self) -> tuple[str, ...]:
        return unknown_field_notes(self._transport)

    def probe(self) -> str:
        """See ``Connector.probe``."""
        last = midnight(self._transport.now()) - DAY
        counts = self._days(MARKET_ASSET, COUNT, last - SHORTEST_DAYS * DAY, last)
        if not counts:
            raise ShapeChanged(PROVIDER, ENDPOINT, "field timeline.data: no day")
        newest = counts[max(counts)]
        return f"{newest.date:%Y-%m-%d}: {newest.value:,.0f} articles on crypto"

    def _read(
        self, asset: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[Page]:
        since = self.config.start_time if known_after is None else known_after - DELAY
        first = max(midnight(since), FIRST_DAY)
        last = midnight(min(known_until, self._transport.now()) - DELAY)
        while first <= last:
            end = min(first + (WINDOW_DAYS - 1) * DAY, last)
            begin = max(min(first, end - (SHORTEST_DAYS - 1) * DAY), FIRST_DAY)
            counts = self._days(asset, COUNT, begin, end)
            tones = self._days(asset, TONE, begin, end)
            over = self._transport.now() - DELAY
            rows = [
                row
                for ts in sorted(counts)
                if first <= ts <= min(end, over)
                for row in self._rows(asset, counts[ts], tones.get(ts))
            ]
            yield Page(
                within(arrow("sentiment_metrics", rows), known_after, known_until),
                min(end, over) + DELAY,
            )
            first = end + DAY

    def _rows(self, asset: str, count: _Point, tone: _Point | None) -> Iterator[dict[str, Any]]:
        if count.norm is None:
            raise ShapeChanged(PROVIDER, ENDPOINT, "field timeline.data.norm: missing")
        values = {"gdelt_article_count": count.value}
        if asset == MARKET_ASSET:
            values["gdelt_total_articles"] = count.norm
        if tone is not None and count.value > 0:  # the tone of no article is 0, which means nothing
            values["gdelt_tone"] = tone.value
        if count.norm > 0:
            for metric, value in values.items():
                yield {
                    "provider": PROVIDER,
                    "asset": asset,
                    "metric": metric,
                    "ts": count.date,
                    "value": value,
                    "known_at": count.date + DELAY,
                }

    def _days(
        self, asset: str, kind: tuple[str, str], begin: datetime, end: datetime
    ) -> dict[datetime, _Point]:
        mode, name = kind
        params = {
            "query": QUERIES[asset],
            "mode": mode,
            "format": "json",
            "startdatetime": f"{begin:%Y%m%d}000000",
            "enddatetime": f"{end:%Y%m%d}235959",
        }
        try:
            answer = self._transport.get_json(URL, params)
        except ShapeChanged as error:
            if ASKED_TOO_OFTEN in error.detail:  # with status 200, and not only after many requests
                raise ProviderUnavailable(PROVIDER, ENDPOINT, error.detail) from error
            raise
        found: _Timeline = parse(_Timeline, answer, self._transport, ENDPOINT)
        points = [point for one in found.timeline if one.series == name for point in one.data]
        if not any(one.series == name for one in found.timeline):
            raise ShapeChanged(PROVIDER, ENDPOINT, f"field timeline.series: no {name!r} in {mode}")
        for point in points:
            if point.date != midnight(point.date):
                raise ShapeChanged(
                    PROVIDER, ENDPOINT, f"field timeline.data.date: {point.date} is not a day"
                )
        return {point.date: point for point in points}
