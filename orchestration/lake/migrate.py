"""A warehouse moved from a file into a lake, or back: table by table, verified row for row.

In: two homes' settings that differ in where the tables lie. Out: the tables of the first in the second. Never: a change to the first, a half-moved
warehouse that can be taken for a whole one, or rows among rows that were there before. Stopped, it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from orchestration.cleaning import somebody_writes
from orchestration.settings import Settings
from orchestration.tables.layout import literal
from orchestration.warehouse import (
    PUBLISHED_SCHEMAS,
    Warehouse,
    WarehouseError,
    get_state,
    set_state,
)
from orchestration.warehouse.layout import complete_tables
from orchestration.warehouse.state import CATALOG

SOURCE = "moved_from"
_MARK = "migrating_from"
_OWN_STATE = ("writes", _MARK)
EXCEPT_ROWS = 200_000
"""Tables up to so many rows are also subtracted from each other, both ways; larger ones are held together by count and hash."""
_STATE = "meta.state"


@dataclass(frozen=True)
class Moved:
    """A table that is in its new place: its rows, and whether it was there already."""

    table: str
    rows: int
    was_there: bool


def migrate(
    origin: Settings, target: Settings, progress: Callable[[Moved], None] | None = None
) -> list[Moved]:
    """Move every table of ``origin`` into ``target``, settings of the same home. Raises ``WarehouseError``."""
    source = Warehouse(origin)
    if somebody_writes(origin):
        raise WarehouseError(
            f"a run of {origin.home} is alive: wait until it ends, or end it; nothing was moved"
        )
    if not source.exists():
        raise WarehouseError(f"no warehouse at {source.storage.address}: nothing to move")
    with source.write():
        pass  # an older layout gets what it lacks
    moved: list[Moved] = []
    with Warehouse(target).session() as connection:
        source.storage.attach(connection, read_only=True, alias=SOURCE)
        complete_tables(connection, Warehouse(target).storage.address)
        _begin(connection, source.storage.address, Warehouse(target).storage.address)
        for table in _tables(connection):
            found = _move(connection, table)
            moved.append(found)
            if progress:
                progress(found)
        moved.append(_move_state(connection))
    return moved


def _begin(connection: duckdb.DuckDBPyConnection, origin: str, target: str) -> None:
    mark = get_state(connection, _MARK)
    if mark == origin:
        return
    used = get_state(connection, "source") is not None or mark is not None
    if used:
        raise WarehouseError(
            f"{target} holds data{f' of {mark}' if mark else ''}: expected a new lake or file, rows are never mixed"
        )
    connection.execute("BEGIN")
    set_state(connection, _MARK, origin)
    connection.execute("COMMIT")


def _tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = ? AND list_contains(?, schema_name) ORDER BY 1",
        [SOURCE, list(PUBLISHED_SCHEMAS)],
    ).fetchall()
    return [str(row[0]) for row in rows if row[0] != _STATE]


def _move(connection: duckdb.DuckDBPyConnection, table: str) -> Moved:
    """One table in one transaction of the target; verified before it is committed."""
    columns = connection.execute(f"DESCRIBE {SOURCE}.{table}").fetchall()
    names = ", ".join(f'"{row[0]}"' for row in columns)
    connection.execute("BEGIN")
    try:
        if not _is_there(connection, table):
            _make_like(connection, table, columns)
        wanted = _summed(connection, f"{SOURCE}.{table}", names)
        was_there = wanted == _summed(connection, f"{CATALOG}.{table}", names)
        if not was_there:
            connection.execute(f"DELETE FROM {CATALOG}.{table}")
            connection.execute(
                f"INSERT INTO {CATALOG}.{table} ({names}) SELECT {names} FROM {SOURCE}.{table}"
            )
            _verify(connection, table, names, wanted)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return Moved(table, wanted[0], was_there)


def _verify(
    connection: duckdb.DuckDBPyConnection, table: str, names: str, wanted: tuple[int, str]
) -> None:
    found = _summed(connection, f"{CATALOG}.{table}", names)
    differ = 0
    if found == wanted and wanted[0] <= EXCEPT_ROWS:
        ours, theirs = f"SELECT {names} FROM {CATALOG}.{table}", f"SELECT {names} FROM {SOURCE}.{table}"  # fmt: skip
        row = connection.execute(
            f"SELECT (SELECT count(*) FROM ({ours} EXCEPT ALL {theirs})) + (SELECT count(*) FROM ({theirs} EXCEPT ALL {ours}))"
        ).fetchone()
        differ = int(row[0]) if row else 0
    if found != wanted or differ:
        raise WarehouseError(
            f"{table}: {found[0]} rows with hash {found[1]} arrived, {wanted[0]} with {wanted[1]} were sent, {differ} differ: this table was not moved"
        )


def _move_state(connection: duckdb.DuckDBPyConnection) -> Moved:
    """What the platform remembers of itself, last: with it the new place is whole."""
    kept = ", ".join(literal(key) for key in _OWN_STATE)
    connection.execute("BEGIN")
    connection.execute(f"DELETE FROM {CATALOG}.{_STATE}")
    connection.execute(
        f"INSERT INTO {CATALOG}.{_STATE} SELECT * FROM {SOURCE}.{_STATE} WHERE key NOT IN ({kept})"
    )
    row = connection.execute(f"SELECT count(*) FROM {CATALOG}.{_STATE}").fetchone()
    connection.execute("COMMIT")
    return Moved(_STATE, int(row[0]) if row else 0, False)


def _is_there(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name || '.' || table_name = ?",
        [CATALOG, table],
    ).fetchone()
    return bool(row and row[0])


def _make_like(
    connection: duckdb.DuckDBPyConnection, table: str, columns: list[tuple[str, ...]]
) -> None:
    """A table that dbt made, with its types, comments and what must not be NULL."""
    parts = ", ".join(
        f'"{name}" {kind}{" NOT NULL" if null == "NO" else ""}' for name, kind, null, *_ in columns
    )
    connection.execute(f"CREATE TABLE {CATALOG}.{table} ({parts})")
    schema, name = table.split(".")
    where = (
        f"database_name = '{SOURCE}' AND schema_name = ? AND table_name = ? AND comment IS NOT NULL"
    )
    for (text,) in connection.execute(
        f"SELECT comment FROM duckdb_tables() WHERE {where}", [schema, name]
    ).fetchall():
        connection.execute(f"COMMENT ON TABLE {CATALOG}.{table} IS {literal(text)}")
    for column, text in connection.execute(
        f"SELECT column_name, comment FROM duckdb_columns() WHERE {where}", [schema, name]
    ).fetchall():
        connection.execute(f'COMMENT ON COLUMN {CATALOG}.{table}."{column}" IS {literal(text)}')


def _summed(connection: duckdb.DuckDBPyConnection, table: str, names: str) -> tuple[int, str]:
    """Rows of a table, and a hash of them in whatever order."""
    row = connection.execute(
        f"SELECT count(*), CAST(coalesce(sum(hash({names})), 0) AS VARCHAR) FROM {table}"
    ).fetchone()
    return (int(row[0]), str(row[1])) if row else (0, "0")
