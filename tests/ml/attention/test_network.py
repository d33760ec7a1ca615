"""What the network promises by construction: anchor at the start, bounded residual, rising quantiles, honest masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ml.attention.network import (
    AttentionNetwork,
    NetworkConfig,
    ResidualForecaster,
    TokenShape,
    monotone_quantiles,
)

SHAPES = {
    "calendar": TokenShape(1, 3, "forecast"),
    "price_daily": TokenShape(4, 5, "daily"),
    "funding": TokenShape(1, 2, "context"),
    "onchain": TokenShape(1, 6, "context"),
}
SIZES = {"d_model": 8, "n_layers": 2, "dropout": 0.0}
CONFIG = NetworkConfig(n_heads=2, head_scales=("daily", "context"), **SIZES)  # type: ignore[arg-type]
BASE = torch.tensor([[-1.0, -0.5, 0.1, 0.4, 2.0]] * 3, dtype=torch.float64)


def network(seed: int = 0, config: NetworkConfig = CONFIG) -> AttentionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttentionNetwork(config, SHAPES, horizons=3, levels=5).double()


def with_any_weights(
    seed: int = 0, scale: float = 1.0, config: NetworkConfig = CONFIG
) -> AttentionNetwork:
    found = network(seed, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += scale * noise
    return found.eval()


def batch(size: int = 6, scale: float = 1.0) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(7)
    inputs = {
        group: scale
        * torch.randn(size, s.tokens, s.width, generator=generator, dtype=torch.float64)
        for group, s in SHAPES.items()
    }
    return inputs, torch.ones(size, 7, dtype=torch.bool)


def test_the_untrained_network_is_the_anchor_with_the_base_quantiles() -> None:
    untrained = network()
    untrained.set_base_quantiles(BASE)
    residual, offsets = untrained(*batch())
    assert residual.abs().max() == 0
    torch.testing.assert_close(offsets, BASE.expand(6, 3, 5))


def test_the_residual_never_exceeds_its_cap() -> None:
    residual, _ = with_any_weights(scale=50.0)(*batch(scale=1000.0))
    assert residual.abs().max() <= CONFIG.residual_cap
    assert residual.abs().max() > 0.9 * CONFIG.residual_cap


def test_quantiles_rise_for_any_weights() -> None:
    _, offsets = with_any_weights(scale=5.0)(*batch(scale=10.0))
    assert (offsets.diff(dim=-1) >= 0).all()
    assert (monotone_quantiles(torch.randn(100, 3, 11) * 30).diff(dim=-1) >= 0).all()


def test_a_masked_token_has_weight_zero_and_its_values_change_nothing() -> None:
    found, (inputs, mask) = with_any_weights(), batch()
    mask[:, 5] = False  # funding
    before = found(inputs, mask)
    for layer in found.attention(inputs, mask):
        assert layer[..., 5].abs().max() == 0
        torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))
    inputs["funding"] = inputs["funding"] + 100.0
    for old, new in zip(before, found(inputs, mask), strict=True):
        assert torch.equal(old, new)


def test_a_head_attends_to_its_own_scale_and_the_forecast_token_alone() -> None:
    scales = ("daily", "hourly", "context", "all")
    config = NetworkConfig(n_heads=4, head_scales=scales, **SIZES)  # type: ignore[arg-type]
    found, (inputs, mask) = with_any_weights(config=config), batch()
    mask[:, 5] = False  # funding
    seen = [[0, 1, 2, 3, 4], [0], [0, 6], [0, 1, 2, 3, 4, 6]]  # there are no hourly tokens
    for layer in found.attention(inputs, mask):
        torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))
        for head, tokens in enumerate(seen):
            assert (layer[:, head] > 0).any(dim=0).any(dim=0).nonzero().flatten().tolist() == tokens
            assert (layer[:, head][..., tokens] > 0).all()


def test_a_token_that_is_there_changes_the_forecast() -> None:
    found, (inputs, mask) = with_any_weights(), batch()
    before = found(inputs, mask)[0]
    inputs["funding"] = inputs["funding"] + 1.0
    assert (found(inputs, mask)[0] - before).abs().min() > 0


def test_the_exported_weights_are_those_that_the_forward_pass_uses() -> None:
    found, (inputs, mask) = with_any_weights(), batch()
    x = found.tokens(inputs)
    first = found.layers[0]
    weights = found.attention(inputs, mask)[0]
    normed = first.attention_norm(x)
    value = first.attention._split(first.attention.key_value(normed).chunk(2, dim=-1)[1])
    by_weights = first.attention.output((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(by_weights, first.attention(normed, normed, found._keys(mask)))


def test_the_order_of_tokens_does_not_matter_when_their_positions_move_with_them() -> None:
    found, (inputs, mask) = with_any_weights(), batch()
    before = found(inputs, mask)[0]
    order = torch.tensor([2, 0, 3, 1])
    inputs["price_daily"] = inputs["price_daily"][:, order]
    with torch.no_grad():
        found.position[1:5] = found.position[1:5][order].clone()
    torch.testing.assert_close(found(inputs, mask)[0], before)


def test_one_forecast_does_not_read_another_of_its_batch() -> None:
    found, (inputs, mask) = with_any_weights(), batch()
    together = found(inputs, mask)[0]
    alone = found({group: x[2:3] for group, x in inputs.items()}, mask[2:3])[0]
    torch.testing.assert_close(alone[0], together[2])


def forecaster(shrinkage: list[float]) -> ResidualForecaster:
    factors = torch.tensor(shrinkage, dtype=torch.float64)
    networks = [with_any_weights(seed) for seed in (0, 1)]
    return ResidualForecaster(networks, BASE, factors, factors, torch.zeros_like(BASE)).eval()


def test_shrinkage_zero_gives_the_anchor_and_the_base_quantiles_exactly() -> None:
    inputs, mask = batch()
    anchor = torch.randn(6, 3, dtype=torch.float64)
    point, quantiles = forecaster([0.0, 1.0, 0.0])(inputs, mask, anchor)
    assert torch.equal(point[:, 0], anchor[:, 0])
    assert torch.equal(point[:, 2], anchor[:, 2])
    assert not torch.equal(point[:, 1], anchor[:, 1])
    torch.testing.assert_close(quantiles[:, 0], anchor[:, :1] + BASE[0])


def test_an_ensemble_averages_residuals_and_shows_all_heads() -> None:
    inputs, mask = batch()
    found = forecaster([1.0, 1.0, 1.0])
    anchor = torch.zeros(6, 3, dtype=torch.float64)
    each = [network(inputs, mask)[0] for network in found.networks]
    torch.testing.assert_close(found(inputs, mask, anchor)[0], (each[0] + each[1]) / 2)
    assert [layer.shape[1] for layer in found.attention(inputs, mask)] == [4, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 3}, r"n_heads 3: must divide d_model 16"),
        ({"n_heads": 2}, r"head_scales \(.*\): expected one for each of 2 heads"),
        ({"head_scales": ("daily", "weekly", "context", "all")}, r"head_scales 'weekly': expected"),
        ({"d_model": 0}, r"d_model 0: expected a positive integer"),
        ({"residual_cap": -0.1}, r"residual_cap -0.1: expected a number in \(0, 2\]"),
        ({"dropout": 1.0}, r"dropout 1.0: expected a share"),
        ({"kernel": "spline"}, r"kernel 'spline'"),
    ],
)
def test_a_bad_size_is_an_error_that_quotes_it(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)  # type: ignore[arg-type]
