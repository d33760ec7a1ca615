"""How long attention is kept by token: what the learning loop has read may go, what it has yet to read stays.

In: the setting and the last Sunday that was judged. Out: the first day whose rows are kept, and their deletion. Never: a row that a Sunday still to be
judged reads (drift of attention looks back 60 days, the retention is 90 at least), so a backfill decides and keeps what daily runs do.
"""

from __future__ import annotations

from datetime import date, timedelta

import duckdb

from orchestration.ledger import forget
from orchestration.settings import Settings
from orchestration.tables.ledger import BY_TOKEN
from orchestration.warehouse import Warehouse, bump_revision


def kept_from(connection: duckdb.DuckDBPyConnection, settings: Settings) -> date:
    """First day whose rows by token are kept: so many days up to the last judged Sunday; all of them where none was judged."""
    if settings.attention_retention_days is None:
        return date.min
    judged = connection.execute("SELECT max(as_of) FROM models.decisions").fetchone()
    if judged is None or judged[0] is None:
        return date.min
    return judged[0] - timedelta(days=settings.attention_retention_days - 1)


def drop_old(warehouse: Warehouse, settings: Settings) -> int:
    """Delete rows by token of days before `kept_from`; returns how many."""
    with warehouse.read() as connection:
        first = kept_from(connection, settings)
        old = [
            table
            for table in BY_TOKEN
            if connection.execute(f"FROM {table} WHERE as_of < ? LIMIT 1", [first]).fetchone()
        ]
    dropped = 0
    if old:
        for attempt in warehouse.writes():
            with attempt as connection:
                counts = []
                for table in old:
                    found = connection.execute(f"DELETE FROM {table} WHERE as_of < ?", [first])
                    counts.append(int((found.fetchone() or (0,))[0]))
                    forget(connection, table, first)
                bump_revision(connection)
        dropped = sum(counts)
    return dropped
