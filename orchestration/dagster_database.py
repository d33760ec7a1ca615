"""Dagster's tables, read without loading Dagster: from the SQLite files of a home, or from PostgreSQL.

In: settings, the SQLite file in which Dagster keeps a table, and a query that both databases understand, with ``?`` for values. Out: rows. Never writes, and
never raises where there is no table yet.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestration.secrets import mask, secret
from orchestration.settings import Settings, SettingsError

PASSWORD = "VOLCAST_DAGSTER_DATABASE_PASSWORD"  # noqa: S105 - the name of the variable
_SECONDS = 10


class DagsterDatabaseError(RuntimeError):
    """Dagster's database does not answer."""


FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""Dagster's SQLite files that every run opens."""


def check_files(settings: Settings) -> None:
    """Raise ``DagsterDatabaseError`` that names the first of Dagster's SQLite files that cannot be used: SQLite's own errors do not."""
    if settings.dagster_database:
        return
    for name in FILES:
        path = settings.dagster_home / name
        if not os.path.lexists(path):
            continue
        try:
            with closing(
                sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_SECONDS)
            ) as file:
                file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise DagsterDatabaseError(
                f"{path}: {error}. Dagster keeps its runs there: put it back from a backup, or move it aside and Dagster "
                "begins a new one, without the history of runs"
            ) from error


def rows(
    settings: Settings, file: str, query: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Rows of a table that lies in ``file`` under DAGSTER_HOME, or in the database that is set."""
    if settings.dagster_database:
        return _of_postgres(settings.dagster_database, query, parameters)
    return of_file(settings.dagster_home / file, query, parameters)


def of_file(path: Path, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Rows of one of Dagster's SQLite files, opened read-only; none where the file or the table is not there."""
    if not path.is_file():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        try:
            return connection.execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # another process is just making the file
                return []
            raise


def _of_postgres(database: str, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    try:
        import psycopg2  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError(
            f"VOLCAST_DAGSTER_DATABASE needs the extra `postgres` ({error}): run `pip install 'volcast[postgres]'`"
        ) from None
    try:
        words = {"connect_timeout": str(_SECONDS), **connection_words(database)}
        with closing(psycopg2.connect(**words)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            cursor = connection.cursor()
            cursor.execute(query.replace("?", "%s"), list(parameters))
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found
    except psycopg2.errors.UndefinedTable:
        return []
    except psycopg2.Error as error:
        raise DagsterDatabaseError(
            f"Dagster's database ({mask(database)}) does not answer: {mask(str(error)).strip()}"
        ) from None


def connection_words(database: str) -> dict[str, str]:
    """The libpq words of the setting as a mapping, with the password of the environment or the secrets file; raises ``SettingsError``."""
    words = {}
    for part in shlex.split(database):
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsError(
                f"VOLCAST_DAGSTER_DATABASE: {mask(part)!r}: expected libpq words such as dbname=dagster host=db user=dagster"
            )
        words[name] = value
    if "dbname" not in words:
        raise SettingsError(
            f"VOLCAST_DAGSTER_DATABASE={mask(database)!r}: expected dbname=... among its words"
        )
    if "password" in words:
        raise SettingsError(
            f"VOLCAST_DAGSTER_DATABASE={mask(database)!r}: expected the password in {PASSWORD} or in the secrets file, not here"
        )
    password = secret(PASSWORD) or os.environ.get("PGPASSWORD", "")
    return {**words, "password": password} if password else words
