"""Export: a fitted attention model goes in, one graph from scaled tokens and anchor to quantiles comes out.

The graph is the whole ensemble with its shrinkage and conformal shifts, in single precision, by torch.export; the widening of
the quantiles where a coin misses a modality comes after it, since the graph knows no coins (`Widening.of`). `export_graph` checks
it against the eager model before it returns; a graph that departs by more than the tolerance is never returned.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ml.attention.network import ResidualForecaster
from ml.explain.protocol import TokenBatch

TOLERANCE = 1e-5
"""Largest difference of a log variance or log quantile between the graph and the eager double-precision model."""


class ExportError(ValueError):
    """The exported graph does not reproduce the model."""


def export_graph(
    forecaster: ResidualForecaster, example: TokenBatch, tolerance: float = TOLERANCE
) -> ExportedProgram:
    """Graph (inputs: group -> (B, tokens, width) float32, mask (B, token) bool, anchor (B, H) float32) -> (log variance
    (B, H), log quantiles (B, H, Q)), for any batch size B.

    example: at least two forecasts, on which the graph is checked. Raises ExportError when it departs from eager by more
    than `tolerance`.
    """
    if len(example) < 2:
        raise ValueError(
            f"example of {len(example)} forecasts: expected at least 2, so that B stays free"
        )
    single = single_precision(example)
    graph_input = (single.inputs, single.mask, single.anchor)
    batch = Dim("batch", min=1)
    shapes = ({group: {0: batch} for group in single.inputs}, {0: batch}, {0: batch})
    module = copy.deepcopy(forecaster).cpu().float().eval()
    with torch.no_grad():
        program = torch.export.export(module, graph_input, dynamic_shapes=shapes)
    found = departure(program, forecaster, example)
    if not found <= tolerance:
        raise ExportError(
            f"exported graph departs from the model by {found:.3g}: expected at most {tolerance:g}"
        )
    return program


def departure(program: ExportedProgram, forecaster: ResidualForecaster, batch: TokenBatch) -> float:
    """Largest absolute difference of a log variance or log quantile between graph and eager model."""
    single = single_precision(batch)
    with torch.no_grad():
        exported: tuple[Tensor, Tensor] = program.module()(
            single.inputs, single.mask, single.anchor
        )
        eager: tuple[Tensor, Tensor] = forecaster(batch.inputs, batch.mask, batch.anchor)
    return max(
        float((left.double() - right.cpu().double()).abs().max())
        for left, right in zip(exported, eager, strict=True)
    )


def single_precision(batch: TokenBatch) -> TokenBatch:
    """The batch as the graph takes it: float32, on the CPU."""
    return replace(
        batch,
        inputs={group: values.cpu().float() for group, values in batch.inputs.items()},
        mask=batch.mask.cpu(),
        anchor=batch.anchor.cpu().float(),
    )
