"""What sources share: feeds by table name, checks on a window, batches of a bounded size.

In: feeds. Out: the ``batches`` of a ``Source``. Never: changes, sorts or drops a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import pyarrow as pa

from orchestration.sources.protocol import MAX_BATCH_ROWS, Feed, SourceError
from orchestration.sources.schema import TABLES


class FeedBundle:
    """Feeds by the table that they fill."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds: Mapping[str, Feed] = {feed.table: feed for feed in feeds}

    def batches(
        self, table: str, known_after: datetime | None, known_until: datetime
    ) -> Iterator[pa.Table]:
        """See ``Source.batches``.

        Raises KeyError for an unknown table and SourceError for a time without a zone.
        """
        if table not in TABLES:
            raise KeyError(f"raw table {table!r}: expected one of {', '.join(TABLES)}")
        until = _utc("known_until", known_until)
        after = None if known_after is None else _utc("known_after", known_after)
        feed = self._feeds.get(table)
        if feed is None or (after is not None and after >= until):
            return iter(())
        return bounded(feed.batches(after, until))


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
