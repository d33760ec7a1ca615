r"""Softmax attention, the standard that the other kernels are compared with.

    a_ij = m_j exp(q_i' k_j / sqrt(d)) / sum_l m_l exp(q_i' k_l / sqrt(d)),      m: key mask or factor

Source: Vaswani et al. (2017), "Attention is all you need", equation 1. Values come from PyTorch's scaled_dot_product_attention,
which never stores the weights: O(N^2) time; O(N) memory, O(N^2) bits where causal.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ml.attention.kernels.interface import (
    AttentionKernel,
    allowed_pairs,
    log_factors,
    masked_softmax,
)

FUSED_FROM = 256
"""Tokens from which values are padded to the queries' width, or these to theirs: PyTorch's O(N) form wants equal widths."""


class SoftmaxKernel(AttentionKernel):
    """Exact softmax attention by PyTorch's SDPA."""

    name: ClassVar[str] = "softmax"

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool = False
    ) -> Tensor:
        bias = allowed_pairs(key_mask, query.shape[2], causal)
        if key_mask.is_floating_point():
            factors = log_factors(key_mask, query.dtype)
            bias = torch.where(bias, factors, -torch.inf)
        width, scale = value.shape[-1], 1 / math.sqrt(query.shape[-1])
        value = value.expand(-1, query.shape[1], -1, -1)
        if key.shape[2] >= FUSED_FROM:
            common = max(width, query.shape[-1])
            query, key, value = (_padded(x, common) for x in (query, key, value))
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scale
        )[..., :width]
        if key_mask.is_floating_point():  # PyTorch gives NaN for a row of -inf
            nothing = torch.isneginf(bias).all(dim=-1, keepdim=True)
            attended = attended.masked_fill(nothing, 0.0)
        return attended

    def weights(self, query: Tensor, key: Tensor, key_mask: Tensor, causal: bool = False) -> Tensor:
        logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        logits = logits + log_factors(key_mask, query.dtype)  # (batch, head, query, token)
        return masked_softmax(logits, allowed_pairs(key_mask, query.shape[2], causal))


def _padded(x: Tensor, width: int) -> Tensor:
    """x (..., d) with zeros up to that width."""
    return functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x
