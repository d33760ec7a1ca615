"""Whole runs in processes of their own, as a user starts them, and what they left behind.

A ``Home`` is a folder and an environment; ``run`` calls the command line in it, ``rows`` reads its warehouse through the one door.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.sources import open_source
from orchestration.warehouse import Warehouse

AS_OF = date(2024, 3, 20)
PORTFOLIO = Path(__file__).with_name("desk.csv")
SMALL_MARKET = {
    "VOLCAST_SOURCE": "simulated",
    "VOLCAST_ASSETS": "BTC,ETH,SOL",
    "VOLCAST_SIMULATED_START": "2023-03-01",
    "VOLCAST_MODELS": "random_walk,ewma,log_har,harx_cal,attention",
    "VOLCAST_ATTENTION_EPOCHS": "2",
    "VOLCAST_PORTFOLIO": str(PORTFOLIO),
}
"""Three coins and a year: small, but every table is filled."""

ARCHIVE_FILES = {
    "ohlcv": "ohlcv/1h.parquet",
    "funding_rates": "funding/rates.parquet",
    "open_interest": "open_interest/1d.parquet",
    "implied_volatility": "implied_volatility/dvol.parquet",
    "onchain_metrics": "onchain/metrics.parquet",
    "sentiment_metrics": "sentiment/metrics.parquet",
    "headlines": "headlines/headlines.parquet",
}
ARCHIVE_NAMES = {
    "open_interest": {"venue": "provider", "symbol": "contract"},
    "implied_volatility": {"symbol": "index_name"},
}
"""How an archive file calls a raw column."""


@dataclass(frozen=True)
class Home:
    """A VOLCAST_HOME with its settings."""

    path: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(SMALL_MARKET))

    @property
    def variables(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VOLCAST_", "DAGSTER_"))
        }
        return {**kept, **self.environment, "VOLCAST_HOME": str(self.path), "COLUMNS": "200"}

    @property
    def settings(self) -> Settings:
        return Settings.from_env({**self.environment, "VOLCAST_HOME": str(self.path)})

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            env=self.variables,
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Run the command line and return what it printed; asserts on its exit status."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=800)
        assert (process.returncode != 0) == fails, (
            f"volcast {' '.join(arguments)} -> {process.returncode}\n{output}"
        )
        return output

    def rows(self, query: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with self.warehouse.read() as connection:
            return connection.execute(query, parameters or []).fetchall()

    def table_hash(self, table: str, *, where: str = "true", without: tuple[str, ...] = ()) -> str:
        """Hash of a table's rows in key-free order, less the columns that name the run and the clock."""
        with self.warehouse.read() as connection:
            names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
            kept = [name for name in names if name not in {*RUN_COLUMNS, *without}]
            columns = ", ".join(f'"{name}"' for name in kept)
            found = connection.execute(
                f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL"
            ).fetchall()
        return hashlib.sha256(repr(found).encode()).hexdigest()


def lake_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Settings of a new lake, its catalog in PostgreSQL and its files in S3; its credentials go into this process's environment."""
    server, store = request.getfixturevalue("lake_services")
    for name, value in {**store.environment, "PGPASSWORD": server.password}.items():
        monkeypatch.setenv(name, value)
    name = f"lake_{uuid.uuid4().hex[:8]}"
    return {
        "VOLCAST_WAREHOUSE": f"ducklake:postgres:{server.make_database(name)}",
        "VOLCAST_LAKE_DATA": f"s3://{store.bucket}/{name}",
    }


RUN_COLUMNS = (
    "run_id",
    "created_at",
    "ingested_at",
    "batch_id",
    "checked_at",
    "validation_id",
    "lake_snapshot",
)


def export_archive(settings: Settings, folder: Path, until: date) -> dict[str, pa.Table]:
    """Write the simulated market up to ``until`` as an archive folder with known_at columns; returns its tables."""
    source = open_source(settings)
    known_until = settings.decision_time(until)
    tables = {}
    for name in ARCHIVE_FILES:
        batches = list(source.batches(name, None, known_until))
        if batches:
            tables[name] = pa.concat_tables(batches)
            write_archive_table(folder, name, tables[name])
    return tables


def write_archive_table(folder: Path, name: str, table: pa.Table) -> None:
    """One raw table under the archive's own file and column names."""
    renamed = ARCHIVE_NAMES.get(name, {})
    table = table.rename_columns([renamed.get(column, column) for column in table.column_names])
    path = folder / ARCHIVE_FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "ohlcv":
        for interval in ("1h", "5m"):
            part = table.filter(pa.compute.equal(table["interval"], interval)).drop_columns(
                ["interval"]
            )
            if part.num_rows:
                pq.write_table(part, path.with_name(f"{interval}.parquet"))
        return
    pq.write_table(table, path)


def day_before(day: date, days: int = 1) -> date:
    return day - timedelta(days=days)


def published(home: Home) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(home.settings.published_path), read_only=True)
