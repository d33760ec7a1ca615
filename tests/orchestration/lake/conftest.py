"""Lakes of both kinds: an SQLite catalog with files in a folder, and a PostgreSQL catalog with files in an S3 bucket."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import object_store, postgres

Storage = dict[str, Any]


@pytest.fixture(scope="session")
def services() -> Iterator[tuple[postgres.Postgres, object_store.ObjectStore]]:
    with postgres.running() as server, object_store.running() as store:
        yield server, store


@pytest.fixture(params=["sqlite", "postgres"])
def lake(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """Settings of a new lake, its credentials in the environment."""
    return new_lake(request.param, request, tmp_path, monkeypatch)()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def one_lake(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """``lake``, of one kind in the default suite: for what takes long, and asks the catalog nothing that other tests do not."""
    return new_lake(request.param, request, tmp_path, monkeypatch)()


@pytest.fixture
def sqlite_lake(tmp_path: Path) -> Storage:
    return {
        "warehouse": f"ducklake:sqlite:{tmp_path}/catalog.sqlite",
        "lake_data": str(tmp_path / "files"),
    }


def new_lake(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Storage]:
    if kind == "sqlite":
        return lambda: request.getfixturevalue("sqlite_lake")
    server, store = request.getfixturevalue("services")

    def made() -> Storage:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("VOLCAST_WAREHOUSE_PASSWORD", server.password)
        name = f"lake_{uuid.uuid4().hex[:8]}"
        return {
            "warehouse": f"ducklake:postgres:{server.make_database(name)}",
            "lake_data": f"s3://{store.bucket}/{name}",
        }

    return made
