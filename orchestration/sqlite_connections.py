"""Dagster's SQLite files through connections that stay open: an engine for each file and process, where Dagster makes one for each event.

In: the path of a file. Out: connections in a transaction. Opening a file for an event compiles every statement anew, and closing it copies its
write-ahead log into it, with three waits for the disk: it was a quarter of the processor time of a daily run that has nothing to do, and half of its wall time. A commit here waits for no disk
(``synchronous = NORMAL``): a process that is killed loses nothing; a power cut may take the last events of a run that it has ended anyway, and
leaves the file whole. Never: more open files than ``MOST_FILES`` a storage.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as db
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.engine import Connection, Engine

MOST_FILES = 3
"""The index, and the runs that were written or read last."""


class Engines:
    """An engine for each address, the last ``MOST_FILES`` that were asked for; for several threads."""

    def __init__(self) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, address: str) -> Engine:
        """The engine of a SQLite address."""
        with self._lock:
            engine = self._engines.pop(address, None)
            if engine is None:
                engine = create_engine(
                    address,
                    pool_size=1,
                    max_overflow=-1,
                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
                )  # fmt: skip
                db.event.listen(engine, "connect", _wait_for_no_disk)
            self._engines[address] = engine
            while len(self._engines) > MOST_FILES:
                self._engines.popitem(last=False)[1].dispose()
            return engine

    def close(self) -> None:
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _wait_for_no_disk(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


class EventConnections:
    """For a ``SqliteEventLogStorage``: its connections to a run's file and to the index, from engines that stay."""

    _engines: Engines | None = None

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        storage: Any = self
        with storage._db_lock:
            self._engines = self._engines or Engines()
            engine = self._engines.of(storage.conn_string_for_shard(shard))
            if shard not in storage._initialized_dbs:
                storage._initdb(engine)
                storage._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def dispose(self) -> None:
        super().dispose()  # type: ignore[misc]
        if self._engines is not None:
            self._engines.close()


class TableConnections:
    """For a ``SqliteRunStorage``: its connections, from an engine that stays."""

    _engines: Engines | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        storage: Any = self
        self._engines = self._engines or Engines()
        with self._engines.of(storage._conn_string).connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        super().dispose()  # type: ignore[misc]
        if self._engines is not None:
            self._engines.close()
