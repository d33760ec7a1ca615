"""Homes at the boundaries of stages, and what is in them.

In: a finished home. Out: a copy of it before each stage of the next day, the fingerprint of every table after it, and the server that runs stages.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse import read_published
from tests.end_to_end.homes import RUN_COLUMNS, Home
from tests.faults.small_stages import SMALL
from tests.faults.stage_server import Outcome, Request
from tests.faults.stages import STAGES

RUN_STATE = ("revision", "features_built")
"""Keys of meta.state that count writes or hold seconds, as do those of the gates of features, by a hash."""
CLOCK_COLUMNS = {"raw.batches": ("read_at",)}


def copy_home(source: Path, target: Path) -> Path:
    """A copy with the times of its files; by reference where the file system can."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)
    return target


def fingerprint(home: Home) -> dict[str, str]:
    """A hash of every table of the warehouse in no order, less what names the run and the clock."""
    with home.warehouse.read() as connection:
        return table_hashes(connection, "wh")


def published_fingerprint(home: Home) -> dict[str, str]:
    """The same of the published copy."""
    with read_published(home.settings) as connection:
        return table_hashes(connection, "volcast")


def table_hashes(connection: duckdb.DuckDBPyConnection, catalog: str) -> dict[str, str]:
    tables = connection.execute(
        "SELECT schema_name || '.' || table_name, "
        "list(column_name ORDER BY column_index) FROM duckdb_columns() JOIN duckdb_tables() USING (database_name, schema_name, table_name) "
        "WHERE database_name = ? GROUP BY ALL ORDER BY 1",
        [catalog],
    ).fetchall()
    found = {}
    for table, columns in tables:
        left_out = {*RUN_COLUMNS, *CLOCK_COLUMNS.get(table, ())}
        kept = ", ".join(f'"{name}"' for name in columns if name not in left_out)
        rows = (
            f"(SELECT {'DISTINCT' if table == 'quality.validations' else ''} {kept} FROM {table})"
        )
        if table == "meta.state":
            rows = f"(SELECT {kept} FROM {table} WHERE key NOT IN {RUN_STATE} AND key NOT LIKE 'gate:features.%')"
        row = connection.execute(
            f"SELECT count(*), bit_xor(h), sum(h) FROM (SELECT hash(r) AS h FROM {rows} AS r)"
        ).fetchone()
        found[table] = repr(row)
    return found


def artefacts(home: Home) -> dict[str, str]:
    """Every file of the models by its place, with its hash; worker results hold seconds, so only that they are there."""
    models = home.settings.artifacts_dir / "models"
    return {
        str(path.relative_to(models)): (
            ""
            if path.name.startswith("results-")
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(models.rglob("*"))
        if path.is_file() and "results-" not in path.name
    }


class StageServer:
    """The server of ``stage_server`` as a process; use as a context manager."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stage_server", *arguments],
            env={
                **home.variables,
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "PASSIVE",
                "ARROW_DEFAULT_MEMORY_POOL": "system",  # no allocator's thread at a fork
            },
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._loaded: set[str] = set()

    def __enter__(self) -> StageServer:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                return self
        raise AssertionError("the stage server did not start")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def run(self, request: Request) -> Outcome:
        """What became of the request. What a child imported is imported here too, for the children after it."""
        told = self._ask(asdict(request))
        assert "timeout" not in told, told["timeout"]
        outcome = Outcome.of(told)
        if not set(outcome.modules) <= self._loaded:
            self._loaded |= set(outcome.modules)
            self._ask({"import": outcome.modules})
        return outcome

    def _ask(self, told: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(told), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Boundaries:
    """A home before each stage of a day, made by running the stages before it undisturbed."""

    def __init__(self, base: Home, as_of: date, folder: Path, stages: Sequence[str] = STAGES):
        self.base, self.as_of, self.folder, self.stages = base, as_of, folder, tuple(stages)
        self.outcomes: dict[str, Outcome] = {}
        self.after: dict[str, dict[str, str]] = {}
        self._server: StageServer | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._known = folder / "known.json"
        if self._known.exists():
            outcomes, self.after = json.loads(self._known.read_text())
            self.outcomes = {name: Outcome.of(told) for name, told in outcomes.items()}

    @property
    def server(self) -> StageServer:
        if self._server is None:
            small = ["small"] if set(self.stages) <= set(SMALL) else []
            self._server = StageServer(self.base, *small).__enter__()
        return self._server

    def close(self) -> None:
        if self._server is not None:
            self._server.__exit__()

    def before(self, stage: str) -> Path:
        """The home in which ``stage`` is next."""
        place = self.stages.index(stage)
        home = self.folder / f"before-{stage}"
        if home.exists():
            return home
        if place == 0:
            return copy_home(self.base.path, home)
        return copy_home(self.finished(self.stages[place - 1]), home)

    def finished(self, stage: str) -> Path:
        """The home after ``stage``, undisturbed; its run is timed twice, the first time imports are slow."""
        home = self.folder / f"after-{stage}"
        if stage not in self.after:
            before = self.before(stage)
            for _ in range(2):
                shutil.rmtree(home, ignore_errors=True)
                outcome = self.run(copy_home(before, home), stage)
                assert outcome.status == 0, outcome.errors
            self.outcomes[stage] = outcome
            self.after[stage] = fingerprint(self.home(home))
            told = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
            self._known.write_text(json.dumps([told, self.after]))
        return home

    def home(self, path: Path) -> Home:
        return Home(path, self.base.environment)

    def run(self, path: Path, stage: str, **more: Any) -> Outcome:
        return self.server.run(Request(str(path), stage, self.as_of.isoformat(), **more))


def wait_for_group(group: int, seconds: float = 120) -> None:
    """Wait until what a killed process left running has ended by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError(f"process group {group} was still alive after {seconds} s")
