"""Invariants of what came in: the ingest ledger, the quarantine, keys of raw rows, cursors.

In: ``raw.*`` and ``quarantine.rows``. Out: findings. Large raw tables are looked at a year at a time, so that memory stays flat.
"""

from __future__ import annotations

from orchestration.doctor.finding import RESTORE, Count, Invariant, Look
from orchestration.sources.schema import TABLES

LEDGER = Invariant(
    "ingest-ledger",
    "every row that was offered was inserted, a duplicate or quarantined",
    f"the ledger was changed by hand or lost a line: {RESTORE}",
    ("raw.batches",),
    "SELECT count(*) FROM raw.batches",
    """
    SELECT batch_id, table_name, rows_offered, rows_inserted, rows_duplicate, rows_quarantined FROM raw.batches
    WHERE rows_offered IS DISTINCT FROM rows_inserted + rows_duplicate + rows_quarantined
        OR least(rows_inserted, rows_duplicate, rows_quarantined) < 0
    """,
)

QUARANTINE = Invariant(
    "quarantine",
    "every row that a gate refused is in quarantine, with its batch and a reason",
    f"refused rows are lost or were never counted: {RESTORE}, or offer the batch again",
    ("quarantine.rows", "raw.batches"),
    "SELECT coalesce(sum(rows_quarantined), 0) FROM raw.batches",
    """
    WITH held AS (
        SELECT batch_id, table_name, count(*) AS held, count(*) FILTER (coalesce(reason, '') = '') AS without_reason
        FROM quarantine.rows GROUP BY ALL
    )
    SELECT coalesce(b.batch_id, h.batch_id) AS batch_id, coalesce(b.table_name, h.table_name) AS table_name,
        b.rows_quarantined, b.rows_quarantined_before, h.held, h.without_reason
    FROM raw.batches AS b FULL JOIN held AS h USING (batch_id, table_name)
    WHERE coalesce(h.without_reason, 0) > 0
        OR CASE
            -- a refusal that the quarantine held already is kept once, under the batch that brought it first
            WHEN b.rows_quarantined_before IS NOT NULL
                THEN b.rows_quarantined - b.rows_quarantined_before <> coalesce(h.held, 0)
            ELSE coalesce(h.held, 0) > coalesce(b.rows_quarantined, 0)
        END
    """,
)


def _stored(look: Look) -> Count:
    parts = [
        f"SELECT '{table.qualified_name}' AS table_name, batch_id, count(*) AS stored FROM {table.qualified_name} GROUP BY ALL"
        for table in TABLES.values()
        if table.qualified_name in look.tables
    ]
    return look.count(
        "SELECT coalesce(sum(rows_inserted), 0) FROM raw.batches",
        f"""
        WITH stored AS ({" UNION ALL ".join(parts)}),
        released AS (
            SELECT batch_id, table_name, count(*) AS released FROM quarantine.rows WHERE released_at IS NOT NULL GROUP BY ALL
        )
        SELECT batch_id, table_name, b.rows_inserted, coalesce(s.stored, 0) AS stored, coalesce(r.released, 0) AS released
        FROM raw.batches AS b FULL JOIN stored AS s USING (batch_id, table_name) LEFT JOIN released AS r USING (batch_id, table_name)
        WHERE coalesce(s.stored, 0) NOT BETWEEN coalesce(b.rows_inserted, 0) AND coalesce(b.rows_inserted, 0) + coalesce(r.released, 0)
        """,
    )


STORED = Invariant(
    "raw-rows",
    "the raw tables hold the rows of each batch that the ledger says were inserted, and those released since",
    f"raw rows were lost or added by hand: {RESTORE}",
    ("raw.batches", "quarantine.rows"),
    by=_stored,
)


def _keys(look: Look) -> Count:
    checked = broken = 0
    example = ""
    for table in TABLES.values():
        if table.qualified_name not in look.tables:
            continue
        key = ", ".join(f'"{name}"' for name in (*table.key, "known_at"))
        years = look.connection.execute(
            f"SELECT date_part('year', ts) AS year, count(*) FROM {table.qualified_name} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        for year, rows in years:
            checked += int(rows)
            found = look.one(
                f"SELECT count(*) OVER (), * FROM (SELECT {key} FROM {table.qualified_name} "
                f"WHERE date_part('year', ts) IS NOT DISTINCT FROM {'NULL' if year is None else int(year)} "
                "GROUP BY ALL HAVING count(*) > 1) LIMIT 1"
            )
            if found:
                broken += int(found[0])
                example = example or f"{table.qualified_name}: " + ", ".join(map(str, found[1:]))
    return Count(checked, broken, example)


KEYS = Invariant(
    "raw-keys",
    "no two raw rows share key and known_at: the newest version of a fact is one row",
    f"rows were added by hand or by two writers at once: {RESTORE}",
    by=_keys,
)

CURSORS = Invariant(
    "cursors",
    "no stream's cursor is ahead of the clock, or says that prices are read where none is stored",
    "the stream would skip rows: delete its row from raw.streams (docs/doctor.md); the next ingest reads it from the beginning and stores what is new",
    ("raw.streams", "raw.ohlcv"),
    "SELECT count(*) FROM raw.streams WHERE known_until IS NOT NULL",
    """
    SELECT stream, table_name, known_until, status FROM raw.streams
    WHERE (source = 'live' AND known_until > now() + INTERVAL 5 MINUTE)
        OR (table_name = 'raw.ohlcv' AND status = 'ok' AND known_until IS NOT NULL AND NOT EXISTS (SELECT 1 FROM raw.ohlcv))
    """,
)


INVARIANTS = (LEDGER, QUARANTINE, STORED, KEYS, CURSORS)
