r"""Attention whose weights are inner products of positive features, in O(N):

    a_ij = m_j phi_q(q_i)' phi_k(k_j) / sum_l m_l phi_q(q_i)' phi_k(k_l)

The sums over tokens, S = sum_j m_j phi_k(k_j) v_j' and z = sum_j m_j phi_k(k_j), do not depend on the query; causal attention keeps
them running. Its gradient runs them again in both directions, so that neither pass stores an (N, feature, width) tensor.
Source: Katharopoulos et al. (2020), "Transformers are RNNs", equations 4 to 15.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ml.attention.kernels.interface import AttentionKernel, earlier_pairs, ratio, token_factors

CHUNK = 128
"""Tokens that causal attention takes at a time: within a chunk it computes all pairs."""
BLOCK = 2048
"""Tokens whose features are made at a time where attention is not causal."""


class FeatureMapKernel(AttentionKernel):
    """What linear attention and Performer share; a subclass says what the features are."""

    @abstractmethod
    def query_features(self, query: Tensor) -> Tensor:
        """(batch, head, query, feature) >= 0; a factor on a whole row does not matter."""

    @abstractmethod
    def key_features(self, key: Tensor) -> Tensor:
        """(batch, head, token, feature) >= 0; a factor on all tokens does not matter."""

    def _features(self, query: Tensor, key: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor]:
        factors = token_factors(key_mask)[..., None].to(key.dtype)
        return self.query_features(query), self.key_features(key) * factors

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool = False
    ) -> Tensor:
        counted = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)
        if causal:
            query, key = self._features(query, key, key_mask)
            seen = query.shape[2]  # later tokens have no query that may read them
            counted = counted[:, :, :seen].expand(-1, query.shape[1], -1, -1)
            sums = causal_sums(query, key[:, :, :seen], counted)
        else:
            sums = self._sums(query, key, counted, key_mask)
        return ratio(sums[..., :-1], sums[..., -1:])

    def _sums(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
        """sum over j of (phi(q_i)' phi(k_j)) v_j, (batch, head, query, width); features of so many tokens at a time as a cache holds."""
        factors = token_factors(key_mask)[..., None].to(key.dtype)
        parts = [
            (self.key_features(keys) * here).transpose(-2, -1) @ values
            for keys, values, here in _split(BLOCK, key, value, factors)
        ]
        state = torch.stack(parts).sum(0)
        found = [self.query_features(part) @ state for (part,) in _split(BLOCK, query)]
        return torch.cat(found, dim=2)

    def weights(self, query: Tensor, key: Tensor, key_mask: Tensor, causal: bool = False) -> Tensor:
        query, key = self._features(query, key, key_mask)
        products = query @ key.transpose(-2, -1)  # (batch, head, query, token)
        if causal:
            products = products * earlier_pairs(
                products.shape[2], products.shape[3], products.device
            )
        return ratio(products, products.sum(dim=-1, keepdim=True))


def causal_sums(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """sum over j <= i of (q_i' k_j) v_j, for query and key (batch, head, N, feature), value (batch, head, N, width).

    O(N) time and memory, forward and backward; not twice differentiable.
    """
    sums: Tensor = _CausalSums.apply(query, key, value)  # type: ignore[no-untyped-call]
    return sums


class _CausalSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        parts, state = [], _no_sum(key, value)
        for q, k, v in _split(CHUNK, query, key, value):
            parts.append((q @ k.transpose(-2, -1)).tril() @ v + q @ state)
            state = state + k.transpose(-2, -1) @ v
        return torch.cat(parts, dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors
        to_query, state = [], _no_sum(value, key)  # of v k' over earlier tokens
        for k, v, g in _split(CHUNK, key, value, gradient):
            to_query.append((g @ v.transpose(-2, -1)).tril() @ k + g @ state)
            state = state + v.transpose(-2, -1) @ k
        to_key, to_value, state = [], [], _no_sum(query, value)  # of q g' over later tokens
        for q, k, v, g in reversed(_split(CHUNK, query, key, value, gradient)):
            to_key.append((g @ v.transpose(-2, -1)).tril().mT @ q + v @ state.mT)
            to_value.append((q @ k.transpose(-2, -1)).tril().mT @ g + k @ state)
            state = state + q.transpose(-2, -1) @ g
        return (
            torch.cat(to_query, dim=2),
            torch.cat(to_key[::-1], dim=2),
            torch.cat(to_value[::-1], dim=2),
        )


def _split(length: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors in stretches of so many tokens, side by side."""
    return list(zip(*(torch.split(tensor, length, dim=2) for tensor in tensors), strict=True))


def _no_sum(left: Tensor, right: Tensor) -> Tensor:
    """Zeros (batch, head, width of left, width of right)."""
    return left.new_zeros(*left.shape[:2], left.shape[-1], right.shape[-1])
