"""Opening the warehouse, for one process at a time of a home.

In: settings. Out: connections that read, or that write in one transaction. Writers of one home take turns: an OS lock (flock on a file beside the
database) is held around every write, the dbt step included. In a file, readers share that lock. In a lake, a reader sees one snapshot and waits
for nobody, and writers of other homes are met by commit conflicts: ``writes`` repeats what lost. Never: copies the file by other means (closing any
other descriptor of it would drop DuckDB's own POSIX locks), or lets two processes write to a file at once.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import duckdb

from orchestration.lock_notes import holder, note_holder, note_wait
from orchestration.settings import Settings
from orchestration.warehouse.attempts import Attempt, attempts
from orchestration.warehouse.errors import Conflict, Locked, NothingStored, WarehouseError
from orchestration.warehouse.layout import complete_tables, has_tables
from orchestration.warehouse.published import publish
from orchestration.warehouse.state import CATALOG, touch_guard
from orchestration.warehouse.storage import Storage, storage_of

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Warehouse:
    """The tables of a home: where they lie, and the lock under it."""

    settings: Settings

    @cached_property
    def storage(self) -> Storage:
        return storage_of(self.settings)

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self.storage.exists()

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[int]:
        """Hold the lock file; exclusive unless ``shared``; yields its descriptor.

        The kernel frees it when its last holder dies, however it dies. A child process that writes is given the descriptor, so that
        the lock outlives a parent that is killed before it.
        """
        path = self.settings.lock_path
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

    def writes(self) -> Iterator[Attempt]:
        """``for attempt in warehouse.writes():`` and ``with attempt as connection:`` -- one transaction, repeated while another home's write came first.

        The body must give the same when it is run again: it starts from nothing but what the tables hold. It must not leave by ``return`` or
        ``break``, which would take a conflict at commit for success. Raises ``Conflict`` when ``VOLCAST_LOCK_TIMEOUT_SECONDS`` are over.
        """
        return attempts(self.write, self.settings.lock_timeout_seconds)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, in one transaction: all of it is kept, or none. Raises ``Conflict`` where another home was first."""
        with self.lock(), self._told():
            connection = self._open(read_only=False)
            try:
                complete_tables(connection, self.storage.address)
                connection.execute("BEGIN")
                yield connection
                if self.storage.is_shared:
                    touch_guard(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the live warehouse, for pipeline steps; people read the published copy."""
        if self.storage.is_shared:
            with self._read_snapshot() as connection:
                yield connection
            return
        if not self.exists():
            with self.write():
                pass
        with self.lock(shared=True):
            connection = self._open(read_only=True)
            try:
                yield connection
            finally:
                connection.close()

    @contextmanager
    def _read_snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One snapshot of a lake, however many statements read it; no lock."""
        try:
            connection = self._open_snapshot()
        except NothingStored:
            connection = None
        if connection is not None and not has_tables(connection):
            connection.close()
            connection = None
        if connection is None:
            for attempt in self.writes():
                with attempt:
                    pass
            connection = self._open_snapshot()
        try:
            yield connection
        finally:
            connection.close()

    def _open_snapshot(self) -> duckdb.DuckDBPyConnection:
        """``_open`` to read, again while another home's write keeps the catalog busy."""
        deadline = time.monotonic() + self.settings.lock_timeout_seconds
        while True:
            try:
                return self._open(read_only=True)
            except Conflict:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Around the dbt step, which is several transactions: one home builds at a time, so that no older build lands on a newer one."""
        with self.storage.building(self.settings.lock_timeout_seconds):
            yield

    def snapshot(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """The version of the tables that a connection of ``read`` or ``write`` sees; None where the storage keeps no versions."""
        return self.storage.snapshot(connection)

    def publish(self) -> bool:
        """Swap in a read-only copy of what people may read; False when it is up to date already."""
        with self.session() as connection:
            return publish(
                connection, self.settings.published_path, one_snapshot=self.storage.is_shared
            )

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection under the lock without a transaction, for who makes several of his own: publishing, upkeep, migration."""
        with self.lock():
            connection = self._open(read_only=False)
            try:
                yield connection
            finally:
                connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Lost races by their name."""
        try:
            yield
        except duckdb.Error as error:
            if self.storage.is_conflict(error):
                raise Conflict(
                    f"{self.storage.address}: another writer was first: {error}"
                ) from error
            raise

    def _open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(":memory:")
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET memory_limit = ?", [self.settings.memory_limit])
            connection.execute("SET temp_directory = ?", [str(self.settings.spill_dir())])
            connection.execute("SET autoinstall_known_extensions = false")  # downloads nothing
            self.storage.attach(connection, read_only=read_only)
            connection.execute(f"USE {CATALOG}")
        except duckdb.Error as error:
            connection.close()
            if self.storage.is_conflict(error):
                raise Conflict(f"cannot open {self.storage.address} now: {error}") from error
            raise WarehouseError(f"cannot open {self.storage.address}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection
