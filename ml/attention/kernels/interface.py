"""What every attention kernel takes, gives and promises.

In: queries, keys and values (batch, head, token, width) and a key mask. Out: attended values, or the exact weights behind them.
Never: a value invented for a masked token (its weight is exactly 0), or NaN for a row without any key (it is 0).

`key_mask` is (batch, token), for all heads alike, or (batch, head, token): True where a token may be attended to, or a factor >= 0
on the token's weight before rows are normalised. False and 0 are the same, True and 1 are the same.

Query i belongs to token i: there may be fewer queries than tokens, then they are those of the first tokens. Causal attention lets
query i attend to tokens 0 .. i; the other attends to all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class AttentionKernel(nn.Module, ABC):
    """One way to attend, for a fixed number of heads.

    Parameters
    ----------
    n_heads : heads H; keys and queries have as many, values have as many or one that all heads share
    d_head : width of a query or key; values may have another
    seed : of the kernel's own randomness, where it has any
    """

    name: ClassVar[str]
    shares_query_key: ClassVar[bool] = False
    """The kernel wants key i to be the vector of query i (Reformer)."""

    def __init__(self, n_heads: int, d_head: int, seed: int = 0) -> None:
        super().__init__()
        if n_heads < 1 or d_head < 1:
            raise ValueError(f"{n_heads} heads of width {d_head}: expected positive integers")
        self.n_heads, self.d_head, self.seed = n_heads, d_head, seed

    @abstractmethod
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool = False
    ) -> Tensor:
        """Attended values (batch, head, query, width of value)."""

    @abstractmethod
    def weights(self, query: Tensor, key: Tensor, key_mask: Tensor, causal: bool = False) -> Tensor:
        """The exact weights that `forward` applies, (batch, head, query, token): rows sum to 1, or are 0 without any key.

        For one query this costs O(token) in every kernel.
        """

    def reference(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, causal: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The readable O(N^2) form of `forward`: (attended values, weights)."""
        weights = self.weights(query, key, key_mask, causal)
        return weights @ value, weights


def token_factors(key_mask: Tensor) -> Tensor:
    """(batch, token) or (batch, head, token) -> (batch, 1 or head, token)."""
    return key_mask[:, None] if key_mask.dim() == 2 else key_mask


def allowed_pairs(key_mask: Tensor, n_queries: int, causal: bool) -> Tensor:
    """(batch, 1 or head, 1 or query, token) bool: which token each query may attend to."""
    allowed = token_factors(key_mask)[:, :, None] > 0
    if causal:
        allowed = allowed & earlier_pairs(n_queries, key_mask.shape[-1], key_mask.device)
    return allowed


def earlier_pairs(n_queries: int, n_tokens: int, device: torch.device) -> Tensor:
    """(query, token) bool: token j is no later than query i."""
    return torch.ones(n_queries, n_tokens, dtype=torch.bool, device=device).tril()


def log_factors(key_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, 1 or head, 1, token): what is added to the logits of tokens that may be attended to; 0 elsewhere."""
    factors = token_factors(key_mask)[:, :, None].to(dtype)
    return torch.log(torch.where(factors > 0, factors, torch.ones_like(factors)))


def masked_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the allowed entries of the last axis; exactly 0 elsewhere, and in rows where nothing is allowed."""
    shown = logits.masked_fill(~allowed, -torch.inf)
    shown = shown.masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)  # no NaN, no NaN gradient
    return torch.softmax(shown, dim=-1).masked_fill(~allowed, 0.0)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator; 0 with gradient 0 where the denominator is 0."""
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)
