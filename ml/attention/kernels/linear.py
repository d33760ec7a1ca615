r"""Linear attention: features phi(x) = elu(x) + 1, so that a new observation is O(1).

    phi(x) = 1 + x  for x > 0,   exp(x)  otherwise

Source: Katharopoulos et al. (2020), "Transformers are RNNs", equation 7. `LinearState` is its recurrent form (equations 16 to 20),
which can also forget a token: the sums that it keeps are plain sums.
Features are floored at exp(-30): in single precision no row then loses all its keys to underflow.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ml.attention.kernels.feature_map import FeatureMapKernel

FloatArray = NDArray[np.float64]
LOG_FLOOR = -30.0


class LinearKernel(FeatureMapKernel):
    """Attention with weights proportional to phi(q)' phi(k), phi = elu + 1."""

    name: ClassVar[str] = "linear"

    def query_features(self, query: Tensor) -> Tensor:
        return elu_plus_one(query)

    def key_features(self, key: Tensor) -> Tensor:
        return elu_plus_one(key)


def elu_plus_one(x: Tensor) -> Tensor:
    """phi(x), any shape; without the cancellation of elu(x) + 1 below -10."""
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(LOG_FLOOR, 0.0)))


class LinearState:
    """Linear attention of one sequence, kept as sums: tokens come, go and change at O(1) each.

    Per head S = sum_j m_j phi(k_j) v_j' (H, d, V) and z = sum_j m_j phi(k_j) (H, d), in double precision. Keys and queries are (H, d),
    values (V,) shared by all heads or (H, V), `factor` a key mask or factor, a number or one a head (H,): arrays, or CPU tensors
    without gradient. Adding and subtracting leaves rounding errors of about 1e-16 a step: build the state anew now and then.

    Example
    -------
    >>> state = LinearState.of(keys, values, mask)  # (H, N, d), (N, V), (H, N)
    >>> state.replace(keys[:, 3], values[3], new_key, new_value)
    >>> state.read(query)  # (H, V), as LinearKernel on the changed sequence gives
    """

    def __init__(self, n_heads: int, d_head: int, width: int) -> None:
        self.S: FloatArray = np.zeros((n_heads, d_head, width))
        self.z: FloatArray = np.zeros((n_heads, d_head))

    @classmethod
    def of(cls, keys: ArrayLike, values: ArrayLike, key_mask: ArrayLike) -> Self:
        """The state after keys (H, N, d), values (N, V) or (H, N, V), key mask or factors (N,) or (H, N)."""
        features = _features(keys) * np.asarray(key_mask, dtype=np.float64)[..., None]
        given = np.asarray(values, dtype=np.float64)
        state = cls(features.shape[0], features.shape[2], given.shape[-1])
        state.S = features.transpose(0, 2, 1) @ given
        state.z = features.sum(axis=1)
        return state

    def update(self, key: ArrayLike, value: ArrayLike, factor: ArrayLike = 1.0) -> None:
        """A token comes."""
        features = _features(key) * np.asarray(factor, dtype=np.float64)[..., None]  # (H, d)
        self.S += features[:, :, None] * np.asarray(value, dtype=np.float64)[..., None, :]
        self.z += features

    def remove(self, key: ArrayLike, value: ArrayLike, factor: ArrayLike = 1.0) -> None:
        """A token that came with the same arguments goes."""
        self.update(key, value, -np.asarray(factor, dtype=np.float64))

    def replace(
        self,
        old_key: ArrayLike,
        old_value: ArrayLike,
        new_key: ArrayLike,
        new_value: ArrayLike,
        factor: ArrayLike = 1.0,
    ) -> None:
        """A token changes."""
        self.remove(old_key, old_value, factor)
        self.update(new_key, new_value, factor)

    def read(self, query: ArrayLike) -> FloatArray:
        """Attended values (H, V) of a query (H, d); 0 in a head that has no token."""
        features = _features(query)
        total = np.einsum("hd,hd->h", features, self.z)
        sums: FloatArray = np.einsum("hd,hdv->hv", features, self.S)
        here = total > 0
        return np.where(here[:, None], sums / np.where(here, total, 1.0)[:, None], 0.0)


def _features(x: ArrayLike) -> FloatArray:
    given = np.asarray(x, dtype=np.float64)
    features: FloatArray = np.where(given > 0, given + 1, np.exp(np.clip(given, LOG_FLOOR, 0.0)))
    return features
