"""Homes that several tests look at: one finished backfill of the small market, and an archive folder of the same market."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.end_to_end.homes import (
    AS_OF,
    PORTFOLIO,
    SMALL_MARKET,
    Home,
    day_before,
    export_archive,
    lake_environment,
)
from tests.services import object_store, postgres

FIRST = day_before(AS_OF, 29)
"""First as_of of the finished backfill: long enough for scores at every horizon."""


@pytest.fixture(scope="session")
def lake_services() -> Iterator[tuple[postgres.Postgres, object_store.ObjectStore]]:
    with postgres.running() as server, object_store.running() as store:
        yield server, store


@pytest.fixture(scope="session", params=["file", pytest.param("lake", marks=pytest.mark.slow)])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A home after `volcast backfill` of 30 days, its tables in a file or in a lake. Tests read it; none writes to it.

    Worker processes share the file's; each has a lake's of its own, for the servers under it end with the worker.
    """
    if request.param == "file":
        yield _finished_on_a_file(tmp_path_factory)
        return
    with pytest.MonkeyPatch.context() as patch:
        environment = {**SMALL_MARKET, **lake_environment(request, patch)}
        home = Home(tmp_path_factory.mktemp("finished") / "home", environment)
        home.run("backfill", "--from", FIRST.isoformat(), "--to", AS_OF.isoformat())
        yield home


def _finished_on_a_file(tmp_path_factory: pytest.TempPathFactory) -> Home:
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # a worker's own folder lies in the run's
    home = Home(shared / "finished" / "home")
    done = shared / "finished" / "done"
    done.parent.mkdir(exist_ok=True)
    with (shared / "finished" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            home.run("backfill", "--from", FIRST.isoformat(), "--to", AS_OF.isoformat())
            done.touch()
    return home


@pytest.fixture(scope="session")
def market_tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, pa.Table]]:
    """The small market up to 5 days after AS_OF as an archive folder with known_at columns, and its tables."""
    folder = tmp_path_factory.mktemp("archive")
    settings = Home(folder / "unused", dict(SMALL_MARKET)).settings
    return folder, export_archive(settings, folder, day_before(AS_OF, -5))


def archive_environment(
    folder: Path, models: str = "random_walk,log_har,harx_cal,attention"
) -> dict[str, str]:
    return {
        "VOLCAST_SOURCE": "archive",
        "VOLCAST_ARCHIVE": str(folder),
        "VOLCAST_ASSETS": "BTC,ETH,SOL",
        "VOLCAST_MODELS": models,
        "VOLCAST_ATTENTION_EPOCHS": "1",
        "VOLCAST_EXPLANATION_CHECKS": "false",  # two more fits each; the finished home has them
        "VOLCAST_PORTFOLIO": str(PORTFOLIO),
    }
