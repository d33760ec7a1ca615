"""Dagster's storage in PostgreSQL: masked like the one in SQLite, and read from where past runs are asked for."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from orchestration import dagster_storage
from orchestration.dagster_database import DagsterDatabaseError, connection_words
from orchestration.doctor import leftovers
from orchestration.run_history import past_runs, stage_seconds
from orchestration.runs import prepare_home
from orchestration.settings import Settings, SettingsError
from tests.services import postgres

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
KEY = "a-key-that-n0body-may-see"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as made:
        yield made


@pytest.fixture
def settings(
    server: postgres.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    name = f"dagster_{tmp_path.name}"[:60]
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VOLCAST_DAGSTER_DATABASE", server.make_database(name))
    monkeypatch.setenv("VOLCAST_DAGSTER_DATABASE_PASSWORD", server.password)
    monkeypatch.setenv("VOLCAST_COINMETRICS_API_KEY", KEY)
    monkeypatch.setenv("DAGSTER_HOME", "")
    made = Settings.from_env()
    prepare_home(made)
    return made


def dump(server: postgres.Postgres, settings: Settings) -> str:
    name = connection_words(settings.dagster_database)["dbname"]
    program = postgres._binaries()
    assert program is not None
    command = [program / "pg_dump", "-h", server.host, "-p", str(server.port), "-U", server.user, "--inserts", name]  # fmt: skip
    return subprocess.run(command, env={"PGPASSWORD": server.password}, capture_output=True, text=True, check=True).stdout  # fmt: skip


@dg.asset
def prices(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    context.log.info(f"asked with {KEY}")
    return dg.MaterializeResult(metadata={"address": f"https://desk:{KEY}@provider.example/"})


@dg.asset
def broken() -> None:
    raise OSError(f"401 for {KEY}")


JOBS = dg.Definitions(
    assets=[prices, broken],
    jobs=[dg.define_asset_job("good", ["prices"]), dg.define_asset_job("bad", ["broken"])],
)


def test_nothing_secret_is_stored_and_past_runs_are_found(
    server: postgres.Postgres, settings: Settings
) -> None:
    day = {"dagster/partition": "2024-06-30"}
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage).__name__ == "PostgresEvents"
        good = JOBS.resolve_job_def("good").execute_in_process(instance=instance, tags=day)
        bad = JOBS.resolve_job_def("bad").execute_in_process(
            instance=instance, raise_on_error=False
        )
        assert good.success
        assert not bad.success
        error = SerializableErrorInfo(f"401 for {KEY}", [], "OSError")
        for _ in range(2):
            beat = DaemonHeartbeat(time.time(), "SENSOR", "id", [error])
            instance.run_storage.add_daemon_heartbeat(beat)
        tick = instance.create_tick(
            TickData(
                "origin",
                "sensor",
                InstigatorType.SENSOR,
                TickStatus.STARTED,
                time.time(),
                selector_id="s",
            )
        )
        instance.update_tick(tick.with_status(TickStatus.FAILURE, error=error))
        record = instance.fetch_materializations(dg.AssetKey("prices"), limit=1).records[0]
        assert record.asset_materialization is not None
        assert "***" in str(record.asset_materialization.metadata["address"].value)
    dumped = dump(server, settings)
    assert dumped.count("401 for ***") >= 3
    assert KEY not in dumped
    assert server.password not in dumped
    assert not (settings.dagster_home / "history").exists()

    newest, oldest = past_runs(settings)
    assert (newest.job, newest.status, newest.first) == ("bad", "FAILURE", None)
    assert (oldest.run_id, oldest.status, oldest.days) == (good.run_id, "SUCCESS", "2024-06-30")
    assert oldest.seconds is not None
    assert oldest.started_at is not None
    assert abs((oldest.started_at - oldest.created_at).total_seconds()) < 60
    (seconds,) = stage_seconds(settings, good.run_id).values()
    assert 0 <= seconds < 60
    assert all(finding.holds for finding in leftovers.findings(settings))


def test_a_batch_of_events_is_masked_too(settings: Settings) -> None:
    with dg.DagsterInstance.get() as instance:
        run = JOBS.resolve_job_def("good").execute_in_process(instance=instance)
        kept = instance.event_log_storage.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records[0]
        written = kept.event_log_entry._replace(user_message=f"again with {KEY}")
        instance.event_log_storage.store_event_batch([written])
        found = instance.event_log_storage.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
    assert [item.event_log_entry.user_message for item in found][-1] == "again with ***"


def test_a_database_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAST_DAGSTER_DATABASE_PASSWORD", KEY)
    words = "dbname=dagster host=127.0.0.1 port=1 user=dagster"
    with pytest.raises(DagsterDatabaseError, match="port=1 user=dagster") as raised:
        past_runs(Settings(home=tmp_path, dagster_database=words))
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dagster", "'dagster': expected libpq words"),
        ("host=db user=dagster", "expected dbname="),
        (
            f"dbname=dagster password={KEY}",
            "expected the password in VOLCAST_DAGSTER_DATABASE_PASSWORD",
        ),
        (f"postgresql://u:{KEY}@db/dagster", "expected libpq words"),
    ],
)
def test_what_are_not_libpq_words_is_told(words: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        connection_words(words)
    assert KEY not in str(raised.value)


def test_words_become_an_address_whatever_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import make_url

    from orchestration.dagster_postgres_storage import storage_url

    monkeypatch.setenv("VOLCAST_DAGSTER_DATABASE_PASSWORD", "p@ss/w:rd 1")
    url = make_url(storage_url("dbname=dagster host=db port=6432 user='a b' sslmode=require"))
    assert (url.username, url.password, url.host, url.port) == ("a b", "p@ss/w:rd 1", "db", 6432)
    assert dict(url.query) == {"sslmode": "require"}
    socket = make_url(storage_url("dbname=dagster host=/run/postgresql user=dagster"))
    assert socket.query["host"] == "/run/postgresql"


def test_without_a_database_it_is_sqlite_and_nothing_of_postgres_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAST_DAGSTER_DATABASE", "")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    made = dagster_storage.MaskedRunStorage.from_config_value(None, {})
    assert type(made) is dagster_storage.MaskedRunStorage
    code = "import sys, orchestration.dagster_storage, orchestration.run_history; print([m for m in ('psycopg2', 'dagster_postgres', 'kubernetes', 'dagster_k8s', 'ray') if m in sys.modules])"  # fmt: skip
    said = subprocess.run([sys.executable, "-c", code], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "."}, capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert said.strip() == "[]"
