"""Rows from a frame into a table of the platform's own.

In: a connection of a write, a table's name, its rows. Out: the table with those rows in place of the ones that shared their key. Never: a row of the
raw tables, which are append-only, or a forecast that is lost (``ledger``).
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pandas as pd

from orchestration.ledger import LEDGERED, write_rows
from orchestration.tables import OUTPUT_TABLES, OutputTable
from orchestration.warehouse.errors import WarehouseError
from orchestration.warehouse.state import bump_revision


def replace_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: pd.DataFrame,
    *,
    on: Sequence[str],
    scope: pd.DataFrame | None = None,
    snapshot: int | None = None,
) -> int:
    """Replace the rows of ``table`` that share the values of ``on`` with ``frame``'s; returns how many rows it was given.

    ``scope`` names the values of ``on`` to replace where ``frame`` may have no row for some. Idempotent: the same frame twice gives the same
    rows. Forecasts are append-only: a row that would change goes to ``forecasts.superseded`` first, one that would not is left as it is.
    ``snapshot``: of the lake, that the rows were made from; the ledger of forecasts keeps it, or the rows themselves.
    Raises ``WarehouseError`` for a missing column or a repeated key.
    """
    if frame.empty and (scope is None or scope.empty):
        return 0
    spec = OUTPUT_TABLES[table]
    if "lake_snapshot" in spec.columns and "lake_snapshot" not in frame.columns:
        frame = frame.assign(lake_snapshot=snapshot)
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
        changed = write_rows(connection, spec, on, "temp.scope", snapshot)
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
