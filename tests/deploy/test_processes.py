"""The deployment started by hand: PostgreSQL, code location over gRPC, daemon and webserver, with the compose file's commands, environment and health checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.deploy.processes import Deployment, deployment
from tests.live.feeds import URL, at_desk, two_items
from tests.live.providers.rss import Feed
from tests.live.server import ProviderServer, Reply
from tests.services import object_store, postgres

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
PLANTED = "pl4nted-key-of-a-provider"
"""Stands in the secrets, in the path of the home, and in what a provider answers."""
ONE_WAREHOUSE = {"VOLCAST_WAREHOUSE": "", "VOLCAST_LAKE_DATA": "", "VOLCAST_ARTIFACTS": ""}


@contextmanager
def stack(
    folder: Path, settings: dict[str, str], schedule: str, ago: timedelta
) -> Iterator[Deployment]:
    """Servers and processes in ``folder``, with these settings in .env, and a schedule that missed a tick; all of them stopped at the end."""
    home = folder / PLANTED
    home.mkdir(parents=True)
    with postgres.running() as server, object_store.running() as store:
        binaries = postgres._binaries()
        assert binaries is not None
        made = Deployment(home, settings, server, store, binaries)
        with (made.secrets / "volcast.env").open("a") as secrets:
            secrets.write(f"VOLCAST_COINMETRICS_API_KEY={PLANTED}\n")
        with deployment(made, schedule, ago):
            yield made


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Live, with providers on loopback: a newsroom that answers, and an exchange that refuses and repeats a key."""
    feed = at_desk(Feed(two_items()))
    refused = Reply({"code": -2015, "msg": f"the key {PLANTED} is not known"}, 403)
    with ProviderServer({"rss": feed, "binance": lambda _: refused}) as providers:
        settings = {
            **ONE_WAREHOUSE,
            "VOLCAST_SOURCE": "live",
            "VOLCAST_ASSETS": "BTC",
            "VOLCAST_PRICE_VENUES": "binance",
            "VOLCAST_ORDER_BOOK_VENUES": "binance",
            "VOLCAST_FUNDING_VENUES": "binance",
            "VOLCAST_OPEN_INTEREST_VENUES": "binance",
            "VOLCAST_HEADLINE_FEEDS": f"desk={URL}",
            "VOLCAST_BASE_URLS": f"*={providers.url}",
            "VOLCAST_CAPTURE_MINUTES": "60",
        }
        folder = tmp_path_factory.mktemp("deployment")
        with stack(folder, settings, "capture_snapshots", timedelta(hours=1)) as made:
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


def test_a_scheduled_tick_fires_and_its_run_completes_without_a_secret_in_the_database(
    deployed: Deployment,
) -> None:
    assert ended_runs(deployed) == {("capture", "SUCCESS")}, deployed.log("code")
    dumped = deployed.dump("dagster")
    assert "the key *** is not known" in dumped
    assert_no_secret(deployed, dumped)


def test_a_code_location_that_dies_is_reported_and_comes_back(deployed: Deployment) -> None:
    deployed.kill("code")
    assert not deployed.healthy("code")
    assert deployed.healthy("webserver")  # it goes on saying what it knows
    deployed.start("code")  # as `restart: unless-stopped` does
    deployed.wait_healthy("code")
    state = "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } } }"
    deadline = time.monotonic() + 120
    while True:
        (entry,) = deployed.query(state)["workspaceOrError"]["locationEntries"]
        if (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation":
            break
        assert time.monotonic() < deadline, (entry, deployed.log("webserver"))
        time.sleep(0.5)


def test_a_backup_of_the_databases_can_be_read(deployed: Deployment, tmp_path: Path) -> None:
    said = deployed.backup(tmp_path).split()
    assert [Path(path).name.split("-")[0] for path in said] == ["dagster", "lake"]
    assert all(Path(path).stat().st_size > 500 for path in said)


@pytest.mark.slow
def test_the_daily_run_of_a_tick_completes(tmp_path: Path) -> None:
    """The whole line, on a market of one coin and 200 days, at the decision time of today or yesterday."""
    start = datetime.now(UTC).date() - timedelta(days=200)
    market = {
        **ONE_WAREHOUSE,
        "VOLCAST_SOURCE": "simulated",
        "VOLCAST_ASSETS": "BTC",
        "VOLCAST_MODELS": "random_walk,ewma",
        "VOLCAST_SIMULATED_START": start.isoformat(),
    }
    with stack(tmp_path, market, "daily_at_decision_time", timedelta(days=1)) as deployed:
        assert ended_runs(deployed) == {("daily", "SUCCESS")}, deployed.log("code")
        dumped = deployed.dump("dagster")
        assert dumped.count("ASSET_MATERIALIZATION") > 10
        assert "***" in dumped  # the path of the home
        assert_no_secret(deployed, dumped)
        said = deployed.call("alerts", "volcast", "status", "--json")
        assert '"SUCCESS"' in said.stdout, said.stdout + said.stderr  # read from PostgreSQL


def ended_runs(deployed: Deployment) -> set[tuple[str, str]]:
    """Job and status of the runs that have ended, once there is one; while the test goes on another tick may be due."""
    query = "{ runsOrError { ... on Runs { results { runId status jobName } } } }"
    deadline = time.monotonic() + 420
    while True:
        runs = deployed.query(query)["runsOrError"]["results"]
        ended = [run for run in runs if run["status"] in ("SUCCESS", "FAILURE", "CANCELED")]
        if ended:
            return {(run["jobName"], run["status"]) for run in ended}
        assert time.monotonic() < deadline, (runs, deployed.log("daemon"), deployed.log("code"))
        time.sleep(0.5)


def assert_no_secret(deployed: Deployment, dumped: str) -> None:
    """None of the values of the secrets file stands in a dump."""
    lines = (deployed.secrets / "volcast.env").read_text().splitlines()
    values = [line.partition("=")[2] for line in lines if "=" in line and not line.startswith("#")]
    assert PLANTED in values
    for value in values:
        assert [line for line in dumped.splitlines() if value in line] == []
