"""A scratch warehouse and a dbt run on it, for the tests of the SQL.

In: raw frames. Out: a DuckDB file with raw tables, built by dbt as a child process. Never: the project's own warehouse or its lock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd

from orchestration.settings import TRANSFORMS_DIR
from orchestration.sources.schema import TABLES
from tests.transforms.raw_market import ASSETS, Frames


def connect(path: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """A connection in UTC with the warehouse attached as wh."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"ATTACH '{path}' AS wh {'(READ_ONLY)' if read_only else ''}")
    connection.execute("USE wh")
    return connection


def store(path: Path, frames: Frames) -> None:
    """Append the frames to the raw tables, in an order of their own; the tables are made when missing."""
    with connect(path, read_only=False) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for name, table in TABLES.items():
            columns = ", ".join(f'"{c}" {kind}' for c, kind in table.warehouse_columns.items())
            connection.execute(f"CREATE TABLE IF NOT EXISTS raw.{name} ({columns})")
            frame = frames[name].sample(frac=1, random_state=1)
            names = ", ".join(f'"{column}"' for column in table.columns)
            connection.register("batch", frame)
            connection.execute(
                f"INSERT INTO raw.{name} ({names}, ingested_at, batch_id) "
                f"SELECT {names}, known_at + INTERVAL 1 MINUTE, 'test' FROM batch"
            )
            connection.unregister("batch")


_CHILD = """
import json, sys
from dbt.cli.main import dbtRunner
for arguments in json.loads(sys.argv[1]):
    if not dbtRunner().invoke(arguments).success:
        sys.exit(1)
"""


def dbt(path: Path, *runs: tuple[str, date, date], **variables: object) -> dict[str, str]:
    """Run dbt commands one after the other, each (command, from_date, to_date); status by node of the last.

    One child process for all of them, since dbt takes seconds to start. Raises AssertionError with dbt's output when one fails.
    """
    target = path.parent / f"target-{path.stem}"
    commands = []
    for command, first, last in runs:
        values = {"assets": list(ASSETS), **variables}
        values |= {"from_date": first.isoformat(), "to_date": last.isoformat()}
        options = [
            *("--project-dir", str(TRANSFORMS_DIR), "--profiles-dir", str(TRANSFORMS_DIR)),
            *("--no-use-colors", "--vars", json.dumps(values)),
        ]
        commands.append([command, *options])
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, json.dumps(commands)],
        cwd=path.parent,
        env={
            **os.environ,
            "VOLCAST_WAREHOUSE_PATH": str(path),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    results = json.loads((target / "run_results.json").read_text())["results"]
    return {item["unique_id"]: item["status"] for item in results}


def table(path: Path, name: str, where: str = "true") -> pd.DataFrame:
    """The rows of a table in the order of their first columns."""
    with connect(path) as connection:
        return connection.execute(f"SELECT * FROM {name} WHERE {where} ORDER BY ALL").df()


def differences(one: Path, other: Path, name: str, where: str = "true") -> tuple[int, int]:
    """Rows of a table that are in one warehouse alone, each way, compared bit for bit."""
    with connect(one) as connection:
        connection.execute(f"ATTACH '{other}' AS other (READ_ONLY)")
        row = connection.execute(
            f"""
            WITH mine AS (SELECT * FROM wh.{name} WHERE {where}),
                 theirs AS (SELECT * FROM other.{name} WHERE {where})
            SELECT (SELECT count(*) FROM (FROM mine EXCEPT ALL FROM theirs)),
                   (SELECT count(*) FROM (FROM theirs EXCEPT ALL FROM mine))
            """
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
