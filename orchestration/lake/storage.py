"""The warehouse as a lake, behind the seam of ``orchestration.warehouse.storage``.

In: settings that name a lake. Out: it attached as ``wh``; which errors say that another writer was first; the snapshot that a transaction sees.
Never: a password in an address or a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from orchestration.lake.build_lock import build_lock
from orchestration.lake.connection import PASSWORD, Lake, NoLake
from orchestration.secrets import secret
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse.errors import NothingStored, WarehouseError
from orchestration.warehouse.layout import has_tables
from orchestration.warehouse.state import CATALOG

_LOST = re.compile(
    "Transaction conflict|database is locked|maximum retry count|could not serialize|Failed to probe DuckLake metadata: Current transaction is aborted|deadlock detected|[Dd]uplicate key|UNIQUE constraint failed",
)
_CREDENTIALS = (
    PASSWORD, "PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip


@dataclass(frozen=True)
class LakeStorage:
    """A lake as one home sees it."""

    lake: Lake

    @classmethod
    def of(cls, settings: Settings) -> LakeStorage:
        return cls(Lake(settings.warehouse, settings.lake_data, str(settings.home / "lake")))

    @property
    def address(self) -> str:
        return self.lake.catalog

    @property
    def is_shared(self) -> bool:
        return True

    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool, alias: str = CATALOG
    ) -> None:
        try:
            self.lake.attach(connection, alias, read_only=read_only)
        except NoLake as error:
            raise NothingStored(str(error)) from None
        except (ImportError, ValueError) as error:
            raise WarehouseError(f"cannot open {self.address}: {error}") from error

    def exists(self) -> bool:
        with duckdb.connect(":memory:") as connection:
            try:
                self.attach(connection, read_only=True)
            except NothingStored:
                return False
            except duckdb.Error as error:
                raise WarehouseError(f"cannot open {self.address}: {error}") from error
            return has_tables(connection)

    def is_conflict(self, error: Exception) -> bool:
        return _LOST.search(str(error)) is not None

    def snapshot(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        row = connection.execute(
            "SELECT id FROM ducklake_current_snapshot(?)", [CATALOG]
        ).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def building(self, seconds: float) -> Iterator[None]:
        with build_lock(self.lake, seconds):
            yield

    def dbt_environment(self) -> dict[str, str]:
        given = {name: value for name in _CREDENTIALS if (value := _credential(name))}
        modules = (str(PROJECT_ROOT), os.environ.get("PYTHONPATH"))
        return {
            **given,
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),  # for lake.dbt_plugin
            "VOLCAST_DBT_TARGET": "lake",
            "VOLCAST_LAKE_CATALOG": self.lake.catalog,
            "VOLCAST_LAKE_FILES": self.lake.data,
            "VOLCAST_LAKE_NEW_FILES": self.lake.new_data,
        }


def _credential(name: str) -> str | None:
    """A variable of the environment or of the secrets file."""
    return os.environ.get(name) or secret(name)
