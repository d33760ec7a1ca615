"""The deployment started by hand: PostgreSQL, code location over gRPC, daemon and webserver, with the compose file's commands, environment and health checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.deploy.processes import Deployment, deployment
from tests.services import object_store, postgres

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
PLANTED = "pl4nted-key-of-a-provider"
"""Stands in the secrets, and in the path of the home, which the events of a run are full of."""
MARKET = {
    "VOLCAST_SOURCE": "simulated",
    "VOLCAST_ASSETS": "BTC",
    "VOLCAST_MODELS": "random_walk,ewma",
    "VOLCAST_SIMULATED_START": str(datetime.now(UTC).date() - timedelta(days=200)),
    "VOLCAST_WAREHOUSE": "",
    "VOLCAST_LAKE_DATA": "",
    "VOLCAST_ARTIFACTS": "",
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment") / PLANTED
    folder.mkdir()
    binaries = postgres._binaries()
    with postgres.running() as server, object_store.running() as store:
        assert binaries is not None
        made = Deployment(folder, MARKET, server, store, binaries)
        with (made.secrets / "volcast.env").open("a") as secrets:
            secrets.write(f"VOLCAST_COINMETRICS_API_KEY={PLANTED}\n")
        with deployment(made):
            yield made


def test_the_health_checks_pass_and_the_graph_comes_over_grpc(deployed: Deployment) -> None:
    found = deployed.query("{ assetNodes { assetKey { path } } }")
    names = {".".join(node["assetKey"]["path"]) for node in found["assetNodes"]}
    assert {"raw.ohlcv", "features.daily", "forecasts.volatility", "forecasts.risk"} <= names
    assert "volcast made" in deployed.log("migrate")
    assert deployed.replaced >= {"host=postgres port=5432", "http://objects:8333", "0.0.0.0", "127.0.0.1:3000", "4000", "3000", "code", "/etc/volcast/", "/data/volcast"}  # fmt: skip
    daemons = deployed.query(
        "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"
    )
    states = daemons["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert all(state["healthy"] for state in states if state["required"]), states
    assert not list(deployed.home.rglob("runs.db"))  # nothing in SQLite


def test_the_webserver_starts_nothing(deployed: Deployment) -> None:
    job = '{repositoryLocationName: "volcast", repositoryName: "__repository__", jobName: "daily"}'
    found = deployed.query(
        f"mutation {{ launchRun(executionParams: {{selector: {job}}}) {{ __typename }} }}"
    )
    assert found["launchRun"]["__typename"] == "UnauthorizedError"


START = """
import dagster as dg
from dagster._core.scheduler.instigation import ScheduleInstigatorData
with dg.DagsterInstance.get() as instance:
    state = next(item for item in instance.all_instigator_state() if item.name == "daily_at_decision_time")
    earlier = state.instigator_data.start_timestamp - 86_400
    instance.update_instigator_state(state.with_data(ScheduleInstigatorData(state.instigator_data.cron_schedule, earlier)))
"""
"""The schedule as if it had been switched on a day ago: the daemon finds one tick that it has missed."""


def test_a_scheduled_tick_fires_and_its_daily_run_completes_without_a_secret_in_the_database(
    deployed: Deployment,
) -> None:
    workspace = "/etc/volcast/workspace.yaml"
    done = deployed.call("daemon", "dagster", "schedule", "start", "daily_at_decision_time", "-w", workspace)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = deployed.call("daemon", "python", "-c", START)
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, str]] = []
    deadline = time.monotonic() + 420
    while not runs or runs[0]["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
        assert time.monotonic() < deadline, (runs, deployed.log("daemon"), deployed.log("code"))
        time.sleep(1)
        runs = deployed.query("{ runsOrError { ... on Runs { results { runId status jobName } } } }")["runsOrError"]["results"]  # fmt: skip
    assert [(run["jobName"], run["status"]) for run in runs] == [("daily", "SUCCESS")], deployed.log("code")  # fmt: skip
    said = deployed.call("code", "volcast", "status")
    assert "SUCCESS" in said.stdout or "ok" in said.stdout, said.stdout + said.stderr
    dumped = deployed.dump("dagster")
    assert dumped.count("ASSET_MATERIALIZATION") > 10
    assert "***" in dumped
    lines = (deployed.secrets / "volcast.env").read_text().splitlines()
    values = [line.partition("=")[2] for line in lines if "=" in line and not line.startswith("#")]
    assert PLANTED in values
    for value in values:
        leaked = [line for line in dumped.splitlines() if value in line]
        assert leaked == []


def test_a_code_location_that_dies_is_reported_and_comes_back(deployed: Deployment) -> None:
    state = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } } }"
    deployed.kill("code")
    assert not deployed.healthy("code")
    assert deployed.healthy("webserver")  # it says what it knows
    deployed.start("code")  # as `restart: unless-stopped` does
    deployed.wait_healthy("code")
    deadline = time.monotonic() + 120
    while True:
        entry = deployed.query(state)["workspaceOrError"]["locationEntries"][0]
        if entry["locationOrLoadError"]["__typename"] == "RepositoryLocation":
            break
        assert time.monotonic() < deadline, (entry, deployed.log("webserver"))
        time.sleep(1)
    assert deployed.healthy("daemon")


def test_a_backup_of_the_databases_can_be_read(deployed: Deployment, tmp_path: Path) -> None:
    said = deployed.backup(tmp_path).split()
    assert [Path(path).name.split("-")[0] for path in said] == ["dagster", "lake"]
    assert all(Path(path).stat().st_size > 500 for path in said)
