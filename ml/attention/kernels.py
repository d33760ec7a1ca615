"""Attention kernels: queries, keys, values and a key mask go in; attended values come out.

One interface for every kernel, chosen by name (``attention_kernel("softmax")``): tensors of shape
(batch, head, token, d_head) and a boolean ``key_mask``, True where a token may be attended to: (batch, token) for all heads
alike, or (batch, head, token).
Each fast kernel has a plain O(N^2) reference beside it that also returns its weights; tests hold the
two equal in value and in gradient.

A kernel never invents values for masked tokens: their weight is exactly 0, and a row in which every key is masked
returns zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

AttentionKernel = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def softmax_attention_weights(query: Tensor, key: Tensor, key_mask: Tensor) -> Tensor:
    """Exact softmax attention weights, a = softmax(q k' / sqrt(d)) over the keys that are not masked.

    query (batch, head, query, d_head), key (batch, head, token, d_head), key_mask (batch, token) or
    (batch, head, token) bool.
    Returns (batch, head, query, token); rows sum to 1, masked tokens are exactly 0.
    Source: Vaswani et al. (2017), equation 1.
    """
    logits = (
        query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    )  # (batch, head, query, token)
    allowed = _over_queries(key_mask)
    weights = torch.softmax(logits.masked_fill(~allowed, -math.inf), dim=-1)
    return weights.masked_fill(~allowed, 0.0)  # a row without any key: softmax gives NaN, we give 0


def softmax_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The readable O(N^2) form: (attended values (batch, head, query, d_head), weights)."""
    weights = softmax_attention_weights(query, key, key_mask)
    return weights @ value, weights


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
    """The same values by PyTorch's scaled_dot_product_attention, which never stores the weights."""
    allowed = _over_queries(key_mask)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def _over_queries(key_mask: Tensor) -> Tensor:
    """(batch, token) or (batch, head, token) -> (batch, 1 or head, 1, token), which broadcasts over queries."""
    return (key_mask[:, None] if key_mask.dim() == 2 else key_mask)[:, :, None]


KERNELS: dict[str, AttentionKernel] = {"softmax": softmax_attention}


def attention_kernel(name: str) -> AttentionKernel:
    """The kernel of that name; raises ValueError that lists the known ones."""
    if name not in KERNELS:
        raise ValueError(f"attention kernel {name!r}: expected one of {', '.join(sorted(KERNELS))}")
    return KERNELS[name]
