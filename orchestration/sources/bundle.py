"""What sources of the past share: feeds by table name, checks on a window, batches of a bounded size.

In: feeds. Out: the ``streams`` of a ``Source``, one for each table. Never: changes, sorts or drops a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from orchestration.sources.protocol import MAX_BATCH_ROWS, Feed, Page, SourceError, Stream
from orchestration.sources.schema import TABLES


@dataclass(frozen=True)
class WholeTable:
    """A feed as the only stream of its table: read anew from its cursor, finished or not at all."""

    bundle: FeedBundle
    table: str
    overlap: timedelta = timedelta(0)
    current: bool = False
    snapshot: bool = False
    punctual: bool = True

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table

    @property
    def provider(self) -> str:
        """The source's name."""
        return self.bundle.name

    @property
    def assets(self) -> tuple[str, ...]:
        """All coins of the source."""
        return self.bundle.assets

    def pages(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        """See ``Stream.pages``; the order is not that of ``known_at``, so no page ends a part."""
        for batch in self.bundle.batches(self.table, known_after, known_until):
            yield Page(batch)

    def notes(self) -> tuple[str, ...]:
        """Nothing: what a feed leaves out is in the log."""
        return ()


class FeedBundle:
    """Feeds by the table that they fill."""

    name: str
    assets: tuple[str, ...]

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds: Mapping[str, Feed] = {feed.table: feed for feed in feeds}

    def streams(self, table: str) -> Sequence[Stream]:
        """See ``Source.streams``: one, or none where there is no feed. Raises KeyError for an unknown table."""
        _known(table)
        return [WholeTable(self, table)] if table in self._feeds else []

    def now(self) -> None:
        """None: what a feed holds does not grow while we look."""
        return None

    def batches(
        self, table: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[pa.Table]:
        """The rows of one raw table with ``known_after < known_at <= known_until``, as ``Feed.batches``.

        A table without a feed yields nothing. Raises KeyError for an unknown table and SourceError for a time without a zone.
        """
        _known(table)
        until = _utc("known_until", known_until)
        after = None if known_after is None else _utc("known_after", known_after)
        feed = self._feeds.get(table)
        if feed is None or (after is not None and after >= until):
            return iter(())
        return bounded(feed.batches(after, until))


def _known(table: str) -> None:
    if table not in TABLES:
        raise KeyError(f"raw table {table!r}: expected one of {', '.join(TABLES)}")


def bounded(tables: Iterable[pa.Table], size: int = MAX_BATCH_ROWS) -> Iterator[pa.Table]:
    """The same rows in the same order, in as few batches of at most ``size`` rows as can be.

    None of them is empty: every batch costs the warehouse a validation and a transaction.
    """
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, size).combine_chunks()
            waiting = [joined.slice(size)]
            rows -= size
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _utc(name: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        raise SourceError(f"{name} {value.isoformat()}: expected a time with a zone, such as UTC")
    return value.astimezone(UTC)
