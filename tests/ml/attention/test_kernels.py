"""What every kernel promises: it equals its plain reference in value and gradient, masks are exact, and causal is causal."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from ml.attention.kernels import (
    KERNELS,
    AttentionKernel,
    LinearKernel,
    PerformerKernel,
    ReformerKernel,
    SoftmaxKernel,
    attention_kernel,
)

HEADS, WIDTH, TOKENS = 2, 4, 150
EVERY_KERNEL = pytest.mark.parametrize("name", sorted(KERNELS))


def kernel(name: str, dtype: torch.dtype = torch.float64) -> AttentionKernel:
    """Of the name; Reformer with buckets small enough for several in a short sequence."""
    if name == "reformer":
        return ReformerKernel(HEADS, WIDTH, seed=1, bucket_size=8, rounds=3).to(dtype)
    return attention_kernel(name, HEADS, WIDTH, seed=1).to(dtype)


def sequences(
    found: AttentionKernel,
    queries: int = TOKENS,
    tokens: int = TOKENS,
    dtype: torch.dtype = torch.float64,
    value_heads: int = 1,
) -> list[Tensor]:
    """(query, key, value) of three sequences; the key of a query's token is the query where the kernel shares them."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, HEADS, tokens, WIDTH), (3, HEADS, tokens, WIDTH), (3, value_heads, tokens, 6)]
    query, key, value = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    return [query[:, :, :queries].clone(), query if found.shares_query_key else key, value]


def some_mask(tokens: int = TOKENS, kind: str = "per_head") -> Tensor:
    """The third sequence has no token at all, and the second head of the second sees none, where heads differ."""
    generator = torch.Generator().manual_seed(2)
    draw = torch.rand(
        *((3, tokens) if kind == "all_alike" else (3, HEADS, tokens)), generator=generator
    )
    mask = draw > 0.4
    mask[2] = False
    if kind == "all_alike":
        return mask
    mask[1, 1] = False
    return mask * draw.double() if kind == "factors" else mask


MASKS = pytest.mark.parametrize("kind", ["all_alike", "per_head", "factors"])
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["all_pairs", "causal"])


def per_head(mask: Tensor) -> Tensor:
    """Either form of mask as (batch, head, token)."""
    return mask if mask.dim() == 3 else mask[:, None].expand(-1, HEADS, -1)


def one_number_at_a_time(score, query, key, value, mask, causal):  # type: ignore[no-untyped-def]
    """Attention with weights proportional to mask times score(q, k), in loops."""
    out = torch.zeros(*query.shape[:3], value.shape[3], dtype=query.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        scores = {
            j: float(per_head(mask)[b, h, j]) * score(query[b, h, i], key[b, h, j])
            for j in range(key.shape[2])
            if per_head(mask)[b, h, j] > 0 and (j <= i or not causal)
        }
        for j, found in scores.items():
            out[b, h, i] += found / sum(scores.values()) * value[b, 0, j]
    return out


def softmax_score(q: Tensor, k: Tensor) -> float:
    return math.exp(float(q @ k) / math.sqrt(len(q)))


def linear_score(q: Tensor, k: Tensor) -> float:
    return float((torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1))


@MASKS
@CAUSAL
@pytest.mark.parametrize(("name", "score"), [("softmax", softmax_score), ("linear", linear_score)])
def test_the_reference_equals_attention_computed_one_number_at_a_time(
    name: str, score: object, kind: str, causal: bool
) -> None:
    found = kernel(name)
    query, key, value = sequences(found, queries=5, tokens=7)
    mask = some_mask(7, kind)
    attended, weights = found.reference(query, key, value, mask, causal)
    expected = one_number_at_a_time(score, query, key, value, mask, causal)
    torch.testing.assert_close(attended, expected)
    sums = weights.sum(-1)
    torch.testing.assert_close(sums, (sums > 0.5).double())


@EVERY_KERNEL
@MASKS
@CAUSAL
@pytest.mark.parametrize("queries", [1, TOKENS])
def test_a_kernel_equals_its_reference_in_value_and_gradient(
    name: str, kind: str, causal: bool, queries: int
) -> None:
    found, results = kernel(name), []
    for form in (found, lambda *given: found.reference(*given)[0]):
        inputs = [x.requires_grad_() for x in sequences(found, queries)]
        mask = some_mask(kind=kind)
        if kind == "factors":
            inputs.append(mask.requires_grad_())
        attended = form(*inputs[:3], mask, causal)
        (attended * torch.linspace(-1, 1, attended.numel()).view_as(attended)).sum().backward()
        results.append([attended.detach(), *(x.grad for x in inputs)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-10)


@EVERY_KERNEL
@CAUSAL
def test_single_precision_agrees_with_double(name: str, causal: bool) -> None:
    double, single = kernel(name), kernel(name, torch.float32)
    given = sequences(double, value_heads=HEADS)
    expected = double(*given, some_mask(), causal)
    attended = single(*(x.float() for x in given), some_mask(), causal)
    assert attended.dtype == torch.float32
    torch.testing.assert_close(attended.double(), expected, rtol=1e-4, atol=1e-5)


@EVERY_KERNEL
def test_a_change_of_a_later_token_changes_nothing_earlier(name: str) -> None:
    found = kernel(name)
    query, key, value = sequences(found)
    mask = some_mask()
    before = found(query, key, value, mask, causal=True)
    weights = found.weights(query, key, mask, causal=True)
    moved = [x.clone() for x in (query, key, value)]
    for x in moved:
        x[:, :, 100:] = 3 * x[:, :, 100:].flip(2) + 1
    other_mask = mask.clone()
    other_mask[..., 100:] = ~mask[..., 100:]
    torch.testing.assert_close(
        found(*moved, other_mask, causal=True)[:, :, :100], before[:, :, :100], rtol=0, atol=1e-13
    )
    later = found.weights(*moved[:2], other_mask, causal=True)
    torch.testing.assert_close(later[:, :, :100], weights[:, :, :100], rtol=0, atol=1e-13)
    assert weights.triu(1).abs().max() == 0
    assert (found(*moved, other_mask, causal=True)[:, :, 101:] - before[:, :, 101:]).abs().max() > 0


@EVERY_KERNEL
@MASKS
@CAUSAL
def test_masked_tokens_have_weight_zero_and_neither_value_nor_gradient(
    name: str, kind: str, causal: bool
) -> None:
    found = kernel(name)
    query, key, value = sequences(found, value_heads=HEADS)
    mask = some_mask(kind=kind)
    hidden = per_head(mask) == 0
    weights = found.weights(query, key, mask, causal)
    assert weights[hidden[:, :, None].expand_as(weights)].abs().max() == 0
    value.requires_grad_()
    attended = found(query, key, value, mask, causal)
    attended.sum().backward()
    assert value.grad is not None
    assert value.grad[hidden].abs().max() == 0
    assert torch.isfinite(attended).all()
    assert attended[2].abs().max() == 0  # no token at all
    if kind != "all_alike":
        assert attended[1, 1].abs().max() == 0


@EVERY_KERNEL
def test_a_factor_of_one_is_true_and_one_of_zero_is_false(name: str) -> None:
    found = kernel(name)
    given = sequences(found)
    torch.testing.assert_close(
        found(*given, some_mask().double()), found(*given, some_mask()), rtol=1e-12, atol=1e-14
    )


@EVERY_KERNEL
def test_one_sequence_does_not_read_another_of_its_batch(name: str) -> None:
    found = kernel(name)
    query, key, value = sequences(found)
    together = found(query, key, value, some_mask())
    alone = found(query[1:2], key[1:2], value[1:2], some_mask()[1:2])
    torch.testing.assert_close(alone[0], together[1])


@EVERY_KERNEL
def test_the_first_queries_alone_give_their_rows_of_the_whole(name: str) -> None:
    found = kernel(name)
    query, key, value = sequences(found)
    for causal in (False, True):
        whole = found(query, key, value, some_mask(), causal)
        torch.testing.assert_close(
            found(query[:, :, :3], key, value, some_mask(), causal), whole[:, :, :3]
        )


@EVERY_KERNEL
@pytest.mark.parametrize("size", [0.0, 30.0, 300.0])
def test_very_large_and_equal_inputs_stay_finite_in_single_precision(
    name: str, size: float
) -> None:
    found = kernel(name, torch.float32)
    given = [size * x if k < 2 else x for k, x in enumerate(sequences(found, dtype=torch.float32))]
    inputs = [x.requires_grad_() for x in given]
    mask = some_mask()
    for causal in (False, True):
        attended = found(*inputs, mask, causal)
        attended.sum().backward()
        assert torch.isfinite(attended).all()
        assert all(torch.isfinite(x.grad).all() for x in inputs if x.grad is not None)
        sums = found.weights(*inputs[:2], mask, causal).sum(-1)
        here = (mask.cumsum(-1) > 0) if causal else mask.any(-1, keepdim=True).expand_as(mask)
        if name != "reformer":  # whose queries may share no stretch with any token that is there
            torch.testing.assert_close(sums, here.float())


@EVERY_KERNEL
def test_a_kernel_is_the_same_after_a_round_trip_of_its_state(name: str) -> None:
    found, other = kernel(name), copy.deepcopy(kernel(name))
    with torch.no_grad():
        for buffer in other.buffers():
            buffer.zero_()
    other.load_state_dict(found.state_dict())
    given = sequences(found)
    assert torch.equal(other(*given, some_mask()), found(*given, some_mask()))


@pytest.mark.parametrize("name", ["softmax", "linear", "performer"])
def test_a_kernel_can_be_exported_for_any_batch_size(name: str) -> None:
    found = kernel(name)
    given = (*sequences(found, queries=1), some_mask(kind="per_head"))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(found, given, dynamic_shapes=({0: batch},) * 4)
    part = tuple(x[:1] for x in given)
    torch.testing.assert_close(program.module()(*part), found(*part))


def test_an_unknown_kernel_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"kernel 'spline': expected one of linear, performer"):
        attention_kernel("spline", HEADS, WIDTH)
    with pytest.raises(ValueError, match="0 heads of width 4: expected positive integers"):
        SoftmaxKernel(0, 4)
    with pytest.raises(ValueError, match="n_features 0: expected a positive integer"):
        PerformerKernel(1, 4, n_features=0)
    with pytest.raises(ValueError, match="bucket_size 0, rounds 4: expected positive integers"):
        ReformerKernel(1, 4, bucket_size=0)


@pytest.mark.parametrize("causal", [False, True], ids=["all_pairs", "causal"])
def test_what_linear_attention_stores_for_the_backward_pass_grows_like_the_sequence(
    causal: bool,
) -> None:
    found = LinearKernel(1, 8)
    stored = []
    for tokens in (256, 1024):
        seen: dict[int, int] = {}

        def note(x: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            inputs = [torch.randn(1, 1, tokens, 8, requires_grad=True) for _ in range(3)]
            attended = found(*inputs, torch.ones(1, tokens, dtype=torch.bool), causal)
        stored.append(sum(seen.values()))
        attended.sum().backward()
    assert 3.5 < stored[1] / stored[0] < 4.5
    assert stored[1] < 40 * 1024 * 8 * 4  # some tens of arrays of (N, d), none of (N, d, d)
