"""Latency of one attention forecast: from arrays of scaled tokens to the quantiles of all horizons, batch 1, one thread.

Models are fitted for a moment on a simulated market: what they know does not matter here, what they compute does. Every runtime that is
installed runs the same fitted network. On a core that others use, wall times hold the scheduler's slices of milliseconds: CPU time stands
beside them, and the wall p99 of the calls during which the kernel took the core away not once.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.nowcast import panel_of
from ml.attention.execution import one_thread
from ml.attention.export import arrays, trace
from ml.attention.model import AttentionModel
from ml.attention.runtime import GraphRunner, InferenceGraph
from ml.explain.protocol import TokenBatch
from ml.nowcast import Nowcaster
from ml.panel import Panel
from tests.ml.archive_frames import made_up_bars
from tests.ml.attention.markets import planted_market

TRAINED = date(2022, 1, 20)
BRIEF = {"epochs": 1, "min_steps": 1, "window_days": 360, "min_group_samples": 50}
SIZES: dict[str, dict[str, Any]] = {
    "product": {},
    "5 networks": {"n_seeds": 5},
    "162 price tokens": {
        "daily_tokens": 66, "hourly_hours": 96, "hourly_patch": 1, "min_price_share": 0.5,
    },
    "d_model 60, 2 layers": {"d_model": 60, "n_layers": 2},
}  # fmt: skip
"""What differs from the default config."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each")
    parser.add_argument(
        "--aot", action="store_true", help="also AOTInductor: minutes, and it needs a C++ compiler"
    )


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    panel = planted_market()
    rows: list[list[Any]] = []
    with one_thread():
        for size, config in SIZES.items():
            model, batch = _fitted(panel, config)
            tokens = int(batch.mask.shape[1])
            parameters = sum(p.numel() for p in model.forecaster.networks.parameters())
            for name, forecast in _runtimes(model, batch, options, size == "product").items():
                rows.append([size, name, tokens, parameters, *_timed(forecast, options.calls)])
        rows += _updates(panel, options)
        rows.append(_nowcast(options))
    names = ("model", "what", "tokens", "parameters", *KEYS)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    product = next(r for r in records if (r["model"], r["what"]) == ("product", OURS))
    update = next(r for r in records if r["what"] == UPDATE)
    figures = {
        **{key: product[key] for key in KEYS},
        **{f"update_{key}": update[key] for key in KEYS},
        "tokens": product["tokens"],
        "calls": options.calls,
        "rows": records,
    }
    header = [
        "model",
        "by",
        "tokens",
        "weights",
        "p50",
        "p99",
        "CPU p99",
        "calm p99",
    ]
    shown = [
        [*row[:4], *(f"{value:.3f}" for value in (row[4], row[5], row[7], row[8]))] for row in rows
    ]
    return figures, [("one forecast, batch 1, one thread, ms", header, shown)]


OURS, UPDATE, ADVANCE = "OpenVINO", "token put and read", "hours advanced and read"
NOWCAST = "nowcast of 3 coins, bars to quantiles"
KEYS = ("p50_ms", "p99_ms", "p50_cpu_ms", "p99_cpu_ms", "p99_undisturbed_ms", "undisturbed_share")


def _fitted(panel: Panel, config: dict[str, Any]) -> tuple[AttentionModel, TokenBatch]:
    model = AttentionModel()
    model.fit(panel, TRAINED, {**BRIEF, **config}, seed=1)
    return model, model.encode(panel, [TRAINED + timedelta(days=1)]).rows(0, 1)


def _runtimes(
    model: AttentionModel, batch: TokenBatch, options: argparse.Namespace, all_of_them: bool
) -> dict[str, Callable[[], Any]]:
    inputs, mask, anchor = arrays(batch)
    single = {group: values[0] for group, values in inputs.items()}
    graph = InferenceGraph.from_tensors(model.state().tensors)
    if graph is None:
        raise RuntimeError(f"no graph: {model.state().meta['inference']}")
    runner, eager = GraphRunner(graph), model.forecaster

    def eagerly() -> Any:
        with torch.inference_mode():
            doubles = {group: torch.from_numpy(v).double() for group, v in inputs.items()}
            return eager(doubles, torch.from_numpy(mask), torch.from_numpy(anchor))

    found: dict[str, Callable[[], Any]] = {
        OURS: lambda: runner.run(single, mask[0], anchor[0]),
        "eager PyTorch, double precision": eagerly,
    }
    program = trace(eager, batch)
    expected = np.concatenate([x[..., None] if x.ndim == 1 else x for x in found[OURS]()], axis=1)
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        found["ONNX Runtime"] = _onnx(program, inputs, mask, anchor)
    if options.aot and all_of_them:
        found["AOTInductor"] = _inductor(program, inputs, mask, anchor)
    for name in set(found) & {"ONNX Runtime", "AOTInductor"}:
        np.testing.assert_allclose(found[name]()[0], expected, atol=1e-5)
    return found


def _onnx(program: Any, inputs: dict[str, Any], mask: Any, anchor: Any) -> Callable[[], Any]:
    import logging

    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    content = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, ["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    given = dict(zip(names, [*inputs.values(), mask], strict=True))
    return lambda: anchor[..., None] + session.run(None, given)[0]


def _inductor(program: Any, inputs: dict[str, Any], mask: Any, anchor: Any) -> Callable[[], Any]:
    import torch._inductor

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / "graph.pt2")
        torch._inductor.aoti_compile_and_package(program, package_path=path)
        compiled = torch._inductor.aoti_load_package(path)
    tensors = {group: torch.from_numpy(values) for group, values in inputs.items()}
    return lambda: anchor[..., None] + compiled(tensors, torch.from_numpy(mask)).numpy()


def _updates(panel: Panel, options: argparse.Namespace) -> list[list[Any]]:
    """One new observation of a context token and one hour more, by the recurrent state of the linear kernel."""
    model, batch = _fitted(panel, {"kernel": "linear", "n_layers": 1})
    stream = model.streaming(panel, TRAINED + timedelta(days=1), "BTC")
    random = np.random.default_rng(4)
    context, hours = stream.inputs["onchain"][0], stream.inputs["price_hourly"][0]
    values = context + 0.1 * random.standard_normal((64, len(context)))
    newest = hours + 0.1 * random.standard_normal((64, len(hours)))
    position = 0

    def put() -> None:
        nonlocal position
        position = (position + 1) % 64
        stream.put("onchain", 0, values[position])

    def advance() -> None:
        nonlocal position
        position = (position + 1) % 64
        stream.advance("price_hourly", newest[position])

    tokens = int(batch.mask.shape[1])
    parameters = sum(p.numel() for p in model.forecaster.networks.parameters())
    return [
        ["linear", name, tokens, parameters, *_timed(action, options.calls)]
        for name, action in ((UPDATE, put), (ADVANCE, advance))
    ]


def _nowcast(options: argparse.Namespace) -> list[Any]:
    """Eight hours of new bars of three coins to their quantiles: bars checked, features of the running day, anchor, tokens, graph, twice."""
    bars = made_up_bars(days=400)
    known = panel_of(bars)
    known = known.until(known.days[-2].astype(date))
    model = AttentionModel()
    model.fit(known, known.days[-1].astype(date), {**BRIEF, "window_days": 330}, seed=1)
    nowcaster = Nowcaster(model, known)
    stamps = pd.Series(bars["ts"])
    new = bars[(stamps >= pd.Timestamp(nowcaster.start, tz="UTC")) & (stamps.dt.hour < 8)]
    parameters = sum(p.numel() for p in model.forecaster.networks.parameters())
    tokens = int(model.encode(known, [nowcaster.as_of]).mask.shape[1])
    calls = max(50, options.calls // 20)
    return ["product", NOWCAST, tokens, parameters, *_timed(lambda: nowcaster.update(new), calls)]


def _timed(action: Callable[[], Any], calls: int) -> tuple[float, ...]:
    """By `KEYS`: p50 and p99 of wall and CPU time, wall p99 of undisturbed calls (milliseconds), and their share."""
    for _ in range(max(20, calls // 20)):
        action()
    wall, cpu, taken = np.empty(calls), np.empty(calls), np.empty(calls)
    gc.collect()
    gc.disable()
    try:
        for call in range(calls):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            started, worked = time.perf_counter(), time.process_time()
            action()
            cpu[call] = time.process_time() - worked
            wall[call] = time.perf_counter() - started
            taken[call] = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
    finally:
        gc.enable()
    p50, p99 = np.percentile(1000 * np.stack([wall, cpu]), [50, 99], axis=1)
    calm = 1000 * np.percentile(wall[taken == 0], 99) if (taken == 0).any() else np.nan
    found = (p50[0], p99[0], p50[1], p99[1], calm, (taken == 0).mean())
    return tuple(float(value) for value in found)
