"""The study asset: rows in models.studies, a proposal, and nothing on the daily path."""

from __future__ import annotations

import ast
from datetime import date
from types import SimpleNamespace

import dagster as dg
import pytest

from ml.attention import study as ml_study
from orchestration.assets import study
from orchestration.platform import Platform
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse import Warehouse, read_published
from orchestration.workers import Ended
from orchestration.workers.processes import write_spec

AS_OF = date(2024, 6, 5)


@pytest.fixture
def platform(tmp_path):
    return Platform(
        Settings(home=tmp_path, study_trials=3, study_origins=2, simulated_start=date(2018, 1, 1))
    )


@pytest.fixture
def read_until(monkeypatch):
    """Gates open, features and fits made up: the study's own process is this one."""
    monkeypatch.setattr(study, "require_open_gates", lambda connection, days: {})
    asked = []

    def read(connection, to_as_of, history_days):
        asked.append((to_as_of, history_days))
        return SimpleNamespace(source="simulated")

    def start(context, settings, shards):
        for shard in shards:
            write_spec(shard)
            assert shard.module == "ml.attention.study"
            assert ml_study.main([shard.address]) == 0
        return [Ended() for _ in shards]

    monkeypatch.setattr(study, "read_features", read)
    monkeypatch.setattr(
        study, "write_training_snapshot", lambda settings, frames: ("folder", "5" * 64)
    )
    monkeypatch.setattr(study, "fan_out", start)
    monkeypatch.setattr(ml_study.Panel, "read", lambda uri, sha256="": None)
    monkeypatch.setattr(
        ml_study,
        "fit_value",
        lambda panel, origin, config, seed, device: 1 + (config.get("dropout", 0.3) - 0.1) ** 2,
    )
    return asked


def _materialize(platform, as_of=AS_OF):
    return dg.materialize(
        [study.studies],
        partition_key=as_of.isoformat(),
        resources={"platform": platform},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )


def _rows(platform):
    with Warehouse(platform.settings).read() as connection:
        return (
            connection.execute("SELECT * FROM models.studies ORDER BY study, trial")
            .df()
            .to_dict("records")
        )


@pytest.mark.usefixtures("read_until")
def test_a_study_writes_its_trials_and_flags_the_one_that_it_proposes(platform):
    done = _materialize(platform)
    assert done.success
    rows = _rows(platform)
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert len({row["study"] for row in rows}) == 1
    assert rows[0]["origins"].split(",")[1] <= AS_OF.isoformat()
    proposed = [row for row in rows if row["proposed"]]
    best = min(rows, key=lambda row: row["value"])
    assert [row["trial"] for row in proposed] == ([best["trial"]] if best["trial"] else [])
    assert sum(bool(row["reason"]) for row in rows) == 1
    with read_published(platform.settings) as published:
        assert published.execute("SELECT count(*) FROM models.studies").fetchone() == (3,)
    (event,) = done.asset_materializations_for_node("models__studies")
    assert "today's configuration" in event.metadata["trials"].value
    if proposed:
        assert "VOLCAST_ATTENTION_CONFIG=" in event.metadata["trials"].value


def test_the_same_study_goes_on_and_another_day_s_is_its_own(platform, read_until):
    _materialize(platform)
    before = _rows(platform)
    more = Platform(platform.settings.model_copy(update={"study_trials": 5}))
    assert _materialize(more, date(2024, 6, 6)).success  # the same refit grid: the same origins
    rows = _rows(platform)
    assert len(rows) == 5
    assert [row["parameters"] for row in rows[:3]] == [row["parameters"] for row in before]
    assert _materialize(platform, date(2024, 2, 1)).success
    assert len({row["study"] for row in _rows(platform)}) == 2
    newest = [to_as_of for to_as_of, _ in read_until]
    assert all(origin <= AS_OF for origin in newest)


@pytest.mark.usefixtures("read_until")
def test_trials_of_a_run_that_died_are_kept(platform, monkeypatch):
    finished = study.fan_out

    def dies(*arguments, **options):
        return [Ended("killed by signal 9", lost=True) for _ in finished(*arguments, **options)]

    monkeypatch.setattr(study, "fan_out", dies)
    assert not _materialize(platform).success
    assert len(_rows(platform)) == 3


@pytest.mark.usefixtures("read_until")
def test_several_workers_make_the_trials_of_one(platform):
    assert _materialize(platform).success
    alone = _rows(platform)
    shared = {"workers_at_once": 2, "home": platform.settings.home / "shared"}
    several = Platform(platform.settings.model_copy(update=shared))
    assert _materialize(several).success
    changing = ("seconds", "run_id", "created_at")
    rows = [
        [{key: value for key, value in row.items() if key not in changing} for row in found]
        for found in (alone, _rows(several))
    ]
    assert rows[0] == rows[1]
    assert list((several.settings.artifacts_dir / "studies").rglob("values/*.json"))


@pytest.mark.usefixtures("read_until")
def test_origins_before_the_data_are_refused(platform):
    early = Platform(platform.settings.model_copy(update={"study_origins": 20}))
    failed = _materialize(early)
    assert not failed.success
    (event,) = failed.get_step_failure_events()
    assert "lower VOLCAST_STUDY_ORIGINS" in str(event.step_failure_data.user_failure_data)


def test_nothing_imports_optuna_or_torch_when_dagster_loads():
    """Optuna is imported where a study runs; orchestration imports the attention model inside functions only."""
    found = set()
    for package in ("orchestration", "ml"):
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                heavy = (
                    ("optuna", "ml.attention", "torch") if package == "orchestration" else "optuna"
                )
                found |= {f"{path.name}: {name}" for name in names if name.startswith(heavy)}
    assert not found
