"""The attention model at the platform's protocol: point in time, refusals, anchors, states, maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ml import artifacts, models
from ml.attention.config import AttentionConfig
from ml.attention.maps import MAP_COLUMNS
from ml.attention.model import AttentionModel
from ml.attention.network import HEAD_SCALES, NetworkConfig
from ml.baselines.har import HarxCal
from ml.forecasts import HORIZONS, Forecasts
from ml.model import VolatilityModel
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL, planted_market

BLOCK = [TRAINED + timedelta(days=k) for k in range(1, 16)]


def with_features(panel: Panel, change: Callable[[str, np.ndarray], np.ndarray]) -> Panel:
    return replace(panel, features={k: change(k, v.copy()) for k, v in panel.features.items()})


def poisoned_after(panel: Panel, day: date) -> Panel:
    """Every feature, hour and realised value after `day` is garbage."""
    row = panel.row(day)

    def spoil(name: str, values: np.ndarray) -> np.ndarray:
        values[row + 1 :] = 0.37
        return values

    hourly = panel.hourly.copy()
    hourly[row + 1 :] = 0.37
    realized = panel.realized
    late = realized.day > np.datetime64(day)
    garbage = replace(realized, variance=np.where(late, 0.5, realized.variance))
    return replace(with_features(panel, spoil), hourly=hourly, realized=garbage)


def assert_identical(one: Forecasts, other: Forecasts) -> None:
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-12)
    np.testing.assert_allclose(one.log_quantiles, other.log_quantiles, rtol=1e-12)
    assert one.status.tolist() == other.status.tolist()


def test_the_registry_gives_a_model_of_the_protocol() -> None:
    assert isinstance(models.create("attention"), VolatilityModel)
    assert models.model_class("attention") is AttentionModel


def test_every_coin_is_forecast_near_its_anchor(
    trained_model: AttentionModel, planted: Panel
) -> None:
    forecasts = trained_model.forecast(planted, BLOCK)
    assert set(forecasts.status.ravel()) == {"ok"}
    anchor = HarxCal()
    anchor.fit(planted, TRAINED, {"window_days": SMALL["window_days"]}, 3)
    residual = np.log(forecasts.variance) - np.log(anchor.forecast(planted, BLOCK).variance)
    assert 0 < np.abs(residual).max() <= 0.35


def test_quantiles_rise_and_hold_the_forecast_between_them(
    trained_model: AttentionModel, planted: Panel
) -> None:
    forecasts = trained_model.forecast(planted, BLOCK)
    assert (np.diff(forecasts.log_quantiles, axis=-1) >= 0).all()
    log_variance = np.log(forecasts.variance)
    assert (forecasts.log_quantiles[..., 0] < log_variance).all()
    assert (forecasts.log_quantiles[..., -1] > log_variance).all()
    assert forecasts.calibrated[:, HORIZONS.index(22)].tolist() == [False] * 4  # 54 / 22 days


def test_a_day_alone_equals_the_same_day_in_a_block(
    trained_model: AttentionModel, planted: Panel
) -> None:
    block = trained_model.forecast(planted, BLOCK)
    for position in (0, 9, 14):
        alone = trained_model.forecast(planted, [BLOCK[position]])
        np.testing.assert_array_equal(alone.variance[0], block.variance[position])
        np.testing.assert_array_equal(alone.log_quantiles[0], block.log_quantiles[position])


def test_forecasts_and_attention_do_not_change_when_later_rows_do(
    trained_model: AttentionModel, planted: Panel
) -> None:
    spoiled = poisoned_after(planted, BLOCK[4])
    before, after = (trained_model.forecast(p, BLOCK[:5]) for p in (planted, spoiled))
    np.testing.assert_array_equal(before.variance, after.variance)
    np.testing.assert_array_equal(before.log_quantiles, after.log_quantiles)
    maps = [trained_model.attention(p, BLOCK[:5]).weights for p in (planted, spoiled)]
    np.testing.assert_array_equal(*maps)
    cut = trained_model.forecast(planted.until(BLOCK[4]).window(66), BLOCK[4:5])
    np.testing.assert_allclose(cut.variance, before.variance[4:], rtol=1e-12)


def test_the_same_inputs_and_seed_give_the_same_artefact_and_later_rows_do_not_change_it(
    trained_model: AttentionModel, planted: Panel, tmp_path: Path
) -> None:
    again = AttentionModel()
    again.fit(poisoned_after(planted, TRAINED), TRAINED, SMALL, seed=3)
    other = AttentionModel()
    other.fit(planted, TRAINED, {**SMALL, "epochs": 1}, seed=4)
    hashes = [
        artifacts.save(str(tmp_path / name), model.state())
        for name, model in (("one", trained_model), ("two", again), ("three", other))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stored_model_gives_the_same_forecasts_and_the_same_state(
    trained_model: AttentionModel, planted: Panel, tmp_path: Path
) -> None:
    uri = str(tmp_path / "model")
    sha256 = artifacts.save(uri, trained_model.state())
    loaded = models.from_state(artifacts.load(uri, sha256))
    assert_identical(loaded.forecast(planted, BLOCK), trained_model.forecast(planted, BLOCK))
    assert artifacts.save(str(tmp_path / "again"), loaded.state()) == sha256


def test_the_state_says_what_was_fitted_on_what(trained_model: AttentionModel) -> None:
    meta = trained_model.state().meta
    assert (meta["model"], meta["seed"], meta["trained_as_of"]) == ("attention", 3, "2022-01-20")
    assert meta["train_end"] == "2022-01-20"
    assert meta["status"] == dict.fromkeys(meta["assets"], "ok")
    assert AttentionConfig.from_mapping(meta["config"]).network.d_model == SMALL["d_model"]
    first = meta["fit"]["validation"]["1"]
    assert first["qlike"] < first["qlike_anchor"]
    assert set(meta["tail"]["BTC"]) == {"1", "5", "22"}


def test_with_too_short_a_history_the_forecast_is_exactly_harx_cal(planted: Panel) -> None:
    model, anchor = AttentionModel(), HarxCal()
    model.fit(planted, date(2021, 11, 1), {**SMALL, "min_training_days": 300}, 0)
    anchor.fit(planted, date(2021, 11, 1), {"window_days": SMALL["window_days"]}, 0)
    days = [date(2021, 11, 2), date(2021, 11, 3)]
    expected = np.log(anchor.forecast(planted, days).variance)
    np.testing.assert_array_equal(model.forecast(planted, days).variance, np.exp(expected))
    assert model.state().meta["fit"]["trained"] is False
    assert not model.residual_weight().any()


def test_a_coin_never_seen_in_training_is_refused_with_the_reason(
    trained_model: AttentionModel,
) -> None:
    wider = planted_market(coins=5)
    forecasts = trained_model.forecast(wider, BLOCK[:2])
    assert forecasts.status[:, 4].tolist() == ["ADA was not in the training data"] * 2
    assert np.isnan(forecasts.variance[:, 4]).all()
    assert np.isnan(trained_model.attention(wider, BLOCK[:2]).weights[:, 4]).all()
    assert set(forecasts.to_frame()["asset"]) == {"BTC", "ETH", "LTC", "XRP"}


def test_a_forecast_without_enough_price_tokens_is_refused_with_the_reason(
    trained_model: AttentionModel, planted: Panel
) -> None:
    row = planted.row(BLOCK[0])

    def stale(name: str, values: np.ndarray) -> np.ndarray:
        if name == "price_age_days":
            values[row - 2 : row + 1, 1] = [1, 2, 3]
        return values

    forecasts = trained_model.forecast(with_features(planted, stale), BLOCK[:1])
    assert forecasts.status[0, 1] == (
        "5 of the last 8 days have complete prices: expected a share of 0.8"
    )
    assert np.isnan(forecasts.variance[0, 1]).all()
    assert forecasts.status[0, 0] == "ok"


def test_a_forecast_without_its_anchor_is_refused_with_the_anchors_reason(
    trained_model: AttentionModel, planted: Panel
) -> None:
    row = planted.row(BLOCK[0])

    def gap(name: str, values: np.ndarray) -> np.ndarray:
        if name == "rv_66d":
            values[row, 2] = np.nan
        return values

    forecasts = trained_model.forecast(with_features(planted, gap), BLOCK[:1])
    assert forecasts.status[0, 2] == "rv_66d is missing or 0"


def test_a_missing_modality_is_masked_in_the_map_and_the_forecast_is_still_given(
    trained_model: AttentionModel, planted: Panel
) -> None:
    def without_onchain(name: str, values: np.ndarray) -> np.ndarray:
        return np.full_like(values, np.nan) if name == "mvrv" else values

    bare = with_features(planted, without_onchain)
    maps = trained_model.attention(bare, BLOCK)
    token = maps.tokens.modality.index("onchain")
    assert (maps.weights[..., token] == 0).all()
    assert set(trained_model.forecast(bare, BLOCK).status.ravel()) == {"ok"}
    assert "onchain" not in set(maps.to_frame()["modality"])


def test_attention_weights_sum_to_one_for_every_layer_and_head(
    trained_model: AttentionModel, planted: Panel
) -> None:
    maps = trained_model.attention(planted, BLOCK)
    assert maps.weights.shape == (15, 4, 2, 5, 1 + 8 + 6 + 8 + 10 + 8)
    np.testing.assert_allclose(maps.weights.sum(axis=-1), 1, atol=1e-6)
    masked = ~np.broadcast_to(maps.present[:, :, None, None], maps.weights.shape)
    assert (maps.weights[masked] == 0).all()
    scale = np.asarray(maps.tokens.scale)
    for head, own in enumerate(NetworkConfig().head_scales):
        others = ~np.isin(scale, [*HEAD_SCALES[own], "forecast"])
        assert (maps.weights[:, :, :, head, others] == 0).all()
    frame = maps.to_frame("2022-01-20-abcdef01")
    assert tuple(frame.columns) == MAP_COLUMNS
    assert (frame["weight"] > 0).all()
    assert len(frame) == (maps.weights > 0).sum()
    scales = frame.drop_duplicates("head").set_index("head")["head_scale"]
    assert tuple(scales.sort_index()) == NetworkConfig().head_scales
    sums = frame.groupby(["asset", "as_of", "layer", "head"], observed=True)["weight"].sum()
    assert len(sums) == 15 * 4 * 2 * 5
    np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_the_map_says_what_every_token_is_and_from_when(planted: Panel) -> None:
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "epochs": 1, "head_scales": ["all"] * 5}, seed=3)
    frame = model.attention(planted, BLOCK[:1]).to_frame()
    one = frame[(frame["asset"] == "ETH") & (frame["layer"] == 0)]
    tokens = one.drop_duplicates("token").set_index("token")
    assert tokens["scale"].value_counts().to_dict() == {
        "daily": 8, "hourly": 6, "weekly": 8, "context": 2, "asset": 3, "forecast": 1,
    }  # fmt: skip
    assert set(tokens["modality"]) == {"calendar", "price", "asset", "onchain", "sentiment"}
    times = tokens["token_time"].dt.strftime("%Y-%m-%d %H:%M")
    assert times[8] == "2022-01-21 00:00"  # the as_of day
    assert times[1] == "2022-01-14 00:00"
    assert times[14] == "2022-01-21 20:00"  # its last four hours
    assert times[[15, 22]].tolist() == ["2021-11-19 00:00", "2022-01-07 00:00"]  # the 14th less 7
    assert tokens["lag_days"][[15, 22]].tolist() == [57, 8]
    others = tokens[tokens["scale"] == "asset"]  # never the forecast's own coin
    assert others["provider"].tolist() == ["BTC", "LTC", "XRP"]
    assert set(others["lag_days"]) == {0}
    assert set(tokens.loc[tokens["scale"] != "asset", "provider"]) == {""}
    onchain = tokens[tokens["modality"] == "onchain"].iloc[0]
    assert str(onchain["token_time"]) == "2022-01-20 00:00:00+00:00"  # one day old
    assert tokens["lag_days"][[1, 8, 14, 9]].tolist() == pytest.approx([7, 0, 0, 5 / 6])
    assert str(tokens["token_time"][0]) == "NaT"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"learning_rat": 0.1}, r"key 'learning_rat' is unknown; did you mean 'learning_rate'\?"),
        ({"window_days": 0}, "window_days 0: expected a positive integer"),
        ({"epochs": "many"}, r"epochs 'many': expected a value like the default, 20"),
        ({"n_seeds": 1.5}, r"n_seeds 1.5: expected a value like the default, 1"),
        ({"head_scales": ["daily", 1]}, r"head_scales \['daily', 1\]: expected a value like"),
        ({"use_revised_flows": 1}, "use_revised_flows 1: expected a value like the default, False"),
        ({"horizon_weights": [1, 1]}, r"horizon_weights \(1.0, 1.0\): expected one for each of"),
        ({"daily_tokens": 751}, "tokens that read 807 days: expected at most 750"),
        ({"asset_tokens": -1}, "asset_tokens -1: expected 0 or a positive integer"),
    ],
)
def test_a_bad_config_is_an_error_that_quotes_it(
    planted: Panel, config: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionModel().fit(planted, TRAINED, config, seed=0)


def test_the_config_survives_its_mapping() -> None:
    config = AttentionConfig.from_mapping(
        {**SMALL, "head_scales": ["all"] * 5, "horizon_weights": [1, 2, 0]}
    )
    assert AttentionConfig.from_mapping(config.as_mapping()) == config


def test_a_model_that_was_not_fitted_says_so(planted: Panel) -> None:
    with pytest.raises(RuntimeError, match="call fit first"):
        AttentionModel().forecast(planted, BLOCK)


def test_an_ensemble_has_the_heads_of_all_its_networks(planted: Panel) -> None:
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "epochs": 1, "n_seeds": 2}, seed=0)
    maps = model.attention(planted, BLOCK[:1])
    assert maps.weights.shape[2:4] == (2, 10)
    loaded = AttentionModel.from_state(model.state())
    assert_identical(loaded.forecast(planted, BLOCK), model.forecast(planted, BLOCK))
