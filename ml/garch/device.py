"""GARCH-t and GJR-t on a torch device: the pass of `ml.garch.lanes` with a batch of thousands in place of eight lanes.

In: windows, as for `ml.garch.estimation.fit`. Out: the same `Fits`, equal to those of the CPU engine to rounding.
Never: imported unless asked for (torch loads in seconds), or chosen on its own: on a CPU it is far slower than the lanes. It was
never run on a CUDA device; tests hold it equal on torch's CPU.

The time loop runs on the device, a step for all windows at once; the optimiser's decisions, a few microseconds a window, stay
in the compiled kernels of `ml.garch.ascent`. All windows start cold, or where `starts` says.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ml.garch import fast
from ml.garch.ascent import EVALUATIONS, GAIN, LIKELIHOOD, NOT_FINITE, RUNNING, advance, begin
from ml.garch.estimation import (
    FAST_ORDER,
    MAX_EVALUATIONS,
    TOLERANCE,
    Fits,
    cold_starts,
    fast_parameters,
    has_fast_engine,
)
from ml.garch.jit import kernel
from ml.garch.lanes import INPUTS, STATE
from ml.garch.small import assign
from ml.garch.specification import Specification
from ml.garch.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PAIRS = [(i, j) for i in range(5) for j in range(i, 5)]


def fit_on_device(
    specification: Specification,
    windows: Windows,
    device: str = "cuda",
    starts: Floats | None = None,
    *,
    tolerance: float = TOLERANCE,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Fits:
    """Fit every window on a torch device in float64."""
    if not has_fast_engine(specification):
        raise ValueError(
            f"{specification.name} on {device!r}: expected GARCH-t or GJR-t without lags or terms"
        )
    alone = windows.subset(np.arange(len(windows), dtype=np.int64))
    if starts is None:
        starts = cold_starts(specification, alone)[:, 0]
    tied, free_mean = specification.variance == "garch", specification.mean == "constant"
    normals, limits, reach = fast.bounds_of(tied)
    count, size, days = len(windows), len(reach), int(windows.lengths.max())
    series, facts = np.zeros(days * count), np.ones((count, 3))
    points, scores = np.zeros((count, size)), np.zeros((count, size))
    trials, informations, memos = (
        np.zeros((count, size)),
        np.zeros((count, size, size)),
        np.zeros((count, 5)),
    )
    _begin(
        windows.values, windows.offsets, windows.lengths, fast_parameters(specification, starts), tied, free_mean,
        series, facts, trials, memos,
    )  # fmt: skip
    on_device = torch.as_tensor(series.reshape(days, count), device=device)
    endings = np.zeros(count, dtype=np.int64)
    while (running := np.flatnonzero(endings == RUNNING)).size:
        inputs, state = np.zeros((INPUTS, running.size)), np.zeros((STATE, running.size))
        _inputs(trials, running, tied, facts, inputs.ravel(), state.ravel())
        columns = torch.as_tensor(running, device=device)
        sums = batch_pass(
            on_device[:, columns],
            torch.as_tensor(windows.lengths[running], device=device),
            torch.as_tensor(inputs, device=device),
            torch.as_tensor(state, device=device),
            tied,
        )
        _advance(
            sums.cpu().numpy().ravel(), inputs.ravel(), running, windows.lengths, tied, free_mean, points, scores,
            informations, trials, memos, normals, limits, reach, tolerance, max_evaluations, endings,
        )  # fmt: skip
    natural = np.zeros((count, fast.NATURAL))
    _natural(points, facts, tied, natural)
    places = [FAST_ORDER.index(name) for name in specification.parameters]
    likelihood = memos[:, LIKELIHOOD] - windows.lengths * np.log(facts[:, 0])
    return Fits(
        specification,
        natural[:, places],
        likelihood,
        memos[:, GAIN],
        memos[:, EVALUATIONS].astype(np.int64),
        endings,
    )


def batch_pass(
    series: torch.Tensor,
    lengths: torch.Tensor,
    inputs: torch.Tensor,
    state: torch.Tensor,
    tied: bool,
) -> torch.Tensor:
    """(T, B) scaled returns, (B,) lengths, (7, B) inputs, (38, B) first state -> (38, B) sums at each window's end."""
    mu, omega, a, b, beta, inverse, nu1 = inputs
    h, sensitivity = state[0].clone(), state[1:6].clone()  # (B,), (5, B)
    left = torch.tensor([pair[0] for pair in _PAIRS], device=series.device)
    right = torch.tensor([pair[1] for pair in _PAIRS], device=series.device)
    score, information, total = (
        torch.zeros(rows, len(h), dtype=h.dtype, device=h.device) for rows in (5, 15, 5)
    )
    direct, weights, log_h, log_q, inverses = (torch.zeros_like(h) for _ in range(5))
    step = torch.zeros_like(sensitivity)
    step[1] = 1.0
    ends = set(lengths.tolist())
    found = torch.zeros_like(state)
    for t in range(series.shape[0]):
        e = series[t] - mu
        e2 = e * e
        hq = h + e2 * inverse
        w = e2 * inverse / hq
        d = sensitivity / h
        score += 0.5 * (nu1 * w - 1.0) * d
        information += d[left] * d[right]
        total += d
        inverses += 1.0 / h
        direct += e / hq
        weights += w
        log_h += torch.log(h)
        log_q += torch.log(hq)
        negative = (e < 0).to(h.dtype)
        c = a if tied else a + (b - a) * negative
        step[0] = -2.0 * c * e
        step[2] = e2 if tied else e2 * (1.0 - negative)
        step[3] = 0.0 if tied else e2 * negative
        step[4] = h
        sensitivity = beta * sensitivity + step
        h = omega + c * e2 + beta * h
        if t + 1 in ends:
            ended = lengths == t + 1
            one = torch.ones_like(h)[
                None
            ]  # mantissas: the logarithms are whole in the exponents' rows
            now = torch.cat(
                [
                    h[None], sensitivity, score, information, total, inverses[None], direct[None], weights[None],
                    log_h[None] / np.log(2.0), one, log_q[None] / np.log(2.0), one,
                ]
            )  # fmt: skip
            found[:, ended] = now[:, ended]
    return found


@kernel
def _begin(
    values: Floats,
    offsets: Ints,
    lengths: Ints,
    starts: Floats,
    tied: bool,
    free_mean: bool,
    series: Floats,
    facts: Floats,
    trials: Floats,
    memos: Floats,
) -> None:
    for place in range(len(offsets)):
        fast.load_series(
            values,
            offsets[place],
            lengths[place],
            series,
            place,
            len(offsets),
            free_mean,
            facts[place],
        )
        if not free_mean:
            starts[place, 0] = 0.0
        fast.to_coordinates(starts[place], facts[place, 0], tied, trials[place])
        begin(memos[place])


@kernel
def _inputs(
    trials: Floats, running: Ints, tied: bool, facts: Floats, inputs: Floats, state: Floats
) -> None:
    for column in range(len(running)):
        place = running[column]
        fast.set_inputs(trials[place], tied, inputs, state, column, len(running), facts[place, 2])


@kernel
def _advance(
    sums: Floats,
    inputs: Floats,
    running: Ints,
    lengths: Ints,
    tied: bool,
    free_mean: bool,
    points: Floats,
    scores: Floats,
    informations: Floats,
    trials: Floats,
    memos: Floats,
    normals: Floats,
    limits: Floats,
    reach: Floats,
    tolerance: float,
    max_evaluations: int,
    endings: Ints,
) -> None:
    size = len(reach)
    score, information = np.zeros(size), np.zeros((size, size))
    rows, columns = fast.work_shape(size, len(limits))
    work = np.zeros((rows, columns))
    for column in range(len(running)):
        place = running[column]
        likelihood = fast.lane_result(
            sums, inputs, column, len(running), lengths[place], tied, free_mean, score, information
        )
        endings[place] = advance(
            likelihood, score, information, points[place], scores[place], informations[place], trials[place],
            memos[place], normals, limits, reach, tolerance, max_evaluations, work,
        )  # fmt: skip
        if endings[place] == NOT_FINITE:
            assign(points[place], trials[place])


@kernel
def _natural(points: Floats, facts: Floats, tied: bool, natural: Floats) -> None:
    for place in range(len(points)):
        fast.to_natural(points[place], facts[place, 0], tied, natural[place])
