"""What the worker left beside an artefact, and how it comes into the warehouse."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from ml.explain.checks import CHECKS, SUBJECTS, Check
from ml.explain.stored_checks import save_checks
from orchestration.assets.explanations import NO_CHECKS, checks_of, store_checks
from orchestration.settings import Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import Warehouse, replace_rows

MADE = [
    Check(check, subject, "", 0.1, 0.5, "pass", f"{check} of {subject} by 0.10")
    for check in CHECKS
    for subject in SUBJECTS
]


@pytest.fixture
def platform(tmp_path: Path) -> Any:
    """A platform whose registry has one attention version and one of another model."""
    settings = Settings(home=tmp_path, models=("ewma", "attention"))
    warehouse = Warehouse(settings)
    rows = []
    for model in ("attention", "ewma"):
        row = dict.fromkeys(OUTPUT_TABLES["models.registry"].columns)
        row |= {
            "model": model, "model_version": "v1", "trained_as_of": date(2024, 1, 1),
            "artifact_uri": f"models/{model}/v1", "artifact_hash": "abc", "seed": 7,
            "config": json.dumps({}), "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        }  # fmt: skip
        rows.append(row)
    with warehouse.write() as connection:
        replace_rows(
            connection, "models.registry", pd.DataFrame(rows), on=["model", "model_version"]
        )
    return SimpleNamespace(
        settings=settings, warehouse=warehouse, source=SimpleNamespace(name="simulated")
    )


def stored(platform: Any) -> list[Check]:
    with platform.warehouse.read() as connection:
        return checks_of(connection, "attention", "v1")


def put(platform: Any, artifact_hash: str = "abc") -> None:
    uri = str(platform.settings.artifacts_dir / "models/attention/v1")
    save_checks(uri, artifact_hash, MADE)


def test_checks_beside_the_artefact_are_stored_once(platform: Any) -> None:
    put(platform)
    assert store_checks(platform) == ["attention v1"]
    assert set(stored(platform)) == set(MADE)
    assert store_checks(platform) == []


def test_a_version_without_checks_is_not_judged_until_there_are_some(platform: Any) -> None:
    assert store_checks(platform) == ["attention v1"]
    assert {(c.verdict, c.reason) for c in stored(platform)} == {("not judged", NO_CHECKS)}
    assert store_checks(platform) == []
    put(platform)
    assert store_checks(platform) == ["attention v1"]
    assert set(stored(platform)) == set(MADE)


def test_checks_of_another_artefact_do_not_count(platform: Any) -> None:
    put(platform, "def")
    store_checks(platform)
    assert {check.verdict for check in stored(platform)} == {"not judged"}
