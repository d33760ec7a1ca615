"""Parts of a fit, each of some coins, put together: the model is byte for byte what one fit of all coins gives.

In: states of one model on the same days, config and seed, each of other coins. Out: the state of all of them. Never: a model that learns from all
coins together (`Entry.per_coin` in `ml.models` says which do not): its parts would be other models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import artifacts
from ml.model import ModelState
from ml.models import MODELS
from ml.worker import FitResult, metrics


def merge(parts: Sequence[ModelState], assets: Sequence[str]) -> ModelState:
    """One state of the parts, its coins in the order of ``assets``.

    Tensors with a row per coin are joined, facts by coin are united, all else must be the same in every part. Raises ValueError where it is not, or
    where the parts are not of just these coins.
    """
    name = str(parts[0].meta["model"])
    if not MODELS[name].per_coin:
        raise ValueError(
            f"{name}: its fit cannot be cut by coins, so there is nothing to put together"
        )
    held = [coin for part in parts for coin in part.meta["assets"]]
    if sorted(held) != sorted(assets):
        raise ValueError(f"parts of {name} have {sorted(held)}: expected {sorted(assets)}")
    order = np.array([held.index(coin) for coin in assets])
    meta = {
        key: _united(key, [part.meta[key] for part in parts], parts, assets)
        for key in parts[0].meta
    }
    tensors = {
        key: _joined(key, [part.tensors[key] for part in parts], parts)[order]
        for key in parts[0].tensors
    }
    return ModelState(tensors, {**meta, "assets": list(assets)})


def _joined(key: str, arrays: Sequence[NDArray[Any]], parts: Sequence[ModelState]) -> NDArray[Any]:
    for array, part in zip(arrays, parts, strict=True):
        if not array.ndim or len(array) != len(part.meta["assets"]):
            raise ValueError(f"tensor {key!r} {array.shape}: expected a row for each coin")
    return np.concatenate(arrays)


def _united(
    key: str, values: Sequence[Any], parts: Sequence[ModelState], assets: Sequence[str]
) -> Any:
    """Facts of all parts: a mapping by coin of each, or what they have in common."""
    if key == "assets":
        return None
    by_coin = all(
        isinstance(value, Mapping) and set(value) <= set(part.meta["assets"])
        for value, part in zip(values, parts, strict=True)
    )
    if by_coin and any(values):
        facts = {coin: fact for value in values for coin, fact in value.items()}
        return {
            coin: facts[coin] for coin in assets if coin in facts
        }  # what is averaged over coins
    if any(value != values[0] for value in values):
        raise ValueError(
            f"{key!r} differs between the parts of a fit: {values[0]!r}, {values[1]!r}"
        )
    return values[0]


def merged_result(output: str, assets: Sequence[str], parts: Sequence[FitResult]) -> FitResult:
    """Store the model of the parts under its own version, remove them, and return its result; the first failure where one failed."""
    first = parts[0]
    seconds = sum(part.seconds for part in parts)
    failed = next((part for part in parts if part.status != "ok"), None)
    if failed is not None:
        status = f"{failed.status} (coins {', '.join(failed.coins or ())})"
        return first.model_copy(update={"status": status, "seconds": seconds, "coins": None, "uri": None, "artifact_hash": None})  # fmt: skip
    states = [artifacts.load(str(part.uri), str(part.artifact_hash)) for part in parts]
    state = merge(states, assets)
    uri = f"{output.rstrip('/')}/{first.model}/{first.version}"
    artifact_hash = artifacts.save(uri, state)
    for part in parts:
        artifacts.remove(str(part.uri))
    return first.model_copy(
        update={
            "uri": uri,
            "artifact_hash": artifact_hash,
            "coins": None,
            "seconds": seconds,
            "metrics": metrics(state),
            "reused": all(part.reused for part in parts),
        }
    )
