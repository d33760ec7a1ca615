from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def repository():
    from orchestration.definitions import defs

    return defs.get_repository_def()


def _specs(repository):
    return [
        spec for definition in repository.assets_defs_by_key.values() for spec in definition.specs
    ]


def test_every_asset_says_what_it_is_and_whose(repository):
    specs = {
        spec.key.to_user_string(): spec
        for spec in _specs(repository)
        if spec.key.path[0] not in ("staging", "intermediate")
    }
    assert {
        "raw/ohlcv",
        "features/daily",
        "models/registry",
        "forecasts/volatility",
        "evaluation/scores",
        "published/report",
    } <= set(specs)
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name, name
        assert spec.group_name != "default", name
        assert spec.partitions_def is not None, name
        assert spec.freshness_policy is not None, name
        if name.split("/")[0] != "published":
            assert spec.metadata["dagster/column_schema"].columns, name


def test_dbt_models_are_assets_with_described_columns(repository):
    specs = {spec.key.to_user_string(): spec for spec in _specs(repository)}
    for name in ("features/daily", "features/hourly", "features/realized"):
        columns = specs[name].metadata["dagster/column_schema"].columns
        assert len(columns) >= 8
        assert all(column.description for column in columns), name
    assert any(name.startswith("staging/") for name in specs)
    assert any(name.startswith("intermediate/") for name in specs)


def test_features_hang_on_raw_tables_and_forecasts_on_features(repository):
    graph = repository.asset_graph
    from dagster import AssetKey

    upstream = {
        key.to_user_string()
        for key in graph.upstream_key_iterator(AssetKey(["forecasts", "volatility"]))
    }
    assert {"raw/ohlcv", "raw/onchain_metrics", "features/daily", "models/registry"} <= upstream


def test_risk_waits_for_drift_and_audits_and_decisions_do_not_wait_for_risk(repository):
    from dagster import AssetKey

    def upstream(*path: str) -> set[str]:
        found = repository.asset_graph.upstream_key_iterator(AssetKey(path))
        return {key.to_user_string() for key in found}

    assert {"models/drift", "forecasts/explanations"} <= upstream("forecasts", "risk")
    assert {"forecasts/risk", "features/hourly"} <= upstream("evaluation", "leverage_backtest")
    assert not {"forecasts/risk", "evaluation/scores"} & upstream("models", "decisions")


def test_every_gate_blocks(repository):
    from orchestration.gates import SUITES

    gates = {
        key.asset_key.to_user_string().replace("/", "."): repository.asset_checks_defs_by_key[
            key
        ].get_spec_for_check_key(key)
        for key in repository.asset_checks_defs_by_key
        if key.name == "gate"
    }
    assert set(gates) == set(SUITES)
    assert all(spec.blocking for spec in gates.values())


def test_only_network_steps_are_retried(repository):
    for definition in repository.assets_defs_by_key.values():
        policy = definition.op.retry_policy
        is_ingest = all(key.path[0] == "raw" for key in definition.keys)
        assert (policy is not None) == is_ingest, definition.keys


def test_writers_queue_in_the_warehouse_pool_and_training_in_the_gpu_pool(repository):
    pools = {
        key.to_user_string(): definition.op.pool
        for key, definition in repository.assets_defs_by_key.items()
    }
    assert pools["models/registry"] == "gpu"
    assert pools["raw/ohlcv"] == pools["features/daily"] == pools["forecasts/risk"] == "warehouse"


def test_jobs_and_schedules(repository):
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert schedules["daily_at_decision_time"].cron_schedule == "30 0 * * *"
    assert schedules["weekly_retrain"].cron_schedule == "30 2 * * 1"
    assert all(schedule.execution_timezone == "UTC" for schedule in schedules.values())
    assert {"daily", "retrain", "study"} <= set(repository.job_names)


def test_a_study_is_started_by_hand_and_no_part_of_the_daily_job(repository):
    steps = {
        name: {node.name for node in repository.get_job(name).graph.nodes}
        for name in ("daily", "study")
    }
    assert steps["study"] == {"models__studies"}
    assert "models__registry" in steps["daily"]
    assert "models__studies" not in steps["daily"]
    assert not [s for s in repository.schedule_defs if s.job_name == "study"]


def test_a_tick_asks_for_the_day_before_and_stops_where_the_source_ends(tmp_path):
    from datetime import UTC, date, datetime

    import dagster as dg

    from orchestration.platform import Platform
    from orchestration.schedules import daily_schedule, weekly_retrain
    from orchestration.settings import Settings

    platform = Platform(Settings(home=tmp_path))
    tick = datetime(2024, 7, 1, 0, 30, tzinfo=UTC)
    with dg.build_schedule_context(
        scheduled_execution_time=tick, resources={"platform": platform}
    ) as context:
        request = daily_schedule(context)
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key == "2024-06-30"
    ended = Platform(Settings(home=tmp_path))
    ended.source = type(
        "Ended", (), {"name": "archive", "last_day": lambda self: date(2023, 12, 31)}
    )()
    with dg.build_schedule_context(
        scheduled_execution_time=tick, resources={"platform": ended}
    ) as context:
        skipped = weekly_retrain(context)
        assert isinstance(skipped, dg.SkipReason)
        assert "2023-12-31" in str(skipped.skip_message)
