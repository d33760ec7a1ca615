"""A lake's files and snapshots, kept few: deletes written out, small files merged, old snapshots let go.

In: a warehouse that is a lake. Out: what was done, in numbers. Never: a snapshot that a model was trained on or a forecast read, a row that is changed,
or a file that a reader may still have open.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from orchestration.warehouse import Warehouse, WarehouseError
from orchestration.warehouse.state import CATALOG

logger = logging.getLogger(__name__)
SMALL_FILE_BYTES = 1 << 20
READERS_FINISH = timedelta(days=1)
"""A file that no snapshot needs is deleted so long after it was let go: a reader that began before may read it until then."""
TRIES = 5


@dataclass(frozen=True)
class LakeSize:
    """What there is to keep in order."""

    snapshots: int
    pinned: int
    files: int
    small_files: int
    bytes: int


@dataclass(frozen=True)
class Upkeep:
    """What one round did."""

    before: LakeSize
    after: LakeSize
    expired: int
    deleted_files: int


def size_of_lake(connection: duckdb.DuckDBPyConnection) -> LakeSize:
    """Snapshots and live files of the lake attached as ``wh``."""
    snapshots = connection.execute("SELECT count(*) FROM ducklake_snapshots(?)", [CATALOG])
    count = int((snapshots.fetchone() or (0,))[0])
    files = connection.execute(
        f"SELECT count(*), count(*) FILTER (file_size_bytes < ?), coalesce(sum(file_size_bytes), 0) FROM __ducklake_metadata_{CATALOG}.ducklake_data_file "
        "WHERE end_snapshot IS NULL",
        [SMALL_FILE_BYTES],
    ).fetchone() or (0, 0, 0)
    return LakeSize(count, len(pinned_snapshots(connection)), *map(int, files))


def pinned_snapshots(connection: duckdb.DuckDBPyConnection) -> set[int]:
    """Snapshots that a model was trained on or a forecast read."""
    rows = connection.execute(
        "SELECT lake_snapshot FROM models.registry WHERE lake_snapshot IS NOT NULL "
        "UNION SELECT lake_snapshot FROM forecasts.ledger WHERE lake_snapshot IS NOT NULL"
    ).fetchall()
    return {int(row[0]) for row in rows}


def keep_in_order(warehouse: Warehouse, now: datetime) -> Upkeep:
    """One round. Raises ``WarehouseError`` where the warehouse is a file, which needs none."""
    if not warehouse.storage.is_shared:
        raise WarehouseError(
            f"{warehouse.storage.address} is a file: only a lake has snapshots and files to keep in order"
        )
    oldest = now - timedelta(days=warehouse.settings.lake_keep_days)
    with warehouse.session() as connection:
        before = size_of_lake(connection)
        for step in ("ducklake_rewrite_data_files", "ducklake_merge_adjacent_files"):
            _called(warehouse, connection, f"CALL {step}({_CATALOG})")
        old = [
            int(row[0])
            for row in connection.execute(
                "SELECT snapshot_id FROM ducklake_snapshots(?) WHERE snapshot_time < ? AND snapshot_id <> (SELECT id FROM ducklake_current_snapshot(?))",
                [CATALOG, oldest, CATALOG],
            ).fetchall()
        ]
        expired = sorted(set(old) - pinned_snapshots(connection))
        if expired:
            _called(
                warehouse,
                connection,
                f"CALL ducklake_expire_snapshots({_CATALOG}, versions => {expired})",
            )
        gone = now - READERS_FINISH
        deleted = _called(
            warehouse,
            connection,
            f"CALL ducklake_cleanup_old_files({_CATALOG}, older_than => TIMESTAMPTZ '{gone.isoformat()}')",
        )
        after = size_of_lake(connection)
    return Upkeep(before, after, len(expired), deleted)


_CATALOG = f"'{CATALOG}'"


def _called(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, call: str) -> int:
    """Run one step, again where another home wrote to the same files meanwhile; how many rows it told."""
    for number in range(1, TRIES + 1):
        try:
            return len(connection.execute(call).fetchall())
        except duckdb.Error as error:
            if number == TRIES or not warehouse.storage.is_conflict(error):
                raise
            logger.info("%s lost against another writer (try %d)", call.split("(")[0], number)
            time.sleep(number)
    raise AssertionError("unreachable")
