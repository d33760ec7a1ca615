"""A lake attached to a DuckDB connection.

In: the catalog's address, the place of the Parquet files, credentials from the environment or the secrets file. Out: the lake under a name, its
extensions loaded from the Python packages of the extra ``lake``. Never: a download, or a credential in SQL that a log or an error could quote.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from orchestration.secrets import secret
from orchestration.tables.layout import literal

PASSWORD = "VOLCAST_WAREHOUSE_PASSWORD"  # noqa: S105 -- a name
_CATALOG_EXTENSION = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}
_BUSY_MILLISECONDS = 10_000
_COMMIT_RETRIES = 30


class NoLake(LookupError):
    """There is no lake in the catalog, and none is to be made."""


class LakeCredentialsError(ValueError):
    """What a lake needs to log in is missing or refused; no value is quoted."""


class MissingExtension(ImportError):
    """A DuckDB extension that a lake needs is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Lake:
    """``catalog`` as in ``VOLCAST_WAREHOUSE``; ``data``: a folder or s3:// address, empty for what the catalog says; ``new_data`` where it says nothing."""

    catalog: str
    data: str
    new_data: str

    @property
    def kind(self) -> str:
        return self.catalog.split(":", 2)[1]

    @property
    def catalog_words(self) -> str:
        """What comes after the kind: a file, or libpq's words."""
        return self.catalog.split(":", 2)[2]

    def attach(
        self, connection: duckdb.DuckDBPyConnection, alias: str, *, read_only: bool = False
    ) -> None:
        """ATTACH the lake; makes a new one where there is none. ``read_only``: at the snapshot of this moment, and ``NoLake`` where there is none. Raises ``duckdb.Error``, ``MissingExtension``."""
        load_extensions(connection, ("ducklake", _CATALOG_EXTENSION[self.kind]))
        connection.execute("SET ducklake_max_retry_count = ?", [_COMMIT_RETRIES])
        # Rows kept in the catalog itself lose what its types do not have: SQLite has no NaN, PostgreSQL no NUL in text; and DuckLake reserves row_id.
        connection.execute("SET ducklake_default_data_inlining_row_limit = 0")
        options = ["READ_ONLY"] if read_only else []
        if self.kind == "sqlite":
            if read_only and not Path(self.catalog_words).exists():
                raise NoLake(f"no lake in the catalog {self.catalog}")
            # In WAL mode readers and a writer do not block each other; in SQLite's default mode two open transactions wait for each other for ever.
            options += ["META_JOURNAL_MODE 'WAL'", f"META_BUSY_TIMEOUT {_BUSY_MILLISECONDS}"]
        elif _log_in(connection):
            options.append("META_SECRET 'lake_catalog'")
        if self.data.startswith("s3://"):
            open_object_store(connection)
        try:
            self._attach(connection, alias, options, read_only=read_only)
        except duckdb.Error as error:
            if "httpfs" not in str(
                error
            ):  # only the catalog knew that its files lie in an object store
                raise
            open_object_store(connection)
            self._attach(connection, alias, options, read_only=read_only)

    def _attach(
        self,
        connection: duckdb.DuckDBPyConnection,
        alias: str,
        options: list[str],
        *,
        read_only: bool,
    ) -> None:
        there = ["CREATE_IF_NOT_EXISTS false", *options]
        if self.data:
            there.append(f"DATA_PATH {literal(folder(self.data))}")
        try:
            connection.execute(_statement(self.catalog, alias, there))
        except duckdb.InvalidInputException as error:
            if "does not exist" not in str(error):
                raise
            if read_only:
                raise NoLake(f"no lake in the catalog {self.catalog}") from None
            there = []
        if read_only:  # again, at the snapshot of this moment: every statement sees the same tables
            row = connection.execute(
                "SELECT id FROM ducklake_current_snapshot(?)", [alias]
            ).fetchone()
            connection.execute(f"DETACH {alias}")
            there.append(f"SNAPSHOT_VERSION {int(row[0]) if row else 0}")
            connection.execute(_statement(self.catalog, alias, there))
        elif not there:
            place = literal(folder(self.data or self.new_data))
            connection.execute(_statement(self.catalog, alias, [*options, f"DATA_PATH {place}"]))


def attach_catalog(connection: duckdb.DuckDBPyConnection, lake: Lake, alias: str) -> None:
    """ATTACH the PostgreSQL database of a lake's catalog itself, without the lake."""
    load_extensions(connection, ("postgres_scanner",))
    named = ", SECRET lake_catalog" if _log_in(connection) else ""
    connection.execute(f"ATTACH {literal(lake.catalog_words)} AS {alias} (TYPE postgres{named})")


def _log_in(connection: duckdb.DuckDBPyConnection) -> bool:
    """Give PostgreSQL's password to the connection; False where libpq is to find it by itself (PGPASSWORD, PGPASSFILE)."""
    word = secret(PASSWORD)
    if word is not None:
        connection.execute(
            f"CREATE OR REPLACE SECRET lake_catalog (TYPE postgres, PASSWORD {literal(word)})"
        )
    return word is not None


def _statement(catalog: str, alias: str, options: list[str]) -> str:
    return f"ATTACH {literal(catalog)} AS {alias} ({', '.join(options)})"


def folder(place: str) -> str:
    """A place as DuckLake keeps it: with a slash at its end."""
    return place if place.endswith("/") else f"{place}/"


def load_extensions(connection: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> None:
    """LOAD DuckDB extensions from the files that their Python packages brought. Raises ``MissingExtension``."""
    for name in names:
        connection.execute(f"LOAD {literal(str(_file_of(name)))}")


def _file_of(name: str) -> Path:
    package = f"duckdb_extension_{name}"
    found = importlib.util.find_spec(package)
    for place in (found.submodule_search_locations or ()) if found else ():
        for file in Path(place).glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"):
            return file
    raise MissingExtension(
        f"DuckDB's extension {name} for version {duckdb.__version__} is not installed, which a lake needs: "
        "run `uv pip install -c requirements.lock -e '.[lake]'`"
    )


def open_object_store(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the connection read and write s3:// addresses with the credentials of ``AWS_*``. Raises ``LakeCredentialsError``."""
    load_extensions(connection, ("httpfs",))
    key_id, key = secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY")
    if not key_id or not key:
        raise LakeCredentialsError(
            "the lake's files lie in an object store: expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the environment or the secrets file"
        )
    parts = {
        "KEY_ID": key_id,
        "SECRET": key,
        "REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        "SESSION_TOKEN": secret("AWS_SESSION_TOKEN") or "",
    }
    given = [f"{name} {literal(value)}" for name, value in parts.items() if value]
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if address:  # an object store that is not Amazon's: named by its path, by http where it says so
        endpoint = urlsplit(address)
        given += [
            f"ENDPOINT {literal(endpoint.netloc)}",
            "URL_STYLE 'path'",
            f"USE_SSL {'true' if endpoint.scheme == 'https' else 'false'}",
        ]
    try:
        connection.execute(f"CREATE OR REPLACE SECRET lake_files (TYPE s3, {', '.join(given)})")
    except duckdb.Error as error:  # the statement holds the key
        raise LakeCredentialsError(
            f"DuckDB refuses the credentials of AWS_*: {type(error).__name__}"
        ) from None
