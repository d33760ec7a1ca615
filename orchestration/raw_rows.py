"""Batches of raw rows -> append-only, bitemporal raw tables, the ingest ledger and the quarantine.

In: an Arrow batch. Out: new rows in ``raw.*``, a ledger line, refused rows in ``quarantine.rows``. Never updates or deletes a raw row: a
revision is a new row. The same batch twice adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.sources.schema import TABLES, TableSchema
from orchestration.warehouse import Warehouse, WarehouseError, bump_revision


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
    batch = _nan_as_null(batch.select(list(table.columns))).combine_chunks()
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
    for attempt in warehouse.writes():
        with attempt as connection:
            seen = connection.execute(
                "SELECT count(*) FROM raw.batches WHERE batch_id = ?", [batch_id]
            ).fetchone()
            count = IngestCount(offered=offered, duplicate=offered)
            if not (seen and seen[0]):
                now = datetime.now(UTC)
                count, held_before = _append(
                    connection, table, batch, offered, refused, batch_id, now, current
                )
                connection.execute(
                    "INSERT INTO raw.batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                        held_before,
                    ],
                )
                if count.inserted or count.quarantined:
                    bump_revision(connection)
    return count


def _nan_as_null(batch: pa.Table) -> pa.Table:
    """A number that is not there is NULL: SQL takes NaN for the largest of numbers."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_floating(field.type):
            column = batch.column(place)
            there = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
            batch = batch.set_column(place, field, there)
    return batch


def refuse_rows(table: TableSchema, batch: pa.Table, known_until: datetime) -> dict[int, str]:
    """Positions of rows that may not enter the raw table, each with the reason: what the table's gate finds in single rows."""
    from quality import validate

    verdict = validate(table.qualified_name, batch.to_pandas(), now=known_until, rows_only=True)
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
) -> tuple[IngestCount, int]:
    """Store the batch; its count, and how many of its refused rows the quarantine held already."""
    reasons = pa.array([refused.get(position) for position in range(batch.num_rows)], pa.string())
    connection.register("batch_rows", batch.append_column("reason", reasons))
    columns = ", ".join(f'"{name}"' for name in table.columns)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {columns}, reason FROM batch_rows"
    )
    connection.unregister("batch_rows")
    quarantined, held_before = _quarantine(connection, table, batch_id, now)
    inserted = _insert_new(connection, table, batch_id, now, current)
    connection.execute("DROP TABLE temp.incoming")
    return IngestCount(
        offered, inserted, offered - inserted - quarantined, quarantined
    ), held_before


def _quarantine(
    connection: duckdb.DuckDBPyConnection, table: TableSchema, batch_id: str, now: datetime
) -> tuple[int, int]:
    """Keep the refused rows of ``incoming``; returns how many, and how many of them were held already."""
    columns = ", ".join(f'"{name}" := "{name}"' for name in table.columns)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE refused AS
        SELECT sha256(concat_ws('|', ?, reason, row_json)) AS row_id, reason, row_json
        FROM (SELECT reason, CAST(to_json(struct_pack({columns})) AS VARCHAR) AS row_json FROM temp.incoming WHERE reason IS NOT NULL)
        """,
        [table.qualified_name],
    )
    added = connection.execute(
        "INSERT INTO quarantine.rows SELECT row_id, ?, ?, any_value(reason), any_value(row_json), ?, NULL, NULL FROM temp.refused "
        "WHERE row_id NOT IN (SELECT row_id FROM quarantine.rows) GROUP BY row_id",
        [table.qualified_name, batch_id, now],
    ).fetchone()
    row = connection.execute("SELECT count(*) FROM temp.refused").fetchone()
    connection.execute("DROP TABLE temp.refused")
    count = int(row[0]) if row else 0
    return count, count - (int(added[0]) if added else 0)


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
        for attempt in warehouse.writes():
            with attempt as connection:
                found = connection.execute(
                    "SELECT table_name, row_json, batch_id FROM quarantine.rows WHERE row_id = ? AND released_at IS NULL",
                    [row_id],
                ).fetchone()
                if found is None:
                    raise WarehouseError(
                        f"quarantine row {row_id!r}: not found, or released already"
                    )
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
                entered = _insert_new(connection, table, str(found[2]), now)
                connection.execute("DROP TABLE temp.incoming")
                connection.execute(
                    "UPDATE quarantine.rows SET released_at = ?, released_by = ? WHERE row_id = ?",
                    [now, released_by, row_id],
                )
                bump_revision(connection)
        released += entered
    return released


def _batch_id(table: TableSchema, batch: pa.Table, read_at: datetime | None) -> str:
    digest = hashlib.sha256(f"{table.name}{read_at or ''}".encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as writer:
        writer.write_table(batch.replace_schema_metadata(None))
    digest.update(sink.getvalue())
    return digest.hexdigest()[:24]
