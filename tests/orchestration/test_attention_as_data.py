"""Attention as data: the published views add up, carry the audit's verdict, and weights past their retention go."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from orchestration.assets.explanations import audited_map
from orchestration.platform import Platform
from orchestration.retention import drop_old, kept_from
from orchestration.settings import Settings, SettingsError
from orchestration.views import VIEWS
from orchestration.warehouse import read_published, replace_rows
from tests.orchestration.report.published_tables import AS_OF, ASSETS, published

KEY = ["as_of", "model", "model_version"]


def _weights() -> pd.DataFrame:
    with published() as connection:
        return connection.execute("SELECT * FROM forecasts.attention_weights").df()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The published copy of a warehouse with two layers of four heads, and its weights."""
    platform = Platform(Settings(home=tmp_path_factory.mktemp("home")))
    with published() as connection:
        explanations = connection.execute("SELECT * FROM forecasts.explanations").df()
    with platform.warehouse.write() as connection:
        replace_rows(connection, "forecasts.attention_weights", _weights(), on=KEY)
        replace_rows(connection, "forecasts.explanations", explanations, on=KEY)
    platform.warehouse.publish()
    return platform.settings


def _read(settings: Settings, query: str) -> pd.DataFrame:
    with read_published(settings) as connection:
        return connection.execute(query).df()


@pytest.mark.parametrize("view", ["modality", "scale", "lag"])
def test_the_parts_of_a_forecast_add_up_to_one(copy, view):
    totals = _read(
        copy,
        f"SELECT sum(weight) AS total FROM forecasts.attention_by_{view} GROUP BY asset, as_of",
    )
    assert len(totals) == len(ASSETS)
    np.testing.assert_allclose(totals["total"], 1, atol=1e-12)


def test_the_parts_of_a_head_add_up_to_one(copy):
    totals = _read(
        copy,
        "SELECT sum(weight) AS total FROM forecasts.attention_by_head GROUP BY asset, as_of, layer, head",
    )
    assert len(totals) == len(ASSETS) * 2 * 4
    np.testing.assert_allclose(totals["total"], 1, atol=1e-12)


def test_a_share_is_the_mean_over_layers_and_heads_of_the_stored_weights(copy):
    weights = _weights()
    expected = weights.groupby(["asset", "modality"])["weight"].sum() / 8
    found = _read(copy, "SELECT asset, modality, weight FROM forecasts.attention_by_modality")
    found = found.set_index(["asset", "modality"])["weight"]
    np.testing.assert_allclose(found.loc[expected.index], expected, rtol=1e-12)
    coins = _read(copy, "SELECT * FROM forecasts.attention_by_coin")
    assert set(coins["other_asset"]) == {"ETH"}
    assert (coins["tokens"] == 3).all()
    np.testing.assert_allclose(
        coins.set_index("asset")["weight"],
        expected.xs("asset", level="modality").loc[coins["asset"]],
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_shows_the_verdict_of_every_horizon_and_describes_its_columns(copy, view):
    rows = _read(copy, f"SELECT DISTINCT verdict_1, verdict_5, verdict_22 FROM {view.name}")
    assert rows.to_numpy().tolist() == [["valid", "weak", "invalid"]]
    schema, name = view.name.split(".")
    columns = _read(
        copy,
        f"SELECT column_name, comment FROM duckdb_columns() WHERE schema_name = '{schema}' AND table_name = '{name}'",
    )
    assert columns["comment"].notna().all()


def _judged(platform: Platform, day: date) -> None:
    with platform.warehouse.write() as connection:
        connection.execute(
            "INSERT INTO models.decisions BY NAME SELECT $1 AS as_of, 'steady' AS kind, 'attention' AS model, 0 AS horizon",
            [day],
        )


def test_rows_by_token_that_no_sunday_will_read_again_go_and_explanations_stay(tmp_path):
    platform = Platform(Settings(home=tmp_path, attention_retention_days=90))
    sunday = AS_OF - timedelta(days=7)
    old = sunday - timedelta(days=90)
    weights = pd.concat(
        [_weights().assign(as_of=day) for day in (old, old + timedelta(days=1), AS_OF)]
    )
    with published() as connection:
        explanations = connection.execute("SELECT * FROM forecasts.explanations").df()
    with platform.warehouse.write() as connection:
        replace_rows(connection, "forecasts.attention_weights", weights, on=KEY)
        replace_rows(connection, "forecasts.explanations", explanations.assign(as_of=old), on=KEY)
    # nothing goes before a Sunday has judged what was made: a backfill judges after it has made all of its days
    assert drop_old(platform.warehouse, platform.settings) == 0
    _judged(platform, sunday)
    assert drop_old(platform.warehouse, platform.settings) == len(_weights())
    assert drop_old(platform.warehouse, platform.settings) == 0
    with platform.warehouse.read() as connection:
        assert kept_from(connection, platform.settings) == old + timedelta(days=1)
        days = connection.execute(
            "SELECT DISTINCT as_of FROM forecasts.attention_weights ORDER BY 1"
        ).fetchall()
        stayed = connection.execute("SELECT count(*) FROM forecasts.explanations").fetchone()
    assert [day for (day,) in days] == [old + timedelta(days=1), AS_OF]
    assert stayed == (len(explanations),)


def test_the_map_of_the_day_is_shown_under_its_verdicts():
    text = audited_map({"price": 0.6, "onchain": 0.4}, {"valid": 3, "invalid": 15})
    assert text.startswith(
        "Audit of the day's forecasts: **15 invalid, 3 valid**. An invalid map is not an explanation."
    )
    assert "| onchain | 40.0% |" in text
    assert "**none**" in audited_map({"price": 1.0}, {})


def test_everything_is_kept_by_default(tmp_path):
    platform = Platform(Settings(home=tmp_path))
    _judged(platform, AS_OF)
    with platform.warehouse.read() as connection:
        assert kept_from(connection, platform.settings) == date.min
    assert drop_old(platform.warehouse, platform.settings) == 0


def test_a_retention_shorter_than_what_drift_reads_is_refused():
    with pytest.raises(SettingsError, match="VOLCAST_ATTENTION_RETENTION_DAYS"):
        Settings.from_env({"VOLCAST_ATTENTION_RETENTION_DAYS": "30"})
