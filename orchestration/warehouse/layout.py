"""The tables of the warehouse: made where there are none, completed where a version before this one made them.

In: a connection that may write. Out: the tables that this version writes. Never: a row that is changed.
"""

from __future__ import annotations

import duckdb

from orchestration.ledger import fill_ledger
from orchestration.sources.schema import TABLES
from orchestration.tables import OUTPUT_TABLES
from orchestration.tables.layout import literal
from orchestration.warehouse.errors import WarehouseError
from orchestration.warehouse.state import CATALOG, bump_revision, get_state, set_state

LAYOUT_VERSION = "7"
PREVIOUS_LAYOUTS = ("2", "3", "4", "5", "6")
"""Layouts that lack nothing but tables and columns: they are added when it is next written to."""
_WITHOUT_LEDGER = ("2", "3", "4", "5")
PUBLISHED_SCHEMAS = (
    "raw",
    "features",
    "models",
    "forecasts",
    "evaluation",
    "quality",
    "quarantine",
    "meta",
)


def has_tables(connection: duckdb.DuckDBPyConnection) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'meta' AND table_name = 'state'",
        [CATALOG],
    ).fetchone()
    return bool(found and found[0])


def complete_tables(connection: duckdb.DuckDBPyConnection, address: str) -> None:
    """Make or complete the tables, in a transaction of its own. Raises ``WarehouseError`` for a layout that this version does not know."""
    if not has_tables(connection):
        connection.execute("BEGIN")
        _create(connection)
        connection.execute("COMMIT")
        return
    layout = get_state(connection, "layout")
    if layout in PREVIOUS_LAYOUTS:
        connection.execute("BEGIN")
        _add_columns(connection)
        if layout in _WITHOUT_LEDGER:
            fill_ledger(connection)
        connection.execute("COMMIT")
    elif layout != LAYOUT_VERSION:
        raise WarehouseError(
            f"{address} has layout {layout!r}, this volcast writes {LAYOUT_VERSION!r}: use another VOLCAST_HOME"
        )


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for schema in (*PUBLISHED_SCHEMAS, "staging", "intermediate"):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for raw in TABLES.values():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in raw.warehouse_columns.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {raw.qualified_name} ({columns})")
    for table in OUTPUT_TABLES.values():
        connection.execute(table.ddl)
        connection.execute(f"COMMENT ON TABLE {table.name} IS {literal(table.description)}")
        for name, (_, description) in table.columns.items():
            connection.execute(f'COMMENT ON COLUMN {table.name}."{name}" IS {literal(description)}')
    set_state(connection, "layout", LAYOUT_VERSION)


def _add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables and columns that the layout before this one lacked; what was in their place is NULL in old rows."""
    for table in OUTPUT_TABLES.values():
        connection.execute(table.ddl)
        connection.execute(f"COMMENT ON TABLE {table.name} IS {literal(table.description)}")
        for name, (kind, description) in table.columns.items():
            connection.execute(f'ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS "{name}" {kind}')
            connection.execute(f'COMMENT ON COLUMN {table.name}."{name}" IS {literal(description)}')
    set_state(connection, "layout", LAYOUT_VERSION)
    bump_revision(connection)  # the published copy lacks them, too
