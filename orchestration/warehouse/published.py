"""The published copy: a DuckDB file that people open read-only at any time, whatever the warehouse is stored in.

In: a connection to the warehouse, under its lock. Out: a new copy in the place of the old one; or a connection to it that can do nothing else.
Never: a half-made copy under the public name; staging and intermediate relations stay behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from orchestration.settings import Settings
from orchestration.tables.layout import literal
from orchestration.views import create_views
from orchestration.warehouse.errors import WarehouseError
from orchestration.warehouse.layout import PUBLISHED_SCHEMAS
from orchestration.warehouse.state import CATALOG, get_state, set_state
from orchestration.warehouse.storage import attach


def publish(
    connection: duckdb.DuckDBPyConnection, target: Path, *, one_snapshot: bool = False
) -> bool:
    """Swap in a read-only copy of what people may read; False when it is up to date already.

    The copy is built beside the old one and renamed over it, so a reader sees the old file or the new one, never a mixture. The caller holds the
    home's lock; ``one_snapshot``: that keeps nobody else from writing meanwhile, so that a transaction must.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        leftover.unlink()  # its maker is dead, or would hold the lock
    fresh = target.parent / f".{target.name}.{os.getpid()}"
    if one_snapshot:
        connection.execute("BEGIN")
    revision = get_state(connection, "revision") or "0"
    if target.exists() and published_revision(target) == revision:
        return False
    attach(connection, fresh, "published", read_only=False)
    _copy_tables(connection)
    set_state(connection, "revision", revision, catalog="published")
    connection.execute("USE published")
    create_views(connection)
    connection.execute(f"USE {CATALOG}")
    if one_snapshot:
        connection.execute("COMMIT")
    connection.execute("DETACH published")
    os.chmod(fresh, 0o444)
    with fresh.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(fresh, target)  # under the lock: never an older revision over a newer one
    return True


def _copy_tables(connection: duckdb.DuckDBPyConnection) -> None:
    tables = connection.execute(
        "SELECT schema_name, table_name, comment FROM duckdb_tables() "
        "WHERE database_name = ? AND list_contains(?, schema_name) ORDER BY 1, 2",
        [CATALOG, list(PUBLISHED_SCHEMAS)],
    ).fetchall()
    for schema in PUBLISHED_SCHEMAS:
        connection.execute(f"CREATE SCHEMA published.{schema}")
    for schema, table, comment in tables:
        address = f'{schema}."{table}"'
        connection.execute(f"CREATE TABLE published.{address} AS FROM {CATALOG}.{address}")
        if comment:
            connection.execute(f"COMMENT ON TABLE published.{address} IS {literal(comment)}")
        columns = connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? "
            "AND table_name = ? AND comment IS NOT NULL",
            [CATALOG, schema, table],
        ).fetchall()
        for column, text in columns:
            connection.execute(
                f'COMMENT ON COLUMN published.{address}."{column}" IS {literal(text)}'
            )


@contextmanager
def read_published(
    settings: Settings, *, memory: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published copy read-only with no access to anything else: no file, no network, no extension, no spilling to disk.

    ``memory`` bounds what a query may take, such as 4GiB. Raises ``WarehouseError`` if nothing is published yet.
    """
    path = settings.published_path
    if not path.exists():
        raise WarehouseError(
            f"nothing published yet at {path}: run `./volcast demo` or `./volcast run --as-of DATE` first"
        )
    # An instance of its own: DuckDB shares one among connections to the same path, and a locked configuration with it.
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        attach(connection, path, "volcast", read_only=True)
        connection.execute("USE volcast")
        connection.execute("SET temp_directory = ''")
        if memory is not None:
            connection.execute(f"SET memory_limit = {literal(memory)}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def published_revision(path: Path) -> str | None:
    """Revision that a published file was made from; None if it cannot be read."""
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return get_state(connection, "revision", catalog=None)
    except duckdb.Error:
        return None
