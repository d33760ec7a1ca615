"""The seam between the platform and whoever has data: one protocol for each kind, bundled by table
name.

In: a table's name and a window of ``known_at``. Out: Arrow batches with exactly that raw table's
columns. Never: writes, or decides what is good data; a source passes on what it finds and the gate
judges it.

A source is read stream by stream. A stream is the smallest thing that can fail, be late or be
resumed alone: a whole table of an archive, or one coin's bars at one venue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa

MAX_BATCH_ROWS = 250_000
"""No batch holds more rows than this, so that memory does not grow with the history."""


class SourceError(ValueError):
    """A source cannot be opened or read; the message says where, what was found and what to do."""


class Feed(Protocol):
    """One kind of data from one source."""

    @property
    def table(self) -> str:
        """The raw table this feed fills, unqualified: ``ohlcv``."""
        ...

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """Rows with ``known_after < known_at <= known_until`` (None: from the beginning).

        Each batch has the schema of ``TABLES[table].arrow``. The same window gives the same batches
        in the same order. Memory must not grow with the window.
        """
        ...


class PriceFeed(Feed, Protocol):
    """Bars of traded pairs."""

    @property
    def table(self) -> Literal["ohlcv"]: ...


class FundingFeed(Feed, Protocol):
    """Funding rates of perpetual swaps."""

    @property
    def table(self) -> Literal["funding_rates"]: ...


class OpenInterestFeed(Feed, Protocol):
    """Open interest of derivatives, in USD."""

    @property
    def table(self) -> Literal["open_interest"]: ...


class ImpliedVolatilityFeed(Feed, Protocol):
    """Implied-volatility indices, in annualised percent."""

    @property
    def table(self) -> Literal["implied_volatility"]: ...


class OnchainFeed(Feed, Protocol):
    """Chain, exchange-flow and stablecoin-supply metrics, with their revisions."""

    @property
    def table(self) -> Literal["onchain_metrics"]: ...


class SentimentFeed(Feed, Protocol):
    """Sentiment, news-count and attention metrics."""

    @property
    def table(self) -> Literal["sentiment_metrics"]: ...


class HeadlineFeed(Feed, Protocol):
    """News headlines."""

    @property
    def table(self) -> Literal["headlines"]: ...


@dataclass(frozen=True)
class Page:
    """Rows of one stream, with the columns of its table.

    ``known_through``: every row of the stream with a ``known_at`` up to here is in this page or in an
    earlier one, so that a reader who is killed goes on from here; None: nothing of the kind can be
    said before the last page.
    """

    rows: pa.Table
    known_through: datetime | None = None


class Stream(Protocol):
    """What can be read, resumed and be missing alone."""

    @property
    def name(self) -> str:
        """Unique in its source and stable: ``binance/ohlcv/5m/BTC``. The cursor hangs on it."""
        ...

    @property
    def table(self) -> str:
        """The raw table, unqualified."""
        ...

    @property
    def provider(self) -> str:
        """Who is asked."""
        ...

    @property
    def assets(self) -> tuple[str, ...]:
        """Coins that it covers; none where it is of no single coin. With a coin that it did not cover
        before it is read from the beginning, so a stream of several coins gives no ``known_through``.
        """
        ...

    @property
    def overlap(self) -> timedelta:
        """How far back a read starts before the cursor, because the provider revises so far."""
        ...

    @property
    def current(self) -> bool:
        """Whether rows are what the provider says now, so that a value which differs from the newest
        version is a revision, even if it was seen before.
        """
        ...

    @property
    def punctual(self) -> bool:
        """Whether a row is there for whoever asks from its ``known_at`` on, as the bars of an exchange are. A row of
        another stream that was not there when it was last asked for is known on arrival, whatever it says.
        """
        ...

    @property
    def snapshot(self) -> bool:
        """Whether it gives only what is there at the moment of reading, and is captured between daily runs."""
        ...

    def pages(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        """Rows with ``known_after < known_at <= known_until`` (None: from the beginning), each page
        with at most ``MAX_BATCH_ROWS``. Raises ``SourceError`` where the provider does not give them;
        the pages before it stand.
        """
        ...

    def notes(self) -> Sequence[str]:
        """What a person should know of the last read: a fallback, a field that is new."""
        ...


class Source(Protocol):
    """Everything the platform asks of a source."""

    @property
    def name(self) -> str:
        """What the rows carry in ``source``: archive, simulated or live."""
        ...

    @property
    def assets(self) -> tuple[str, ...]:
        """The coins that this source was asked for, by ticker."""
        ...

    def streams(self, table: str) -> Sequence[Stream]:
        """The streams that fill one raw table; none where the source has no such data."""
        ...

    def now(self) -> datetime | None:
        """The present of a source that goes on while we look: everything up to it can be read.
        None: a source of the past, read up to the decision time.
        """
        ...

    def first_day(self) -> date:
        """The first UTC day with prices."""
        ...

    def last_day(self) -> date | None:
        """The last UTC day with prices; None: no end."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a person should know about the source, as plain JSON values."""
        ...


@runtime_checkable
class SettledSource(Protocol):
    """A source whose providers have clocks of their own."""

    def settled(self, stream: Stream) -> datetime:
        """Up to where a stream that was just read can have been read: our present, or its provider's where that is earlier."""
        ...
