"""Streams of a source -> raw tables: what is read from where, in which order it is stored, and where a stream resumes.

In: a source. Out: rows through ``raw_rows``, cursors and outcomes in ``raw.streams``. Never moves a cursor past rows that are not stored, and
never lets one stream's fault stop another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.raw_rows import IngestCount, append_batch
from orchestration.secrets import mask
from orchestration.settings import Settings
from orchestration.sources.protocol import SettledSource, Source, SourceError, Stream
from orchestration.sources.schema import TABLES, TableSchema
from orchestration.streams import StreamState, fresh_state, read_streams, write_stream
from orchestration.warehouse import Warehouse, WarehouseError, get_state, set_state, storage_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stale:
    """A stream that could not be read to the end, and why."""

    stream: str
    status: str
    detail: str


@dataclass
class WindowResult:
    """What one table's streams gave."""

    count: IngestCount = field(default_factory=IngestCount)
    stale: list[Stale] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unavailable: ConnectionError | None = None
    """The last network error, for a caller that wants to try again."""


Progress = Callable[[Stream, datetime | None, int, bool], None]
"""progress(stream, how far it has been read, rows of the page, whether it has ended)."""


def ingest_window(
    warehouse: Warehouse,
    source: Source,
    table: str,
    from_as_of: date,
    to_as_of: date,
    progress: Progress | None = None,
) -> WindowResult:
    """Append every row of ``table`` that became known up to the decision time of ``to_as_of``.

    Of a source of the past the window starts at the decision time before ``from_as_of``, or earlier where the stream's cursor stands: a
    first run takes all history, a run after a pause takes what it missed, and a run with a coin that was not asked for before takes all
    again (known rows are not stored twice). Of a live source everything from the cursor to the present is read: features look at
    ``known_at``, so rows of after the decision time wait for their day.

    A stream that fails leaves the others alone; what it gave before is kept, and the result names it.
    """
    settings = warehouse.settings
    now = source.now()
    until = settings.decision_time(to_as_of) if now is None else now
    earliest = settings.decision_time(from_as_of - timedelta(days=1)) if now is None else None
    for attempt in warehouse.writes():
        with attempt as connection:
            claim_source(connection, settings, source)
    return _read_all(warehouse, source, source.streams(table), table, until, earliest, progress)


NOT_LISTED = "not listed"
STORE_ROWS = 50_000
"""Rows of all streams that are gathered before they are stored: each store costs a validation and two transactions."""


def fill_tables(
    warehouse: Warehouse,
    source: Source,
    tables: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[WindowResult]:
    """Read the source into its raw tables, up to its last day or the present.

    Raises ValueError for a table that does not exist, and for a source without an end.
    """
    for name in tables or ():
        if name.removeprefix("raw.") not in TABLES:
            raise ValueError(f"table {name!r}: expected one of {', '.join(TABLES)}")
    last = source.last_day()
    if last is None:
        raise ValueError(
            f"source {source.name!r} has no end: name the day with `volcast run --as-of`"
        )
    names = [name.removeprefix("raw.") for name in tables or TABLES]
    return [ingest_window(warehouse, source, name, last, last, progress) for name in names]


def capture(warehouse: Warehouse, source: Source) -> dict[str, WindowResult]:
    """Take what only exists at this moment, order books and newest headlines, into its raw tables; by table."""
    now = source.now()
    if now is None:
        raise ValueError(
            f"source {source.name!r}: nothing to capture; only VOLCAST_SOURCE=live has a present"
        )
    for attempt in warehouse.writes():
        with attempt as connection:
            claim_source(connection, warehouse.settings, source)
    return {
        table: _read_all(warehouse, source, streams, table, now)
        for table in TABLES
        if (streams := [stream for stream in source.streams(table) if stream.snapshot])
    }


def _read_all(
    warehouse: Warehouse,
    source: Source,
    streams: Sequence[Stream],
    table: str,
    until: datetime,
    earliest: datetime | None = None,
    progress: Progress | None = None,
) -> WindowResult:
    store = _Store(warehouse, source, TABLES[table], until)
    for stream in streams:
        _read_stream(source, stream, store, earliest, progress)
    store.flush()
    return store.result


class _Store:
    """Rows on their way into one table, and what is to be kept of the streams once they are in."""

    def __init__(
        self, warehouse: Warehouse, source: Source, table: TableSchema, until: datetime
    ) -> None:
        self.warehouse, self.source, self.table, self.until = warehouse, source, table, until
        self.result = WindowResult()
        self._pages: list[tuple[pa.Table, datetime | None, bool]] = []
        self._states: dict[str, StreamState] = {}
        with warehouse.read() as connection:
            self.kept = read_streams(connection, table.name)

    def add(self, rows: pa.Table, after: datetime | None, current: bool) -> None:
        if rows.num_rows:
            self._pages.append((rows, after, current))

    def keep(self, state: StreamState) -> None:
        """``state`` holds as soon as the rows added so far are stored."""
        self._states[state.stream] = state
        if sum(rows.num_rows for rows, *_ in self._pages) >= STORE_ROWS:
            self.flush()

    def flush(self) -> None:
        """Store the rows, then move the cursors: who is killed in between reads those rows again."""
        until = max(self.until, self.source.now() or self.until)
        for current in (False, True):
            pages = [(rows, after) for rows, after, kind in self._pages if kind is current]
            if pages:
                afters = [after for _, after in pages]
                self.result.count += append_batch(
                    self.warehouse,
                    self.table,
                    pa.concat_tables([rows for rows, _ in pages]),
                    None if None in afters else min(filter(None, afters)),
                    until,
                    current=current,
                )
        if self._states:
            for attempt in self.warehouse.writes():
                with attempt as connection:
                    for state in self._states.values():
                        write_stream(connection, state)
        self._pages, self._states = [], {}


def _read_stream(
    source: Source,
    stream: Stream,
    store: _Store,
    earliest: datetime | None,
    progress: Progress | None,
) -> None:
    held = store.kept.get(stream.name) or fresh_state(stream, source)
    state = held.started(stream.assets, source.first_day())
    until, after = source.now() or store.until, None
    if source.now() is not None and held.known_until is not None and held.known_until > until:
        note = f"was read up to {held.known_until:%Y-%m-%d %H:%M}, which is yet to come: the clock was ahead. It is read from the beginning"
        logger.warning("%s %s", stream.name, note)
        store.result.notes.append(f"{stream.name}: {note}")
        state = replace(state, known_until=None)  # what comes late by `held` is known on arrival
    if state.known_until is not None:
        after = state.known_until - stream.overlap
        if earliest is not None:
            after = min(after, earliest)
    error: SourceError | None = None
    try:
        for page in stream.pages(after, until):
            rows = page.rows if stream.punctual else _late_rows(page.rows, held, source)
            store.add(rows, after, stream.current)
            if page.known_through is not None:
                state = state.advanced(min(page.known_through, until))
            store.keep(state)
            if progress:
                progress(stream, page.known_through, page.rows.num_rows, False)
    except SourceError as found:
        if source.now() is None:
            raise
        error = found
    status, detail = getattr(error, "status", "failed") if error else "ok", mask(str(error or ""))
    if error is None:
        settled = source.settled(stream) if isinstance(source, SettledSource) else until
        state = state.advanced(min(until, settled))
    elif status == NOT_LISTED and stream.table != "ohlcv":
        store.result.notes.append(f"{stream.name}: {detail}")  # no provider has every coin
    else:
        coin = stream.assets[0] if len(stream.assets) == 1 else None
        logger.info("%s: %s", stream.name, detail, extra={"event": "stream_stale", "coin": coin})
        store.result.stale.append(Stale(stream.name, status, detail))
        if isinstance(error, ConnectionError):
            store.result.unavailable = error
    if progress:
        progress(stream, state.known_until, 0, True)
    notes = tuple(map(mask, stream.notes()))
    store.result.notes += [f"{stream.name}: {note}" for note in notes]
    store.keep(state.read(status, detail, notes, source.now()))


def _late_rows(rows: pa.Table, held: StreamState, source: Source) -> pa.Table:
    """``rows`` with those known on arrival that say they were known when the stream was last read.

    Either they are stored already, and dropped, or the provider was late, or it has revised them: nobody could have had them before.
    History of before ``held.read_from`` was never asked for, so it keeps its times.
    """
    now = source.now()
    if held.known_until is None or held.read_from is None or now is None:
        return rows
    known, asked_from = rows["known_at"], datetime.combine(held.read_from, time(), tzinfo=UTC)
    late = pc.and_(
        pc.less_equal(known, pa.scalar(held.known_until, known.type)),
        pc.greater_equal(rows["ts"], pa.scalar(asked_from, rows["ts"].type)),
    )
    arrived = pc.if_else(late, pa.scalar(now, known.type), known)
    return rows.set_column(rows.column_names.index("known_at"), "known_at", arrived)


def claim_source(connection: duckdb.DuckDBPyConnection, settings: Settings, source: Source) -> None:
    """One home holds one source: simulated rows among real ones would be believed."""
    mine = (
        source.name
        if source.name != "simulated"
        else f"simulated, seed {settings.seed}, from {settings.simulated_start}"
    )
    held = get_state(connection, "source")
    if held is None:
        set_state(connection, "source", mine)
    elif held != mine:
        raise WarehouseError(
            f"{storage_of(settings).address} holds data of source {held!r}, this run would add {mine!r}: choose another VOLCAST_HOME"
        )
