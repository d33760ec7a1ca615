"""The small market, and its fits as one worker makes them, for all tests of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import Settings
from tests.orchestration.workers import market


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> str:
    return market.write_market(str(tmp_path_factory.mktemp("workers") / "snapshot"))


@pytest.fixture(scope="session")
def alone(snapshot: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of the cheap fits, made by one worker in the spec's order."""
    folder = tmp_path_factory.mktemp("alone")
    spec = market.spec_of(snapshot, folder / "models", market.CHEAP)
    results, workers, _ = market.run_in_asset(Settings(home=folder / "home"), spec)
    assert len(workers) == 1
    assert {one["status"] for one in results} == {"ok"}
    return results


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of the small market's cheap fits, and fits of four coins cut in two."""
    monkeypatch.setattr("orchestration.workers.plan.WORTH_A_START", 0.05)
    monkeypatch.setattr("orchestration.workers.plan.FEWEST_COINS", 2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
