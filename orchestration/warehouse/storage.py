"""What the warehouse is stored in: the seam behind the door.

In: settings. Out: a ``Storage``, which attaches the warehouse to a DuckDB connection under the name ``wh``. The default is one DuckDB file; a
DuckLake is in ``orchestration.lake``, imported only where ``VOLCAST_WAREHOUSE`` names one. Never: a table, a lock, or a transaction.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb

from orchestration.settings import Settings
from orchestration.tables.layout import literal
from orchestration.warehouse.state import CATALOG


class Storage(Protocol):
    """Where tables lie. ``address`` is for people: no password is in it."""

    @property
    def address(self) -> str: ...

    @property
    def is_shared(self) -> bool:
        """Whether other machines may write to it: then a write can lose against theirs and must be repeatable."""
        ...

    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool, alias: str = CATALOG
    ) -> None:
        """ATTACH it; creates what is not there unless ``read_only``. Raises ``duckdb.Error``."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to read."""
        ...

    def is_conflict(self, error: Exception) -> bool:
        """Whether an error says that another writer was first, so that the same write may succeed when repeated."""
        ...

    def snapshot(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """The version that the connection's transaction reads; None where the storage keeps none."""
        ...

    def building(self, seconds: float) -> AbstractContextManager[None]:
        """Keep other homes from building features meanwhile. Raises ``Locked`` after ``seconds``."""
        ...

    def dbt_environment(self) -> dict[str, str]:
        """What dbt's profile reads to attach the same storage: the target's name, addresses and credentials."""
        ...


@dataclass(frozen=True)
class FileStorage:
    """One DuckDB file."""

    path: Path

    @property
    def address(self) -> str:
        return str(self.path)

    @property
    def is_shared(self) -> bool:
        return False

    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool, alias: str = CATALOG
    ) -> None:
        attach(connection, self.path, alias, read_only=read_only)

    def exists(self) -> bool:
        return self.path.exists()

    def is_conflict(self, error: Exception) -> bool:
        return False

    def snapshot(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        return None

    def building(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()  # the home's lock is enough

    def dbt_environment(self) -> dict[str, str]:
        return {"VOLCAST_WAREHOUSE_PATH": str(self.path)}


def storage_of(settings: Settings) -> Storage:
    """The storage that the settings name."""
    if not settings.warehouse:
        return FileStorage(settings.warehouse_path)
    from orchestration.lake.storage import LakeStorage  # only where there is a lake

    return LakeStorage.of(settings)


def attach(
    connection: duckdb.DuckDBPyConnection, path: Path, alias: str, *, read_only: bool
) -> None:
    """ATTACH a DuckDB file; the path is quoted as a literal because ATTACH takes no parameters."""
    options = " (READ_ONLY)" if read_only else ""
    connection.execute(f"ATTACH {literal(str(path))} AS {alias}{options}")
