"""What holds for every classical model: point in time, blocks, states, refusals, determinism."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import artifacts, models
from ml.forecasts import HORIZONS, Forecasts
from ml.model import ModelState, VolatilityModel
from ml.panel import Panel

CLASSICAL = tuple(name for name, entry in models.MODELS.items() if not entry.uses_torch)
TRAINED = date(2022, 4, 1)
BLOCK = [TRAINED + timedelta(days=k) for k in range(20)]
CONFIG = {"window_days": 400}


@pytest.fixture(scope="module", params=CLASSICAL)
def fitted(request: pytest.FixtureRequest, panel: Panel) -> VolatilityModel:
    model = models.create(request.param)
    model.fit(panel, TRAINED, CONFIG, seed=0)
    return model


def assert_identical(one: Forecasts, other: Forecasts) -> None:
    np.testing.assert_array_equal(one.variance, other.variance)
    np.testing.assert_array_equal(one.log_quantiles, other.log_quantiles)
    assert one.status.tolist() == other.status.tolist()


def test_every_coin_with_enough_data_is_forecast(fitted: VolatilityModel, panel: Panel) -> None:
    forecasts = fitted.forecast(panel, BLOCK)
    assert set(forecasts.status[:, :3].ravel()) == {"ok"}
    frame = forecasts.to_frame()
    assert len(frame) == len(BLOCK) * 3 * len(HORIZONS)
    assert set(frame["asset"]) == {"BTC", "ETH", "LTC"}
    assert frame["volatility"].between(0.05, 5.0).all()


def test_a_coin_with_too_little_data_is_refused_with_the_reason(
    fitted: VolatilityModel, panel: Panel
) -> None:
    refused = fitted.forecast(panel, BLOCK).refused()
    assert set(refused["asset"]) == {"NEW"}
    assert refused["status"].str.contains(r"^needs \d+ .*, has \d+").all()
    assert fitted.state().meta["status"]["NEW"] == refused["status"].iloc[0]


def test_a_day_alone_equals_the_same_day_in_a_block(fitted: VolatilityModel, panel: Panel) -> None:
    block = fitted.forecast(panel, BLOCK)
    for position in (0, 7, 19):
        alone = fitted.forecast(panel, [BLOCK[position]])
        np.testing.assert_array_equal(alone.variance[0], block.variance[position])
        np.testing.assert_array_equal(alone.log_quantiles[0], block.log_quantiles[position])
    backwards = fitted.forecast(panel, BLOCK[::-1])
    np.testing.assert_array_equal(backwards.variance[::-1], block.variance)


def test_later_rows_change_no_forecast(
    fitted: VolatilityModel, panel: Panel, market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
) -> None:
    expected = fitted.forecast(panel, BLOCK)
    assert_identical(fitted.forecast(panel.until(BLOCK[-1]), BLOCK), expected)
    for position in (0, 11):
        one = fitted.forecast(panel.until(BLOCK[position]), [BLOCK[position]])
        np.testing.assert_array_equal(one.variance[0], expected.variance[position])
    poisoned = fitted.forecast(poison(*market, BLOCK[-1]), BLOCK)
    assert_identical(poisoned, expected)


def test_later_rows_change_no_fit(
    fitted: VolatilityModel, market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
) -> None:
    again = models.create(fitted.name)
    again.fit(poison(*market, TRAINED), TRAINED, CONFIG, seed=0)
    assert_same_state(again.state(), fitted.state())


def test_a_fit_reads_only_its_window_and_the_stated_lookback(
    fitted: VolatilityModel, panel: Panel
) -> None:
    again = models.create(fitted.name)
    needed = panel.until(TRAINED).window(CONFIG["window_days"] + again.lookback_days)
    again.fit(needed, TRAINED, CONFIG, seed=0)
    assert_same_state(again.state(), fitted.state())


def test_a_forecast_reads_only_the_stated_lookback(fitted: VolatilityModel, panel: Panel) -> None:
    reach = max(fitted.lookback_days, len(BLOCK))  # GARCH goes on from the day it was trained
    short = panel.until(BLOCK[-1]).window(reach + 1)
    assert_identical(fitted.forecast(short, BLOCK[-1:]), fitted.forecast(panel, BLOCK[-1:]))


def test_the_same_fit_has_the_same_artifact_and_forecasts_after_loading(
    fitted: VolatilityModel, panel: Panel, tmp_path: Path
) -> None:
    again = models.create(fitted.name)
    again.fit(panel, TRAINED, CONFIG, seed=0)
    sha256 = artifacts.save(str(tmp_path / "one"), fitted.state())
    assert artifacts.save(str(tmp_path / "two"), again.state()) == sha256
    loaded = models.from_state(artifacts.load(str(tmp_path / "one"), sha256))
    assert loaded.name == fitted.name
    assert_identical(loaded.forecast(panel, BLOCK), fitted.forecast(panel, BLOCK))


def test_the_state_tells_what_the_platform_needs(fitted: VolatilityModel) -> None:
    meta = fitted.state().meta
    assert (meta["train_end"], meta["trained_as_of"]) == ("2022-04-01", "2022-04-01")
    assert meta["train_start"] == "2021-02-26"
    assert meta["config"]["window_days"] == 400
    assert meta["observations"]["BTC"]["22"] > 300
    assert 0 < meta["in_window"]["BTC"]["1"]["qlike"] < 2
    assert set(meta["tail"]["BTC"]) == {"1", "5", "22"}
    assert len(meta["tail"]["BTC"]["1"]["long"]) >= 15


def test_a_coin_unknown_to_the_fit_is_refused(fitted: VolatilityModel, panel: Panel) -> None:
    renamed = Panel(
        panel.source, panel.days, ("BTC", "ETH", "LTC", "XYZ"), panel.features, panel.hourly,
        panel.hourly_fields, panel.realized,
    )  # fmt: skip
    refused = fitted.forecast(renamed, BLOCK[:1]).refused()
    assert set(refused["status"]) == {"XYZ was not in the training data"}


def test_old_prices_are_refused_but_up_to_three_days_are_used(
    fitted: VolatilityModel, market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
) -> None:
    daily, realized, hourly = market
    gone = (daily["asset"] == "ETH") & (daily["as_of"] > pd.Timestamp(TRAINED))
    age = (daily["as_of"] - pd.Timestamp(TRAINED)).dt.days
    stale = daily.copy()
    measures = [
        name for name in daily if name not in ("asset", "as_of", "source", "target_weekday")
    ]
    last = daily[(daily["asset"] == "ETH") & (daily["as_of"] == pd.Timestamp(TRAINED))]
    stale.loc[gone & (age <= 3), measures] = last[measures].to_numpy()
    stale.loc[gone & (age > 3), measures] = np.nan
    stale.loc[gone, "price_age_days"] = age[gone].astype(float)
    day = hourly["ts"].dt.tz_localize(None).dt.floor("D")
    silent = hourly[(hourly["asset"] != "ETH") | (day <= pd.Timestamp(TRAINED))]
    forecasts = fitted.forecast(Panel.from_frames(stale, realized, silent), BLOCK[:6])
    assert np.isfinite(forecasts.variance[:4, 1]).all()
    assert np.isnan(forecasts.variance[4:, 1]).all()
    assert "ok" not in forecasts.status[4:, 1]
    assert set(forecasts.status[:, 0]) == {"ok"}


def test_wrong_settings_are_named(fitted: VolatilityModel, panel: Panel) -> None:
    fresh = models.create(fitted.name)
    with pytest.raises(ValueError, match="config key 'windows': expected one of"):
        fresh.fit(panel, TRAINED, {"windows": 3}, seed=0)
    with pytest.raises(ValueError, match="window_days 0: expected a positive whole number"):
        fresh.fit(panel, TRAINED, {"window_days": 0}, seed=0)
    with pytest.raises(RuntimeError, match="call fit first"):
        models.create(fitted.name).state()
    with pytest.raises(ValueError, match="state of model 'other'"):
        type(fresh).from_state(ModelState({}, {"model": "other"}))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ValueError, match="model 'prophet': expected one of random_walk, ewma"):
        models.create("prophet")


def poison(daily: pd.DataFrame, realized: pd.DataFrame, hourly: pd.DataFrame, last: date) -> Panel:
    """The market with every value after `last` replaced by another."""
    daily, realized, hourly = daily.copy(), realized.copy(), hourly.copy()
    numbers = daily.select_dtypes("number").columns
    daily.loc[daily["as_of"] > pd.Timestamp(last), numbers] = 123.0
    values = ["realized_variance", "return", "close"]
    realized.loc[realized["known_on"] > pd.Timestamp(last), values] = 123.0
    fields = ["log_return", "realized_variance", "high_low_range", "log_volume_ratio"]
    hourly.loc[hourly["known_on"] > pd.Timestamp(last), fields] = 123.0
    return Panel.from_frames(daily, realized, hourly)


def assert_same_state(one: ModelState, other: ModelState) -> None:
    assert one.meta == other.meta
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name])
