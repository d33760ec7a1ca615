"""Every fast kernel equals its plain reference in value and gradient, masks included."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ml.attention.kernels import (
    KERNELS,
    attention_kernel,
    softmax_attention,
    softmax_attention_reference,
    softmax_attention_weights,
)


def tensors(batch: int = 3, heads: int = 2, queries: int = 5, tokens: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, heads, n, 4) for n in (queries, tokens, tokens)]
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def some_mask(batch: int = 3, tokens: int = 7) -> Tensor:
    mask = torch.rand(batch, tokens, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[:, 0] = True
    return mask


def naive(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention one number at a time."""
    out = torch.zeros(*query.shape[:3], value.shape[3], dtype=query.dtype)
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for i in range(query.shape[2]):
                scores = {
                    j: math.exp(float(query[b, h, i] @ key[b, h, j]) / math.sqrt(query.shape[3]))
                    for j in range(key.shape[2])
                    if mask[b, j]
                }
                for j, score in scores.items():
                    out[b, h, i] += score / sum(scores.values()) * value[b, h, j]
    return out


def test_the_reference_equals_attention_computed_one_number_at_a_time() -> None:
    query, key, value = tensors()
    attended, weights = softmax_attention_reference(query, key, value, some_mask())
    torch.testing.assert_close(attended, naive(query, key, value, some_mask()))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5, dtype=torch.float64))


@pytest.mark.parametrize("queries", [1, 5])
def test_softmax_equals_its_reference_in_value_and_gradient(queries: int) -> None:
    results = []
    for kernel in (softmax_attention, lambda *a: softmax_attention_reference(*a)[0]):
        inputs = [x.requires_grad_() for x in tensors(queries=queries)]
        attended = kernel(*inputs, some_mask())
        (attended * torch.linspace(-1, 1, attended.numel()).view_as(attended)).sum().backward()
        results.append([attended.detach(), *(x.grad for x in inputs)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


def test_masked_tokens_have_weight_zero_and_no_gradient() -> None:
    query, key, value = tensors()
    mask = some_mask()
    weights = softmax_attention_weights(query, key, mask)
    assert weights[~mask[:, None, None].expand_as(weights)].abs().max() == 0
    value.requires_grad_()
    softmax_attention(query, key, value, mask).sum().backward()
    assert value.grad is not None
    assert value.grad[~mask[:, None].expand(3, 2, 7)].abs().max() == 0


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_row_without_any_key_gives_zeros(name: str) -> None:
    mask = some_mask()
    mask[1] = False
    attended = attention_kernel(name)(*tensors(), mask)
    assert torch.isfinite(attended).all()
    assert attended[1].abs().max() == 0


def test_an_unknown_kernel_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"kernel 'spline': expected one of softmax"):
        attention_kernel("spline")
