"""The only door to DuckDB.

In: settings. Out: connections in which the warehouse is attached under the catalog name ``wh``, and the published read-only
copy. One writer at a time: an OS lock (flock on a file beside the database) is held around every write, the dbt step
included; readers of the live file share it. Never: leaves a connection open, copies the file by other means (closing any other
descriptor of it would drop DuckDB's own POSIX locks), or lets two processes write at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from orchestration.ledger import LEDGERED, fill_ledger, write_rows
from orchestration.lock_notes import holder, note_holder, note_wait
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.tables import OUTPUT_TABLES, OutputTable
from orchestration.tables.layout import literal
from orchestration.views import create_views

CATALOG = "wh"
LAYOUT_VERSION = "6"
PREVIOUS_LAYOUTS = ("2", "3", "4", "5")
"""Layouts that lack nothing but tables and columns: they are added when it is next written to."""
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
_POLL_SECONDS = 0.1


class WarehouseError(RuntimeError):
    """The warehouse cannot be used as asked; the message says what to do."""


class Locked(WarehouseError):
    """Another process held the lock for longer than this one may wait."""


@dataclass(frozen=True)
class Warehouse:
    """One DuckDB file under ``settings.home`` and the lock beside it."""

    settings: Settings

    # -- opening ---------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[int]:
        """Hold the lock file; exclusive unless ``shared``; yields its descriptor.

        The kernel frees it when its last holder dies, however it dies. A child process that writes is given the descriptor, so that
        the lock outlives a parent that is killed before it.
        """
        path = self.settings.warehouse_path.with_suffix(".lock")
        self.settings.make_home()
        began = time.monotonic()
        deadline = began + self.settings.lock_timeout_seconds
        with path.open("a+") as handle:
            while True:
                try:
                    fcntl.flock(
                        handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
                    )
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Locked(
                            f"{path}: still locked after {self.settings.lock_timeout_seconds:g} s by {holder(path)}: wait for it, "
                            "end it if it hangs (docs/runbook.md), or raise VOLCAST_LOCK_TIMEOUT_SECONDS"
                        ) from None
                    time.sleep(_POLL_SECONDS)
            if time.monotonic() - began >= _POLL_SECONDS:
                note_wait(self.settings, time.monotonic() - began)
            if not shared:
                note_holder(handle)
            yield handle.fileno()

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, in one transaction: all of it is kept, or none."""
        with self.lock():
            connection = self._attach(read_only=False)
            try:
                self._create_tables(connection)
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the live warehouse, for pipeline steps; people read the published copy."""
        if not self.settings.warehouse_path.exists():
            with self.write():
                pass
        with self.lock(shared=True):
            connection = self._attach(read_only=True)
            try:
                yield connection
            finally:
                connection.close()

    def _attach(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(":memory:")
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET memory_limit = ?", [self.settings.memory_limit])
            connection.execute("SET temp_directory = ?", [str(self.settings.spill_dir())])
            connection.execute("SET autoinstall_known_extensions = false")  # downloads nothing
            attach(connection, self.settings.warehouse_path, CATALOG, read_only=read_only)
            connection.execute(f"USE {CATALOG}")
        except duckdb.Error as error:
            connection.close()
            raise WarehouseError(f"cannot open {self.settings.warehouse_path}: {error}") from error
        return connection

    def _create_tables(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'meta' AND table_name = 'state'",
            [CATALOG],
        ).fetchone()
        if found and found[0]:
            layout = get_state(connection, "layout")
            if layout in PREVIOUS_LAYOUTS:
                self._add_columns(connection)
            elif layout != LAYOUT_VERSION:
                raise WarehouseError(
                    f"{self.settings.warehouse_path} has layout {layout!r}, this volcast writes {LAYOUT_VERSION!r}: "
                    "use another VOLCAST_HOME"
                )
            return
        connection.execute("BEGIN")
        for schema in (*PUBLISHED_SCHEMAS, "staging", "intermediate"):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for raw in TABLES.values():
            columns = ", ".join(f'"{name}" {kind}' for name, kind in raw.warehouse_columns.items())
            connection.execute(f"CREATE TABLE IF NOT EXISTS {raw.qualified_name} ({columns})")
        for table in OUTPUT_TABLES.values():
            connection.execute(table.ddl)
            connection.execute(f"COMMENT ON TABLE {table.name} IS {literal(table.description)}")
            for name, (_, description) in table.columns.items():
                connection.execute(
                    f'COMMENT ON COLUMN {table.name}."{name}" IS {literal(description)}'
                )
        set_state(connection, "layout", LAYOUT_VERSION)
        connection.execute("COMMIT")

    def _add_columns(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Tables and columns that the layout before this one lacked; what was in their place is NULL in old rows."""
        connection.execute("BEGIN")
        for table in OUTPUT_TABLES.values():
            connection.execute(table.ddl)
            connection.execute(f"COMMENT ON TABLE {table.name} IS {literal(table.description)}")
            for name, (kind, description) in table.columns.items():
                connection.execute(
                    f'ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS "{name}" {kind}'
                )
                connection.execute(
                    f'COMMENT ON COLUMN {table.name}."{name}" IS {literal(description)}'
                )
        fill_ledger(connection)
        set_state(connection, "layout", LAYOUT_VERSION)
        bump_revision(connection)  # the published copy lacks them, too
        connection.execute("COMMIT")

    # -- the published copy ----------------------------------------------------------------------------------------

    def publish(self) -> bool:
        """Swap in a read-only copy of what people may read; False when it is up to date already.

        The copy is built beside the old one and renamed over it, so a reader sees the old file or the new one, never a mixture.
        Staging and intermediate relations stay behind.
        """
        target = self.settings.published_path
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.lock():
            for leftover in target.parent.glob(f".{target.name}.*"):
                leftover.unlink()  # its maker is dead, or would hold the lock
            connection = self._attach(read_only=False)
            try:
                revision = get_state(connection, "revision") or "0"
                if target.exists() and published_revision(target) == revision:
                    return False
                fresh = target.parent / f".{target.name}.{os.getpid()}"
                attach(connection, fresh, "published", read_only=False)
                self._copy_tables(connection)
                set_state(connection, "revision", revision, catalog="published")
                connection.execute("USE published")
                create_views(connection)
                connection.execute(f"USE {CATALOG}")
                connection.execute("DETACH published")
            finally:
                connection.close()
            os.chmod(fresh, 0o444)
            with fresh.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(fresh, target)  # under the lock: never an older revision over a newer one
        return True

    @staticmethod
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


def attach(
    connection: duckdb.DuckDBPyConnection, path: Path, alias: str, *, read_only: bool
) -> None:
    """ATTACH a DuckDB file; the path is quoted as a literal because ATTACH takes no parameters."""
    options = " (READ_ONLY)" if read_only else ""
    connection.execute(f"ATTACH {literal(str(path))} AS {alias}{options}")


# -- rows ----------------------------------------------------------------------------------------------------------


def replace_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: pd.DataFrame,
    *,
    on: Sequence[str],
    scope: pd.DataFrame | None = None,
) -> int:
    """Replace the rows of ``table`` that share the values of ``on`` with ``frame``'s; returns how many rows it was given.

    ``scope`` names the values of ``on`` to replace where ``frame`` may have no row for some. Idempotent: the same frame twice gives the same
    rows. Forecasts are append-only: a row that would change goes to ``forecasts.superseded`` first, one that would not is left as it is.
    Raises ``WarehouseError`` for a missing column or a repeated key.
    """
    if frame.empty and (scope is None or scope.empty):
        return 0
    spec = OUTPUT_TABLES[table]
    missing = [name for name in spec.columns if name not in frame.columns]
    if missing and not frame.empty:
        raise WarehouseError(f"{table}: columns {missing} are missing from the rows to write")
    if not frame.empty:
        repeated = frame.duplicated(list(spec.key))
        if repeated.any():
            example = frame.loc[repeated, list(spec.key)].iloc[0].to_dict()
            raise WarehouseError(
                f"{table}: {int(repeated.sum())} rows repeat a key, the first is {example}"
            )
    columns = ", ".join(f'"{name}"' for name in spec.columns)
    cast = ", ".join(
        # a number that is not there is NULL in SQL, NaN only in arrays
        f'CASE WHEN isnan("{name}"::DOUBLE) THEN NULL ELSE "{name}"::DOUBLE END AS "{name}"'
        if kind == "DOUBLE"
        else f'CAST("{name}" AS {kind}) AS "{name}"'
        for name, (kind, _) in spec.columns.items()
    )
    if frame.empty:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {columns} FROM {table} LIMIT 0"
        )
    else:
        connection.register("incoming_frame", frame[list(spec.columns)])
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE incoming AS SELECT {cast} FROM incoming_frame"
        )
        connection.unregister("incoming_frame")
    _scope_of(connection, spec, scope, on)
    if table in LEDGERED:
        changed = write_rows(connection, spec, on, "temp.scope")
    else:
        match = " AND ".join(f't."{name}" = s."{name}"' for name in on)
        connection.execute(
            f"DELETE FROM {table} AS t WHERE EXISTS (SELECT 1 FROM temp.scope AS s WHERE {match})"
        )
        connection.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM temp.incoming ORDER BY {', '.join(spec.key)}"
        )
        changed = True
    connection.execute("DROP TABLE temp.scope")
    connection.execute("DROP TABLE temp.incoming")
    if changed:
        bump_revision(connection)
    return len(frame)


def _scope_of(
    connection: duckdb.DuckDBPyConnection,
    spec: OutputTable,
    scope: pd.DataFrame | None,
    on: Sequence[str],
) -> None:
    """``temp.scope``: the values of ``on`` whose rows are replaced."""
    names = ", ".join(f'"{name}"' for name in on)
    query = f"CREATE OR REPLACE TEMP TABLE scope AS SELECT DISTINCT {names} FROM temp.incoming"
    if scope is not None:
        cast = ", ".join(f'CAST("{name}" AS {spec.columns[name][0]}) AS "{name}"' for name in on)
        connection.register("scope_frame", scope[list(on)])
        query += f" UNION SELECT DISTINCT {cast} FROM scope_frame"
    connection.execute(query)
    if scope is not None:
        connection.unregister("scope_frame")


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


def get_json_state(connection: duckdb.DuckDBPyConnection, key: str) -> dict[str, Any]:
    value = get_state(connection, key)
    return json.loads(value) if value else {}


def set_json_state(
    connection: duckdb.DuckDBPyConnection, key: str, value: Mapping[str, Any]
) -> None:
    set_state(connection, key, json.dumps(value, sort_keys=True, default=str))
