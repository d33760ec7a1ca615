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


def some_mask_per_head(batch: int = 3, heads: int = 2, tokens: int = 7) -> Tensor:
    mask = torch.rand(batch, heads, tokens, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[..., 0] = True
    return mask


MASKS = pytest.mark.parametrize(
    "mask", [some_mask(), some_mask_per_head()], ids=["all_heads_alike", "per_head"]
)


def per_head(mask: Tensor, heads: int = 2) -> Tensor:
    """Either form of mask as (batch, head, token)."""
    return mask if mask.dim() == 3 else mask[:, None].expand(-1, heads, -1)


def naive(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention one number at a time."""
    out = torch.zeros(*query.shape[:3], value.shape[3], dtype=query.dtype)
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for i in range(query.shape[2]):
                scores = {
                    j: math.exp(float(query[b, h, i] @ key[b, h, j]) / math.sqrt(query.shape[3]))
                    for j in range(key.shape[2])
                    if per_head(mask)[b, h, j]
                }
                for j, score in scores.items():
                    out[b, h, i] += score / sum(scores.values()) * value[b, h, j]
    return out


@MASKS
def test_the_reference_equals_attention_computed_one_number_at_a_time(mask: Tensor) -> None:
    query, key, value = tensors()
    attended, weights = softmax_attention_reference(query, key, value, mask)
    torch.testing.assert_close(attended, naive(query, key, value, mask))
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5, dtype=torch.float64))


@MASKS
@pytest.mark.parametrize("queries", [1, 5])
def test_softmax_equals_its_reference_in_value_and_gradient(queries: int, mask: Tensor) -> None:
    results = []
    for kernel in (softmax_attention, lambda *a: softmax_attention_reference(*a)[0]):
        inputs = [x.requires_grad_() for x in tensors(queries=queries)]
        attended = kernel(*inputs, mask)
        (attended * torch.linspace(-1, 1, attended.numel()).view_as(attended)).sum().backward()
        results.append([attended.detach(), *(x.grad for x in inputs)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


@MASKS
def test_masked_tokens_have_weight_zero_and_no_gradient(mask: Tensor) -> None:
    query, key, value = tensors()
    weights = softmax_attention_weights(query, key, mask)
    hidden = ~per_head(mask)
    assert weights[hidden[:, :, None].expand_as(weights)].abs().max() == 0
    value.requires_grad_()
    softmax_attention(query, key, value, mask).sum().backward()
    assert value.grad is not None
    assert value.grad[hidden].abs().max() == 0


@pytest.mark.parametrize("name", sorted(KERNELS))
@MASKS
def test_a_row_without_any_key_gives_zeros(name: str, mask: Tensor) -> None:
    mask = mask.clone()
    mask[1] = False
    attended = attention_kernel(name)(*tensors(), mask)
    assert torch.isfinite(attended).all()
    assert attended[1].abs().max() == 0


def test_an_unknown_kernel_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"kernel 'spline': expected one of softmax"):
        attention_kernel("spline")
