"""Streaming: after any tokens that come, go and change, the forecast is the full network's."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.attention.model import AttentionModel
from ml.attention.network import ResidualForecaster
from ml.attention.streaming import StreamingForecaster
from ml.explain.protocol import TokenBatch
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL
from tests.ml.attention.test_export import SHAPES, random_batch, untrained

SLOTS = [(group, slot) for group, shape in SHAPES.items() for slot in range(shape.tokens)]


def stream_of(
    forecaster: ResidualForecaster, batch: TokenBatch, rebuild_every: int = 4096
) -> StreamingForecaster:
    inputs = {group: values[0].numpy() for group, values in batch.inputs.items()}
    parts = (inputs, batch.mask[0].numpy(), batch.anchor[0].numpy())
    return StreamingForecaster(forecaster, *parts, rebuild_every=rebuild_every)


def full(
    forecaster: ResidualForecaster, stream: StreamingForecaster
) -> tuple[np.ndarray, np.ndarray]:
    inputs = {group: torch.from_numpy(values)[None] for group, values in stream.inputs.items()}
    mask, anchor = torch.from_numpy(stream.mask)[None], torch.from_numpy(stream.anchor)[None]
    with torch.no_grad():
        point, quantiles = forecaster(inputs, mask, anchor)
    return point[0].numpy(), quantiles[0].numpy()


def assert_full(forecaster: ResidualForecaster, stream: StreamingForecaster) -> None:
    for found, expected in zip(stream.forecast(), full(forecaster, stream), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


LINEAR = {
    "one network": untrained(1, 1, "linear"),
    "an ensemble with gates": untrained(3, 1, "linear", gates=True),
}


@pytest.mark.parametrize("name", LINEAR)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_after_any_puts_the_forecast_is_the_full_networks(name: str, data: st.DataObject) -> None:
    forecaster = LINEAR[name]
    seed = data.draw(st.integers(0, 1000))
    stream = stream_of(forecaster, random_batch(1, seed), data.draw(st.integers(1, 20)))
    random = np.random.default_rng(seed)
    steps = st.lists(st.tuples(st.sampled_from(SLOTS), st.sampled_from("pnaz")), max_size=25)
    for (group, slot), action in data.draw(steps):
        values = 3 * random.standard_normal(SHAPES[group].width)
        if action == "a":
            stream.advance(group, values)
        else:
            stream.put(group, slot, {"p": values, "n": None, "z": 0 * values}[action])
    assert_full(forecaster, stream)


def test_a_token_that_goes_and_comes_back_leaves_the_forecast_where_it_was() -> None:
    forecaster = LINEAR["an ensemble with gates"]
    stream = stream_of(forecaster, random_batch(1).with_mask(torch.ones(1, 10, dtype=torch.bool)))
    before = stream.forecast()
    values = stream.inputs["onchain"][0]
    without = stream.put("onchain", 0, None)
    assert not stream.mask[-1]
    assert (without[0] != before[0]).any()
    for found, expected in zip(stream.put("onchain", 0, values), before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_without_any_token_the_forecast_is_still_the_full_networks() -> None:
    forecaster = LINEAR["one network"]
    stream = stream_of(forecaster, random_batch(1))
    for group, slot in SLOTS:
        stream.put(group, slot, None)
    assert not stream.mask.any()
    assert_full(forecaster, stream)


def test_time_that_moves_on_by_a_token_is_the_sequence_one_slot_on() -> None:
    forecaster = LINEAR["one network"]
    stream = stream_of(forecaster, random_batch(1))
    hourly, mask = stream.inputs["price_hourly"], stream.mask[6:9]
    newest = np.arange(8.0) / 8
    stream.advance("price_hourly", newest)
    np.testing.assert_array_equal(stream.inputs["price_hourly"], [hourly[1], hourly[2], newest])
    assert stream.mask[6:9].tolist() == [mask[1], mask[2], True]
    assert_full(forecaster, stream)


def test_rounding_does_not_grow_beyond_the_tolerance_between_rebuilds() -> None:
    forecaster = LINEAR["one network"]
    stream = stream_of(forecaster, random_batch(1), rebuild_every=10**9)
    random = np.random.default_rng(3)
    for step in range(3000):
        group, slot = SLOTS[random.integers(len(SLOTS))]
        large = 100.0 if step % 2 else 1.0  # terms of very different sizes cancel worst
        stream.put(group, slot, large * random.standard_normal(SHAPES[group].width))
    for group, slot in SLOTS:
        stream.put(group, slot, 0.1 * random.standard_normal(SHAPES[group].width))
    for found, expected in zip(stream.forecast(), full(forecaster, stream), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_quantiles_widen_while_a_token_is_missing_and_not_after() -> None:
    forecaster, batch = LINEAR["one network"], random_batch(1)
    batch = batch.with_mask(torch.ones(1, 10, dtype=torch.bool))
    asked: list[bool] = []

    def widening(mask: np.ndarray) -> np.ndarray:
        asked.append(bool(mask[-1]))
        return np.full(3, 1.0 if mask[-1] else 2.0)

    inputs = {group: values[0].numpy() for group, values in batch.inputs.items()}
    parts = (inputs, batch.mask[0].numpy(), batch.anchor[0].numpy())
    stream, plain = StreamingForecaster(forecaster, *parts, widening), stream_of(forecaster, batch)
    _, narrow = plain.put("onchain", 0, None)
    _, wide = stream.put("onchain", 0, None)
    np.testing.assert_allclose(np.ptp(wide, axis=1), 2 * np.ptp(narrow, axis=1))
    np.testing.assert_array_equal(wide[:, 5], narrow[:, 5])
    stream.put("price_daily", 0, inputs["price_daily"][0])
    assert asked == [True, False]  # asked when the mask changes, not at every token


def test_what_cannot_stream_is_an_error_that_says_what_can() -> None:
    batch = random_batch(1)
    with pytest.raises(
        ValueError, match=r"kernel 'softmax' with 1 layers: .* only with kernel 'linear'"
    ):
        stream_of(untrained(1, 1), batch)
    with pytest.raises(ValueError, match="kernel 'linear' with 2 layers"):
        stream_of(untrained(1, 2, "linear"), batch)
    forecaster = LINEAR["one network"]
    with pytest.raises(ValueError, match="rebuild_every 0: expected a positive number"):
        stream_of(forecaster, batch, rebuild_every=0)
    with pytest.raises(ValueError, match=r"10 tokens with a mask \(9,\): expected 10"):
        stream_of(forecaster, replace(batch, mask=batch.mask[:, :9]))


@pytest.mark.parametrize(
    ("group", "slot", "values", "message"),
    [
        ("weather", 0, None, "token group 'weather': expected one of calendar"),
        ("price_daily", 5, None, "slot 5 of group 'price_daily': expected 0 .. 4"),
        ("onchain", 0, np.zeros(5), "of group 'onchain': expected 6 finite numbers"),
        ("onchain", 0, np.full(6, np.nan), "of group 'onchain': expected 6 finite numbers"),
    ],
)
def test_a_bad_token_is_refused_and_changes_nothing(
    group: str, slot: int, values: np.ndarray | None, message: str
) -> None:
    stream = stream_of(LINEAR["one network"], random_batch(1))
    before = stream.forecast()
    with pytest.raises(ValueError, match=message):
        stream.put(group, slot, values)
    np.testing.assert_array_equal(stream.forecast()[1], before[1])


def test_a_fitted_model_streams_the_forecast_that_it_gives(planted: Panel) -> None:
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "n_layers": 1, "kernel": "linear", "epochs": 2}, seed=3)
    day = TRAINED + timedelta(days=2)
    stream = model.streaming(planted, day, "ETH")
    daily = model.forecast(planted, [day])
    point, quantiles = stream.forecast()
    np.testing.assert_allclose(point, np.log(daily.variance[0, 1]), atol=1e-5)
    np.testing.assert_allclose(quantiles, daily.log_quantiles[0, 1], atol=1e-5)

    gone = {**planted.features, "mvrv": np.full_like(planted.features["mvrv"], np.nan)}
    without = model.forecast(replace(planted, features=gone), [day])
    point, quantiles = stream.put("onchain", 0, None)
    np.testing.assert_allclose(point, np.log(without.variance[0, 1]), atol=1e-5)
    np.testing.assert_allclose(quantiles, without.log_quantiles[0, 1], atol=1e-5)

    with pytest.raises(ValueError, match="asset 'DOGE': expected one of BTC, ETH"):
        model.streaming(planted, day, "DOGE")
    with pytest.raises(ValueError, match="BTC has no forecast as of 2021-01-03: "):
        model.streaming(planted, date(2021, 1, 3), "BTC")
