"""Batches of raw rows -> append-only, bitemporal raw tables, the ingest ledger and the quarantine.

In: Arrow batches of a source. Out: new rows in ``raw.*``, a ledger line per batch, refused rows in ``quarantine.rows``.
Never updates or deletes a raw row: a revision is a new row. The same batch twice adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.settings import Settings
from orchestration.sources.protocol import Source, SourceError, Stream
from orchestration.sources.schema import TABLES, TableSchema
from orchestration.streams import StreamState, fresh_state, read_streams, write_stream
from orchestration.warehouse import Warehouse, WarehouseError, bump_revision, get_state, set_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestCount:
    """Rows of one table and window; ``offered`` is the sum of the other three."""

    offered: int = 0
    inserted: int = 0
    duplicate: int = 0
    quarantined: int = 0

    def __add__(self, other: IngestCount) -> IngestCount:
        return IngestCount(
            self.offered + other.offered,
            self.inserted + other.inserted,
            self.duplicate + other.duplicate,
            self.quarantined + other.quarantined,
        )


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
    with warehouse.write() as connection:
        claim_source(connection, settings, source)
    store = _Store(warehouse, source, TABLES[table], until)
    for stream in source.streams(table):
        _read_stream(source, stream, store, earliest, progress)
    store.flush()
    return store.result


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
    with warehouse.write() as connection:
        claim_source(connection, warehouse.settings, source)
    results = {}
    for table in TABLES.values():
        streams = [stream for stream in source.streams(table.name) if stream.snapshot]
        if streams:
            store = _Store(warehouse, source, table, now)
            for stream in streams:
                _read_stream(source, stream, store, None, None)
            store.flush()
            results[table.name] = store.result
    return results


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
            with self.warehouse.write() as connection:
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
    state = store.kept.get(stream.name) or fresh_state(stream, source)
    state = state.started(stream.assets, source.first_day())
    until = source.now() or store.until
    read_until, after = state.known_until, None
    if state.known_until is not None:
        after = state.known_until - stream.overlap
        if earliest is not None:
            after = min(after, earliest)
    error: SourceError | None = None
    try:
        for page in stream.pages(after, until):
            rows = page.rows if stream.punctual else _late_rows(page.rows, read_until, source)
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
    status, detail = getattr(error, "status", "failed") if error else "ok", str(error or "")
    if error is None:
        state = state.advanced(until)
    elif status == NOT_LISTED and stream.table != "ohlcv":
        store.result.notes.append(f"{stream.name}: {detail}")  # no provider has every coin
    else:
        logger.info("%s: %s", stream.name, detail)
        store.result.stale.append(Stale(stream.name, status, detail))
        if isinstance(error, ConnectionError):
            store.result.unavailable = error
    if progress:
        progress(stream, state.known_until, 0, True)
    notes = tuple(stream.notes())
    store.result.notes += [f"{stream.name}: {note}" for note in notes]
    store.keep(state.read(status, detail, notes, source.now()))


def _late_rows(rows: pa.Table, read_until: datetime | None, source: Source) -> pa.Table:
    """``rows`` with those known on arrival that say they were known when the stream was last read, up to ``read_until``.

    Either they are stored already, and dropped, or the provider was late, or it has revised them: nobody could have had them before.
    """
    now = source.now()
    if read_until is None or now is None or rows.num_rows == 0:
        return rows
    known = rows["known_at"]
    late = pc.less_equal(known, pa.scalar(read_until, known.type))
    arrived = pc.if_else(late, pa.scalar(now, known.type), known)
    return rows.set_column(rows.column_names.index("known_at"), "known_at", arrived)


def append_batch(
    warehouse: Warehouse,
    table: TableSchema,
    batch: pa.Table,
    known_after: datetime | None,
    known_until: datetime,
    *,
    current: bool = False,
) -> IngestCount:
    """Append one batch in one transaction; refused rows go to the quarantine with their reason.

    ``current``: the rows are what the provider says now, see ``_judged``.
    """
    batch = batch.select(list(table.columns)).combine_chunks()
    if batch.num_rows == 0:
        return IngestCount()
    batch_id = _batch_id(table, batch, known_until if current else None)
    offered = batch.num_rows
    batch = batch.group_by(batch.column_names, use_threads=False).aggregate([])  # no exact copies
    with warehouse.read() as connection:
        batch = _unknown_rows(connection, table, batch, current)
    if batch.num_rows == 0:
        return IngestCount(offered=offered, duplicate=offered)
    refused = refuse_rows(table, batch, known_until)
    with warehouse.write() as connection:
        seen = connection.execute(
            "SELECT count(*) FROM raw.batches WHERE batch_id = ?", [batch_id]
        ).fetchone()
        if seen and seen[0]:
            return IngestCount(offered=offered, duplicate=offered)
        now = datetime.now(UTC)
        count = _append(connection, table, batch, offered, refused, batch_id, now, current)
        connection.execute(
            "INSERT INTO raw.batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                batch_id,
                batch.column("source")[0].as_py(),
                table.qualified_name,
                known_after,
                known_until,
                count.offered,
                count.inserted,
                count.duplicate,
                count.quarantined,
                now,
            ],
        )
        if count.inserted or count.quarantined:
            bump_revision(connection)
    return count


def refuse_rows(table: TableSchema, batch: pa.Table, known_until: datetime) -> dict[int, str]:
    """Positions of rows that may not enter the raw table, each with the reason: what the table's gate finds in single rows."""
    from quality import validate

    verdict = validate(table.qualified_name, batch.to_pandas(), now=known_until)
    reasons: dict[int, list[str]] = {}
    for result in verdict.results:
        if result.severity == "critical" and not result.success:
            for position in result.failing_rows:
                reasons.setdefault(position, []).append(f"{result.expectation}: {result.message}")
    return {position: "; ".join(found) for position, found in reasons.items()}


def _append(
    connection: duckdb.DuckDBPyConnection,
    table: TableSchema,
    batch: pa.Table,
    offered: int,
    refused: dict[int, str],
    batch_id: str,
    now: datetime,
    current: bool,
) -> IngestCount:
    reasons = pa.array([refused.get(position) for position in range(batch.num_rows)], pa.string())
    connection.register("batch_rows", batch.append_column("reason", reasons))
    columns = ", ".join(f'"{name}"' for name in table.columns)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {columns}, reason FROM batch_rows"
    )
    connection.unregister("batch_rows")
    quarantined = _quarantine(connection, table, batch_id, now)
    inserted = _insert_new(connection, table, batch_id, now, current)
    connection.execute("DROP TABLE temp.incoming")
    return IngestCount(offered, inserted, offered - inserted - quarantined, quarantined)


def _quarantine(
    connection: duckdb.DuckDBPyConnection, table: TableSchema, batch_id: str, now: datetime
) -> int:
    columns = ", ".join(f'"{name}" := "{name}"' for name in table.columns)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE refused AS
        SELECT sha256(concat_ws('|', ?, reason, row_json)) AS row_id, reason, row_json
        FROM (SELECT reason, CAST(to_json(struct_pack({columns})) AS VARCHAR) AS row_json FROM temp.incoming WHERE reason IS NOT NULL)
        """,
        [table.qualified_name],
    )
    connection.execute(
        "INSERT INTO quarantine.rows SELECT row_id, ?, ?, any_value(reason), any_value(row_json), ?, NULL, NULL FROM temp.refused "
        "WHERE row_id NOT IN (SELECT row_id FROM quarantine.rows) GROUP BY row_id",
        [table.qualified_name, batch_id, now],
    )
    row = connection.execute("SELECT count(*) FROM temp.refused").fetchone()
    connection.execute("DROP TABLE temp.refused")
    return int(row[0]) if row else 0


def _unknown_rows(
    connection: duckdb.DuckDBPyConnection, table: TableSchema, batch: pa.Table, current: bool
) -> pa.Table:
    """Rows of ``batch`` that the raw table does not hold yet; only they are judged and stored."""
    columns = ", ".join(f'"{name}"' for name in table.columns)
    connection.register("batch_rows", batch)
    try:
        found = connection.execute(
            f"{_judged(table, 'batch_rows', current)} SELECT {columns} FROM judged WHERE NOT known"
        ).to_arrow_table()
    finally:
        connection.unregister("batch_rows")
    return found.cast(batch.schema)


def _insert_new(
    connection: duckdb.DuckDBPyConnection,
    table: TableSchema,
    batch_id: str,
    now: datetime,
    current: bool = False,
) -> int:
    """Insert the rows of ``incoming`` that say something new and were not refused; returns how many."""
    columns = ", ".join(f'"{name}"' for name in (*table.key, "known_at"))
    output = ", ".join(
        "CASE WHEN clash THEN greatest(known_at, $now) ELSE known_at END"
        if name == "known_at"
        else f'"{name}"'
        for name in table.columns
    )
    result = connection.execute(
        f"INSERT INTO {table.qualified_name} {_judged(table, 'temp.incoming', current)} "
        f"SELECT {output}, $now, $batch_id FROM judged WHERE NOT known AND reason IS NULL ORDER BY {columns}",
        {"now": now, "batch_id": batch_id},
    ).fetchone()
    return int(result[0]) if result else 0


def _judged(table: TableSchema, incoming: str, current: bool) -> str:
    """SQL that adds ``known`` and ``clash`` to the rows of ``incoming``.

    A row is known already if the newest version of its key has its values, or if a version with its ``known_at`` has them. A row that
    claims the ``known_at`` of a version with other values clashes: it is a revision whose provider gave no stamp of its own. It could
    not be known before it arrived here, so its ``known_at`` becomes the arrival.

    ``current`` rows are what the provider says now: one that differs from the newest version is a revision even if an older version
    looked the same, and it is not known before that version was.
    """
    match = " AND ".join(f'e."{name}" = i."{name}"' for name in table.key)
    same = " AND ".join(
        f'e."{name}" IS NOT DISTINCT FROM i."{name}"' for name in table.value_columns
    )
    key = ", ".join(f'"{name}"' for name in table.key)
    series = ", ".join(f'"{name}"' for name in table.key if name != "ts")
    columns = ", ".join(f'"{name}"' for name in table.columns)
    known = "e.is_newest" if current else "(e.is_newest OR e.known_at = i.known_at)"
    clash = ">=" if current else "="
    return f"""
        WITH bounds AS (SELECT min(ts) AS lo, max(ts) AS hi FROM {incoming}),
        series AS (SELECT DISTINCT {series} FROM {incoming}),
        existing AS (
            SELECT {columns},
                row_number() OVER (PARTITION BY {key} ORDER BY known_at DESC, ingested_at DESC) = 1 AS is_newest
            FROM {table.qualified_name} SEMI JOIN series USING ({series})
            WHERE ts BETWEEN (SELECT lo FROM bounds) AND (SELECT hi FROM bounds)
        ),
        judged AS (
            SELECT i.*,
                EXISTS (SELECT 1 FROM existing e WHERE {match} AND {same} AND {known}) AS known,
                EXISTS (SELECT 1 FROM existing e WHERE {match} AND e.known_at {clash} i.known_at) AS clash
            FROM {incoming} i
        )
    """


def release_rows(warehouse: Warehouse, row_ids: Sequence[str], released_by: str) -> int:
    """Let quarantined rows into their raw table. They count as known from the release on, never earlier."""
    released = 0
    now = datetime.now(UTC)
    for row_id in row_ids:
        with warehouse.write() as connection:
            found = connection.execute(
                "SELECT table_name, row_json, batch_id FROM quarantine.rows WHERE row_id = ? AND released_at IS NULL",
                [row_id],
            ).fetchone()
            if found is None:
                raise WarehouseError(f"quarantine row {row_id!r}: not found, or released already")
            table = TABLES[str(found[0]).removeprefix("raw.")]
            row = json.loads(str(found[1]))
            columns = ", ".join(
                f'greatest(CAST(${name} AS {kind}), $now) AS "{name}"'
                if name == "known_at"
                else f'CAST(${name} AS {kind}) AS "{name}"'
                for name, kind in table.columns.items()
            )
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {columns}, CAST(NULL AS VARCHAR) AS reason",
                {"now": now, **{name: row[name] for name in table.columns}},
            )
            released += _insert_new(connection, table, str(found[2]), now)
            connection.execute("DROP TABLE temp.incoming")
            connection.execute(
                "UPDATE quarantine.rows SET released_at = ?, released_by = ? WHERE row_id = ?",
                [now, released_by, row_id],
            )
            bump_revision(connection)
    return released


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
            f"{settings.warehouse_path} holds data of source {held!r}, this run would add {mine!r}: choose another VOLCAST_HOME"
        )


def _batch_id(table: TableSchema, batch: pa.Table, read_at: datetime | None) -> str:
    digest = hashlib.sha256(f"{table.name}{read_at or ''}".encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as writer:
        writer.write_table(batch.replace_schema_metadata(None))
    digest.update(sink.getvalue())
    return digest.hexdigest()[:24]
