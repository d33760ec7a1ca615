"""Infidelity and max-sensitivity, held to captum."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import infidelity_perturb_func_decorator, sensitivity_max
from torch import Tensor

from ml.attention.model import AttentionModel
from ml.explain.attribution import integrated_gradients
from ml.explain.fidelity import drawn_sets, infidelity, max_sensitivity, nearby
from ml.explain.protocol import TokenBatch
from ml.explain.removal import audited_groups, tokens_of_groups
from ml.explain.rollout import group_rollout
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.explain.forecasters import Stated, batch

SEEDS = (11,)
LINEAR = Stated({"price": 1.0, "funding": -2.0, "onchain": 0.5, "asset": 0.1})


@pytest.fixture(scope="module")
def made(plain_model: AttentionModel, planted: Panel) -> TokenBatch:
    return plain_model.encode(planted, [TRAINED + timedelta(days=1)]).rows(0, 1)


def of_inputs(model: AttentionModel, made: TokenBatch) -> Any:
    """The forecaster as captum calls it: a function of the inputs' tensors."""

    def forward(*values: Tensor) -> Tensor:
        repeats = values[0].shape[0] // len(made)
        rows = made.take(np.repeat(np.arange(len(made)), repeats))
        return model.forward_tokens(rows.with_inputs(dict(zip(made.inputs, values, strict=True))))[
            :, 0
        ]

    return forward


def test_infidelity_equals_captum(plain_model: AttentionModel, made: TokenBatch) -> None:
    groups, draws = audited_groups(made), 16
    gradients = integrated_gradients(plain_model, made, 16).by_group
    attention = group_rollout(plain_model, made)
    found, share, _ = infidelity(plain_model, made, gradients, attention, groups, SEEDS, draws)
    sets = torch.from_numpy(drawn_sets(groups, SEEDS, draws)[0]).double()  # (draw, G)

    def by_removal(inputs: tuple[Tensor, ...], baselines: Any = None) -> tuple[Tensor, ...]:
        return tuple(x * (1 - sets[:, g, None, None]) for g, x in enumerate(inputs))

    forward = of_inputs(plain_model, made)
    inputs = tuple(made.inputs.values())
    attributions = IntegratedGradients(forward).attribute(
        inputs, n_steps=16, method="gausslegendre"
    )
    reference = captum_infidelity(
        forward,
        infidelity_perturb_func_decorator(True)(by_removal),
        inputs,
        attributions,
        n_perturb_samples=draws,
        max_examples_per_batch=draws,
    )
    assert found[0, 0] == pytest.approx(float(reference), rel=1e-6)
    assert 0 < share[0, 0] < 1


def test_max_sensitivity_equals_captum(plain_model: AttentionModel, made: TokenBatch) -> None:
    groups, draws, radius = audited_groups(made), 5, 0.1
    units = torch.from_numpy(tokens_of_groups(made) & groups[0][:, None]).double()

    def explanation(inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        count = inputs[0].shape[0]
        rows = made.take(np.zeros(count, np.int64))
        moved = rows.with_inputs(dict(zip(made.inputs, inputs, strict=True)))
        by_group = np.nan_to_num(group_rollout(plain_model, moved))
        return (torch.from_numpy(by_group) * units.any(1),)

    def moves(inputs: tuple[Tensor, ...], radius: float) -> tuple[Tensor, ...]:
        each = nearby(made, SEEDS, radius, draws)
        return tuple(torch.cat([one.inputs[g] for one in each]) for g in made.inputs)

    reference = sensitivity_max(
        explanation,
        tuple(made.inputs.values()),
        perturb_func=moves,
        perturb_radius=radius,
        n_perturb_samples=draws,
    )
    found = max_sensitivity(
        lambda moved: group_rollout(plain_model, moved), made, groups, SEEDS, radius, draws
    )
    assert found[0] == pytest.approx(float(reference), rel=1e-6)
    assert found[0] > 0


def test_gradients_of_a_sum_account_for_every_removal() -> None:
    made = batch()
    gradients = integrated_gradients(LINEAR, made, 2).by_group
    attention = group_rollout(LINEAR, made)
    arguments = audited_groups(made), (1, 2, 3), 32
    missed, share, of_attention = infidelity(LINEAR, made, gradients, attention, *arguments)
    np.testing.assert_allclose(missed, 0, atol=1e-20)
    np.testing.assert_allclose(share, 0, atol=1e-12)
    assert (of_attention > 0.1).all()  # a sign is out of its reach
    _, nothing, _ = infidelity(LINEAR, made, 0 * gradients, attention, *arguments)
    np.testing.assert_allclose(nothing, 1)


def test_attention_in_proportion_to_the_effects_accounts_for_them_all() -> None:
    weights = {"price": 2.0, "funding": 1.0, "onchain": 0.5, "asset": 3.0}
    made = batch()
    made = made.with_inputs({g: torch.ones_like(x) for g, x in made.inputs.items()})
    per_token = {"price": 1.0, "funding": 1.0, "onchain": 0.5, "asset": 1.5, "sentiment": 0.0}
    forecaster = Stated(weights, attention=per_token)
    gradients = integrated_gradients(forecaster, made, 2).by_group
    share = infidelity(
        forecaster, made, gradients, group_rollout(forecaster, made),
        audited_groups(made), (1, 2, 3), 32,
    )[2]  # fmt: skip
    np.testing.assert_allclose(share, 0, atol=1e-12)


def test_where_nothing_moves_the_forecast_shares_are_undefined() -> None:
    made = batch()
    still = Stated({"calendar": 1.0})
    missed, share, of_attention = infidelity(
        still, made, np.zeros((3, 6, 2)), group_rollout(still, made),
        audited_groups(made), (1, 2, 3), 8,
    )  # fmt: skip
    assert (missed == 0).all()
    assert np.isnan(share).all()
    assert np.isnan(of_attention).all()


def test_an_explanation_that_never_changes_has_no_sensitivity_and_one_of_zero_has_none_at_all() -> (
    None
):
    made = batch()
    arguments = made, audited_groups(made), (1, 2, 3), 0.1, 3
    assert (max_sensitivity(lambda moved: group_rollout(LINEAR, moved), *arguments) == 0).all()
    zero = max_sensitivity(lambda moved: np.zeros((len(moved), 6, 2)), *arguments)
    assert zero.shape == (3, 2)
    assert np.isnan(zero).all()
