"""A fit that was cut by coins is byte for byte the fit of all coins; a model that learns from all of them is not cut."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import artifacts, models
from ml.coin_parts import merge
from ml.model import ModelState
from ml.panel import Panel
from ml.worker import FitSpec
from tests.ml.archive_frames import made_up_bars
from tests.ml.baselines.realised_frames import measured_frames

TRAINED = date(2022, 4, 1)
PER_COIN = sorted(name for name, entry in models.MODELS.items() if entry.per_coin)


COINS = ("ADA", "BTC", "ETH", "LTC", "NEW")


@pytest.fixture(scope="module")
def panel() -> Panel:
    """500 days of five coins, the last of them listed 60 days before the end."""
    bars = made_up_bars(COINS)
    listed = bars["ts"].max() - pd.Timedelta(days=60)
    kept = (bars["asset"] != "NEW") | (bars["ts"] > listed)
    return Panel.from_frames(*measured_frames(bars[kept], "simulated"))


def fitted(name: str, panel: Panel) -> ModelState:
    model = models.create(name)
    model.fit(panel, TRAINED, {"window_days": 400}, 0)
    return model.state()


@pytest.mark.parametrize("name", PER_COIN)
def test_parts_make_the_bytes_of_the_whole(name: str, panel: Panel, tmp_path: Path) -> None:
    whole = fitted(name, panel)
    parts = []
    for place, coins in enumerate((panel.assets[1::2], panel.assets[::2])):
        stored = str(tmp_path / str(place))
        digest = artifacts.save(stored, fitted(name, panel.of_coins(coins)))
        parts.append(artifacts.load(stored, digest))
    found = artifacts.save(str(tmp_path / "merged"), merge(parts, panel.assets))
    assert found == artifacts.save(str(tmp_path / "whole"), whole)


def test_a_model_that_learns_from_all_coins_is_not_put_together(panel: Panel) -> None:
    state = ModelState({}, {"model": "har_pooled", "assets": ["BTC"]})
    with pytest.raises(ValueError, match="har_pooled: its fit cannot be cut by coins"):
        merge([state, state], ["BTC"])
    with pytest.raises(ValueError, match="coins: a fit of har_panel cannot be cut by coins"):
        FitSpec(
            model="har_panel", trained_as_of=TRAINED, window_days=400, seed=0, coins=("BTC", "ETH")
        )
    pooled = {"har_pooled", "har_panel", "combination_equal", "combination_qlike", "lstm", "gru"}
    assert pooled | {"attention", "ar_gjr_t"} == set(models.MODELS) - set(PER_COIN)


def test_parts_that_do_not_belong_together_are_refused(panel: Panel) -> None:
    parts = [fitted("ewma", panel.of_coins(coins)) for coins in (COINS[:2], COINS[2:4])]
    with pytest.raises(ValueError, match="parts of ewma have"):
        merge(parts, panel.assets)
    other = replace(parts[1], meta={**parts[1].meta, "train_start": "2020-01-01"})
    with pytest.raises(ValueError, match="'train_start' differs between the parts"):
        merge([parts[0], other], COINS[:4])


def test_a_panel_of_some_coins_holds_just_theirs(panel: Panel) -> None:
    last = panel.assets[-1]
    alone = panel.of_coins([last])
    assert alone.assets == (last,)
    for name, values in panel.features.items():
        np.testing.assert_array_equal(alone.features[name][:, 0], values[:, -1])
    np.testing.assert_array_equal(alone.realized_variance()[:, 0], panel.realized_variance()[:, -1])
    assert json.dumps(alone.data_hash()) != panel.data_hash()
    with pytest.raises(ValueError, match="NOPE"):
        panel.of_coins(["NOPE"])
