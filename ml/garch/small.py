"""Small loops that kernels share: numba compiles them in a blink, where slices and matrix products take seconds each.

In: small arrays. Out: the same, written in place. Never: BLAS, whose calls cost more than a 6 x 6 product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel

Floats = NDArray[np.float64]


@kernel
def assign(target: Floats, source: Floats) -> None:
    """target[:] = source for vectors."""
    for i in range(len(target)):
        target[i] = source[i]


@kernel
def clear(matrix: Floats) -> None:
    """matrix[:, :] = 0."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            matrix[i, j] = 0.0


@kernel
def congruence(factor: Floats, matrix: Floats, product: Floats) -> None:
    """product = factor' @ matrix @ factor, for a symmetric matrix."""
    size = matrix.shape[0]
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(size):
                if factor[k, i] == 0.0:
                    continue
                for m in range(size):
                    total += factor[k, i] * matrix[k, m] * factor[m, j]
            product[i, j] = total


@kernel
def variance_of(values: Floats) -> float:
    """Mean squared distance from the mean."""
    mean, total = 0.0, 0.0
    for value in values:
        mean += value
    mean /= len(values)
    for value in values:
        total += (value - mean) ** 2
    return total / len(values)
