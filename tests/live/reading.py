"""Reads a stream as the ingest does, without a warehouse: cursor, overlap, pages kept before a fault, versions.

In: a ``LiveStream`` and the moment of reading. Out: what the raw table would hold. Never asks a provider itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestration.sources.live.stream import LiveStream
from orchestration.sources.protocol import SourceError
from orchestration.sources.schema import TABLES

Key = tuple[Any, ...]
Version = tuple[Any, ...]


class Held:
    """Versions by key, oldest first; a version is the value columns and ``known_at``."""

    def __init__(self) -> None:
        self.versions: dict[Key, list[Version]] = {}
        self.cursors: dict[str, datetime] = {}
        self.asked: list[datetime | None] = []

    def read(self, stream: LiveStream, until: datetime) -> SourceError | None:
        """Read up to ``until``; the fault that ended it, if any. Every row must lie within what was asked for."""
        held = self.cursors.get(stream.name)
        after = None if held is None else held - stream.overlap
        self.asked.append(after)
        try:
            for page in stream.pages(after, until):
                for row in page.rows.to_pylist():
                    assert row["known_at"] <= until
                    assert after is None or row["known_at"] > after
                    assert row["ts"] <= row["known_at"]
                    assert row["source"] == "live"
                    self._store(stream.table, row, until)
                if page.known_through is not None:
                    self._advance(stream.name, min(page.known_through, until))
        except SourceError as error:
            return error
        self._advance(stream.name, until)
        return None

    def _advance(self, name: str, to: datetime) -> None:
        self.cursors[name] = max(to, self.cursors.get(name, to))

    def _store(self, table: str, row: dict[str, Any], now: datetime) -> None:
        schema = TABLES[table]
        versions = self.versions.setdefault(tuple(row[name] for name in schema.key), [])
        values = tuple(row[name] for name in schema.value_columns)
        if versions and versions[-1][:-1] == values:
            return
        clash = bool(versions) and versions[-1][-1] >= row["known_at"]
        versions.append((*values, now if clash else row["known_at"]))
