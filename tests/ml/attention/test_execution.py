"""How a step runs: precision, compilation, streamed samples. The CUDA tests run where there is a device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from ml.attention.execution import (
    COMPILE_STEPS,
    Execution,
    _FullPrecisionAttention,
    batches,
    deterministic,
    place,
)
from ml.attention.training import Samples, TrainingConfig
from tests.ml.attention.small_trainings import QUICK, assert_same_weights, small_samples, trained

CPU, GPU = torch.device("cpu"), torch.device("cuda")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_cpu_trains_in_float32_and_uncompiled_unless_told_otherwise() -> None:
    assert Execution.of(TrainingConfig(), CPU, 10**6) == Execution(CPU, "float32", False)
    told = TrainingConfig(precision="bfloat16", compile="always")
    assert Execution.of(told, CPU, 1) == Execution(CPU, "bfloat16", True)


def test_cuda_trains_in_bfloat16_and_compiles_long_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    auto = TrainingConfig()
    assert Execution.of(auto, GPU, COMPILE_STEPS) == Execution(GPU, "bfloat16", True)
    assert Execution.of(auto, GPU, COMPILE_STEPS - 1) == Execution(GPU, "bfloat16", False)
    assert not Execution.of(replace(auto, compile="never"), GPU, COMPILE_STEPS).compiled
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert Execution.of(auto, GPU, 1).precision == "float32"


def test_autocast_leaves_attention_on_a_cpu_in_float32() -> None:
    query = torch.randn(2, 2, 5, 4, requires_grad=True)
    mask = torch.rand(2, 1, 1, 5) > 0.2
    weight = torch.randn(4, 4)
    with Execution(CPU, "bfloat16", False).autocast():
        projected = functional.linear(query, weight)
        attended = functional.scaled_dot_product_attention(
            projected, projected, projected, attn_mask=mask
        )
        after = functional.linear(attended, weight)
    assert projected.dtype == after.dtype == torch.bfloat16
    assert attended.dtype == torch.float32
    expected = functional.scaled_dot_product_attention(*3 * [projected.float()], attn_mask=mask)
    assert torch.equal(attended, expected)
    with torch.autocast("cpu", torch.bfloat16), _FullPrecisionAttention():
        assert functional.gelu(projected).dtype == torch.bfloat16


def test_bfloat16_training_learns_the_same_and_is_the_same_twice() -> None:
    config = replace(QUICK, precision="bfloat16")
    (first, record), (second, again) = trained(config), trained(config)
    assert record.precision == "bfloat16"
    assert_same_weights(first, second)
    assert record == again
    _, full = trained()
    assert all(value.dtype != torch.bfloat16 for value in first.values())
    assert record.history[0] == full.history[0]  # epoch 0 is judged in float32
    losses = [run.history[-1]["selection_loss"] for run in (record, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] < 0.97 * record.history[0]["selection_loss"]


def test_streamed_batches_are_the_batches_in_order() -> None:
    samples = small_samples(50)
    order = list(torch.randperm(50, generator=torch.Generator().manual_seed(0)).split(8))
    at_hand = list(batches(samples, order, CPU))
    streamed = list(batches(samples, order, CPU, stream=True))
    assert len(streamed) == len(at_hand) == 7
    for left, right in zip(at_hand, streamed, strict=True):
        for one, other in zip(left.tensors(), right.tensors(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_stream_that_is_given_up_or_fails_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    samples = small_samples(50)
    order = list(torch.arange(50).split(5))
    stream = batches(samples, order, CPU, stream=True)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Samples, "to", lambda self, device: (_ for _ in ()).throw(RuntimeError("bus error"))
    )
    with pytest.raises(RuntimeError, match="bus error"):
        list(batches(samples, order, CPU, stream=True))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_samples_stay_on_the_host_when_they_take_too_much_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = small_samples(20)
    moved: list[str] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * samples.bytes(), 0))
    monkeypatch.setattr(Samples, "to", lambda self, device: moved.append(str(device)) or self)
    monkeypatch.setattr(Samples, "pin", lambda self: moved.append("pinned") or self)
    place(samples, "cuda", 0.25)
    place(samples, "cuda", 0.24)
    assert moved == ["cuda", "pinned"]


def test_settings_of_the_process_are_put_back() -> None:
    with deterministic("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
def test_a_compiled_training_learns_the_same() -> None:
    config = replace(QUICK, compile="always", epochs=3)
    weights, record = trained(config)
    assert record.compiled
    eager, _ = trained(replace(QUICK, epochs=3))
    assert weights.keys() == eager.keys()
    assert record.history[-1]["selection_loss"] < record.history[0]["selection_loss"]


@needs_cuda
def test_a_training_on_cuda_is_the_same_twice_resident_and_streamed() -> None:
    from ml.attention.loop import train
    from tests.ml.attention.small_trainings import CONTEXT, LEVELS, small_network

    found = []
    for share in (1.0, 1.0, 1e-12):
        network = small_network().to(GPU)
        with deterministic(GPU):
            train(
                network,
                place(small_samples(), GPU, share),
                place(small_samples(80, seed=2), GPU, share),
                LEVELS.to(GPU),
                CONTEXT,
                QUICK,
                seed=3,
            )
        found.append({name: value.cpu() for name, value in network.state_dict().items()})
    assert_same_weights(found[0], found[1])
    assert_same_weights(found[0], found[2])
