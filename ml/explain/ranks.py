"""Rank correlation over the groups that two maps share.

In: two maps per forecast. Out: Spearman's correlation. Never: a number where one side has no two different values (NaN).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def spearman(left: FloatArray, right: FloatArray) -> FloatArray:
    """(B, G), (B, G) -> (B,): rank correlation over the groups that both have; ties share their mean rank.

    NaN where one side has no two different values.
    """
    both = np.isfinite(left) & np.isfinite(right)
    ranks = [_centred_ranks(side, both) for side in (left, right)]
    product = (ranks[0] * ranks[1]).sum(axis=1)
    scale = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, product / scale, np.nan)


def _centred_ranks(values: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """(B, G) mean ranks among the valid values less their mean; 0 where not valid."""
    safe = np.where(valid, values, 0.0)
    other = valid[:, None, :]
    below = ((safe[:, None, :] < safe[:, :, None]) & other).sum(axis=2)
    equal = ((safe[:, None, :] == safe[:, :, None]) & other).sum(axis=2)
    rank = np.where(valid, below + (equal + 1) / 2, 0.0)
    count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    return np.where(valid, rank - rank.sum(axis=1, keepdims=True) / count, 0.0)
