"""The networks that a served one is held against."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ml.attention.config import AttentionConfig
from ml.attention.model import AttentionModel
from ml.attention.twins import (
    MOST_STEPS,
    STAGES,
    capped,
    permuted,
    randomised,
    stage_of,
    with_network,
)
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL
from tests.ml.attention.small_trainings import small_samples


def test_every_parameter_of_a_network_belongs_to_one_stage(trained_model: AttentionModel) -> None:
    network = trained_model.forecaster.networks[0]
    found = {stage_of(name) for name, _ in network.named_parameters()}
    assert found == {stage for stage, _ in STAGES}
    with pytest.raises(ValueError, match="parameter 'bias': expected a name"):
        stage_of("bias")


def test_weights_are_drawn_anew_from_the_output_inwards_and_keep_their_scale(
    trained_model: AttentionModel,
) -> None:
    served = dict(trained_model.forecaster.networks[0].named_parameters())
    before = {name: weights.detach().clone() for name, weights in served.items()}
    stages = [stage for stage, _ in STAGES]
    for count, stage in enumerate(stages, start=1):
        network = randomised(trained_model.forecaster, stage, 5).networks[0]
        for name, weights in network.named_parameters():
            same = torch.equal(weights, served[name])
            assert same == (stage_of(name) not in stages[:count]), name
            if weights.dim() == 2 and not same:
                assert 0.5 < float((weights.std() / served[name].std()).detach()) < 2, name
    assert all(torch.equal(weights, served[name]) for name, weights in before.items())
    with pytest.raises(ValueError, match="stage 'all': expected one of heads"):
        randomised(trained_model.forecaster, "all", 0)


def test_the_forecast_follows_the_random_network_and_the_served_one_stays(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, [TRAINED])
    with torch.no_grad():
        served = trained_model.forward_tokens(batch)
        other = with_network(trained_model, randomised(trained_model.forecaster, "heads", 1))
        assert not torch.allclose(other.forward_tokens(batch)[:, 0], served[:, 0])
        assert torch.equal(other.forward_tokens(batch)[:, 2], served[:, 2])  # its anchor alone
        assert torch.equal(trained_model.forward_tokens(batch), served)


def test_permuted_targets_keep_the_errors_and_lose_the_signal() -> None:
    samples = small_samples(150)
    made = permuted(samples, 3)
    errors, dealt = (x.target - x.anchor for x in (samples, made))
    first = [np.sort(x[:, 0].numpy()) for x in (errors, dealt)]
    np.testing.assert_allclose(*first, atol=1e-5)
    assert torch.isnan(dealt).sum() == torch.isnan(errors).sum()
    signal = samples.inputs["onchain"][:, 0, 0]
    correlation = [
        abs(float(torch.corrcoef(torch.stack([signal, x[:, 0]]))[0, 1])) for x in (errors, dealt)
    ]
    assert correlation[0] > 0.6 > 0.25 > correlation[1]
    assert len(permuted(samples, 3, most=40)) == 38  # every fourth
    assert torch.equal(permuted(samples, 3).target.nan_to_num(), made.target.nan_to_num())


def test_a_training_for_checks_is_capped() -> None:
    config = AttentionConfig.from_mapping({"epochs": 20, "batch_size": 100, "warm_start": True})
    short = capped(config, samples=1000, epochs=7)
    assert (short.epochs, short.min_steps, short.warm_start) == (7, 70, False)
    long = capped(config, samples=50_000, epochs=20)
    assert long.epochs == MOST_STEPS // 500
    assert capped(config, samples=10_000_000, epochs=20).epochs == 1


def test_checks_are_the_same_again_and_leave_the_model_as_it_was(planted: Panel) -> None:
    model = AttentionModel()
    config = {**SMALL, "n_layers": 1, "epochs": 2, "n_seeds": 2}
    model.fit(planted, TRAINED, config, seed=3)
    before = model.state()
    panel = planted.until(TRAINED)
    lines: list[str] = []
    checks = model.explanation_checks(panel, lines.append)
    assert AttentionModel.from_state(before).explanation_checks(panel, lines.append) == checks
    assert len(lines) == 4
    after = model.state()
    assert after.meta == before.meta
    for name, values in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], values)
