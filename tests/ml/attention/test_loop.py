"""The training loop: it goes on where it was killed, fits its batches to the memory there is, and starts warm when told to."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.attention.checkpoints import Checkpoints, Slot
from ml.attention.loop import _Training
from ml.attention.network import AttentionNetwork
from tests.ml.attention.small_trainings import (
    CONTEXT,
    LEVELS,
    QUICK,
    assert_same_weights,
    small_network,
    small_samples,
    trained,
)


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


def killed_after(epoch: int) -> Any:
    """A progress callback that ends the training when the epoch after that one is reported, before its checkpoint."""

    def progress(reported: int, metrics: object) -> None:
        if reported == epoch + 1:
            raise Killed

    return progress


def slot_in(folder: Path, identity: str = "this fit") -> Slot:
    return Checkpoints(str(folder), identity).slot("network-0")


def test_training_is_the_same_twice() -> None:
    (first, record), (second, again) = trained(), trained()
    assert_same_weights(first, second)
    assert record == again
    assert record.history[-1]["selection_loss"] < record.history[0]["selection_loss"]


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, epoch: int
) -> None:
    whole, record = trained()
    with pytest.raises(Killed):
        trained(slot=slot_in(tmp_path), progress=killed_after(epoch))
    assert (slot_in(tmp_path).load() is None) == (epoch == 0)
    seen: list[int] = []
    went_on, again = trained(
        slot=slot_in(tmp_path), progress=lambda number, metrics: seen.append(number)
    )
    assert_same_weights(went_on, whole)
    assert again == record
    assert seen == list(range(epoch + 1 if epoch else 0, QUICK.epochs + 1))


def test_a_training_that_was_finished_is_not_made_again(tmp_path: Path) -> None:
    whole, record = trained(slot=slot_in(tmp_path))
    seen: list[int] = []
    again, same = trained(slot=slot_in(tmp_path), progress=lambda number, _: seen.append(number))
    assert_same_weights(again, whole)
    assert (same, seen) == (record, [])


def test_early_stopping_counts_the_epochs_before_the_kill(tmp_path: Path) -> None:
    config = replace(QUICK, epochs=40, patience=2, learning_rate=0.3)
    whole, record = trained(config)
    assert len(record.history) < 40
    with pytest.raises(Killed):
        trained(config, slot=slot_in(tmp_path), progress=killed_after(1))
    went_on, again = trained(config, slot=slot_in(tmp_path))
    assert_same_weights(went_on, whole)
    assert again == record


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign", "not ours"])
def test_a_checkpoint_that_is_no_use_is_left_aside_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole, record = trained()
    with pytest.raises(Killed):
        trained(slot=slot_in(tmp_path), progress=killed_after(2))
    file = tmp_path / "network-0.safetensors"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "not ours":
        file.write_bytes(b"\x10" + 7 * b"\0" + b'{"a": [1, 2, 3]}')
    identity = "another fit" if damage == "foreign" else "this fit"
    with caplog.at_level(logging.WARNING, "ml.attention"):
        again, same = trained(slot=slot_in(tmp_path, identity))
    expected = "of other data, settings or code" if damage == "foreign" else "is damaged"
    assert [record.getMessage() for record in caplog.records if expected in record.getMessage()]
    assert_same_weights(again, whole)
    assert same == record


def test_a_checkpoint_is_safetensors_and_json(tmp_path: Path) -> None:
    trained(slot=slot_in(tmp_path))
    content = (tmp_path / "network-0.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"]["checkpoint"])
    assert document["identity"] == "this fit"
    assert document["facts"]["epoch"] == QUICK.epochs
    assert {"network.position", "averaged.position", "best.position", "generator.shuffle"} <= set(
        header
    )


def test_a_checkpoint_that_cannot_be_written_costs_a_line_not_the_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    weights, _ = trained(slot=slot_in(tmp_path / "file"))  # a folder of that name cannot be made
    assert "was not written" in caplog.text
    assert_same_weights(weights, trained()[0])


def test_finished_checkpoints_go_and_old_ones_of_others_with_them(tmp_path: Path) -> None:
    import os

    ours, recent, old = (
        Checkpoints(str(tmp_path / f"{name}.checkpoint"), name) for name in ("a", "b", "c")
    )
    for kept in (ours, recent, old):
        kept.slot("network-0").save({"x": torch.ones(1)}, {})
    os.utime(tmp_path / "c.checkpoint" / "network-0.safetensors", (0, 0))
    ours.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["b.checkpoint"]


def out_of_memory_above(most: int, network: AttentionNetwork) -> AttentionNetwork:
    """The network, on a device that cannot hold more than `most` samples while it trains or forecasts."""

    def check(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[1]) > most:
            torch.rand(3)  # what was drawn before memory ran out must not count
            raise torch.OutOfMemoryError(f"no memory for {len(args[1])} samples")

    network.register_forward_pre_hook(check)
    return network


def test_out_of_memory_halves_the_batch_and_keeps_the_gradient(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, record = trained(network=small_network(dropout=0.0))
    network = out_of_memory_above(9, small_network(dropout=0.0))
    weights, halved = trained(network=network)
    assert halved.batch_in_memory == 8
    assert len(halved.out_of_memory) == 2
    assert "epoch 1: no memory for 32 samples at once, now 16" in halved.out_of_memory[0]
    assert halved.out_of_memory[0] in caplog.text
    assert halved.facts()["out_of_memory"] == halved.out_of_memory
    assert (record.batch_in_memory, record.out_of_memory) == (32, [])
    for name, value in whole.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-2, atol=1e-3)
    for ours, theirs in zip(halved.history, record.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_gradients_of_parts_add_up_to_that_of_the_batch() -> None:
    gradients = []
    for most in (40, 7):
        network = small_network(dropout=0.0)
        torch.nn.init.normal_(
            network.residual_head.weight, generator=torch.Generator().manual_seed(5)
        )
        samples = small_samples(40)
        run = _Training(network, samples, samples, LEVELS, CONTEXT, QUICK, 0, None)
        run.record.batch_in_memory = most
        network.train()
        loss = run._gradient(samples)
        assert loss is not None
        gradients.append([loss, *(value.grad for value in network.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_halving_is_the_same_twice_and_after_a_kill(tmp_path: Path) -> None:
    whole, record = trained(network=out_of_memory_above(9, small_network()))
    with pytest.raises(Killed):
        trained(
            network=out_of_memory_above(9, small_network()),
            slot=slot_in(tmp_path),
            progress=killed_after(2),
        )
    went_on, again = trained(
        network=out_of_memory_above(9, small_network()), slot=slot_in(tmp_path)
    )
    assert_same_weights(went_on, whole)
    assert again == record


def test_no_memory_for_one_sample_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no memory for 1 samples"):
        trained(network=out_of_memory_above(0, small_network()))


def test_a_warm_start_begins_with_the_earlier_weights_and_the_anchor_stays_epoch_0() -> None:
    earlier, cold = trained()
    _, record = trained(replace(QUICK, warm_start=True), earlier=earlier)
    assert record.warm
    assert not cold.warm
    assert record.history[0]["selection_loss"] == cold.history[0]["selection_loss"]
    assert len(record.history) - 1 == 2  # 0.3 of 6 epochs
    assert record.history[1]["selection_loss"] < cold.history[1]["selection_loss"]
    assert min(epoch["selection_loss"] for epoch in record.history) <= (
        1.02 * min(epoch["selection_loss"] for epoch in cold.history)
    )


def test_a_killed_warm_start_ends_with_the_same_weights(tmp_path: Path) -> None:
    earlier, _ = trained()
    config = replace(QUICK, warm_start=True)
    whole, record = trained(config, earlier=earlier)
    with pytest.raises(Killed):
        trained(config, earlier=earlier, slot=slot_in(tmp_path), progress=killed_after(1))
    went_on, again = trained(config, earlier=earlier, slot=slot_in(tmp_path))
    assert_same_weights(went_on, whole)
    assert again == record
    assert again.warm


def test_samples_keep_all_their_parts_on_the_way() -> None:
    samples = small_samples(10)
    part = samples.take(torch.tensor([3, 1]))
    assert len(part) == 2
    assert torch.equal(part.inputs["onchain"][0], samples.inputs["onchain"][3])
    assert samples.bytes() == sum(tensor.nbytes for tensor in samples.tensors())
    assert part.to(torch.device("cpu")).mask is part.mask
