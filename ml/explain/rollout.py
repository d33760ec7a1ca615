"""Attention rollout: layer weights go in, what the forecast token reads of every token comes out.

    A_l' = 0.5 mean over heads(A_l) + 0.5 I,     rollout = row of the forecast token in A_L' ... A_1'

Source: Abnar and Zuidema (2020), "Quantifying attention flow in transformers", section 3. Rollout describes where
attention looks, not what moves the forecast: that is what the audit compares it with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.removal import FloatArray, present_groups, tokens_of_groups


def attention_rollout(layers: Sequence[Tensor]) -> Tensor:
    """layers: per layer (B, head, query, token), query 0 the forecast token, fewer queries than tokens allowed in the
    last layer only. Returns (B, token); rows sum to 1.

    Raises ValueError when there are no layers.
    """
    if not layers:
        raise ValueError("no attention layers: expected at least one")
    row = _with_residual(layers[-1][:, :, :1])[:, 0]  # (B, token)
    for layer in reversed(layers[:-1]):
        row = torch.einsum("bq,bqt->bt", row, _with_residual(layer))
    return row


def _with_residual(weights: Tensor) -> Tensor:
    """(B, head, query, token) -> (B, query, token): heads averaged, the residual stream added as the identity."""
    mixed = 0.5 * weights.mean(dim=1)
    identity = torch.eye(*mixed.shape[1:], dtype=mixed.dtype, device=mixed.device)
    return mixed + 0.5 * identity


def token_rollout(forecaster: TokenForecaster, batch: TokenBatch) -> FloatArray:
    """(B, token): rollout of the forecast token; 0 for tokens that are not there."""
    with torch.no_grad():
        found = attention_rollout(forecaster.attention_layers(batch))
    return np.asarray(found.cpu().numpy(), dtype=np.float64)


def group_rollout(forecaster: TokenForecaster, batch: TokenBatch) -> FloatArray:
    """(B, G) rollout summed over the tokens of each group; NaN for groups that are not there."""
    return by_group(token_rollout(forecaster, batch), batch)


def by_group(rollout: FloatArray, batch: TokenBatch) -> FloatArray:
    """(B, token) -> (B, G): sums; NaN for groups that are not there."""
    summed = rollout @ tokens_of_groups(batch).T.astype(np.float64)
    return np.where(present_groups(batch), summed, np.nan)
