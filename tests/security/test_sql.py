"""SQL text is ours: values are parameters, names from data never reach it, and readers of the published copy can reach nothing else."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest

from orchestration.gates import run_gate
from orchestration.raw_rows import append_batch, release_rows
from orchestration.revisions import revision_table
from orchestration.settings import PROJECT_ROOT, TRANSFORMS_DIR, Settings, SettingsError
from orchestration.sources.schema import TABLES
from orchestration.status import status_tables
from orchestration.streams import StreamState, read_streams, write_stream
from orchestration.warehouse import Warehouse, WarehouseError, read_published
from orchestration.warehouse import door as warehouse_module
from tests.bad_data.test_text_going_out import FORMULAS
from tests.end_to_end.homes import Home

REVIEWED = Path(__file__).with_name("sql_names.txt")
_SQL = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE [\w{]+ SET|CREATE (OR REPLACE |TEMP |TABLE|SCHEMA|VIEW)|ALTER TABLE|ATTACH|COPY|"
    r"DROP TABLE|COMMENT ON|FROM [\w{]|USE |WITH \w+ AS|DETACH|DESCRIBE)"
)
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*(\[\d+\])?(\.format\('\w?\.?'\))?(\.split\(','\)\[0\])?")


def interpolations(text: str) -> Iterator[str]:
    """What f-strings of SQL in a module put into their text, but for constants and ``literal(...)``."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.JoinedStr):
            continue
        fixed = "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)  # type: ignore[misc]
        if not _SQL.search(fixed):
            continue
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                written = ast.unparse(value.value)
                if not _CONSTANT.fullmatch(written) and not written.startswith("literal("):
                    yield written


def test_every_name_in_sql_text_was_looked_at() -> None:
    """A new line here means: look at where it comes from. Ours: add it to sql_names.txt. From data: make it a parameter.

    A line of the file whose code is gone is harmless: nothing of it is in any SQL.
    """
    found = {
        f"{path.relative_to(PROJECT_ROOT).as_posix()}: {written}"
        for folder in ("ml", "quality", "orchestration")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        for written in interpolations(path.read_text())
    }
    reviewed = {
        line for line in REVIEWED.read_text().splitlines() if line and not line.startswith("#")
    }
    assert sorted(found - reviewed) == [], "not reviewed yet"


def test_the_search_finds_what_it_looks_for() -> None:
    code = "c.execute(f\"SELECT * FROM {TABLE} WHERE asset = '{asset}' AND x = {literal(x)}\")"
    assert list(interpolations(code)) == ["asset"]


# -- names from data -----------------------------------------------------------------------------------------------

MARKER = "zqx9"
HOSTILE = (
    f"{MARKER}'; DROP TABLE raw.ohlcv; --",
    f'{MARKER}"); DELETE FROM meta.state; --',
    f"{MARKER}' UNION SELECT * FROM read_text('/etc/passwd') --",
    f"{MARKER}$asset {{{{ 7*7 }}}} %s ?",
)
AS_OF = date(2024, 3, 20)


class Watched:
    """A connection that keeps the text of every statement."""

    def __init__(self, connection: Any, said: list[str]) -> None:
        self._connection, self._said = connection, said

    def execute(self, query: str, *rest: Any) -> Any:
        self._said.append(query)
        return self._connection.execute(query, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _hostile_batch(table: str) -> pa.Table:
    schema = TABLES[table].arrow
    stamp = datetime(2024, 3, 20, 12, tzinfo=UTC)
    rows = []
    for step, text in enumerate(HOSTILE):
        row: dict[str, Any] = {}
        for field in schema:
            if pa.types.is_timestamp(field.type):
                row[field.name] = stamp + timedelta(minutes=step)
            elif pa.types.is_date(field.type):
                row[field.name] = AS_OF
            elif pa.types.is_floating(field.type):
                row[field.name] = 1.0
            elif pa.types.is_integer(field.type):
                row[field.name] = 1
            elif pa.types.is_boolean(field.type):
                row[field.name] = True
            elif pa.types.is_list(field.type):
                row[field.name] = []
            else:
                row[field.name] = text
        rows.append({**row, **({"interval": "1h"} if "interval" in row else {})})
    return pa.Table.from_pylist(rows, schema=schema)


def test_hostile_names_pass_the_line_as_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_env({"VOLCAST_HOME": str(tmp_path / "home")})
    warehouse = Warehouse(settings)
    with warehouse.write():
        pass
    said: list[str] = []
    connect = duckdb.connect
    monkeypatch.setattr(
        warehouse_module.duckdb, "connect", lambda *a, **k: Watched(connect(*a, **k), said)
    )
    until = settings.decision_time(AS_OF)
    refused = stored = 0
    for table in TABLES:
        count = append_batch(warehouse, TABLES[table], _hostile_batch(table), None, until)
        assert count.offered == count.inserted + count.quarantined + count.duplicate
        refused, stored = refused + count.quarantined, stored + count.inserted
        with warehouse.write() as connection:
            write_stream(
                connection, StreamState(HOSTILE[0] + table, "live", f"raw.{table}", HOSTILE[1])
            )
            assert read_streams(connection, table)
    run_gate(warehouse, "raw.headlines", AS_OF, AS_OF, HOSTILE[0])
    with warehouse.read() as connection:
        revision_table(connection)
        held = [
            row[0] for row in connection.execute("SELECT row_id FROM quarantine.rows").fetchall()
        ]
    assert refused + stored >= len(HOSTILE)
    status_tables(settings)
    assert len(held) == refused
    for row_id in held[:3]:
        with contextlib.suppress(duckdb.ConversionException, WarehouseError):
            release_rows(warehouse, [row_id], HOSTILE[0])
    assert warehouse.publish()
    assert len(said) > 100
    assert [text for text in said if MARKER in text] == []
    with warehouse.read() as connection:
        assert connection.execute("SELECT count(*) FROM raw.ohlcv").fetchone() is not None
        assert connection.execute("SELECT count(*) FROM meta.state").fetchone() != (0,)


@pytest.mark.parametrize("name", HOSTILE)
def test_coins_of_the_data_are_quoted_in_dbts_sql(name: str) -> None:
    """The one place where names of data stand in SQL text: dbt has no parameters, so ``vars.assets`` is quoted by a macro."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TRANSFORMS_DIR / "macros"))
    environment.globals["var"] = lambda key, default=None: ["BTC", name] if key == "assets" else default  # fmt: skip
    module = environment.get_template("point_in_time.sql").module
    text = str(module.is_wanted("coin"))  # type: ignore[attr-defined]
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT coin, {text} FROM (VALUES ($a), ('BTC'), ('ETH')) t(coin)", {"a": name}
        ).fetchall()
    assert found == [(name, True), ("BTC", True), ("ETH", False)]


@pytest.mark.parametrize("name", [*HOSTILE, "btc", "BTC;", "A" * 16])
def test_coins_of_the_settings_are_tickers_or_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="expected an upper-case ticker"):
        Settings.from_env({"VOLCAST_ASSETS": f"BTC,{name.replace(',', '')}"})


# -- the published copy --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("published") / "home", {})
    with home.warehouse.write():
        pass
    assert home.warehouse.publish()
    return home


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')", "FROM '/etc/passwd'", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/volcast-leak.csv'", "EXPORT DATABASE '/tmp/volcast-leak'", "ATTACH '/tmp/volcast-leak.duckdb' AS w",
        "INSTALL httpfs", "LOAD httpfs", "SELECT * FROM 'https://example.org/x.parquet'", "SELECT getenv('HOME')", "SELECT * FROM local_name",
        "SET enable_external_access = true", "SET memory_limit = '100GB'", "RESET memory_limit", "SET lock_configuration = false",
        "INSERT INTO meta.state VALUES ('a', 'b')", "DELETE FROM raw.ohlcv", "CREATE TABLE volcast.raw.mine (x INT)", "DROP TABLE raw.ohlcv",
        "CREATE PERSISTENT SECRET s (TYPE s3)", "SELECT * FROM duckdb_secrets()",
    ],
)  # fmt: skip
def test_readers_reach_nothing_else(published: Home, query: str) -> None:
    local_name = pa.table({"x": [1]})  # noqa: F841 - DuckDB could find it by its name
    with (
        read_published(published.settings, memory="1GiB") as connection,
        pytest.raises(duckdb.Error),
    ):
        connection.execute(query).fetchall()


ENDLESS = "SELECT count(*) FROM range(100000000) t(a), range(100000) s(b) GROUP BY a"


def test_a_typed_query_is_stopped_in_time_memory_and_rows(published: Home) -> None:
    started = time.monotonic()
    said = published.run("sql", "--seconds", "1", ENDLESS, fails=True)
    assert "stopped after 1 s: ask for less, or raise --seconds" in said
    assert time.monotonic() - started < 30
    said = published.run("sql", "--memory", "100MB", "SELECT list(a) FROM range(1000000000) t(a)", fails=True)  # fmt: skip
    assert "more than 100MB needed" in said


@pytest.mark.parametrize(
    ("told", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
    ids=["Ctrl-C", "terminated", "the terminal is gone"],
)
def test_a_query_stops_when_it_is_told(published: Home, told: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS + "main()", "sql", "--seconds", "60", ENDLESS],
        env=published.variables, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        time.sleep(1)
        process.send_signal(told)
        assert process.wait(timeout=30) == status
    finally:  # whatever stops this test: a query that nobody waits for would take a core for a minute
        process.kill()
        process.wait()


HEARS = """
import signal
for told, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(told, handler)  # as at a terminal: who started the tests may ignore them
from orchestration.cli import main, querying
within = querying._within
def ask(*arguments):
    print("asked", flush=True)
    within(*arguments)
querying._within = ask
"""


def test_a_query_that_does_not_hear_is_ended_with_the_program() -> None:
    program = (
        "import time\nfrom unittest.mock import Mock\nfrom orchestration.cli import querying\n"
        "querying.GRACE_SECONDS = 0.5\nquerying._within(0.1, Mock(), lambda _: time.sleep(60))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 1
    assert "did not hear it" in done.stderr
    assert time.monotonic() - started < 40


def test_a_formula_is_text_in_what_a_query_prints_as_csv(published: Home) -> None:
    texts = ", ".join("'" + text.replace("'", "''") + "'" for text in FORMULAS)
    query = f'SELECT unnest([{texts}]) AS "=title", -0.5 AS n'
    said = published.run("sql", "--csv", query)
    rows = list(csv.reader(io.StringIO(said, newline="")))
    shown = [text.replace("\r", "\n") for text in FORMULAS]  # ``run`` reads lines of any system
    assert rows == [["'=title", "n"], *([f"'{text}", "-0.5"] for text in shown)]
