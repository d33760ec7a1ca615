"""Attention kernels, one file each, chosen by name: `attention_kernel("softmax", n_heads=4, d_head=16)`.

| name | weights | time | memory |
|---|---|---|---|
| softmax | exact softmax (SDPA) | O(N^2) | O(N) |
| linear | inner products of elu + 1; recurrent form `LinearState` | O(N) | O(N) |
| performer | random-feature estimate of softmax (FAVOR+) | O(N) | O(N) |
| reformer | softmax over the tokens that share a hash bucket | O(N log N) | O(N) |

All have one interface (interface.py): `forward`, the exact `weights` behind it, and the plain O(N^2) `reference`.
"""

from __future__ import annotations

from ml.attention.kernels.interface import AttentionKernel
from ml.attention.kernels.linear import LinearKernel, LinearState
from ml.attention.kernels.performer import PerformerKernel
from ml.attention.kernels.reformer import ReformerKernel
from ml.attention.kernels.softmax import SoftmaxKernel

__all__ = [
    "KERNELS",
    "AttentionKernel",
    "LinearKernel",
    "LinearState",
    "PerformerKernel",
    "ReformerKernel",
    "SoftmaxKernel",
    "attention_kernel",
    "kernel_class",
]

KERNELS: dict[str, type[AttentionKernel]] = {
    kernel.name: kernel for kernel in (SoftmaxKernel, LinearKernel, PerformerKernel, ReformerKernel)
}


def kernel_class(name: str) -> type[AttentionKernel]:
    """The class of that name; ValueError that lists the known ones."""
    if name not in KERNELS:
        raise ValueError(f"attention kernel {name!r}: expected one of {', '.join(sorted(KERNELS))}")
    return KERNELS[name]


def attention_kernel(name: str, n_heads: int, d_head: int, seed: int = 0) -> AttentionKernel:
    """A kernel of that name with its default settings; ValueError on an unknown name."""
    return kernel_class(name)(n_heads, d_head, seed)
