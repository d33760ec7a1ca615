r"""Performer: softmax attention by random features (FAVOR+), in O(N).

    phi(x)_f = exp(w_f' y - |y|^2 / 2) / sqrt(F),  y = x / d^(1/4),    E[phi(q)' phi(k)] = exp(q'k / sqrt(d))

w_1 .. w_F are Gaussian vectors, orthogonal in blocks of d and with the lengths of independent ones, drawn for each head from the seed
and kept in the state, so that weights are the same wherever the artefact is read. The weights are the row-stochastic matrix of these features:
near the softmax's for small queries and keys alone (the error grows like exp(|q + k|^2 / sqrt(d)) / F), so that a fitted
Performer is a model of its own.

Stabilised without a constant added to the features, which would change the weights: a query's largest exponent is taken out of its
row, and every key loses the largest value that its exponent could ever take, |w_f|^2 / 2 over f. Both cancel in the row's
normalisation, and neither lets one token depend on another. Exponents are floored where the number type underflows.
Source: Choromanski et al. (2021), "Rethinking attention with Performers", lemma 1, section 2.4 and algorithm 1.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ml.attention.kernels.feature_map import FeatureMapKernel

DEFAULT_FEATURES = 64


class PerformerKernel(FeatureMapKernel):
    """FAVOR+ with positive orthogonal features; `n_features` F per head."""

    name: ClassVar[str] = "performer"
    projection: Tensor  # (head, feature, d_head)

    def __init__(
        self, n_heads: int, d_head: int, seed: int = 0, n_features: int = DEFAULT_FEATURES
    ) -> None:
        super().__init__(n_heads, d_head, seed)
        if n_features < 1:
            raise ValueError(f"n_features {n_features}: expected a positive integer")
        self.n_features = n_features
        drawn = orthogonal_features(n_heads, n_features, d_head, seed)
        self.register_buffer("projection", drawn.to(torch.get_default_dtype()))

    def redraw(self, seed: int) -> None:
        """Other features: the same ones for the same seed."""
        drawn = orthogonal_features(self.n_heads, self.n_features, self.d_head, seed)
        self.projection.copy_(drawn)
        self.seed = seed

    def query_features(self, query: Tensor) -> Tensor:
        exponent = self._exponent(query)
        return _exp(exponent - exponent.detach().amax(dim=-1, keepdim=True))

    def key_features(self, key: Tensor) -> Tensor:
        bound = self.projection.square().sum(-1).amax(-1) / 2  # (head,)
        return _exp(self._exponent(key) - bound[:, None, None])

    def _exponent(self, x: Tensor) -> Tensor:
        """w'y - |y|^2 / 2, (batch, head, token, feature)."""
        y = x / self.d_head**0.25
        exponent: Tensor = y @ self.projection.transpose(-2, -1) - y.square().sum(-1, True) / 2
        return exponent


def _exp(exponent: Tensor) -> Tensor:
    """exp, of at least e^8 times the smallest normal number: a row's largest feature times a key's smallest is above 0."""
    return torch.exp(exponent.clamp_min(math.log(torch.finfo(exponent.dtype).tiny) + 8))


def orthogonal_features(n_heads: int, n_features: int, width: int, seed: int) -> Tensor:
    """(head, feature, width) double: rows orthogonal in blocks of `width`, uniform in direction, with chi-distributed lengths."""
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-n_features // width)
    draw = torch.randn(n_heads, blocks, width, width, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(draw)
    q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[..., None, :]  # uniform directions
    length = torch.randn(n_heads, n_features, width, generator=generator, dtype=torch.float64)
    directions = q.mT.reshape(n_heads, blocks * width, width)[:, :n_features]
    rows: Tensor = directions * length.norm(dim=-1, keepdim=True)
    return rows
