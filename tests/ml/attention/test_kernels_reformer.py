"""What Reformer's weights mean: softmax over the tokens that share a bucket in some round, each of them counted once."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ml.attention.kernels import ReformerKernel

WIDTH, TOKENS = 4, 160


def vectors(tokens: int = TOKENS, scale: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return scale * torch.randn(2, 1, tokens, WIDTH, generator=generator, dtype=torch.float64)


def everything(tokens: int = TOKENS) -> Tensor:
    return torch.ones(2, tokens, dtype=torch.bool)


def kernel(bucket_size: int = 16, rounds: int = 3, seed: int = 0) -> ReformerKernel:
    return ReformerKernel(1, WIDTH, seed, bucket_size, rounds).double()


def shared_softmax(x: Tensor, seen: Tensor) -> Tensor:
    """Softmax of x_i'x_j / (|x_j| sqrt(d)) over the seen pairs; oneself only where nothing else is seen."""
    logits = x @ (x / x.norm(dim=-1, keepdim=True)).mT / math.sqrt(WIDTH)
    itself = torch.eye(x.shape[2], dtype=torch.bool)
    alone = ~(seen & ~itself).any(-1, keepdim=True)
    seen = seen & (~itself | alone)
    return torch.softmax(logits.masked_fill(~seen, -torch.inf), dim=-1)


@pytest.mark.parametrize("causal", [False, True])
def test_with_one_bucket_it_is_shared_query_key_softmax_exactly(causal: bool) -> None:
    x = vectors(16)
    pairs = torch.ones(16, 16, dtype=torch.bool)
    expected = shared_softmax(x, pairs.tril() if causal else pairs)
    found = kernel().weights(x, x, everything(16), causal)
    torch.testing.assert_close(found, expected)
    attended = kernel()(x, x, x, everything(16), causal)
    torch.testing.assert_close(attended, expected @ x)
    if causal:
        assert (found[:, :, 0, 0] == 1).all()  # the first token sees no other


def test_the_weights_are_softmax_over_the_union_of_what_the_rounds_see() -> None:
    x, found = vectors(), kernel()
    bucket = found._places(x, everything(), False)[0] // 2  # only to see that buckets are several
    assert bucket.unique().numel() > 5
    single = [kernel(rounds=1) for _ in range(3)]
    for r, one in enumerate(single):
        one.rotations.copy_(found.rotations[r : r + 1])
    union = torch.stack([one.seen_pairs(x, everything(), TOKENS) for one in single]).any(dim=0)
    assert 0.05 < union.double().mean() < 0.9
    torch.testing.assert_close(found.weights(x, x, everything()), shared_softmax(x, union))
    torch.testing.assert_close(found(x, x, x, everything()), shared_softmax(x, union) @ x)


def test_a_token_sees_those_of_its_hash_value_in_its_stretch_and_the_ones_beside_it() -> None:
    x, found = vectors(), kernel(rounds=1)
    buckets = 10  # 160 tokens in buckets of about 16
    rotated = x @ found.rotations[0, :, :, : buckets // 2]
    value = torch.cat([rotated, -rotated], dim=-1).argmax(-1)  # (batch, head, token)
    same = value[..., None] == value[:, :, None]
    rank = (same & torch.ones(TOKENS, TOKENS).tril(-1).bool()).sum(-1)  # earlier ones in the bucket
    near = (rank[..., None] // 16 - rank[:, :, None] // 16).abs() <= 1
    assert torch.equal(found.seen_pairs(x, everything(), TOKENS), same & near)
    assert (same & ~near).any() or int(rank.max()) < 32


def test_a_masked_token_takes_no_room_in_a_stretch() -> None:
    x = vectors().repeat(1, 1, 4, 1)[:, :, : 4 * TOKENS]
    x[:, :, :] = x[:, :, :1]  # one bucket for all
    mask = everything(4 * TOKENS)
    mask[:, : 3 * TOKENS] = False
    mask[:, 0] = True
    few = kernel(bucket_size=TOKENS + 1, rounds=1)
    _, keys = few.coverage(x[:, :, :1], x, mask)
    assert (keys == 1).all()


def test_coverage_is_the_share_of_mass_and_of_keys_that_a_row_sees() -> None:
    x, found, mask = vectors(), kernel(), everything()
    mask[:, 5:30] = False
    mass, keys = found.coverage(x, x, mask)
    full = shared_softmax(x, mask[:, None, None].expand(-1, -1, TOKENS, -1))
    weights = found.weights(x, x, mask)
    seen = found.seen_pairs(x, mask, TOKENS)
    torch.testing.assert_close(mass, (full * seen).sum(-1))
    torch.testing.assert_close(keys, (seen & mask[:, None, None]).sum(-1) / 135)
    torch.testing.assert_close(weights * mass[..., None], full * seen, rtol=1e-6, atol=1e-9)
    assert 0 < mass.min() < mass.max() <= 1
    assert mass.mean() > keys.mean()  # hashing finds the tokens that matter
    for share in kernel(bucket_size=TOKENS).coverage(x, x, mask):
        torch.testing.assert_close(share, torch.ones_like(share))


def test_more_rounds_see_more_of_the_softmax() -> None:
    x = vectors()
    masses = [float(kernel(rounds=r).coverage(x, x, everything())[0].mean()) for r in (1, 2, 4, 8)]
    assert masses == sorted(masses)
    assert masses[-1] > masses[0] + 0.1


def test_the_same_seed_hashes_alike_and_the_hashes_are_in_the_state() -> None:
    x = vectors()
    weights = [kernel(seed=seed).weights(x, x, everything()) for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    other = kernel(seed=1)
    other.load_state_dict(kernel(seed=0).state_dict())
    assert torch.equal(other.weights(x, x, everything()), weights[0])


def test_a_single_query_of_the_first_token_sees_what_it_sees_among_all() -> None:
    x, found = vectors(), kernel()
    one = found.weights(x[:, :, :1], x, everything())
    torch.testing.assert_close(one, found.weights(x, x, everything())[:, :, :1])
    assert 0 < (one > 0).double().mean() < 0.9
    assert one[..., 0].abs().max() == 0  # itself, as it sees others
