"""meta.state: what the platform remembers of itself, by key; the revision of the tables among it.

In: a connection in which the warehouse is attached. Out: a value, or the value stored. Never: commits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import duckdb

CATALOG = "wh"
"""The name that the warehouse is attached under, whatever stores it."""


def get_state(
    connection: duckdb.DuckDBPyConnection, key: str, *, catalog: str | None = CATALOG
) -> str | None:
    prefix = f"{catalog}." if catalog else ""
    row = connection.execute(
        f"SELECT value FROM {prefix}meta.state WHERE key = ?", [key]
    ).fetchone()
    return None if row is None else str(row[0])


def set_state(
    connection: duckdb.DuckDBPyConnection, key: str, value: str, *, catalog: str = CATALOG
) -> None:
    connection.execute(f"DELETE FROM {catalog}.meta.state WHERE key = ?", [key])
    connection.execute(f"INSERT INTO {catalog}.meta.state VALUES (?, ?)", [key, value])


def bump_revision(connection: duckdb.DuckDBPyConnection) -> None:
    """Say that what people may read has changed, so that the next publish makes a new copy."""
    set_state(connection, "revision", str(int(get_state(connection, "revision") or "0") + 1))


def touch_guard(connection: duckdb.DuckDBPyConnection) -> None:
    """Write to one row that every writer of a lake writes to: of two transactions at once the second fails to commit.

    Without it, both could add a row of the same key, or overwrite what the other has read: a lake sees a conflict only where both delete.
    """
    writes = int(get_state(connection, "writes") or "0") + 1
    set_state(connection, "writes", str(writes))


def get_json_state(connection: duckdb.DuckDBPyConnection, key: str) -> dict[str, Any]:
    value = get_state(connection, key)
    return json.loads(value) if value else {}


def set_json_state(
    connection: duckdb.DuckDBPyConnection, key: str, value: Mapping[str, Any]
) -> None:
    set_state(connection, key, json.dumps(value, sort_keys=True, default=str))
