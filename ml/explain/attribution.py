"""Attributions: what moves the forecast, by feature group.

In: a forecaster's tokens. Out: integrated gradients summed per group with their completeness error, and the change of log
variance when a group is taken away. The anchor is held fixed: what is explained is what the tokens add to it.
Never: a value for a group that the forecast did not have (NaN instead).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.removal import log_variance_without, present_groups, tokens_of_groups

FloatArray = NDArray[np.float64]
SMALLEST_CHANGE = 1e-3
"""Completeness errors are relative to the explained change of log variance, or to this (0.1 %) when it is smaller."""


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of B forecasts, G groups and H horizons, in units of log variance."""

    by_token: FloatArray  # (B, token, H); 0 for a token that is not there
    by_group: FloatArray  # (B, G, H)
    completeness_error: FloatArray  # (B, H) |sum - change| / max(|change|, SMALLEST_CHANGE), change = f(x) - f(baseline)


def integrated_gradients(
    forecaster: TokenForecaster,
    batch: TokenBatch,
    steps: int,
    horizons: Sequence[int] | None = None,
) -> Attribution:
    """Of the log variance at each horizon, from the baseline where every value is its training mean.

    In scaled tokens the training mean is 0; which tokens are there stays as it is. Gauss-Legendre with `steps` nodes, one
    forward pass a node for all horizons. horizons: indices that are needed (default all); the others are 0.
    Source: Sundararajan, Taly and Yan (2017), "Axiomatic attribution for deep networks", equation 3.
    """
    wanted = range(batch.anchor.shape[1]) if horizons is None else horizons
    nodes, node_weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    by_token = batch.anchor.new_zeros(*batch.mask.shape, batch.anchor.shape[1])
    for node, weight in zip((1 + nodes) / 2, node_weights / 2, strict=True):
        moved = {group: (float(node) * x).requires_grad_() for group, x in batch.inputs.items()}
        log_variance = forecaster.forward_tokens(batch.with_inputs(moved))  # (B, H)
        for horizon in wanted:
            total = log_variance[:, horizon].sum()
            gradients = torch.autograd.grad(
                total, list(moved.values()), retain_graph=True, materialize_grads=True
            )
            parts = [
                (gradient * x).sum(-1)  # (B, token of the group)
                for gradient, x in zip(gradients, batch.inputs.values(), strict=True)
            ]
            by_token[:, :, horizon] += float(weight) * torch.cat(parts, dim=1)
    with torch.no_grad():
        baseline = batch.with_inputs(
            {group: torch.zeros_like(x) for group, x in batch.inputs.items()}
        )
        change = forecaster.forward_tokens(batch) - forecaster.forward_tokens(baseline)
    places = [batch.token_slice(group) for group in batch.inputs]
    by_group = torch.stack([by_token[:, place].sum(dim=1) for place in places], dim=1)
    error = (by_group.sum(dim=1) - change).abs() / change.abs().clamp_min(SMALLEST_CHANGE)
    wanted_mask = torch.zeros(batch.anchor.shape[1], dtype=torch.bool)
    wanted_mask[list(wanted)] = True
    return Attribution(
        _array(by_token), _array(by_group), np.where(wanted_mask.numpy(), _array(error), 0.0)
    )


def integrated_gradients_reference(
    forecaster: TokenForecaster, batch: TokenBatch, steps: int, horizon: int
) -> FloatArray:
    """(B, G) for one horizon by captum, against which the fast path is tested."""
    from captum.attr import IntegratedGradients

    groups = tuple(batch.inputs)

    def log_variance(*arguments: Tensor) -> Tensor:
        *values, mask, anchor = arguments
        inputs = dict(zip(groups, values, strict=True))
        return forecaster.forward_tokens(TokenBatch(inputs, mask, anchor, batch.days, batch.assets))

    inputs = tuple(batch.inputs[group] for group in groups)
    attributions = IntegratedGradients(log_variance).attribute(
        inputs,
        baselines=tuple(torch.zeros_like(values) for values in inputs),
        target=horizon,
        additional_forward_args=(batch.mask, batch.anchor),
        n_steps=steps,
        method="gausslegendre",
    )
    return _array(torch.stack([values.flatten(1).sum(1) for values in attributions], dim=1))


def ablation_effects(forecaster: TokenForecaster, batch: TokenBatch) -> FloatArray:
    """(B, G, H): log variance without the group minus log variance with it; NaN where the forecast did not have the group.

    What goes, and how, is in removal.py: the anchor stays, so the effect of price groups is that on the correction alone.
    """
    groups, rows = len(batch.inputs), len(batch)
    owner = np.repeat(np.arange(rows), groups)
    removed = np.tile(tokens_of_groups(batch), (rows, 1))  # (B G, token)
    without = log_variance_without(forecaster, batch, owner, removed)
    full = log_variance_without(
        forecaster, batch, np.arange(rows), np.zeros((rows, removed.shape[1]), bool)
    )
    effect = without.reshape(rows, groups, -1) - full[:, None]
    effect[~present_groups(batch)] = np.nan
    return effect


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)
