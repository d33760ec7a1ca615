"""What the network promises by construction: anchor at the start, bounded residual, rising quantiles, honest masks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ml.attention.kernels import KERNELS
from ml.attention.network import (
    GATE_START,
    HEAD_SCALES,
    TOKEN_SCALES,
    AttentionNetwork,
    NetworkConfig,
    ResidualForecaster,
    TokenShape,
    monotone_quantiles,
    running_maximum,
)
from ml.attention.tails import outer_quantiles, splice

SHAPES = {
    "calendar": TokenShape(1, 3, "forecast"),
    "price_daily": TokenShape(4, 5, "daily"),
    "funding": TokenShape(1, 2, "context"),
    "onchain": TokenShape(1, 6, "context"),
}
SIZES = {"d_model": 8, "n_layers": 2, "dropout": 0.0}
CONFIG = NetworkConfig(n_heads=2, head_scales=("daily", "context"), **SIZES)  # type: ignore[arg-type]
TAILS = torch.tensor([[0.0, -0.7, 6.0, 0.2]] * 3, dtype=torch.float64)
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
    untrained.set_base_tails(TAILS)
    residual, offsets, tails = untrained(*batch())
    assert residual.abs().max() == 0
    torch.testing.assert_close(offsets, BASE.expand(6, 3, 5))
    torch.testing.assert_close(tails, TAILS.expand(6, 3, 4))


def test_the_residual_never_exceeds_its_cap() -> None:
    residual, _, _ = with_any_weights(scale=50.0)(*batch(scale=1000.0))
    assert residual.abs().max() <= CONFIG.residual_cap
    assert residual.abs().max() > 0.9 * CONFIG.residual_cap


def test_quantiles_rise_for_any_weights() -> None:
    _, offsets, _ = with_any_weights(scale=5.0)(*batch(scale=10.0))
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


EVERY_KERNEL = pytest.mark.parametrize("kernel", sorted(KERNELS))


@EVERY_KERNEL
def test_every_kernel_reads_masked_tokens_never_and_starts_at_the_anchor(kernel: str) -> None:
    config = replace(CONFIG, kernel=kernel)
    inputs, mask = batch()
    mask[:, 5] = False
    untrained = network(config=config)
    assert untrained(inputs, mask)[0].abs().max() == 0
    found = with_any_weights(config=config)
    before = found(inputs, mask)
    moved = {**inputs, "funding": inputs["funding"] + 100.0}
    for old, new in zip(before, found(moved, mask), strict=True):
        torch.testing.assert_close(old, new, rtol=1e-12, atol=1e-12)
    seen = {**inputs, "onchain": inputs["onchain"] + 1.0}
    assert (found(seen, mask)[0] - before[0]).abs().max() > 1e-6
    for layer in found.attention(inputs, mask):
        torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))
        assert layer[..., 5].abs().max() == 0


@pytest.mark.parametrize("kernel", ["performer", "reformer"])
def test_a_kernels_random_numbers_come_from_their_seed_and_are_in_the_state(kernel: str) -> None:
    one, other = (
        network(config=replace(CONFIG, kernel=kernel, kernel_seed=seed)) for seed in (1, 2)
    )
    (name,) = {"projection", "rotations"} & {key.split(".")[-1] for key in one.state_dict()}
    drawn = [
        found.state_dict()[f"layers.{layer}.attention.kernel.{name}"]
        for found in (one, network(config=replace(CONFIG, kernel=kernel, kernel_seed=1)), other)
        for layer in (0, 1)
    ]
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[4])  # layer 1 of seed 1 is layer 0 of seed 2
    assert not torch.equal(drawn[0], drawn[4])
    other.load_state_dict(one.state_dict())
    inputs, mask = batch()
    for old, new in zip(one.attention(inputs, mask), other.attention(inputs, mask), strict=True):
        assert torch.equal(old, new)


GATED = replace(CONFIG, modality_gates=True)


def test_a_gate_of_zero_is_the_group_masked_and_a_gate_of_one_is_no_gate() -> None:
    inputs, mask = batch()
    gated, plain = with_any_weights(config=GATED), with_any_weights()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if k != "gate"})
    without = mask.clone()
    without[:, 5] = False  # funding
    for gates, expected in (((1.0, 1.0), mask), ((0.0, 1.0), without)):
        with torch.no_grad():
            gated.gate.copy_(torch.tensor(gates))
        for left, right in zip(gated(inputs, mask), plain(inputs, expected), strict=True):
            torch.testing.assert_close(left, right)
    assert gated.attention(inputs, mask)[0][..., 5].abs().max() == 0


@EVERY_KERNEL
def test_a_smaller_gate_gives_a_group_less_attention(kernel: str) -> None:
    inputs, mask = batch()
    found = with_any_weights(config=replace(GATED, kernel=kernel))
    shares = []
    for gate in (0.0, 0.1, 0.5, 1.0):
        with torch.no_grad():
            found.gate.copy_(torch.tensor([gate, 1.0]))
        shares.append(found.attention(inputs, mask)[0][:, 1, 0, 5].mean().item())
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[3] > shares[1] > 0


def test_the_gate_penalty_is_the_sum_of_the_gates_and_every_gate_learns() -> None:
    inputs, mask = batch()
    found = with_any_weights(scale=0.3, config=GATED)
    with torch.no_grad():
        found.gate.fill_(GATE_START)
    assert list(found.gates()) == ["funding", "onchain"]
    torch.testing.assert_close(found.gate_penalty().item(), 2 * GATE_START)
    found(inputs, mask)[0].sum().backward()
    assert (found.gate.grad.abs() > 0).all()
    assert network().gate is None
    assert network().gate_penalty().item() == 0
    assert network().gates() == {}


def test_a_token_group_of_an_unknown_scale_is_an_error_that_quotes_it() -> None:
    shapes = {**SHAPES, "price_minute": TokenShape(2, 3, "minute")}
    with pytest.raises(ValueError, match="scale 'minute' of token group 'price_minute'"):
        AttentionNetwork(CONFIG, shapes, horizons=3, levels=5)


def test_every_head_scale_reads_known_token_scales() -> None:
    assert all(set(read) <= set(TOKEN_SCALES) for read in HEAD_SCALES.values())
    shapes = {
        "calendar": TokenShape(1, 3, "forecast"),
        **{scale: TokenShape(1, 2, scale) for scale in TOKEN_SCALES[1:]},
    }
    config = NetworkConfig(n_heads=6, d_model=12, head_scales=tuple(HEAD_SCALES))
    seen = AttentionNetwork(config, shapes, horizons=3, levels=5).head_tokens
    assert seen.int().tolist() == [
        [1, 1, 0, 0, 0, 0],  # intraday
        [1, 0, 1, 0, 0, 0],  # daily
        [1, 0, 0, 1, 1, 0],  # macro: weekly and context
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1],
    ]


def test_a_head_attends_to_its_own_scale_and_the_forecast_token_alone() -> None:
    scales = ("daily", "intraday", "macro", "all")
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


@EVERY_KERNEL
def test_the_mean_of_the_heads_weights_is_what_a_layer_does(kernel: str) -> None:
    found, (inputs, mask) = with_any_weights(config=replace(CONFIG, kernel=kernel)), batch()
    x = found.tokens(inputs)
    first = found.layers[0]
    weights = found.attention(inputs, mask)[0]
    normed = first.attention_norm(x)
    by_mean_weights = weights.mean(dim=1) @ first.attention.value(normed)
    torch.testing.assert_close(by_mean_weights, first.attention(normed, normed, found._keys(mask)))


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


QUANTILES = torch.tensor(
    [[-1.6, -1.2, -0.95, -0.7, -0.35, -0.02, 0.34, 0.74, 1.0, 1.25, 1.7]] * 3, dtype=torch.float64
)


def tailed(
    tail_use: list[float],
    shrinkage: float = 1.0,
    scale: float = 1.0,
    config: NetworkConfig = CONFIG,
) -> ResidualForecaster:
    """Two networks of 11 levels; the outermost quantiles from the tails where tail_use is 1."""
    networks = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            one = AttentionNetwork(config, SHAPES, horizons=3, levels=11).double()
            one.set_base_quantiles(QUANTILES)
            one.set_base_tails(TAILS)
            for parameter in one.parameters():
                parameter.data += scale * 0.3 * torch.randn_like(parameter)
        networks.append(one.eval())
    factor = torch.full((3,), shrinkage, dtype=torch.float64)
    shift = torch.zeros_like(QUANTILES)
    use = torch.tensor(tail_use, dtype=torch.float64)
    return ResidualForecaster(networks, QUANTILES, factor, factor, shift, TAILS, use).eval()


def test_the_outermost_quantiles_come_from_the_tails_and_quantiles_rise() -> None:
    inputs, mask = batch()
    anchor = torch.randn(6, 3, dtype=torch.float64)
    none, some = (tailed(use)(inputs, mask, anchor) for use in ([0, 0, 0], [1, 0, 1]))
    assert torch.equal(none[0], some[0])
    torch.testing.assert_close(some[1][..., 2:-2], none[1][..., 2:-2])
    torch.testing.assert_close(some[1][:, 1], none[1][:, 1])
    assert (
        some[1][:, [0, 2]][..., [0, 1, -2, -1]] - none[1][:, [0, 2]][..., [0, 1, -2, -1]]
    ).abs().min() > 0
    for scale in (1.0, 30.0):
        quantiles = tailed([1, 1, 1], scale=scale)(inputs, mask, anchor)[1]
        assert (quantiles.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("kernel", ["softmax", "linear"])
@pytest.mark.parametrize("gates", [False, True], ids=["no_gates", "gates"])
def test_a_forecaster_with_tails_and_gates_can_be_exported(kernel: str, gates: bool) -> None:
    found = tailed([1, 1, 1], config=replace(CONFIG, kernel=kernel, modality_gates=gates))
    inputs, mask = batch()
    anchor = torch.randn(6, 3, dtype=torch.float64)
    given = ({group: x.float() for group, x in inputs.items()}, mask, anchor.float())
    with torch.no_grad():
        program = torch.export.export(copy.deepcopy(found).float(), given)
        for left, right in zip(program.module()(*given), found(inputs, mask, anchor), strict=True):
            assert (left.double() - right).abs().max() < 1e-5


def test_the_running_maximum_is_that_of_torch() -> None:
    x = torch.randn(50, 3, 11)
    assert torch.equal(running_maximum(x), torch.cummax(x, dim=-1).values)


def test_shrinkage_zero_gives_the_base_tails_exactly() -> None:
    inputs, mask = batch()
    anchor = torch.zeros(6, 3, dtype=torch.float64)
    quantiles = tailed([1, 1, 1], shrinkage=0.0)(inputs, mask, anchor)[1]
    expected = splice(QUANTILES, outer_quantiles(TAILS))
    torch.testing.assert_close(quantiles, expected.expand(6, 3, 11))


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
        ({"n_heads": 3}, r"n_heads 3: must divide d_model 20"),
        ({"n_heads": 2}, r"head_scales \(.*\): expected one for each of 2 heads"),
        (
            {"head_scales": ("daily", "hourly", "macro", "all", "all")},
            r"head_scales 'hourly': expected",
        ),
        ({"d_model": 0}, r"d_model 0: expected a positive integer"),
        ({"residual_cap": -0.1}, r"residual_cap -0.1: expected a number in \(0, 2\]"),
        ({"dropout": 1.0}, r"dropout 1.0: expected a share"),
        ({"kernel": "spline"}, r"kernel 'spline'"),
    ],
)
def test_a_bad_size_is_an_error_that_quotes_it(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)  # type: ignore[arg-type]
