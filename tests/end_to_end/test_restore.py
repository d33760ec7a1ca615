"""A finished home under the doctor, and after a backup and a restore at another path: it works on as if nothing had happened."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from orchestration import dbt
from orchestration.doctor import examine
from orchestration.warehouse import Warehouse
from tests.end_to_end.homes import AS_OF, Home
from tests.end_to_end.test_line import DAILY_TABLES


def test_every_invariant_holds_in_a_finished_home(finished: Home) -> None:
    findings = examine(finished.settings)
    assert [(item.name, item.example) for item in findings if not item.holds] == []
    unseen = {item.name for item in findings if not item.checked}
    assert unseen <= {"dagster-runs", "dagster-slots", "superseded", "quarantine"}


@pytest.mark.slow
def test_features_built_anew_are_those_stored_and_a_run_may_write_meanwhile(
    finished: Home, monkeypatch
) -> None:
    build, places = dbt.build, []

    def writing(scratch, *arguments, **named) -> None:
        with Warehouse(finished.settings.model_copy(update={"lock_timeout_seconds": 1})).lock():
            places.append(scratch.home.parent.parent)
        build(scratch, *arguments, **named)

    monkeypatch.setattr(dbt, "build", writing)
    findings = examine(finished.settings, deep=True)
    assert [(item.name, item.example) for item in findings if not item.holds] == []
    assert findings[-1].name == "rebuilt"
    assert findings[-1].checked > 100
    assert places == [finished.path.parent] * 2  # beside the home
    assert not list(finished.path.parent.glob("volcast-doctor-*"))


@pytest.mark.slow
def test_a_restored_home_goes_on_as_the_undisturbed_one(finished: Home, tmp_path) -> None:
    undisturbed, restored = Home(tmp_path / "same"), Home(tmp_path / "elsewhere" / "home")
    shutil.copytree(finished.path, undisturbed.path)
    finished.run("backup", str(tmp_path / "backup"))
    assert "invariants hold" in restored.run("restore", str(tmp_path / "backup"))
    next_day = AS_OF + timedelta(days=1)
    for home in (undisturbed, restored):
        home.run("run", "--as-of", next_day.isoformat())
    for table in (*DAILY_TABLES, "forecasts.model_quantiles", "forecasts.ledger", "raw.ohlcv"):
        assert restored.table_hash(table) == undisturbed.table_hash(table), table
    assert [item.name for item in examine(restored.settings) if not item.holds] == []
