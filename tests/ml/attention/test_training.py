"""Training: losses, purged blocks, early stopping, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ml.attention.config import AttentionConfig
from ml.attention.fitting import _block_start, _blocks
from ml.attention.model import AttentionModel
from ml.attention.tails import NORMAL, negative_log_likelihood
from ml.attention.training import Samples, TrainingConfig, loss_of, sample_weights
from ml.evaluation.losses import pinball, qlike
from ml.forecasts import HORIZONS, QUANTILE_LEVELS
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL


def samples(target: torch.Tensor, anchor: torch.Tensor) -> Samples:
    mask = torch.ones(len(target), 1, dtype=torch.bool)
    return Samples({}, mask, anchor, target, torch.ones(len(target), dtype=torch.float64))


def tails_like(residual: torch.Tensor) -> torch.Tensor:
    return residual.new_tensor(NORMAL).expand(*residual.shape, len(NORMAL))


def test_the_loss_is_qlike_and_pinball_of_the_evaluation_and_the_density_of_the_tails() -> None:
    generator = torch.Generator().manual_seed(0)
    target, anchor, residual = (
        torch.randn(40, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    offsets = torch.randn(40, 3, 11, generator=generator, dtype=torch.float64).sort(-1).values
    levels = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    tails = tails_like(residual) + torch.tensor([0.1, 0.2, -90.0, 0.3])
    loss = loss_of(residual, offsets, tails, samples(target, anchor), levels)
    point = anchor + residual
    expected = qlike(target.exp().numpy(), point.exp().numpy()).mean(axis=0)
    np.testing.assert_allclose(loss.qlike.numpy(), expected)
    scores = pinball(target.numpy(), (point[..., None] + offsets).numpy(), QUANTILE_LEVELS)
    np.testing.assert_allclose(loss.pinball.numpy(), scores.mean(axis=0))
    density = negative_log_likelihood(target - point, tails).mean(0)
    torch.testing.assert_close(loss.tail, density)
    config = TrainingConfig(tail_weight=0.5, pinball_weight=2.0)
    torch.testing.assert_close(
        loss.total(config), (loss.qlike + 2 * loss.pinball + density / 2).mean()
    )


def test_unknown_targets_count_nothing_and_give_no_gradient() -> None:
    target = torch.tensor([[0.3, float("nan"), 0.1], [0.2, 0.4, float("nan")]])
    residual = torch.zeros(2, 3, requires_grad=True)
    loss = loss_of(
        residual,
        torch.zeros(2, 3, 11),
        tails_like(residual),
        samples(target, torch.zeros(2, 3)),
        torch.tensor(QUANTILE_LEVELS),
    )
    loss.total(TrainingConfig()).backward()
    assert residual.grad is not None
    assert (residual.grad == 0).tolist() == [[False, True, False], [False, False, True]]


def test_a_sample_counts_half_after_one_half_life() -> None:
    weights = sample_weights(torch.tensor([0.0, 730.0, 1460.0]), 730.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5, 0.25]))


def test_training_targets_end_before_the_validation_block(planted: Panel) -> None:
    config = AttentionConfig.from_mapping(SMALL)
    known = planted.until(TRAINED).window(426)
    first = len(known.days) - 360 if len(known.days) > 360 else 0
    start = _block_start(known, first, config)
    training, validation = _blocks(known, first, start, config)
    for column, horizon in enumerate(HORIZONS):
        for block, end in ((training, start), (validation, len(known.days))):
            targeted = np.isfinite(block.target[:, column])
            assert (block.rows[targeted] + horizon).max() == end - 1
    assert validation.rows.min() == start
    assert training.rows.min() >= first


def test_training_lowers_the_validation_loss_below_the_anchor(
    trained_model: AttentionModel,
) -> None:
    history = trained_model.state().meta["fit"]["histories"][0]
    losses = [epoch["validation_loss"] for epoch in history]
    assert history[0]["epoch"] == 0
    assert min(losses) < 0.97 * losses[0]
    assert history[-1]["training_loss"] < history[0]["training_loss"]


def test_training_stops_when_the_validation_loss_does_not_improve(planted: Panel) -> None:
    model, seen = AttentionModel(), []
    config = {**SMALL, "epochs": 30, "patience": 2, "learning_rate": 0.2, "window_days": 300}
    model.fit(
        planted,
        TRAINED,
        config,
        seed=0,
        progress=lambda epoch, metrics: seen.append((epoch, metrics)),
    )
    epochs = [epoch for epoch, _ in seen]
    assert epochs == list(range(len(epochs)))
    losses = [metrics["selection_loss"] for _, metrics in seen]
    assert len(epochs) == int(np.argmin(losses)) + 2 + 1 < 31


def test_a_small_panel_gets_its_least_number_of_steps_in_more_epochs(planted: Panel) -> None:
    model = AttentionModel()
    config = {**SMALL, "epochs": 2, "patience": 1, "batch_size": 1024, "min_steps": 7}
    model.fit(planted, TRAINED, config, seed=0)
    record = model.state().meta["fit"]
    per_epoch = -(-record["training_samples"] // 1024)
    assert per_epoch > 1
    assert record["histories"][0][-1]["epoch"] == -(-7 // per_epoch) > 2


@pytest.mark.slow
def test_gates_close_on_modalities_that_lead_nothing_and_stay_open_on_the_one_that_leads(
    planted: Panel,
) -> None:
    model = AttentionModel()
    config = {**SMALL, "modality_gates": True, "epochs": 30, "patience": 12}
    model.fit(planted, TRAINED, config, seed=0)
    gates = model.forecaster.networks[0].gates()
    assert gates["onchain"] > 0
    assert gates["sentiment"] < 0.5 * gates["onchain"]  # it is there, and is noise
    assert model.residual_weight()[0] > 0.3
    stored = AttentionModel.from_state(model.state())
    for left, right in zip(
        gates.values(), stored.forecaster.networks[0].gates().values(), strict=True
    ):
        assert torch.equal(left, right)


def test_the_artefact_does_not_depend_on_the_number_of_threads(planted: Panel) -> None:
    before, weights = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = AttentionModel()
            model.fit(planted, TRAINED, {**SMALL, "epochs": 2}, seed=0)
            assert torch.get_num_threads() == threads
            weights.append(model.state().tensors["networks.0.embed.price_daily.weight"])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*weights)


def test_training_leaves_the_global_generator_as_it_was(planted: Panel) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    AttentionModel().fit(planted, TRAINED, {**SMALL, "epochs": 1}, seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate 0.0: expected a positive number"),
        ({"tail_weight": -1.0}, "tail_weight -1.0: expected a number >= 0"),
        ({"gate_penalty": -0.1}, "gate_penalty -0.1: expected a number >= 0"),
        ({"min_steps": 0}, "min_steps 0: expected a positive number"),
        ({"modality_dropout": 1.0}, "modality_dropout 1.0: expected a share"),
        ({"horizon_weights": (0.0, 0.0, 0.0)}, r"horizon_weights \(0.0, 0.0, 0.0\)"),
        ({"averaging_decay": 1.0}, "averaging_decay 1.0: expected a share"),
    ],
)
def test_a_bad_setting_is_an_error_that_quotes_it(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)  # type: ignore[arg-type]
