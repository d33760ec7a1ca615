"""How old the day's data is, and which live streams are stale and why.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, as ``queries.py`` gives them. Never writes.
``raw.streams`` keeps the last read alone, so a report of an earlier day shows the streams that were not tried since.
"""

from __future__ import annotations

from datetime import date

import duckdb

from orchestration.report.queries import COINS_FIRST, HISTORY_DAYS, Row, rows

MODALITIES = (
    "price",
    "funding",
    "open_interest",
    "implied_volatility",
    "onchain",
    "stablecoin",
    "sentiment",
)
LATE_DAYS = 1
"""A value this much older than is usual for its coin and modality is late: its provider missed a day."""


def freshness(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Per coin and modality: age of the newest value in days, whether it counts as missing, whether it is late for its kind."""
    parts = ", ".join(
        f"""max({name}_age_days) FILTER (as_of = $as_of) AS {name}_age_days,
        bool_or({name}_missing) FILTER (as_of = $as_of) AS {name}_missing,
        coalesce(max({name}_age_days) FILTER (as_of = $as_of) > median({name}_age_days) FILTER (as_of < $as_of AND NOT {name}_missing) + {LATE_DAYS}, FALSE)
            AS {name}_late"""
        for name in MODALITIES
    )
    return rows(
        connection,
        f"""
        SELECT asset, {parts} FROM features.daily
        WHERE as_of <= $as_of AND as_of >= CAST($as_of AS DATE) - CAST($days AS INTEGER)
        GROUP BY asset HAVING count(*) FILTER (as_of = $as_of) > 0 ORDER BY {COINS_FIRST.format("")}
        """,
        as_of=as_of,
        days=HISTORY_DAYS,
    )


# Times of the last try are known for live sources alone; of a later day's try this report knows nothing.
_STREAMS = """
    SELECT * FROM raw.streams
    WHERE attempted_at IS NOT NULL AND attempted_at < CAST($as_of AS TIMESTAMP) AT TIME ZONE 'UTC' + INTERVAL 2 DAY
"""


def streams(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Streams of a live source: stale ones by provider, table and status, with an example of why; all that are well as one row."""
    return rows(
        connection,
        f"""
        WITH judged AS (SELECT *, status = 'ok' AS well FROM ({_STREAMS}))
        SELECT well, provider, table_name, status, count(*) AS streams, min(stream) AS stream, arg_min(detail, stream) AS detail,
            epoch_us(min(succeeded_at)) AS succeeded_us, epoch_us(max(attempted_at)) AS attempted_us
        FROM (SELECT * FROM judged WHERE NOT well)
        GROUP BY ALL
        UNION ALL
        SELECT well, NULL, NULL, NULL, count(*), NULL, NULL, epoch_us(min(succeeded_at)), epoch_us(max(attempted_at))
        FROM judged WHERE well
        GROUP BY well
        ORDER BY well, table_name, provider, status
        """,
        as_of=as_of,
    )


def stream_notes(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """What the last reads noticed: venues that stood in for others, fields that are new."""
    return rows(
        connection,
        f"""
        WITH noted AS (SELECT provider, unnest(string_split(notes, chr(10))) AS note FROM ({_STREAMS}))
        SELECT provider, note, count(*) AS streams FROM noted WHERE trim(note) <> ''
        GROUP BY provider, note ORDER BY provider, note LIMIT 20
        """,
        as_of=as_of,
    )
