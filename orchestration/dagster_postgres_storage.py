"""Dagster's PostgreSQL storage, masked like the one of SQLite.

In: the libpq words of ``VOLCAST_DAGSTER_DATABASE``, and the password as a secret. Out: storages that ``dagster_storage`` gives to Dagster in place of its own.
Never: a password in the words, in what Dagster keeps of its configuration, or in an error. Imports the extra ``postgres``: only where a database is set.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from orchestration.dagster_database import connection_words
from orchestration.dagster_storage import MaskedEvents, MaskedHeartbeats, MaskedTicks
from orchestration.settings import SettingsError

try:
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.run_storage import PostgresRunStorage
    from dagster_postgres.schedule_storage import PostgresScheduleStorage
except ImportError as error:
    raise SettingsError(
        f"VOLCAST_DAGSTER_DATABASE needs the extra `postgres` ({error}): run `pip install 'volcast[postgres]'`"
    ) from None


class PostgresEvents(MaskedEvents, PostgresEventLogStorage):
    """The log of every run, and the index of assets and checks over all runs."""


class PostgresRuns(MaskedHeartbeats, PostgresRunStorage):
    """Runs, backfills and the daemon's heartbeats."""


class PostgresTicks(MaskedTicks, PostgresScheduleStorage):
    """Sensors and schedules: which are on, and their ticks."""


def storage_url(database: str) -> str:
    """The address that SQLAlchemy wants, from libpq words; what is not user, password, host, port or name goes into its query."""
    words = connection_words(database)
    user, password = words.pop("user", ""), words.pop("password", "")
    host, port, name = words.pop("host", ""), words.pop("port", "5432"), words.pop("dbname")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    if host.startswith("/"):  # a folder of sockets
        words["host"], host = host, ""
    query = f"?{urlencode(words, quote_via=quote)}" if words else ""
    # the driver by name: without one SQLAlchemy 2.1 takes psycopg 3, and Dagster brings psycopg2
    return f"postgresql+psycopg2://{login}@{host}:{port}/{quote(name, safe='')}{query}"
