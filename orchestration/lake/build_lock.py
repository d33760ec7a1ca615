"""One home builds features at a time, among all the homes of a lake.

In: the lake. Out: a lock that its holder's death frees: PostgreSQL's advisory lock, or flock beside an SQLite catalog. Never: a lock that outlives the
process that took it, or a wait without an end.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from orchestration.lake.connection import Lake, attach_catalog
from orchestration.warehouse.errors import Locked

_POLL_SECONDS = 0.5
_KEY = 7_640_891_576_956_012_808
"""Of the advisory lock in the catalog's database: any number that nobody else uses."""


@contextmanager
def build_lock(lake: Lake, seconds: float) -> Iterator[None]:
    """Hold it. Raises ``Locked`` after ``seconds``."""
    if lake.kind == "sqlite":
        with Path(f"{lake.catalog_words}.building").open("a") as handle:

            def taken() -> bool:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            _wait(taken, lake, seconds)
            yield
        return
    with duckdb.connect(":memory:") as connection:
        attach_catalog(connection, lake, "catalog")
        connection.execute("BEGIN")  # the lock lives as long as the session that took it

        def granted() -> bool:
            row = connection.execute(
                "FROM postgres_query('catalog', ?)",
                [f"SELECT pg_try_advisory_lock({_KEY}) AS taken"],
            ).fetchone()
            return bool(row and row[0])

        _wait(granted, lake, seconds)
        yield


def _wait(taken: Callable[[], bool], lake: Lake, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not taken():
        if time.monotonic() > deadline:
            raise Locked(
                f"{lake.catalog}: another home still builds features after {seconds:g} s: wait for it, end it if it hangs (docs/runbook.md), "
                "or raise VOLCAST_LOCK_TIMEOUT_SECONDS"
            )
        time.sleep(_POLL_SECONDS)
