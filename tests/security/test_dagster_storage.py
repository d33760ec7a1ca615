"""What Dagster stores keeps its names and loses its secrets."""

import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from orchestration.runs import prepare_home
from orchestration.settings import Settings
from tests.security.test_planted_secrets import BY_ENVIRONMENT, leaks


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(Settings.from_env())
    return tmp_path / "home"


def test_a_secret_that_is_a_word_of_ours_changes_no_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAST_SMTP_PASSWORD", "forecasts")
    key = dg.AssetKey(["forecasts", "volatility"])

    @dg.asset(key=key, partitions_def=dg.StaticPartitionsDefinition(["forecasts"]))
    def volatility(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        context.log.info("the password is forecasts")
        return dg.MaterializeResult(metadata={"said": "forecasts"})

    @dg.asset_check(asset=key, name="forecasts")
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    definitions = dg.Definitions(
        assets=[volatility], asset_checks=[check], jobs=[dg.define_asset_job("forecasts")]
    )
    with dg.DagsterInstance.get() as instance:
        run = definitions.get_job_def("forecasts").execute_in_process(
            instance=instance, partition_key="forecasts"
        )
        assert run.success
        record = instance.fetch_materializations(key, limit=1).records[0]
        assert record.partition_key == "forecasts"
        assert record.event_log_entry.job_name == "forecasts"
        assert record.event_log_entry.step_key == "forecasts__volatility"
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata["said"].value == "***"
        assert instance.get_materialized_partitions(key) == {"forecasts"}
        said = [
            item.event_log_entry.user_message
            for item in instance.get_records_for_run(run.run_id).records
        ]
    assert "the password is ***" in said


def test_the_daemon_s_heartbeat_and_backfills_say_no_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAST_COINMETRICS_API_KEY", BY_ENVIRONMENT)
    error = SerializableErrorInfo(f"401 for {BY_ENVIRONMENT}", [], "OSError")
    with dg.DagsterInstance.get() as instance:
        for _ in range(2):
            instance.run_storage.add_daemon_heartbeat(
                DaemonHeartbeat(time.time(), "SENSOR", "id", [error])
            )
        backfill = PartitionBackfill(
            "nights", BulkActionStatus.REQUESTED, False, {"why": BY_ENVIRONMENT}, time.time(), error=error,
        )  # fmt: skip
        instance.add_backfill(backfill)
        instance.update_backfill(backfill.with_status(BulkActionStatus.FAILED))
        found = instance.get_daemon_heartbeats()["SENSOR"]
        assert found.errors is not None
        assert found.errors[0].message == "401 for ***"
        kept = instance.get_backfill("nights")
        assert kept is not None
        assert kept.status == BulkActionStatus.FAILED
    assert (home / "dagster" / "history" / "runs.db").is_file()
    assert leaks(home) == []
