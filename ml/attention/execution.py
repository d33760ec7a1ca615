"""How a training step runs on a device: precision, compilation, where samples live, and what happens when memory runs out.

In: a training config, a device, samples. Out: a callable network, samples where they fit, batches on the device in the order asked for.
Never: a number that depends on where samples live (a streamed batch is the same batch), on timings, or on the number of threads.

On CUDA: bfloat16 autocast, deterministic algorithms, compilation from `COMPILE_STEPS` steps on, and samples that are larger than a share of
the free memory stay in the host's pinned memory and are copied on a stream of their own, two batches ahead. None of this was run
on a CUDA device; tests drive the same code on the CPU. On a CPU everything is float32 and eager unless the config says otherwise.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from ml.attention.training import Samples, TrainingConfig

log = logging.getLogger("ml.attention")

PRECISIONS = ("auto", "float32", "bfloat16")
COMPILE = ("auto", "never", "always")
COMPILE_STEPS = 20_000
"""Optimiser steps from which 'auto' compiles on CUDA. Counted, not timed: a compiled step rounds otherwise, and the same inputs must give
the same bytes. A compilation takes about a minute, some twenty thousand small steps' worth of saving."""
BATCHES_AHEAD = 2


class _FullPrecisionAttention(TorchFunctionMode):
    """scaled_dot_product_attention in float32 inside autocast: on a CPU its bfloat16 backward is ten times slower."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **keywords)
        parts = [value.float() if _is_floating(value) else value for value in args]
        with torch.autocast("cpu", enabled=False):
            return func(*parts, **keywords)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@dataclass(frozen=True)
class Execution:
    """How the training step of one network runs."""

    device: torch.device
    precision: str  # 'float32' | 'bfloat16'
    compiled: bool

    @classmethod
    def of(cls, config: TrainingConfig, device: torch.device, steps: int) -> Execution:
        """What 'auto' means on this device for a fit of at most `steps` optimiser steps."""
        on_gpu = device.type == "cuda"
        precision = config.precision
        if precision == "auto":
            precision = "bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32"
        pays = on_gpu and steps >= COMPILE_STEPS and importlib.util.find_spec("triton") is not None
        compiled = config.compile == "always" or (config.compile == "auto" and pays)
        return cls(device, precision, compiled)

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network to call in a training step; its parameters are those of `network`."""
        return torch.compile(network) if self.compiled else network  # type: ignore[return-value]

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Around the forward pass; the loss and the optimiser stay in float32."""
        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
                if self.device.type == "cpu":
                    stack.enter_context(_FullPrecisionAttention())
            yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one CPU thread, then as before.

    Sums are then added in the same order on any number of cores, so that the artefact hash is the same; matrices of this
    size gain nothing from a second thread, and lose much when another process wants it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: str | torch.device) -> Iterator[None]:
    """Deterministic algorithms on CUDA, then as before; a CPU's are (on one thread, see `one_thread`).

    An operation that has no deterministic form raises RuntimeError. cuBLAS reads its variable when it makes its first workspace, so a
    process that has used CUDA before without it may raise too: the worker sets it at its start.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def place(samples: Samples, device: str | torch.device, share: float) -> Samples:
    """The samples on the device where they take at most `share` of its free memory; on the host, pinned, where they take more."""
    target = torch.device(device)
    if target.type == "cpu":
        return samples.to(target)
    free, _ = torch.cuda.mem_get_info(target)
    size = samples.bytes()
    if size <= share * free:
        return samples.to(target)
    log.info(
        "%d samples take %.0f MiB, the device has %.0f MiB free: they stay on the host and stream over",
        len(samples),
        size / 2**20,
        free / 2**20,
    )
    return samples.pin()


def batches(
    samples: Samples,
    order: Sequence[Tensor],
    device: torch.device,
    *,
    stream: bool | None = None,
) -> Iterator[Samples]:
    """The samples of each index of `order`, on the device.

    Samples that live elsewhere (`stream`, by default where their device is another) are gathered by a thread, `BATCHES_AHEAD` batches before
    they are asked for. A batch for which the device has no room comes as it is, on the host.
    """
    if stream is None:
        stream = samples.mask.device.type != device.type
    if not stream:
        for index in order:
            yield samples.take(index.to(samples.mask.device))
        return
    copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    waiting: deque[Future[Samples]] = deque()
    left = iter(order)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        try:
            while True:
                for index in islice(left, BATCHES_AHEAD + 1 - len(waiting)):
                    waiting.append(pool.submit(_gather, samples, index, device, copies))
                if not waiting:
                    return
                batch = waiting.popleft().result()
                if copies is not None and batch.mask.device.type == "cuda":
                    current = torch.cuda.current_stream(device)
                    current.wait_stream(copies)
                    for tensor in batch.tensors():
                        tensor.record_stream(current)  # not freed for the copies while in use
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _gather(
    samples: Samples, index: Tensor, device: torch.device, copies: torch.cuda.Stream | None
) -> Samples:
    batch = samples.take(index)
    if copies is None:
        return batch.to(device)
    batch = batch.pin()
    try:
        with torch.cuda.stream(copies):
            return batch.to(device)
    except torch.OutOfMemoryError:
        return batch  # the step takes it over in smaller parts


def release(device: torch.device) -> None:
    """Give memory that torch holds and does not use back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """States of torch's own generators, as uint8 tensors: what dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generator_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
