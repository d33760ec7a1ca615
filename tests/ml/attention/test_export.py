"""The exported graph gives the model's numbers and the same bytes every time, or is not given at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
import torch

from ml.attention.export import ExportError, departure, export_graph, graph_refusal
from ml.attention.model import AttentionModel
from ml.attention.network import AttentionNetwork, NetworkConfig, ResidualForecaster, TokenShape
from ml.attention.runtime import GraphRunner
from ml.explain.protocol import TokenBatch
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED

SHAPES = {
    "calendar": TokenShape(1, 6, "forecast"),
    "price_daily": TokenShape(5, 4, "daily"),
    "price_hourly": TokenShape(3, 8, "hourly"),
    "onchain": TokenShape(1, 6, "context"),
}


def untrained(
    seeds: int = 2, layers: int = 2, kernel: str = "softmax", gates: bool = False
) -> ResidualForecaster:
    """Random weights everywhere, so that every part of the network says something."""
    torch.manual_seed(11)
    config = NetworkConfig(n_layers=layers, kernel=kernel, modality_gates=gates)
    networks = [AttentionNetwork(config, SHAPES, 3, 11) for _ in range(seeds)]
    for parameter in (p for network in networks for p in network.parameters()):
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    base = torch.linspace(-1, 1, 11).repeat(3, 1)
    shift = 0.3 * torch.randn(3, 11)  # disorderly: the graph must put the quantiles in order
    share = torch.tensor([1.0, 0.5, 0.0])
    tails = torch.tensor([[0.0, -0.5, 6.0, 0.2]]).repeat(3, 1)
    use = torch.tensor([1.0, 0.0, 1.0])
    parts = (base, share, share, shift, tails, use)
    return ResidualForecaster(networks, *parts).double().eval()


def random_batch(size: int, seed: int = 5) -> TokenBatch:
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        group: torch.randn(size, shape.tokens, shape.width, generator=generator).double()
        for group, shape in SHAPES.items()
    }
    mask = torch.rand(size, 10, generator=generator) > 0.3
    anchor = -8 + torch.randn(size, 3, generator=generator).double()
    return TokenBatch(inputs, mask, anchor, np.zeros(size, "datetime64[D]"), np.zeros(size, int))


def test_the_exported_graph_equals_eager_on_forecasts_that_it_was_not_made_with(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, [TRAINED + timedelta(days=k) for k in range(1, 9)])
    graph = export_graph(trained_model.forecaster, batch.rows(0, 3))
    assert departure(GraphRunner(graph), trained_model.forecaster, batch) < 1e-6


@pytest.mark.parametrize(
    ("seeds", "layers", "kernel", "gates"),
    [(2, 2, "softmax", True), (1, 1, "linear", False), (1, 2, "performer", True)],
)
def test_any_tokens_missing_disorderly_shifts_and_tails_equal_eager(
    seeds: int, layers: int, kernel: str, gates: bool
) -> None:
    forecaster, batch = untrained(seeds, layers, kernel, gates), random_batch(200)
    graph = export_graph(forecaster, batch.rows(0, 1))
    assert departure(GraphRunner(graph), forecaster, batch) < 5e-6
    _, quantiles = forecaster(batch.inputs, batch.mask, batch.anchor)
    _, found = GraphRunner(graph).run_all(
        {group: values.numpy() for group, values in batch.inputs.items()},
        batch.mask.numpy(),
        batch.anchor.numpy(),
    )
    assert (np.diff(found, axis=-1) >= 0).all()
    assert (np.diff(found, axis=-1) == 0).any()
    np.testing.assert_allclose(found, quantiles.detach().numpy(), atol=5e-6)


def in_another_process(code: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return other.stdout.split()


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes_in_another_process() -> None:
    graph = export_graph(untrained(1, 1), random_batch(1))
    printed = in_another_process(
        "import hashlib, tests.ml.attention.test_export as t;"
        "g = t.export_graph(t.untrained(1, 1), t.random_batch(1, seed=8));"
        "print(hashlib.sha256(g.network + g.weights).hexdigest())"
    )
    assert printed[-1] == hashlib.sha256(graph.network + graph.weights).hexdigest()


def test_the_same_weights_give_the_same_bytes_which_name_no_path_and_no_program() -> None:
    graph, again = (export_graph(untrained(1, 1), random_batch(1, seed)) for seed in (5, 8))
    assert (again.network, again.weights) == (graph.network, graph.weights)
    text = graph.network.decode().lower()
    for word in ("rt_info", "/tmp", ".py", "torch", "version_info", "conversion"):
        assert word not in text


def test_the_runtime_is_imported_without_its_usage_statistics() -> None:
    assert in_another_process(
        "import sys; from ml.attention.runtime import runtime; runtime();"
        "print(sum('openvino_telemetry' in n and m is not None for n, m in sys.modules.items()))"
    ) == ["0"]


def test_a_graph_that_departs_from_the_model_is_refused(
    trained_model: AttentionModel, planted: Panel
) -> None:
    batch = trained_model.encode(planted, [TRAINED + timedelta(days=1)])
    with pytest.raises(ExportError, match="departs from the model by"):
        export_graph(trained_model.forecaster, batch, tolerance=0.0)
    with pytest.raises(ValueError, match="no example: expected at least one forecast"):
        export_graph(trained_model.forecaster, batch.rows(0, 0))


def test_a_model_whose_numbers_are_not_finite_is_refused() -> None:
    forecaster = untrained(1, 1)
    forecaster.shift[0, 0] = torch.nan
    with pytest.raises(ExportError, match="own examples by nan"):
        export_graph(forecaster, random_batch(2))


def test_a_model_that_reads_its_anchor_cannot_be_exported_as_a_residual() -> None:
    class ReadsAnchor(ResidualForecaster):
        def forward(self, inputs, mask, anchor):  # type: ignore[no-untyped-def]
            point, quantiles = super().forward(inputs, mask, anchor)
            return 1.01 * point, quantiles

    plain = untrained(1, 1)
    parts = (plain.base, plain.shrinkage, plain.quantile_shrinkage, plain.shift)  # no tails
    forecaster = ReadsAnchor(list(plain.networks), *parts).double().eval()  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="own examples by"):
        export_graph(forecaster, random_batch(2))


def test_kernels_that_flip_on_rounding_are_not_exported() -> None:
    assert graph_refusal("softmax") is None
    assert "'reformer' is not exported" in str(graph_refusal("reformer"))


def test_exporting_leaves_the_forecaster_as_it_was() -> None:
    forecaster = untrained(1, 1)
    before = {name: value.clone() for name, value in forecaster.state_dict().items()}
    export_graph(forecaster, random_batch(1))
    after = forecaster.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert next(forecaster.parameters()).dtype == torch.float64
