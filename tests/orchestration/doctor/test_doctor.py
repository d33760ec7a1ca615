"""Each invariant is broken on purpose, in a home in which all of them held: the doctor names that one and no other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.doctor import INVARIANTS, CannotLook, broken, examine
from orchestration.ledger import fill_ledger
from orchestration.settings import Settings
from orchestration.streams import read_streams, write_stream
from orchestration.warehouse import Warehouse, bump_revision, set_state
from tests.orchestration.doctor.homes import break_by_hand, break_by_writing, healthy

Break = Callable[[Settings], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Settings:
    """A healthy home. Tests copy it before they break it."""
    return healthy(tmp_path_factory.mktemp("whole") / "home")


@pytest.fixture
def home(whole, tmp_path) -> Settings:
    shutil.copytree(whole.home, tmp_path / "home")
    return Settings(home=tmp_path / "home")


def sql(*statements: str) -> Break:
    return lambda settings: break_by_hand(settings, *statements)


def rewrite(table: str, change: str, where: str = "horizon = 1") -> Break:
    return lambda settings: break_by_writing(settings, table, change, where)


def unpublished(*statements: str) -> Break:
    """A change that reaches the warehouse without a new revision."""

    def change(settings: Settings) -> None:
        with Warehouse(settings).write() as connection:
            for statement in statements:
                connection.execute(statement)

    return change


def of_an_artefact(change: Callable[[Path], object]) -> Break:
    return lambda settings: change(settings.artifacts_dir / "models" / "attention" / "v1") and None


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _unfinished_snapshot(settings: Settings) -> None:
    (settings.artifacts_dir / "snapshots" / ("a" * 64)).mkdir(parents=True)


def _copy_is_garbage(settings: Settings) -> None:
    settings.published_path.chmod(0o644)
    settings.published_path.write_bytes(b"not a database")


def _copy_is_newer(settings: Settings) -> None:
    with Warehouse(settings).write() as connection:
        set_state(connection, "revision", "1")


def _forecast_twice(settings: Settings) -> None:
    """With a ledger that agrees: the doubled key is what is wrong."""
    with Warehouse(settings).write() as connection:
        connection.execute(
            "INSERT INTO forecasts.volatility FROM forecasts.volatility WHERE asset = 'BTC' LIMIT 1"
        )
        fill_ledger(connection)
        bump_revision(connection)
    Warehouse(settings).publish()


BREAKAGES: dict[str, tuple[str, Break]] = {
    "an age from the future": (
        "known-ages",
        sql("UPDATE features.daily SET funding_age_days = -1 WHERE asset = 'ETH' AND as_of = '2024-03-19'"),
    ),
    "a later decision time": (
        "known-ages",
        sql("UPDATE features.daily SET decision_time = decision_time + INTERVAL 6 HOUR WHERE asset = 'ETH'"),
    ),
    "a venue's age from the future": ("known-ages", sql("UPDATE features.funding_venues SET funding_age_days = -1")),
    "an hour of bars that came later": (
        "known-hours",
        sql("UPDATE features.hourly SET known_on = known_on - 1 WHERE asset = 'BTC' AND known_on = '2024-03-20'"),
    ),
    "an hour of a bar that came later, where the hour's own is there too": (
        "known-hours",
        sql(
            """
            INSERT INTO raw.ohlcv
            SELECT * EXCLUDE (i) REPLACE ('5m' AS "interval", ts + to_minutes(5 * i::INT) AS ts,
                CASE WHEN i = 11 THEN known_at + INTERVAL 40 DAY ELSE known_at END AS known_at)
            FROM raw.ohlcv, (SELECT unnest(range(12)) AS i) WHERE symbol = 'BTC/USDT' AND ts = '2024-03-18 00:00:00+00'
            """,
            "UPDATE raw.batches SET rows_inserted = rows_inserted + 12, rows_offered = rows_offered + 12",
            "UPDATE features.hourly SET bars = 12 WHERE asset = 'BTC' AND ts = '2024-03-18 00:00:00+00'",
        ),
    ),
    "an hour without a bar": (
        "known-hours",
        sql("INSERT INTO features.hourly SELECT asset, ts + INTERVAL 30 DAY, known_on, bars FROM features.hourly LIMIT 1"),
    ),
    "a day known before it ended": (
        "known-days",
        sql("UPDATE features.realized SET known_on = known_on - 1 WHERE day = '2024-03-20'"),
    ),
    "a day of more bars than there are": (
        "known-days",
        sql("UPDATE features.realized SET bars_used = 25 WHERE asset = 'BTC' AND day = '2024-03-19'"),
    ),
    "a forecast made two days later": (
        "known-forecasts",
        rewrite("forecasts.volatility", "decision_time + INTERVAL 2 DAY AS decision_time"),
    ),
    "a version nobody registered": ("versions", sql("UPDATE models.registry SET model_version = 'other' WHERE model = 'ewma'")),
    "a version trained on its own day": (
        "versions",
        sql("UPDATE models.registry SET trained_as_of = '2024-03-19' WHERE model = 'ewma'"),
    ),
    "a version without a snapshot hash": ("versions", sql("UPDATE models.registry SET snapshot_hash = NULL WHERE model = 'ewma'")),
    "an artefact that is gone": ("artefacts", of_an_artefact(shutil.rmtree)),
    "an artefact with a flipped byte": ("artefacts", of_an_artefact(lambda folder: _flip_a_byte(folder / "model.safetensors"))),
    "an artefact of another version": ("artefacts", of_an_artefact(lambda folder: (folder / "model.json").write_text("{}"))),
    "a snapshot that was never finished": ("snapshots", _unfinished_snapshot),
    "a verdict that was lost": ("gate-verdicts", sql("DELETE FROM quality.validations WHERE suite = 'features.hourly'")),
    "a gate that was closed": ("gate-verdicts", sql("UPDATE quality.validations SET success = false WHERE suite = 'features.daily'")),
    "a verdict that came after the forecast": (
        "gate-verdicts",
        sql("UPDATE quality.validations SET checked_at = checked_at + INTERVAL 1 DAY, run_id = 'later' WHERE suite = 'features.daily'"),
    ),
    "a forecast twice": ("keys", _forecast_twice),
    "a model twice": ("keys", sql("INSERT INTO models.registry SELECT * FROM models.registry WHERE model = 'ewma'")),
    "a variance of zero": ("variances", rewrite("forecasts.volatility", "0.0 AS variance, 0.0 AS volatility")),
    "a negative variance": ("variances", rewrite("forecasts.volatility", "-variance AS variance")),
    "an infinite variance": ("variances", rewrite("forecasts.volatility", "'inf'::DOUBLE AS variance, 'inf'::DOUBLE AS volatility")),
    "no variance": ("variances", rewrite("forecasts.volatility", "NULL::DOUBLE AS variance")),
    "a volatility of another variance": ("variances", rewrite("forecasts.volatility", "volatility * 1.01 AS volatility")),
    "crossing quantiles": ("quantiles", rewrite("forecasts.volatility", "q90 AS q95, q95 AS q90")),
    "crossing quantiles of a model": ("quantiles", rewrite("forecasts.model_quantiles", "q99 * 2 AS q01")),
    "a negative quantile": ("quantiles", rewrite("forecasts.volatility", "-0.1 AS q01")),
    "a quantile that is missing": ("quantiles", rewrite("forecasts.volatility", "NULL::DOUBLE AS q50")),
    "attention of more than 1": ("attention", rewrite("forecasts.attention_weights", "0.3 AS weight", "token = 1 AND layer = 0")),
    "negative attention": ("attention", rewrite("forecasts.attention_weights", "CASE token WHEN 0 THEN -0.25 ELSE 0.75 END AS weight", "token < 2")),
    "attention without a token": ("attention", rewrite("forecasts.attention_weights", "NULL::DOUBLE AS weight", "token = 3 AND head = 1")),
    "VaR beyond ES": ("risk", rewrite("forecasts.risk", "var_99 * 2 AS var_99")),
    "negative VaR": ("risk", rewrite("forecasts.risk", "-short_var_95 AS short_var_95")),
    "VaR that falls with the level": ("risk", rewrite("forecasts.risk", "var_975 AS var_95, var_95 AS var_975")),
    "an uncertainty above 1": ("risk", rewrite("forecasts.risk", "1.5 AS uncertainty")),
    "a leverage above its limit": ("risk", rewrite("forecasts.risk", "3.0 AS advised_leverage")),
    "VaR of a portfolio beyond ES": ("portfolio", rewrite("forecasts.portfolio_risk", "mixture_es_95 * 2 AS mixture_var_95")),
    "a forecast altered by hand": (
        "append-only",
        sql("UPDATE forecasts.risk SET advised_leverage = 0.9 WHERE asset = 'BTC' AND horizon = 1 AND as_of = '2024-03-19'"),
    ),
    "a forecast deleted by hand": ("append-only", sql("DELETE FROM forecasts.volatility WHERE asset = 'ETH' AND as_of = '2024-03-19' AND horizon = 5")),
    "a day of forecasts deleted by hand": ("append-only", sql("DELETE FROM forecasts.model_quantiles WHERE as_of = '2024-03-20'")),
    "a line of the ledger deleted": ("append-only", sql("DELETE FROM forecasts.ledger WHERE table_name = 'forecasts.risk' AND model = 'ewma'")),
    "history that was emptied": (
        "superseded",
        lambda settings: (
            break_by_writing(settings, "forecasts.volatility", "'again' AS status", "asset = 'ETH'"),
            break_by_hand(settings, "UPDATE forecasts.superseded SET row_json = NULL"),
        )[0],
    ),
    "a ledger that does not add up": ("ingest-ledger", sql("UPDATE raw.batches SET rows_offered = rows_offered + 1")),
    "a refused row that is lost": ("quarantine", sql("DELETE FROM quarantine.rows")),
    "a refusal without a reason": ("quarantine", sql("UPDATE quarantine.rows SET reason = ''")),
    "a raw row that nobody brought": (
        "raw-rows",
        sql("INSERT INTO raw.ohlcv SELECT * REPLACE (ts + INTERVAL 90 DAY AS ts) FROM raw.ohlcv LIMIT 1"),
    ),
    "a raw row that is lost": (
        "raw-rows",
        sql(
            "DELETE FROM features.hourly WHERE asset = 'ETH' AND ts = '2024-03-18 00:00:00+00'",
            "UPDATE features.realized SET bars_used = bars_used - 1 WHERE asset = 'ETH' AND day = '2024-03-18'",
            "DELETE FROM raw.ohlcv WHERE symbol = 'ETH/USDT' AND ts = '2024-03-18 00:00:00+00'",
        ),
    ),
    "two newest versions of a bar": (
        "raw-keys",
        sql(
            "INSERT INTO raw.ohlcv SELECT * REPLACE (close + 1 AS close) FROM raw.ohlcv LIMIT 1",
            "UPDATE raw.batches SET rows_inserted = rows_inserted + 1, rows_offered = rows_offered + 1",
        ),
    ),
    "a cursor ahead of the clock": (
        "cursors",
        sql("UPDATE raw.streams SET source = 'live', known_until = now() + INTERVAL 2 DAY"),
    ),
    "a table that is missing": ("layout", sql("DROP TABLE models.studies")),
    "a column that is missing": ("layout", sql("ALTER TABLE models.studies DROP COLUMN proposed")),
    "a copy with another value": ("published-copy", unpublished("UPDATE models.registry SET status_reason = 'x' WHERE model = 'ewma'")),
    "a copy with fewer rows": (
        "published-copy",
        unpublished("INSERT INTO quality.overrides VALUES ('s', 'e', '2024-01-01', 'me', 'why', now())"),
    ),
    "a copy that is garbage": ("published-copy", _copy_is_garbage),
    "a copy that is newer than the warehouse": ("published-copy", _copy_is_newer),
}  # fmt: skip


def test_a_healthy_home_has_no_broken_invariant(whole):
    findings = examine(whole)
    assert [(item.name, item.example) for item in findings if not item.holds] == []
    empty = {item.name for item in findings if item.checked == 0}
    assert empty == {"dagster-runs", "dagster-slots", "snapshots", "superseded"}


def _rounds() -> list[list[str]]:
    """Breakages in rounds: each round breaks an invariant at most once, the first round every one of them."""
    rounds: list[dict[str, str]] = []
    for name, (expected, _) in BREAKAGES.items():
        free = next((found for found in rounds if expected not in found), None)
        if free is None:
            free = {}
            rounds.append(free)
        free[expected] = name
    return [list(found.values()) for found in rounds]


ALONE = {"layout", "published-copy", "keys", "append-only", "superseded"}
"""Invariants about the files, or about rows that others look at too: broken alone."""
TOGETHER = [[name for name in names if BREAKAGES[name][0] not in ALONE] for names in _rounds()[:2]]


@pytest.mark.parametrize("names", TOGETHER, ids=["first", "second"])
def test_what_is_broken_at_once_is_named_and_nothing_else(home, names, monkeypatch):
    with monkeypatch.context() as once:
        once.setattr(Warehouse, "publish", lambda self: False)
        for name in names:
            BREAKAGES[name][1](home)
    Warehouse(home).publish()
    bad = broken(examine(home))
    assert {item.name for item in bad} == {BREAKAGES[name][0] for name in names}
    assert all(item.broken and item.example and item.advice for item in bad)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if expected in ALONE and name in _rounds()[0] else pytest.mark.slow
        )
        for name, (expected, _) in BREAKAGES.items()
    ],
)
def test_what_is_broken_is_named_and_nothing_else(home, name):
    expected, change = BREAKAGES[name]
    change(home)
    bad = broken(examine(home))
    assert [item.name for item in bad] == [expected], [(item.name, item.example) for item in bad]
    assert bad[0].broken >= 1
    assert bad[0].example
    assert bad[0].advice


def test_every_invariant_is_broken_by_some_breakage():
    assert {item.name for item in INVARIANTS} - {
        expected for expected, _ in BREAKAGES.values()
    } == set()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "middle"])
def test_a_broken_file_is_a_finding_with_advice(home, damage):
    path = home.warehouse_path
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[: len(content) // 3],
            "garbage": os.urandom(4096),
            "middle": content[: middle // 2] + bytes(middle) + content[middle // 2 + middle :],
        }[damage]
    )
    (found,) = [item for item in broken(examine(home)) if item.name == "warehouse"]
    assert "restore a backup" in found.advice
    assert str(path) in found.example


def test_a_home_without_a_warehouse_cannot_be_looked_at(tmp_path):
    with pytest.raises(CannotLook, match="no warehouse at"):
        examine(Settings(home=tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_written(home):
    before = {path: path.stat().st_mtime_ns for path in home.home.rglob("*") if path.is_file()}
    examine(home)
    after = {path: path.stat().st_mtime_ns for path in home.home.rglob("*") if path.is_file()}
    assert after == before


def test_what_came_since_the_last_publish_is_no_fault(home):
    with Warehouse(home).write() as connection:
        connection.execute("INSERT INTO quality.overrides VALUES ('s', 'e', '2024-01-01', 'me', 'why', now())")  # fmt: skip
        bump_revision(connection)
    findings = {item.name: item for item in examine(home)}
    assert findings["published-copy"].holds
    assert "the next run publishes" in findings["published-copy"].note


def test_a_cursor_that_moved_without_a_revision_is_no_fault(home):
    warehouse = Warehouse(home)
    with warehouse.write() as connection:
        state = read_streams(connection, "ohlcv")["ohlcv"]
        write_stream(connection, state.read("ok", "nothing new", [], datetime.now(UTC)))
    assert broken(examine(home)) == []
    assert not warehouse.publish()  # it is no reason for a new copy


def test_an_older_layout_is_told_and_no_fault(home):
    break_by_hand(home, "DROP TABLE forecasts.ledger", publish=False)
    with Warehouse(home).write() as connection:
        set_state(connection, "layout", "5")
    findings = {item.name: item for item in examine(home)}
    assert broken(list(findings.values())) == []
    assert "layout 5: the next write adds" in findings["layout"].note
    assert findings["append-only"].checked == 0


def test_leftovers_of_dead_processes_are_told_and_do_not_count_as_broken(home):
    (home.artifacts_dir / "models" / ".v2.abc.part").mkdir()
    (home.home / "runs").mkdir()
    for run in ("killed", "mine"):
        (home.home / "runs" / f"{run}.lock").touch()
    history = home.dagster_home / "history" / "runs"
    history.mkdir(parents=True)
    with sqlite3.connect(history.parent / "runs.db") as connection:
        connection.execute("CREATE TABLE runs (run_id, status)")
        connection.executemany(
            "INSERT INTO runs VALUES (?, ?)",
            [
                ("killed", "STARTED"),
                ("mine", "STARTED"),
                ("daemon", "STARTED"),
                ("done", "FAILURE"),
            ],
        )
    with sqlite3.connect(history / "index.db") as connection:
        connection.execute(
            "CREATE TABLE concurrency_slots (concurrency_key, run_id, step_key, deleted)"
        )
        connection.executemany(
            "INSERT INTO concurrency_slots VALUES ('warehouse', ?, 'dbt', 0)",
            [("done",), ("mine",)],
        )
    with (home.home / "runs" / "mine.lock").open("a") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        findings = examine(home)
    left = {item.name: item for item in findings if not item.holds}
    assert {name: item.broken for name, item in left.items()} == {
        "temporary-files": 1,
        "dagster-runs": 1,
        "dagster-slots": 1,
    }
    assert broken(findings) == []
    assert "killed" in left["dagster-runs"].example


@pytest.mark.parametrize(
    ("change", "status"), [(None, 0), ("UPDATE raw.batches SET rows_offered = 0", 1)]
)
def test_the_command_tells_and_its_exit_status_says(home, monkeypatch, change, status):
    if change:
        break_by_hand(home, change)
    monkeypatch.setenv("VOLCAST_HOME", str(home.home))
    told = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert told.exit_code == status, told.output
    assert "invariants hold" in told.output
    assert "ingest-ledger" in told.output
    assert ("broken" in told.output) == bool(change)
    document = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert document["holds"] == (status == 0)
    assert {item["name"] for item in document["findings"]} >= {item.name for item in INVARIANTS}


def test_the_command_says_when_it_cannot_look(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "nowhere"))
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 2
    assert "no warehouse at" in told.output
