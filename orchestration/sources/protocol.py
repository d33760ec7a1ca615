"""The seam between the platform and whoever has data: one protocol for each kind, bundled by table
name.

In: a table's name and a window of ``known_at``. Out: Arrow batches with exactly that raw table's
columns. Never: writes, or decides what is good data; a source passes on what it finds and the gate
judges it.

A live connector implements the same protocol: ``known_at`` is then the provider's stamp, or the
moment of reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Literal, Protocol

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

    def batches(
        self, table: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[pa.Table]:
        """The rows of one raw table, as ``Feed.batches``, at most ``MAX_BATCH_ROWS`` a batch.

        A table that the source has no data for yields nothing.
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
