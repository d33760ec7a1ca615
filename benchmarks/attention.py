"""Attention kernels by sequence length against the plain O(N^2) reference, in one run, with the largest difference of their values."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from ml.attention.kernels import KERNELS, softmax_attention_reference

HEADS, HEAD_SIZE = 4, 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    rows: list[list[Any]] = []
    for length in options.lengths:
        generator = torch.Generator().manual_seed(7)
        query, key, value = (
            torch.randn(1, HEADS, length, HEAD_SIZE, generator=generator).to(options.device)
            for _ in range(3)
        )
        mask = (torch.rand(1, length, generator=generator) > 0.1).to(options.device)
        expected, _ = softmax_attention_reference(query, key, value, mask)
        inputs = (query, key, value, mask)
        reference = _milliseconds(softmax_attention_reference, inputs, options)
        for name, kernel in KERNELS.items():
            ours = _milliseconds(kernel, inputs, options)
            error = float((kernel(query, key, value, mask) - expected).abs().max())
            rows.append([name, length, ours, reference, reference / ours, error])
    figures = {
        "device": options.device,
        "rows": [
            dict(
                zip(
                    ("kernel", "tokens", "ms", "reference_ms", "ratio", "max_error"),
                    row,
                    strict=True,
                )
            )
            for row in rows
        ],
    }
    header = ["kernel", "tokens", "ms", "reference, ms", "reference / kernel", "largest difference"]
    return figures, [
        (f"attention, forward, batch 1, {HEADS} heads, {options.device}", header, rows)
    ]


def _milliseconds(action: Any, inputs: tuple[Any, ...], options: argparse.Namespace) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(options.repeats + 2):
            if options.device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            action(*inputs)
            if options.device == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])
