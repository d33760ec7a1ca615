"""What is kept of every stream: where it resumes, and how its last read went.

In: a stream and what became of reading it. Out: rows of ``raw.streams``. Never reads a provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import duckdb

from orchestration.secrets import mask
from orchestration.sources.protocol import Source, Stream
from orchestration.warehouse import bump_revision


@dataclass(frozen=True)
class StreamState:
    """A row of ``raw.streams``, in the order of its columns."""

    stream: str
    source: str
    table_name: str
    provider: str
    assets: tuple[str, ...] = ()
    read_from: date | None = None
    known_until: datetime | None = None
    status: str = "ok"
    detail: str = ""
    notes: str = ""
    succeeded_at: datetime | None = None
    attempted_at: datetime | None = None

    def started(self, assets: Sequence[str], first_day: date) -> StreamState:
        """This state where it covers the coins from the source's first day on; else one that reads from the beginning."""
        covered = self.read_from is not None and self.read_from <= first_day
        if covered and set(assets) <= set(self.assets):
            return self
        everything = tuple(sorted({*self.assets, *assets}))
        return replace(self, assets=everything, read_from=first_day, known_until=None)

    def advanced(self, known_until: datetime) -> StreamState:
        """The cursor moved on, never back."""
        held = self.known_until
        return replace(self, known_until=known_until if held is None else max(held, known_until))

    def read(
        self, status: str, detail: str, notes: Sequence[str], now: datetime | None
    ) -> StreamState:
        """How a read ended; ``now`` is None for a source of the past."""
        return replace(
            self,
            status=status,
            detail=mask(detail),
            notes=mask("\n".join(notes)),
            attempted_at=now,
            succeeded_at=now if status == "ok" else self.succeeded_at,
        )


def read_streams(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, StreamState]:
    """What is kept of the streams of ``raw.<table>``, by name."""
    rows = connection.execute(
        "SELECT * FROM raw.streams WHERE table_name = ?", [f"raw.{table}"]
    ).fetchall()
    states = (StreamState(*row) for row in rows)
    return {
        state.stream: replace(state, assets=tuple(filter(None, str(state.assets).split(","))))
        for state in states
    }


def fresh_state(stream: Stream, source: Source) -> StreamState:
    """A stream that was never read."""
    return StreamState(stream.name, source.name, f"raw.{stream.table}", stream.provider)


def write_stream(connection: duckdb.DuckDBPyConnection, state: StreamState) -> None:
    """Keep ``state``; people see a change of status at the next publish."""
    held = connection.execute(
        "SELECT status, notes FROM raw.streams WHERE stream = ?", [state.stream]
    ).fetchone()
    if held != (state.status, state.notes):
        bump_revision(connection)
    connection.execute("DELETE FROM raw.streams WHERE stream = ?", [state.stream])
    row = [
        state.stream, state.source, state.table_name, state.provider, ",".join(state.assets), state.read_from, state.known_until,
        state.status, state.detail, state.notes, state.succeeded_at, state.attempted_at,
    ]  # fmt: skip
    connection.execute(f"INSERT INTO raw.streams VALUES ({', '.join('?' * len(row))})", row)
