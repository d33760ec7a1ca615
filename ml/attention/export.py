"""Export: a fitted forecaster goes in, one graph from scaled tokens to quantiles comes out, as bytes that an artefact can hold.

The graph is the whole ensemble with its shrinkage and conformal shifts, in single precision and for one forecast at a time:
torch.export traces it, OpenVINO translates the trace (the fastest of the runtimes tried, docs/benchmarks.md), and names and
notes that vary from run to run are stripped, so that the same weights give the same bytes. The anchor is no input: `GraphRunner`
adds it. The widening of quantiles where a coin misses a modality comes after it too, since the graph knows no coins.

`export_graph` runs the finished bytes on real forecasts against the eager model in double precision before it returns; a
graph that departs by more than the tolerance is never returned.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from ml.attention.network import ResidualForecaster
from ml.attention.runtime import (
    MASK,
    TOLERANCE,
    ExportError,
    GraphRunner,
    InferenceGraph,
    runtime,
)
from ml.explain.protocol import TokenBatch

FloatArray = NDArray[np.float64]
KEPT_EXAMPLES = 4
"""Forecasts that go into the artefact, once as they are, once with their forecast token alone, once without any token."""
EXPORTED_KERNELS = ("softmax", "linear", "performer")
"""Kernels whose forecasters are exported. Reformer's hash buckets flip on rounding: such a model runs eagerly."""


ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
"""OpenVINO's own gives NaN for a head whose every token is masked, PyTorch's gives 0: it is translated part by part."""


def graph_refusal(kernel: str) -> str | None:
    """Why forecasters of that kernel are not exported, and run eagerly in double precision instead; None if they are."""
    if kernel in EXPORTED_KERNELS:
        return None
    return f"kernel {kernel!r} is not exported: expected one of {', '.join(EXPORTED_KERNELS)}"


def export_graph(
    forecaster: ResidualForecaster, examples: TokenBatch, tolerance: float = TOLERANCE
) -> InferenceGraph:
    """The forecaster's graph, checked on `examples` (real forecasts, at least one, on any device), and on the first of them
    without any token but the forecast's own, and without that one too.

    Raises ExportError when the graph departs from the eager model by more than `tolerance` on any of these.
    """
    if len(examples) < 1:
        raise ValueError("no example: expected at least one forecast to check the graph on")
    kept = _with_gaps(examples.rows(0, KEPT_EXAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its tree classes
        program = trace(forecaster, examples)
        graph = _translate(program, kept, _residual(forecaster, kept))
    found = departure(GraphRunner(graph), forecaster, examples)
    if not found <= tolerance:
        raise ExportError(
            f"exported graph departs from the model by {found:.3g}: expected at most {tolerance:g}"
        )
    return graph


def departure(runner: GraphRunner, forecaster: ResidualForecaster, batch: TokenBatch) -> float:
    """Largest absolute difference of a log variance or log quantile between graph and eager model."""
    point, quantiles = runner.run_all(*arrays(batch))
    found = np.concatenate([point[..., None], quantiles], axis=-1)
    eager = batch.anchor.cpu().double().numpy()[..., None] + _residual(forecaster, batch)
    return float(np.abs(found - eager).max())


def _residual(forecaster: ResidualForecaster, batch: TokenBatch) -> FloatArray:
    """(B, H, 1 + Q) by the eager model, in double precision, with the true anchors, which are then taken off."""
    double = copy.deepcopy(forecaster).cpu().double().eval()
    inputs = {group: values.cpu().double() for group, values in batch.inputs.items()}
    anchor = batch.anchor.cpu().double()
    with torch.no_grad():
        point, quantiles = double(inputs, batch.mask.cpu(), anchor)
    both = torch.cat([point[..., None], quantiles], dim=-1) - anchor[..., None]
    found: FloatArray = both.numpy()
    return found


def _with_gaps(batch: TokenBatch) -> TokenBatch:
    """The forecasts as they are, with their forecast token alone, and without any token."""
    alone = torch.zeros_like(batch.mask)
    alone[:, 0] = True
    masks = torch.cat([batch.mask, alone, torch.zeros_like(batch.mask)])
    return TokenBatch(
        inputs={group: values.repeat(3, 1, 1) for group, values in batch.inputs.items()},
        mask=masks,
        anchor=batch.anchor.repeat(3, 1),
        days=np.tile(batch.days, 3),
        assets=np.tile(batch.assets, 3),
    )


def arrays(batch: TokenBatch) -> tuple[dict[str, Any], Any, Any]:
    """What `GraphRunner` takes: inputs float32, mask, anchor float64, on the CPU."""
    inputs = {group: values.cpu().float().numpy() for group, values in batch.inputs.items()}
    return inputs, batch.mask.cpu().numpy(), batch.anchor.cpu().double().numpy()


class Residual(nn.Module):
    """The forecaster less its anchor: inputs, mask (B, token) -> (B, H, 1 + Q), the log variance first."""

    anchor: Tensor

    def __init__(self, forecaster: ResidualForecaster) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.register_buffer("anchor", torch.zeros(1, forecaster.shrinkage.shape[0]))

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        point, quantiles = self.forecaster(inputs, mask, self.anchor)
        return torch.cat([point[..., None], quantiles], dim=-1)


def trace(forecaster: ResidualForecaster, examples: TokenBatch) -> ExportedProgram:
    """torch.export's graph of `Residual` in single precision, shaped as the first example."""
    module = Residual(copy.deepcopy(forecaster)).cpu().float().eval()
    inputs, mask, _ = arrays(examples.rows(0, 1))
    tensors = {group: torch.from_numpy(values) for group, values in inputs.items()}
    with torch.no_grad():
        return torch.export.export(module, (tensors, torch.from_numpy(mask)))


def _translate(
    program: ExportedProgram, examples: TokenBatch, expected: FloatArray
) -> InferenceGraph:
    """OpenVINO's form of a traced `Residual`."""
    openvino = runtime()
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

    table = torch.export.default_decompositions()
    for operator in ops_to_not_decompose():  # those that OpenVINO knows whole
        if operator in table and operator is not ATTENTION:
            table.pop(operator)  # type: ignore[no-untyped-call]
    table[torch.ops.aten.mean.dim] = _plain_mean
    with torch.no_grad():
        module = program.run_decompositions(table).module()
    model = openvino.convert_model(TorchFXPythonDecoder(module, dynamic_shapes=False))
    leaves, _ = torch.utils._pytree.tree_flatten(program.example_inputs[0])
    names = [*program.example_inputs[0][0], MASK]
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    model.reshape({port: list(leaf.shape) for port, leaf in zip(model.inputs, leaves, strict=True)})
    with tempfile.TemporaryDirectory() as folder:
        network, weights = Path(folder) / "graph.xml", Path(folder) / "graph.bin"
        openvino.serialize(model, str(network), str(weights))
        content = _plain(network.read_bytes()), weights.read_bytes()
    inputs, mask, _ = arrays(examples)
    return InferenceGraph(*content, examples=inputs | {MASK: mask}, expected=expected)


def _plain_mean(
    x: Tensor, dim: list[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """The mean over one short axis, by additions.

    OpenVINO 2026.4 computes a product with one factor per horizon wrongly where it fuses it into the mean over the ensemble.
    """
    if dim is None or len(dim) != 1 or dtype is not None:
        raise NotImplementedError(f"mean over {dim} as {dtype}: expected one axis in an export")
    parts = x.unbind(dim[0])
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    mean = total / len(parts)
    return mean.unsqueeze(dim[0]) if keepdim else mean


def _plain(network: bytes) -> bytes:
    """The graph without what varies from run to run or names the program that wrote it: layer names, notes, blanks."""
    root = ElementTree.fromstring(network)  # noqa: S314
    root.set("name", "residual")
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip(), None
        for notes in element.findall("rt_info"):
            element.remove(notes)
    for layer in root.iter("layer"):
        if layer.get("type") == "Parameter":
            continue  # found by their names
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
        for port in layer.iter("port"):
            port.attrib.pop("names", None)
    return bytes(ElementTree.tostring(root, encoding="utf-8"))
