"""Invariants of the files: the layout of the warehouse, and the published copy beside it.

In: the open warehouse and the published file. Out: findings.
"""

from __future__ import annotations

import duckdb

from orchestration.doctor.finding import RESTORE, Count, Invariant, Look
from orchestration.sources.schema import TABLES
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import (
    LAYOUT_VERSION,
    PREVIOUS_LAYOUTS,
    PUBLISHED_SCHEMAS,
    attach,
    get_state,
)

PUBLISHED = "published_copy"
UNHASHED = ("meta.state", "raw.streams")
"""Tables whose values change without a revision: cursors and the times of reads, which people see at the next publish."""
MOST_HASHED_ROWS = 20_000_000
"""Tables with more rows are compared by their number of rows alone, unless --deep."""


def _layout(look: Look) -> Count:
    wanted = {
        **{table.qualified_name: table.warehouse_columns for table in TABLES.values()},
        **{
            table.name: {name: kind for name, (kind, _) in table.columns.items()}
            for table in OUTPUT_TABLES.values()
        },
    }
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in look.connection.execute(
        "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()"
    ).fetchall():
        found.setdefault(table, {})[column] = _plain(kind)
    wrong = []
    for table, columns in wanted.items():
        have = found.get(table)
        if have is None:
            wrong.append(f"{table} is missing")
            continue
        wrong += [
            f"{table}.{name}: {have.get(name, 'missing')}, expected {kind}"
            for name, kind in columns.items()
            if have.get(name) != _plain(kind)
        ]
    count = sum(map(len, wanted.values()))
    if look.layout in PREVIOUS_LAYOUTS:
        return Count(
            count,
            note=f"layout {look.layout}: the next write adds {len(wrong)} tables and columns",
        )
    if look.layout != LAYOUT_VERSION:
        wrong.insert(0, f"layout {look.layout!r}, this volcast writes {LAYOUT_VERSION!r}")
    return Count(count, len(wrong), wrong[0] if wrong else "")


def _plain(kind: str) -> str:
    return {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}.get(kind, kind)


LAYOUT = Invariant(
    "layout",
    f"every table of layout {LAYOUT_VERSION} is there, with its columns",
    RESTORE,
    by=_layout,
)


def _published(look: Look) -> Count:
    path = look.settings.published_path
    if not path.exists():
        return Count(note="nothing published yet")
    connection = look.connection
    try:
        attach(connection, path, PUBLISHED, read_only=True)
    except duckdb.Error as error:
        return Count(1, 1, f"{path}: {_first_line(error)}")
    try:
        there = get_state(connection, "revision", catalog=PUBLISHED) or "0"
        here = get_state(connection, "revision", catalog=None) or "0"
        if int(there) > int(here):
            return Count(1, 1, f"revision {there}, the warehouse has {here}")
        if there != here:
            return Count(note=f"revision {there} of {here}: the next run publishes what came since")
        return _compared(look)
    except duckdb.Error as error:
        return Count(1, 1, f"{path}: {_first_line(error)}")
    finally:
        connection.execute(f"DETACH {PUBLISHED}")


def _compared(look: Look) -> Count:
    """Tables of both, by number of rows and an order-free hash of them."""
    names = _tables(look, "current_database()")
    there = _tables(look, f"'{PUBLISHED}'")
    wrong = [f"{name} is in one of them only" for name in sorted(names ^ there)]
    rows_only = 0
    checked = 0
    for name in sorted(names & there):
        columns = ", ".join(
            f'"{row[0]}"' for row in look.connection.execute(f"DESCRIBE {name}").fetchall()
        )
        schema, table = name.split(".", 1)
        copy = f'{PUBLISHED}.{schema}."{table}"'
        ours, theirs = look.one(f"SELECT (SELECT count(*) FROM {name}), (SELECT count(*) FROM {copy})")  # fmt: skip
        checked += int(ours)
        if ours != theirs:
            wrong.append(f"{name}: {theirs} rows, the warehouse has {ours}")
        elif ours > MOST_HASHED_ROWS and not look.deep:
            rows_only += 1
        elif name not in UNHASHED:
            hashed = f"SELECT sum(hash({columns})) FROM"
            mine, copied = look.one(f"SELECT ({hashed} {name}), ({hashed} {copy})")
            if mine != copied:
                wrong.append(f"{name}: {ours} rows in both, their values differ")
    note = f"{rows_only} large tables by their number of rows alone" if rows_only else ""
    return Count(checked, len(wrong), wrong[0] if wrong else "", note)


def _tables(look: Look, database: str) -> set[str]:
    rows = look.connection.execute(
        f"SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = {database} AND list_contains(?, schema_name)",
        [list(PUBLISHED_SCHEMAS)],
    ).fetchall()
    return {str(row[0]) for row in rows}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


PUBLISHED_COPY = Invariant(
    "published-copy",
    "the published copy opens, and holds the very rows of the warehouse at its revision",
    "delete the file: the next run, or `volcast run --as-of` of the newest day, publishes it anew",
    by=_published,
)

INVARIANTS = (LAYOUT, PUBLISHED_COPY)
