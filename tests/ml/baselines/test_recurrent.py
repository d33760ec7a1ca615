"""LSTM and GRU: what they learn, what they must not see, and that the anchor is what is left without them."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ml.baselines.recurrent import Gru, Lstm, _sequences, _validation_days
from ml.baselines.recurrent_training import (
    Network,
    RecurrentConfig,
    Samples,
    choose_shrinkage,
    predict,
    qlike,
    train,
)
from ml.models import create
from ml.panel import Panel
from tests.ml.archive_frames import frames_from_bars, made_up_bars

TRAINED = date(2022, 4, 1)
QUICK = {"window_days": 400, "epochs": 2}


def planted(count: int = 400, seed: int = 0) -> tuple[Samples, dict[str, Any]]:
    """Sequences whose first input, three days back, moves log variance by 0.8; the anchor knows nothing of it."""
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.randn(count, 8, 3, generator=generator)
    noise = 0.3 * torch.randn(count, 3, generator=generator)
    target = 0.8 * torch.tanh(sequence[:, -3, :1]) + noise
    index = torch.arange(count)
    blocks = {"training": index[: 3 * count // 4], "validation": index[3 * count // 4 :]}
    return Samples(sequence, torch.zeros(count, 3), target), blocks


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_network_finds_a_dependence_three_days_back(kind: Any) -> None:
    samples, blocks = planted()
    settings = RecurrentConfig(epochs=25, patience=25, learning_rate=2e-2, batch_size=64)
    epochs: list[int] = []
    network, record = train(
        kind, samples, blocks, settings, 0, "cpu", lambda epoch, _: epochs.append(epoch)
    )
    held_out = samples.take(blocks["validation"])
    residual = torch.tensor(predict(network, held_out.sequence, "cpu"), dtype=torch.float32)
    assert qlike(residual, held_out).mean() < 0.5 * qlike(torch.zeros(()), held_out).mean()
    assert (choose_shrinkage(network, held_out, "cpu") > 0.5).all()
    assert record["best_epoch"] > 3
    assert epochs == list(range(1, len(record["validation_qlike"])))


def test_noise_leaves_the_anchor() -> None:
    samples, blocks = planted()
    noise = torch.randn(samples.target.shape, generator=torch.Generator().manual_seed(1))
    samples = Samples(samples.sequence, samples.anchor, 0.4 * noise - 0.08)
    network, record = train("gru", samples, blocks, RecurrentConfig(), 0, "cpu", None)
    held_out = samples.take(blocks["validation"])
    residual = predict(network, held_out.sequence, "cpu")
    moved = np.abs(residual * choose_shrinkage(network, held_out, "cpu")).mean()
    assert moved < 0.1
    assert len(record["validation_qlike"]) <= RecurrentConfig().epochs + 1


def test_an_untrained_network_is_the_anchor() -> None:
    network = Network("lstm", 3, 8)
    assert not predict(network, torch.randn(5, 8, 3), "cpu").any()


def test_no_training_target_reaches_into_the_validation_block(
    market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], panel: Panel
) -> None:
    """Other outcomes in the validation block: the weights of the first epoch stay the same, bit for bit."""
    daily, realized, hourly = market
    start = pd.Timestamp(TRAINED) - pd.Timedelta(days=_validation_days(400, RecurrentConfig()) - 1)
    changed = realized.copy()
    changed.loc[changed["day"] > start, "realized_variance"] *= 1.3
    weights = []
    for rows in (realized, changed):
        model = Gru()
        model.fit(
            Panel.from_frames(daily, rows, hourly),
            TRAINED,
            {**QUICK, "anchor": "none", "epochs": 1},
            seed=0,
        )
        weights.append(model.state())
    first, second = (
        {key: value for key, value in state.tensors.items() if key.startswith("network.")}
        for state in weights
    )
    assert [state.meta["training"]["best_epoch"] for state in weights] == [1, 1]
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name])
    assert weights[0].tensors["mean"].tolist() == weights[1].tensors["mean"].tolist()


def test_another_seed_is_another_network_and_the_global_generator_stays(panel: Panel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    states = []
    for seed in (0, 0, 1):
        model = Lstm()
        model.fit(panel, TRAINED, QUICK, seed=seed)
        states.append(model.state().meta["training"])
    assert torch.equal(torch.rand(3), expected)
    assert states[0] == states[1] != states[2]


def test_without_an_anchor_the_network_starts_from_the_last_month(panel: Panel) -> None:
    model = create("gru")
    model.fit(panel, TRAINED, {**QUICK, "anchor": "none"}, seed=0)
    state = model.state()
    state.tensors["shrinkage"][:] = 0.0
    found = type(model).from_state(state).forecast(panel, [TRAINED]).variance[0, :3]
    month = panel.feature("rv_22d")[panel.row(TRAINED), :3]
    np.testing.assert_allclose(found, np.repeat(month[:, None], 3, axis=1), rtol=1e-12)


def test_with_no_residual_the_forecast_is_that_of_harx_cal(panel: Panel) -> None:
    model, anchor = create("lstm"), create("harx_cal")
    model.fit(panel, TRAINED, QUICK, seed=0)
    anchor.fit(panel, TRAINED, {"window_days": 400}, seed=0)
    state = model.state()
    state.tensors["shrinkage"][:] = 0.0
    found = type(model).from_state(state).forecast(panel, [TRAINED]).variance
    np.testing.assert_allclose(found, anchor.forecast(panel, [TRAINED]).variance, rtol=1e-12)


def test_a_sequence_ends_on_its_day_and_days_before_the_panel_are_missing() -> None:
    scaled = np.arange(2 * 30, dtype=np.float32).reshape(30, 2, 1)
    late = _sequences(scaled, np.array([29]))
    assert late.shape == (2, 22, 1)
    assert late[0, :, 0].tolist() == scaled[8:30, 0, 0].tolist()
    early = _sequences(scaled, np.array([0]))
    assert early[1, :, 0].tolist() == [1.0] * 21 + [1.0]  # flags, then the day's own value 1


def test_it_reports_progress_and_wrong_settings(panel: Panel) -> None:
    seen: list[int] = []
    model = Gru()
    model.fit(panel, TRAINED, QUICK, seed=0, progress=lambda epoch, metrics: seen.append(epoch))
    assert seen == [1, 2]
    with pytest.raises(ValueError, match="anchor 'garch': expected one of harx_cal, none"):
        RecurrentConfig(anchor="garch")
    with pytest.raises(ValueError, match="epochs 0: expected a positive number"):
        RecurrentConfig(epochs=0)
    with pytest.raises(ValueError, match=r"validation_share 0\.8: expected at most 0\.5"):
        RecurrentConfig(validation_share=0.8)


def test_a_panel_without_the_regressors_is_refused_not_crashed() -> None:
    daily, realized = frames_from_bars(made_up_bars(("BTC", "ETH"), days=120), "simulated")
    panel = Panel.from_frames(daily, realized)
    model = Gru()
    model.fit(panel, panel.days[-1].item(), QUICK, seed=0)
    assert model.forecast(panel, [panel.days[-1].item()]).to_frame().empty
