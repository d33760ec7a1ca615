"""Time and peak memory of every attention kernel against sequence length, and its distance from softmax; one run, one thread.

Exponents are slopes of log time and log memory on log length over the lengths of at least `--large`. Times are of the process's CPU on one
thread (wall on a CUDA device), so that a neighbour on a shared core does not count; memory is the peak of what PyTorch
allocates beyond the inputs, from its profiler's record of every allocation.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ml.attention.kernels import KERNELS, AttentionKernel, ReformerKernel, SoftmaxKernel

HEADS, HEAD_SIZE = 4, 16
COMPARED = 512
"""Tokens in the comparison with softmax."""
PLAIN_UP_TO = 2048
"""Tokens up to which values are compared with the kernel's own O(N^2) reference."""
LOGIT_SDS = (0.25, 1.0, 4.0)

Row = list[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[64, 256, 1024, 2048, 4096, 8192, 16384]
    )
    parser.add_argument("--large", type=int, default=2048, help="exponents are of these lengths")
    parser.add_argument("--repeats", type=int, default=7, help="fewer where one takes long")
    parser.add_argument(
        "--longest", type=float, default=15.0, help="seconds that one pass may be expected to take"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[Row]]]]:
    with _one_thread():
        speed = [row for name in sorted(KERNELS) for row in _speed(name, options)]
        distance = [row for name in sorted(KERNELS) for row in _distance(name)]
    header = [
        "kernel",
        "tokens",
        "ms",
        "ms, both",
        "MiB",
        "MiB, both",
        "off reference",
    ]
    columns = ["exponent", "exponent_backward", "memory_exponent", "memory_exponent_backward"]
    exponents = {
        key: {name: _exponent(speed, name, place, options.large) for name in sorted(KERNELS)}
        for place, key in enumerate(columns, start=2)
    }
    keys = ("kernel", "tokens", "ms", "ms_backward", "mib", "mib_backward", "max_difference")
    far = ("kernel", "logit_sd", "total_variation", "value_error", "seen_mass")
    figures = {
        "device": _device_name(options.device),
        "threads": 1,
        **exponents,
        "rows": [dict(zip(keys, row, strict=True)) for row in speed],
        "against_softmax": [dict(zip(far, row, strict=True)) for row in distance],
    }
    where = f"batch 1, {HEADS} heads of {HEAD_SIZE}, {_device_name(options.device)}, one thread"
    fitted = [[name, *(exponents[key][name] for key in columns)] for name in sorted(KERNELS)]
    return figures, [
        (f"forward, and both forward and backward; {where}", header, speed),
        (
            f"exponents from {options.large} tokens on",
            ["kernel", "time", "time with backward", "memory", "memory with backward"],
            fitted,
        ),
        (
            f"distance from softmax, {COMPARED} tokens, two sets of normal queries and keys"
            " (Reformer: one, against shared-QK softmax)",
            ["kernel", "sd of logits", "total variation", "relative value error", "mass seen"],
            distance,
        ),
    ]


def _speed(name: str, options: argparse.Namespace) -> list[Row]:
    """One row a length: times (ms), memory (MiB), and the largest difference from the plain reference."""
    kernel = KERNELS[name](HEADS, HEAD_SIZE).to(options.device)
    rows: list[Row] = []
    for length in options.lengths:
        if rows and _expected(rows[-1], length) > options.longest:
            print(
                f"{name} at {length} tokens left out: expected {_expected(rows[-1], length):.0f} s"
            )
            break
        given = _sequences(kernel, length, options.device)

        def forward(kernel: AttentionKernel = kernel, given: list[Tensor] = given) -> None:
            with torch.inference_mode():
                kernel(*given)

        def both(kernel: AttentionKernel = kernel, given: list[Tensor] = given) -> None:
            kernel(*given).sum().backward()
            for x in given[:3]:
                x.grad = None

        times = [_milliseconds(action, options) for action in (forward, both)]
        memory = [_peak_mebibytes(action, options.device) for action in (forward, both)]
        difference = None
        if length <= PLAIN_UP_TO:
            with torch.inference_mode():
                plain, _ = kernel.reference(*given)
                difference = float((kernel(*given) - plain).abs().max())
        rows.append([name, length, *times, *memory, difference])
    return rows


def _sequences(kernel: AttentionKernel, length: int, device: str) -> list[Tensor]:
    """Query, key, value (key is query where the kernel shares them) and a mask that hides a tenth of the tokens."""
    generator = torch.Generator().manual_seed(7)
    query, key, value = (
        torch.randn(1, HEADS, length, HEAD_SIZE, generator=generator).to(device).requires_grad_()
        for _ in range(3)
    )
    mask = (torch.rand(1, length, generator=generator) > 0.1).to(device)
    return [query, query if kernel.shares_query_key else key, value, mask]


def _expected(row: Row, length: int) -> float:
    """Seconds of a forward and backward pass at that length, if time grew with the square."""
    return float(row[3]) / 1000 * (length / int(row[1])) ** 2


def _exponent(rows: list[Row], name: str, column: int, large: int) -> float | None:
    """Least-squares slope of log column on log length; None with fewer than two lengths."""
    points = [(math.log(r[1]), math.log(r[column])) for r in rows if r[0] == name and r[1] >= large]
    if len(points) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _milliseconds(action: Callable[[], None], options: argparse.Namespace) -> float:
    """Median time; at least one run after the first, unless the first took more than 2 s."""
    first = _once(action, options.device)
    if first > 2000:
        return first
    repeats = max(1, min(options.repeats, int(4000 / max(first, 1e-3))))
    return statistics.median(_once(action, options.device) for _ in range(repeats))


def _once(action: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - started)
    started = time.process_time()
    action()
    return 1000 * (time.process_time() - started)


def _peak_mebibytes(action: Callable[[], None], device: str) -> float:
    """Peak of what the action allocates while it runs."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        action()
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak / 2**20


def _distance(name: str) -> list[Row]:
    """Total variation of rows (mean), value error |A v - S v| / |S v|, and the softmax mass that rows could see."""
    rows: list[Row] = []
    for sd in LOGIT_SDS:
        generator = torch.Generator().manual_seed(11)
        query, key, value = (
            torch.randn(4, HEADS, COMPARED, HEAD_SIZE, generator=generator) for _ in range(3)
        )
        kernel, exact = KERNELS[name](HEADS, HEAD_SIZE), SoftmaxKernel(HEADS, HEAD_SIZE)
        mask, seen = torch.ones(4, COMPARED, dtype=torch.bool), 1.0
        if kernel.shares_query_key:  # x_i'x_j / (|x_j| sqrt(d)) has sd |x_i| / d
            query = key = query * sd * math.sqrt(HEAD_SIZE)
            truth: AttentionKernel = ReformerKernel(HEADS, HEAD_SIZE, bucket_size=COMPARED)
            assert isinstance(kernel, ReformerKernel)
            seen = float(kernel.coverage(query, key, mask)[0].mean())
        else:
            query, key, truth = query * math.sqrt(sd), key * math.sqrt(sd), exact
        weights = [found.weights(query, key, mask) for found in (kernel, truth)]
        variation = float((weights[0] - weights[1]).abs().sum(-1).mean()) / 2
        expected = weights[1] @ value
        error = float((weights[0] @ value - expected).norm() / expected.norm())
        rows.append([name, sd, variation, error, seen])
    return rows


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
