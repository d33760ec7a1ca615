"""Rollout, integrated gradients and ablation, on a forecaster whose answer is known and on a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pytest
import torch
from torch import Tensor

from ml.attention.model import AttentionModel
from ml.explain.attribution import (
    ablation_effects,
    integrated_gradients,
    integrated_gradients_reference,
)
from ml.explain.protocol import TokenBatch
from ml.explain.rollout import attention_rollout
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED


@dataclass
class Quadratic:
    """log variance = anchor + sum over groups of weight * (mean of the group's unmasked inputs)^2, per horizon."""

    weights: dict[str, float]
    name: str = "quadratic"
    horizons: tuple[int, ...] = (1, 5)
    always_present: tuple[str, ...] = ("price",)

    def encode(self, panel: Panel, as_of: Sequence[date]) -> TokenBatch:
        raise NotImplementedError

    def forward_tokens(self, batch: TokenBatch) -> Tensor:
        total = batch.anchor
        for group, weight in self.weights.items():
            here = batch.mask[:, batch.token_slice(group)].to(batch.anchor.dtype)
            mean = (batch.inputs[group].mean(dim=2) * here).mean(dim=1)
            total = total + weight * mean[:, None] ** 2 * torch.tensor([1.0, 2.0])
        return total

    def attention_layers(self, batch: TokenBatch) -> list[Tensor]:
        raise NotImplementedError

    def residual_weight(self) -> np.ndarray:
        return np.ones(2)


def batch(size: int = 4) -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    inputs = {
        group: torch.randn(size, tokens, 3, generator=generator, dtype=torch.float64)
        for group, tokens in (("price", 2), ("funding", 1), ("onchain", 1))
    }
    mask = torch.ones(size, 4, dtype=torch.bool)
    mask[1, 2] = False  # no funding
    days = np.datetime64("2022-01-01") + np.arange(size)
    anchor = torch.zeros(size, 2, dtype=torch.float64)
    return TokenBatch(inputs, mask, anchor, days, np.zeros(size, dtype=np.int64))


FORECASTER = Quadratic({"price": 1.0, "funding": -2.0, "onchain": 0.5})


def squares(found: TokenBatch, group: str) -> np.ndarray:
    return (found.inputs[group].mean(dim=(1, 2)) ** 2).numpy()


def test_rollout_is_the_product_of_layers_with_the_residual_stream() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, 4, 4, generator=generator).softmax(-1)
    last = torch.rand(2, 3, 1, 4, generator=generator).softmax(-1)
    found = attention_rollout([first, last])
    for b in range(2):
        lower = 0.5 * first[b].mean(0) + 0.5 * torch.eye(4)
        upper = 0.5 * last[b].mean(0)[0] + 0.5 * torch.eye(4)[0]
        torch.testing.assert_close(found[b], upper @ lower)
    torch.testing.assert_close(found.sum(-1), torch.ones(2))
    whole = torch.cat([last, first[:, :, 1:]], dim=2)
    torch.testing.assert_close(attention_rollout([first, whole]), found)


def test_integrated_gradients_of_a_sum_are_the_parts_of_the_sum() -> None:
    made = batch()
    found = integrated_gradients(FORECASTER, made, steps=4)
    np.testing.assert_allclose(found.by_group[:, 0, 0], squares(made, "price"))
    np.testing.assert_allclose(found.by_group[:, 2, 1], 0.5 * 2 * squares(made, "onchain"))
    funding = -2.0 * squares(made, "funding")
    funding[1] = 0.0
    np.testing.assert_allclose(found.by_group[:, 1, 0], funding, atol=1e-12)
    assert found.completeness_error.max() < 1e-9


def test_a_completeness_error_is_reported_when_the_steps_are_too_few(
    trained_model: AttentionModel, planted: Panel
) -> None:
    made = trained_model.encode(planted, [TRAINED + timedelta(days=k) for k in range(1, 9)])
    errors = [
        integrated_gradients(trained_model, made, steps).completeness_error[:, 0].mean()
        for steps in (1, 24)
    ]
    assert errors[0] > 0.05
    assert errors[1] < 0.01


def test_the_fast_path_equals_captum(trained_model: AttentionModel, planted: Panel) -> None:
    made = trained_model.encode(planted, [TRAINED + timedelta(days=1)])
    found = integrated_gradients(trained_model, made, steps=8)
    for horizon in range(3):
        reference = integrated_gradients_reference(trained_model, made, 8, horizon)
        np.testing.assert_allclose(found.by_group[:, :, horizon], reference, atol=1e-6)


def test_ablation_masks_context_and_sets_prices_to_their_training_mean() -> None:
    made = batch()
    effect = ablation_effects(FORECASTER, made)
    np.testing.assert_allclose(effect[:, 0, 0], -squares(made, "price"))
    np.testing.assert_allclose(effect[[0, 2, 3], 1, 1], 4 * squares(made, "funding")[[0, 2, 3]])
    assert np.isnan(effect[1, 1]).all()


def test_the_planted_lead_outranks_the_spurious_modality(
    trained_model: AttentionModel, planted: Panel
) -> None:
    made = trained_model.encode(planted, [TRAINED + timedelta(days=k) for k in range(1, 30)])
    groups = list(made.inputs)
    lead, spurious = groups.index("onchain"), groups.index("sentiment")
    effect = np.abs(ablation_effects(trained_model, made)[:, :, 0]).mean(axis=0)
    gradients = np.abs(integrated_gradients(trained_model, made, 16).by_group[:, :, 0]).mean(axis=0)
    assert effect[lead] > 3 * effect[spurious]
    assert gradients[lead] > 3 * gradients[spurious]
    rollout = attention_rollout(trained_model.attention_layers(made)).mean(dim=0)
    assert rollout[made.token_slice("onchain")].sum() > rollout[made.token_slice("sentiment")].sum()


def test_the_sign_of_the_planted_lead_is_found(
    trained_model: AttentionModel, planted: Panel
) -> None:
    made = trained_model.encode(planted, [TRAINED + timedelta(days=k) for k in range(1, 30)])
    group = list(made.inputs).index("onchain")
    gradients = integrated_gradients(trained_model, made, 16).by_group[:, group, 0]
    value = planted.features["mvrv"][planted.rows(made.days.tolist()), made.assets]
    assert np.corrcoef(value, gradients)[0, 1] > 0.7


def test_no_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no attention layers"):
        attention_rollout([])
