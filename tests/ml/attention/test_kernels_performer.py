"""Performer's features: orthogonal, drawn from a seed, and nearer to softmax the more of them there are."""

from __future__ import annotations

import torch

from ml.attention.kernels import PerformerKernel, SoftmaxKernel
from ml.attention.kernels.performer import orthogonal_features

WIDTH = 8


def queries_and_keys(scale: float, tokens: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(  # type: ignore[return-value]
        scale * torch.randn(2, 1, tokens, WIDTH, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )


def distance(n_features: int, scale: float, seeds: int = 12) -> float:
    """Mean total variation between its rows and those of softmax, over draws."""
    query, key = queries_and_keys(scale)
    mask = torch.ones(2, 60, dtype=torch.bool)
    exact = SoftmaxKernel(1, WIDTH).weights(query, key, mask)
    found = [
        PerformerKernel(1, WIDTH, seed, n_features).double().weights(query, key, mask)
        for seed in range(seeds)
    ]
    return float(torch.stack([(w - exact).abs().sum(-1).mean() / 2 for w in found]).mean())


def test_the_error_against_softmax_falls_with_the_number_of_features() -> None:
    errors = [distance(n_features, scale=0.6) for n_features in (16, 64, 256, 1024)]
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2] > 1.5**3 * errors[3]
    assert errors[3] < 0.04


def test_the_error_against_softmax_grows_with_the_size_of_the_logits() -> None:
    assert distance(64, scale=0.4) < 0.05 < 0.3 < distance(64, scale=2.5)


def test_the_features_estimate_the_softmax_kernel_without_bias() -> None:
    query, key = queries_and_keys(0.3, tokens=5)
    exact = torch.exp(query @ key.mT / WIDTH**0.5)
    w = orthogonal_features(1, 40_000, WIDTH, seed=0)
    y = [x / WIDTH**0.25 for x in (query, key)]
    phi = [torch.exp(x @ w.mT - x.square().sum(-1, keepdim=True) / 2) for x in y]
    torch.testing.assert_close(phi[0] @ phi[1].mT / w.shape[1], exact, rtol=0.03, atol=0)


def test_features_are_orthogonal_in_blocks_with_the_lengths_of_gaussian_vectors() -> None:
    w = orthogonal_features(2, 20, WIDTH, seed=3)
    assert w.shape == (2, 20, WIDTH)
    for block in (w[:, :8], w[:, 8:16], w[:, 16:]):
        angles = torch.nn.functional.normalize(block, dim=-1)
        gram = angles @ angles.mT
        torch.testing.assert_close(gram, torch.eye(block.shape[1]).double().expand_as(gram))
    many = orthogonal_features(1, 40_000, WIDTH, seed=0)
    assert abs(float(many.square().sum(-1).mean()) - WIDTH) < 0.1
    assert many.mean(1).abs().max() < 0.03


def test_the_same_seed_draws_the_same_features_and_another_does_not() -> None:
    query, key = queries_and_keys(1.0)
    mask = torch.ones(2, 60, dtype=torch.bool)
    found = PerformerKernel(1, WIDTH, seed=1).double()
    before = found.weights(query, key, mask)
    found.redraw(2)
    other = PerformerKernel(1, WIDTH, seed=2).double()
    assert (found.weights(query, key, mask) - before).abs().max() > 1e-3
    torch.testing.assert_close(
        found.weights(query, key, mask), other.weights(query, key, mask), rtol=1e-5, atol=1e-7
    )
    found.redraw(1)
    torch.testing.assert_close(found.weights(query, key, mask), before, rtol=1e-5, atol=1e-7)


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    PerformerKernel(2, 4, seed=9).redraw(3)
    assert torch.equal(torch.rand(2), expected)
