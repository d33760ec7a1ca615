"""The exported graph as it runs: token arrays and an anchor go in, log variance and log quantiles of all horizons come out.

`InferenceGraph` is what an artefact stores: an OpenVINO graph and its weights as plain bytes, nothing executable. `GraphRunner`
compiles it for the CPU and runs one forecast at a time on one thread in single precision, so that a forecast's numbers depend
neither on the machine's core count nor on the forecasts beside it. Generated machine code differs from one processor to the
next, so the artefact also holds a few forecasts by the eager network: a runner reproduces them before it runs anything else. The anchor is added outside the graph, in double
precision: a residual of 0 gives exactly the anchor.

Never: a file, a network connection (OpenVINO's usage statistics are blocked before it is imported), or a fallback to
another runtime, whose last digits would differ.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
FORMAT = "OpenVINO IR 11, float32, batch 1"
"""What `InferenceGraph` holds; written into the artefact's document."""
TOLERANCE = 1e-5
"""Largest difference of a log variance or log quantile between the graph and the eager double-precision network."""
NETWORK, WEIGHTS, EXPECTED, EXAMPLE = (
    "graph.network",
    "graph.weights",
    "graph.expected",
    "graph.example.",
)
"""Names of the graph's tensors in a `ModelState`; the last is a prefix."""
SETTINGS = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": "1",
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",  # machines with AMX would fall to bfloat16 by themselves
    "ENABLE_CPU_PINNING": False,  # other processes share the cores
}
"""How the CPU plugin runs a graph."""
MASK = "mask"


class RuntimeMissingError(ImportError):
    """The runtime that runs exported graphs is not installed."""


class ExportError(ValueError):
    """A graph does not reproduce the network that it was made from."""


@dataclass(frozen=True)
class InferenceGraph:
    """One forecast as a graph. Inputs: every token group (1, tokens, width) float32 by its name, `mask` (1, token) bool.

    Its one output is (1, H, 1 + Q) float32, all relative to the anchor: the residual of the log variance, then the log quantiles.
    """

    network: bytes  # XML: layers and edges
    weights: bytes  # their constants
    examples: Mapping[str, NDArray[Any]]  # every input (K, ...) of K forecasts
    expected: FloatArray  # (K, H, 1 + Q) what the eager network gives for them, in double precision

    def tensors(self) -> dict[str, NDArray[Any]]:
        """For the model state, so that the artefact's hash covers the graph."""
        return {
            NETWORK: np.frombuffer(self.network, np.uint8),
            WEIGHTS: np.frombuffer(self.weights, np.uint8),
            EXPECTED: self.expected,
            **{EXAMPLE + name: _bytes_of(values) for name, values in self.examples.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self | None:
        """The graph of a state, None where it has none (see `ml.attention.export.graph_refusal`)."""
        if NETWORK not in tensors:
            return None
        examples = {
            name.removeprefix(EXAMPLE): values.astype(bool) if values.dtype == np.uint8 else values
            for name, values in tensors.items()
            if name.startswith(EXAMPLE)
        }
        return cls(
            tensors[NETWORK].tobytes(), tensors[WEIGHTS].tobytes(), examples, tensors[EXPECTED]
        )


def _bytes_of(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


class GraphRunner:
    """A compiled graph with its input and output buffers; calls from several threads wait for each other.

    Raises ExportError where the graph does not reproduce its examples on this machine.
    """

    def __init__(self, graph: InferenceGraph) -> None:
        openvino = runtime()
        core = openvino.Core()
        weights = openvino.Tensor(np.frombuffer(graph.weights, np.uint8))
        compiled = core.compile_model(core.read_model(graph.network, weights), "CPU", SETTINGS)
        self._request = compiled.create_infer_request()
        self._inputs: dict[str, NDArray[Any]] = {}
        self._tensors = []  # OpenVINO reads the buffers through these
        for port in compiled.inputs:
            buffer = np.zeros(tuple(port.shape), np.bool_ if port.any_name == MASK else np.float32)
            tensor = openvino.Tensor(buffer, shared_memory=True)
            self._request.set_tensor(port.any_name, tensor)
            self._inputs[port.any_name] = buffer
            self._tensors.append(tensor)
        self._output: NDArray[np.float32] = self._request.get_output_tensor(0).data
        self._mask = self._inputs.pop(MASK)
        self._lock = threading.Lock()
        self._verify(graph)

    def _verify(self, graph: InferenceGraph) -> None:
        mask = graph.examples[MASK]
        found = self.run_all(graph.examples, mask, np.zeros(graph.expected.shape[:2]))
        together = np.concatenate([found[0][..., None], found[1]], axis=-1)
        departure = float(np.abs(together - graph.expected).max())
        if not departure <= TOLERANCE:
            raise ExportError(
                f"the graph departs from the model's own examples by {departure:.3g}:"
                f" expected at most {TOLERANCE:g}; this processor or version of OpenVINO computes it otherwise"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """group -> (tokens, width)"""
        return {group: (buffer.shape[1], buffer.shape[2]) for group, buffer in self._inputs.items()}

    def run(
        self, inputs: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_], anchor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """One forecast: group -> (tokens, width), mask (token,), anchor (H,) -> log variance (H,), log quantiles (H, Q).

        Raises ValueError where a group is missing or has another shape than the graph was made for.
        """
        with self._lock:
            try:
                for group, buffer in self._inputs.items():
                    buffer[0] = inputs[group]
                self._mask[0] = mask
            except (KeyError, ValueError) as error:
                raise ValueError(self._complaint(inputs, mask)) from error
            self._request.infer()
            found = anchor[:, None] + self._output[0]  # (H, 1 + Q), double precision
        return found[:, 0], found[:, 1:]

    def run_all(
        self, inputs: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_], anchor: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """B forecasts, one after the other: group -> (B, tokens, width), mask (B, token), anchor (B, H) -> (B, H), (B, H, Q)."""
        single = [
            self.run({group: values[row] for group, values in inputs.items()}, mask[row], own)
            for row, own in enumerate(anchor)
        ]
        return np.stack([point for point, _ in single]), np.stack([spread for _, spread in single])

    def _complaint(self, inputs: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> str:
        given = {group: np.shape(values) for group, values in inputs.items()}
        return (
            f"inputs {given} with a mask {np.shape(mask)}: expected {self.shapes}"
            f" with a mask {self._mask.shape[1:]}"
        )


def runtime() -> Any:
    """The openvino package; RuntimeMissingError says how to get it.

    Importing openvino reports its use to the vendor unless its own statistics package cannot be imported: this makes sure of that.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise RuntimeMissingError(
            "the package openvino, which runs exported attention graphs, is not installed:"
            " install it (`pip install openvino`), it is a dependency of volcast"
        ) from error
    return openvino
