"""Forecasts are append-only: what a write would change is kept, and every write leaves a line that can be checked.

In: rows on their way into a table of the schema ``forecasts``, inside the writer's transaction. Out: the table as it should be, ``forecasts.superseded``
with the rows that it held before, ``forecasts.ledger`` with rows and content hash by day and model version. Never: touches a row whose values are the
same, whatever run gave them; works row by row in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from orchestration.tables import OUTPUT_TABLES, OutputTable
from orchestration.tables.layout import RUN, literal
from orchestration.tables.ledger import BY_TOKEN, LEDGER, SUPERSEDED

LEDGERED: dict[str, OutputTable] = {
    name: table
    for name, table in OUTPUT_TABLES.items()
    if name.startswith("forecasts.") and table not in (LEDGER, SUPERSEDED)
}
"""Tables whose writes go through here."""
_GROUP = ("as_of", "model", "model_version")


def write_rows(
    connection: duckdb.DuckDBPyConnection,
    spec: OutputTable,
    on: Sequence[str],
    scope: str,
    snapshot: int | None = None,
) -> bool:
    """Bring ``temp.incoming`` into a forecast table; False where every row was there already.

    Stored rows that share the values of ``on`` with a row of ``scope`` and are not given again as they are go to ``forecasts.superseded``.
    """
    run_id, now = _run_of(connection, spec), datetime.now(UTC)
    near = "true"
    if "as_of" in on:  # days lie together in the file: the rest of it is not read
        near = (
            f"t.as_of BETWEEN (SELECT min(as_of) FROM {scope}) AND (SELECT max(as_of) FROM {scope})"
        )
    in_scope = " AND ".join(f't."{name}" = s."{name}"' for name in on)
    same = " AND ".join(f't."{name}" IS NOT DISTINCT FROM i."{name}"' for name in _content(spec))
    stale = (
        f"{near} AND EXISTS (SELECT 1 FROM {scope} AS s WHERE {in_scope}) "
        f"AND NOT EXISTS (SELECT 1 FROM temp.incoming AS i WHERE {same})"
    )
    superseded = _supersede(connection, spec, stale, [], run_id, now)
    columns = ", ".join(f'"{name}"' for name in spec.columns)
    key = " AND ".join(f't."{name}" = i."{name}"' for name in spec.key)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT {columns} FROM temp.incoming AS i "
        f"WHERE NOT EXISTS (SELECT 1 FROM {spec.name} AS t WHERE {near} AND {key})"
    )
    added = connection.execute(
        f"INSERT INTO {spec.name} ({columns}) SELECT {columns} FROM temp.fresh ORDER BY {', '.join(spec.key)}"
    ).fetchone()
    connection.execute(f"INSERT INTO temp.touched SELECT DISTINCT {_group(spec)} FROM temp.fresh")
    connection.execute("DROP TABLE temp.fresh")
    changed = superseded > 0 or bool(added and added[0])
    if changed:
        _restate(connection, spec, run_id, now, snapshot)
    connection.execute("DROP TABLE temp.touched")
    return changed


def withdraw_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    where: str,
    parameters: Sequence[Any],
    run_id: str | None = None,
) -> int:
    """Move the rows of a forecast table that fulfil ``where`` to ``forecasts.superseded``; returns how many.

    ``where`` is SQL of the program's own, with ``?`` for its parameters.
    """
    spec, now = LEDGERED[table], datetime.now(UTC)
    superseded = _supersede(connection, spec, where, parameters, run_id, now)
    if superseded:
        _restate(connection, spec, run_id, now)
    connection.execute("DROP TABLE temp.touched")
    return superseded


def forget(connection: duckdb.DuckDBPyConnection, table: str, before: date) -> None:
    """Take the lines of days before ``before`` out of the ledger: retention has dropped their rows."""
    connection.execute(
        "DELETE FROM forecasts.ledger WHERE table_name = ? AND as_of < ?", [table, before]
    )


def fill_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Lines for everything that is stored: for a home from before there was a ledger."""
    now = datetime.now(UTC)
    for spec in LEDGERED.values():
        connection.execute("DELETE FROM forecasts.ledger WHERE table_name = ?", [spec.name])
        connection.execute(f"INSERT INTO forecasts.ledger {lines(spec, now=now)}")


def lines(
    spec: OutputTable,
    where: str = "true",
    run_id: str | None = None,
    now: datetime | None = None,
    snapshot: int | None = None,
) -> str:
    """SQL of the ledger lines of what is stored in a table, in the order of the ledger's columns."""
    stamp = "NULL" if now is None else f"TIMESTAMPTZ {literal(now.isoformat())}"
    run = "NULL" if run_id is None else literal(run_id)
    seen = "NULL" if snapshot is None else str(int(snapshot))
    return (
        f"SELECT {literal(spec.name)} AS table_name, {_group(spec)}, count(*) AS rows, "
        f"CAST(sum({_row_hash(spec)}) AS VARCHAR) AS content_hash, {run} AS run_id, {stamp} AS created_at, {seen} AS lake_snapshot "
        f"FROM {spec.name} AS t WHERE {where} GROUP BY ALL ORDER BY ALL"
    )


def _supersede(
    connection: duckdb.DuckDBPyConnection,
    spec: OutputTable,
    where: str,
    parameters: Sequence[Any],
    run_id: str | None,
    now: datetime,
) -> int:
    """Keep the rows of a condition in ``forecasts.superseded`` and delete them; ``temp.touched`` then names their groups."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE stale AS SELECT t.rowid AS place FROM {spec.name} AS t WHERE {where}",
        list(parameters),
    )
    chosen = "t.rowid IN (SELECT place FROM temp.stale)"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT {_group(spec)} FROM {spec.name} AS t WHERE {chosen}"
    )
    connection.execute(
        f"INSERT INTO forecasts.superseded {_kept(spec, chosen)}",
        {"now": now, "run_id": run_id},
    )
    deleted = connection.execute(f"DELETE FROM {spec.name} AS t WHERE {chosen}").fetchone()
    connection.execute("DROP TABLE temp.stale")
    return int(deleted[0]) if deleted else 0


def _kept(spec: OutputTable, where: str) -> str:
    """SQL of the rows of ``forecasts.superseded`` for rows of a table."""

    def own(name: str, kind: str) -> str:
        return f't."{name}"' if name in spec.columns else f"CAST(NULL AS {kind})"

    group = [name for name in _GROUP if name in spec.columns]
    if spec.name in BY_TOKEN:
        key = ", ".join(f'"{name}" := t."{name}"' for name in group)
        return (
            f"SELECT {literal(spec.name)}, NULL, t.as_of, NULL, {own('model', 'VARCHAR')}, {own('model_version', 'VARCHAR')}, "
            f"CAST(to_json(struct_pack({key})) AS VARCHAR), "
            f"to_json(struct_pack(rows := count(*), content_hash := CAST(sum({_row_hash(spec)}) AS VARCHAR))), NULL, $now, $run_id "
            f"FROM {spec.name} AS t WHERE {where} GROUP BY ALL"
        )
    key = ", ".join(f'"{name}" := t."{name}"' for name in spec.key)
    row = ", ".join(f'"{name}" := t."{name}"' for name in spec.columns)
    return (
        f"SELECT {literal(spec.name)}, {own('asset', 'VARCHAR')}, t.as_of, {own('horizon', 'INTEGER')}, {own('model', 'VARCHAR')}, "
        f"{own('model_version', 'VARCHAR')}, CAST(to_json(struct_pack({key})) AS VARCHAR), to_json(struct_pack({row})), "
        f"{own('created_at', 'TIMESTAMPTZ')}, greatest({own('created_at', 'TIMESTAMPTZ')}, $now), $run_id FROM {spec.name} AS t WHERE {where}"
    )


def _restate(
    connection: duckdb.DuckDBPyConnection,
    spec: OutputTable,
    run_id: str | None,
    now: datetime,
    snapshot: int | None = None,
) -> None:
    """Write the lines of the groups in ``temp.touched`` anew; a group without rows loses its line."""
    match = " AND ".join(f"l.{name} = g.{name}" for name in _GROUP)
    connection.execute(
        f"DELETE FROM forecasts.ledger AS l WHERE table_name = ? AND EXISTS (SELECT 1 FROM temp.touched AS g WHERE {match})",
        [spec.name],
    )
    same = " AND ".join(
        f"g.{name} = coalesce(t.{name}, '')" if name != "as_of" else "g.as_of = t.as_of"
        for name in _GROUP
        if name in spec.columns
    )
    near = "t.as_of BETWEEN (SELECT min(as_of) FROM temp.touched) AND (SELECT max(as_of) FROM temp.touched)"
    where = f"{near} AND EXISTS (SELECT 1 FROM temp.touched AS g WHERE {same})"
    connection.execute(f"INSERT INTO forecasts.ledger {lines(spec, where, run_id, now, snapshot)}")


def _content(spec: OutputTable) -> list[str]:
    """Columns that say what was forecast: all but those that name the run and the clock."""
    return [name for name in spec.columns if name not in RUN]


def _group(spec: OutputTable) -> str:
    return ", ".join(
        "as_of"
        if name == "as_of"
        else f"coalesce({name}, '') AS {name}"
        if name in spec.columns
        else f"'' AS {name}"
        for name in _GROUP
    )


def _row_hash(spec: OutputTable) -> str:
    """SQL of half the MD5 of a row's text; text and not DuckDB's hash(), which another version of DuckDB may change."""
    parts = []
    for name in _content(spec):
        kind = spec.columns[name][0]
        value = f'epoch_us(t."{name}")' if kind == "TIMESTAMPTZ" else f't."{name}"'
        parts.append(f"coalesce(CAST({value} AS VARCHAR), chr(30))")
    return f"md5_number_lower(concat_ws(chr(31), {', '.join(parts)}))"


def _run_of(connection: duckdb.DuckDBPyConnection, spec: OutputTable) -> str | None:
    if "run_id" not in spec.columns:
        return None
    row = connection.execute("SELECT max(run_id) FROM temp.incoming").fetchone()
    return None if row is None or row[0] is None else str(row[0])
