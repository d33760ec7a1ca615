"""Attention as data: the published views add up, carry the audit's verdict, and weights past their retention go."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from orchestration.assets.explanations import _drop_before, _kept_from
from orchestration.platform import Platform
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


def test_weights_older_than_the_retention_go_and_explanations_stay(tmp_path):
    platform = Platform(Settings(home=tmp_path, attention_retention_days=90))
    old = AS_OF - timedelta(days=90)
    weights = pd.concat(
        [_weights().assign(as_of=day) for day in (old, old + timedelta(days=1), AS_OF)]
    )
    with platform.warehouse.write() as connection:
        replace_rows(connection, "forecasts.attention_weights", weights, on=KEY)
    assert _drop_before(platform, _kept_from(platform, AS_OF)) == len(_weights())
    # a later backfill of old days neither brings them back nor takes newer ones away
    kept_from = _kept_from(platform, old)
    assert kept_from == old + timedelta(days=1)
    assert _drop_before(platform, kept_from) == 0
    with platform.warehouse.read() as connection:
        days = connection.execute(
            "SELECT DISTINCT as_of FROM forecasts.attention_weights ORDER BY 1"
        ).fetchall()
    assert [day for (day,) in days] == [old + timedelta(days=1), AS_OF]


def test_everything_is_kept_by_default(tmp_path):
    platform = Platform(Settings(home=tmp_path))
    assert _kept_from(platform, AS_OF) == date.min
    assert _drop_before(platform, date.min) == 0


def test_a_retention_shorter_than_what_drift_reads_is_refused():
    with pytest.raises(SettingsError, match="VOLCAST_ATTENTION_RETENTION_DAYS"):
        Settings.from_env({"VOLCAST_ATTENTION_RETENTION_DAYS": "30"})
