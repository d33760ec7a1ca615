"""The whole line on a small simulated market: what it leaves, that it repeats, and that days equal a backfill."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import duckdb
import pytest

from orchestration.tables import OUTPUT_TABLES
from tests.end_to_end.conftest import FIRST
from tests.end_to_end.homes import AS_OF, PORTFOLIO, Home, day_before, published

LEARNING_TABLES = (
    "models.decisions",
    "models.drift",
    "models.attention_profiles",
    "models.spurious_checks",
)
AUDIT_TABLES = (
    "forecasts.attention_audits",
    "forecasts.token_attributions",
    "models.explanation_checks",
)
REGIME_TABLES = (
    "forecasts.regimes",
    "forecasts.jumps",
    "forecasts.tails",
    "forecasts.events",
    "evaluation.event_effects",
)
DAILY_TABLES = (
    "features.daily",
    "features.hourly",
    "features.realized",
    "forecasts.volatility",
    "forecasts.refusals",
    "forecasts.attention_weights",
    "forecasts.explanations",
    "forecasts.risk",
    "forecasts.correlations",
    "forecasts.portfolio_risk",
    "forecasts.portfolio_components",
    "evaluation.scores",
    "evaluation.leverage_backtest",
    *AUDIT_TABLES,
    *LEARNING_TABLES,
    *REGIME_TABLES,
)


def test_every_table_of_the_design_is_filled(finished: Home) -> None:
    empty = [
        table
        for table in (*OUTPUT_TABLES, "features.daily", "features.hourly", "features.realized")
        if table
        not in (
            "quality.overrides",
            "quarantine.rows",
            "forecasts.refusals",
            "models.studies",
            "forecasts.superseded",
        )
        and not table.startswith("evaluation.walk_forward")  # `volcast evaluate` fills them
        and finished.rows(f"SELECT count(*) FROM {table}")[0][0] == 0
    ]
    assert empty == []


def test_every_coin_day_horizon_and_model_has_a_forecast_or_a_refusal(finished: Home) -> None:
    models = finished.environment["VOLCAST_MODELS"].split(",")
    wanted = 3 * 30 * 3 * len(models)
    ((given,),) = finished.rows(
        "SELECT count(*) FROM forecasts.volatility WHERE as_of >= ?", [FIRST]
    )
    ((refused,),) = finished.rows(
        "SELECT count(*) FROM forecasts.refusals WHERE as_of >= ?", [FIRST]
    )
    assert given + refused == wanted
    assert given > 0.9 * wanted


def test_numbers_obey_their_definitions(finished: Home) -> None:
    ((bad,),) = finished.rows(
        "SELECT count(*) FROM forecasts.volatility WHERE NOT (variance > 0) OR isinf(variance) "
        "OR abs(volatility - sqrt(365 * variance)) > 1e-9 OR NOT (q01 <= q05 AND q05 <= q25 AND q25 <= q50 AND q50 <= q75 AND q75 <= q95 AND q95 <= q99)"
    )
    assert bad == 0
    ((worst,),) = finished.rows(
        "SELECT max(abs(total - 1)) FROM (SELECT sum(weight) AS total FROM forecasts.attention_weights "
        "GROUP BY asset, as_of, model_version, layer, head)"
    )
    assert worst < 1e-5
    ((bad,),) = finished.rows(
        "SELECT count(*) FROM forecasts.risk WHERE var_95 > var_975 OR var_975 > var_99 OR es_975 < var_975 OR uncertainty NOT BETWEEN 0 AND 1 "
        "OR advised_leverage < 0 OR advised_leverage > least(3, leverage_limit) OR reason = '' OR binding IS NULL"
    )
    assert bad == 0


def test_the_portfolio_is_told_by_the_command_line_as_it_is_stored(finished: Home) -> None:
    output = finished.run("portfolio", str(PORTFOLIO), "--csv")
    shown = [line.split(",") for line in output.split()]
    place = shown[0].index("mixture_es_975")
    told = [float(row[place]) for row in shown[1:] if row[1] == "ALL"]
    stored = finished.rows(
        "SELECT mixture_es_975 FROM forecasts.portfolio_risk WHERE as_of = ? AND model = 'harx_cal' ORDER BY horizon",
        [AS_OF],
    )
    assert told == [value for (value,) in stored]
    assert len(told) == 3


def test_everything_made_from_the_simulated_market_says_so(finished: Home) -> None:
    for table in (
        "raw.ohlcv",
        "features.daily",
        "forecasts.volatility",
        "forecasts.risk",
        "evaluation.scores",
        "models.registry",
    ):
        assert finished.rows(f"SELECT DISTINCT source FROM {table}") == [("simulated",)], table
    page = (finished.settings.reports_dir / f"{AS_OF}.html").read_text()
    assert "SIMULATED MARKET" in page


def test_no_model_was_trained_on_a_day_that_it_serves(finished: Home) -> None:
    assert finished.rows(
        "SELECT count(*) FROM forecasts.volatility f JOIN models.registry m USING (model, model_version) WHERE m.trained_as_of >= f.as_of"
    ) == [(0,)]


def test_a_second_run_changes_nothing(finished: Home) -> None:
    before = {table: finished.table_hash(table) for table in DAILY_TABLES}
    revision = finished.rows("SELECT value FROM meta.state WHERE key = 'revision'")
    registry = finished.rows(
        "SELECT model, model_version, created_at FROM models.registry ORDER BY ALL"
    )
    created = finished.rows("SELECT min(created_at), max(created_at) FROM forecasts.volatility")
    finished.run("backfill", "--from", FIRST.isoformat(), "--to", AS_OF.isoformat())
    assert {table: finished.table_hash(table) for table in DAILY_TABLES} == before
    assert (
        finished.rows("SELECT model, model_version, created_at FROM models.registry ORDER BY ALL")
        == registry
    )
    assert (
        finished.rows("SELECT min(created_at), max(created_at) FROM forecasts.volatility")
        == created
    )
    assert revision


@pytest.mark.slow
def test_daily_runs_equal_a_backfill(finished: Home, tmp_path) -> None:
    """From the same first day on: what corrects the intervals is the forecasts and outcomes that the home holds."""
    daily = Home(tmp_path / "daily")
    days = [AS_OF - timedelta(days=back) for back in (1, 0)]
    earlier = days[0] - timedelta(days=1)
    daily.run("backfill", "--from", FIRST.isoformat(), "--to", earlier.isoformat())
    for day in days:
        daily.run("run", "--as-of", day.isoformat())
    for table in (*DAILY_TABLES, "forecasts.model_quantiles", "forecasts.ledger"):
        assert daily.table_hash(table) == finished.table_hash(table), table


def test_the_published_copy_answers_sql_without_the_platform(finished: Home) -> None:
    with published(finished) as connection:
        rows = connection.execute(
            "SELECT asset, horizon, volatility FROM forecasts.volatility WHERE as_of = ? AND model = 'harx_cal'",
            [AS_OF],
        ).fetchall()
        schemas = {
            row[0]
            for row in connection.execute(
                "SELECT DISTINCT schema_name FROM duckdb_tables()"
            ).fetchall()
        }
    assert len(rows) == 9
    assert "staging" not in schemas
    with (
        duckdb.connect(str(finished.settings.published_path), read_only=True) as connection,
        pytest.raises(duckdb.Error),
    ):
        connection.execute("DELETE FROM forecasts.volatility")


def test_the_command_line_shows_tables_and_refuses_to_write(finished: Home) -> None:
    output = finished.run(
        "sql", "SELECT asset FROM forecasts.volatility GROUP BY asset ORDER BY asset", "--csv"
    )
    assert output.split() == ["asset", "BTC", "ETH", "SOL"]
    assert "read-only" in finished.run("sql", "DELETE FROM forecasts.volatility", fails=True)
    status = finished.run("status")
    assert "harx_cal" in status
    assert "raw.ohlcv" in status
    assert "harx_cal: starting champion: none was promoted yet" in status
    assert str(AS_OF) in finished.run("report")


def test_a_day_outside_the_data_is_an_error_that_says_what_there_is(finished: Home) -> None:
    output = finished.run("run", "--as-of", "2011-01-01", fails=True)
    assert "covers 2023-03-01" in re.sub(r"\s+", " ", output)


def test_the_worker_reports_what_it_saw_and_made(finished: Home) -> None:
    rows = finished.rows(
        "SELECT model, snapshot_hash, data_hash, artifact_hash, code_version, device, metrics, gate_verdicts, train_end, trained_as_of, artifact_uri "
        "FROM models.registry"
    )
    for model, snapshot, data, artifact, code, device, metrics, gates, end, trained, uri in rows:
        assert len(snapshot) == len(artifact) == 64, model
        assert data
        assert code
        assert device == "cpu" or "cuda" in device
        assert json.loads(metrics)
        assert set(json.loads(gates).values()) == {"open"}
        assert end <= trained
        folder = finished.settings.artifacts_dir / uri
        assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert not list(finished.path.rglob("*.pkl"))


def test_older_days_stay_when_new_ones_come(finished: Home) -> None:
    versions = finished.rows(
        "SELECT count(DISTINCT model_version) FROM forecasts.volatility WHERE model = 'harx_cal'"
    )
    assert versions[0][0] >= 4
    oldest = finished.rows("SELECT min(as_of) FROM forecasts.volatility")[0][0]
    assert oldest == FIRST
    assert day_before(AS_OF) < AS_OF
