"""A fitted attention model as arrays and facts, and back.

In: the parts of a fitted model, or a `ModelState`. Out: the other. Never: anything executable; a state that another
version of the tokens made.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.attention.anchors import Anchor, anchor_class
from ml.attention.config import AttentionConfig
from ml.attention.fitting import Earlier, assemble, empty_network
from ml.attention.network import ResidualForecaster
from ml.attention.runtime import InferenceGraph
from ml.attention.scaling import Scaler
from ml.attention.selection import Selection
from ml.attention.tokens import TokenSlots
from ml.attention.widening import Widening
from ml.forecasts import HORIZONS
from ml.model import ModelState

NAME = "attention"
log = logging.getLogger(__name__)
ANCHOR = "anchor."


@dataclass(frozen=True)
class FittedModel:
    """A fitted model's parts."""

    config: AttentionConfig
    anchor: Anchor
    slots: TokenSlots
    scaler: Scaler
    forecaster: ResidualForecaster
    calibrated: NDArray[np.bool_]  # (N, H) of the fitted coins
    widening: Widening
    graph: InferenceGraph | None  # None: forecasts run eagerly, `meta['inference']` says why
    meta: dict[str, Any]


def to_state(fitted: FittedModel) -> ModelState:
    """The arrays and facts of a fitted model; the anchor's own state has the prefix 'anchor.'."""
    tensors: dict[str, NDArray[Any]] = dict(fitted.scaler.tensors())
    tensors |= {ANCHOR + key: value for key, value in fitted.anchor.state().tensors.items()}
    for key, value in fitted.forecaster.state_dict().items():
        array = value.detach().cpu().numpy()
        tensors[key] = array.astype(np.float32) if key.startswith("networks.") else array
    tensors["calibrated"] = fitted.calibrated.astype(np.uint8)
    tensors["widening"] = fitted.widening.factor
    tensors["usual_groups"] = fitted.widening.usual.astype(np.uint8)
    tensors |= fitted.graph.tensors() if fitted.graph else {}
    return ModelState(tensors=tensors, meta=fitted.meta)


def from_state(state: ModelState) -> FittedModel:
    """The fitted model again, on the CPU; ValueError for a state of an older version, with other tokens."""
    if "token_slots" not in state.meta:
        raise ValueError(
            f"state of an attention model trained on {state.meta['trained_as_of']} by an older version, with other tokens:"
            " train it again"
        )
    config = AttentionConfig.from_mapping(state.meta["config"])
    tensors = state.tensors
    anchor_tensors = {k.removeprefix(ANCHOR): v for k, v in tensors.items() if k.startswith(ANCHOR)}
    scaler = Scaler.from_tensors(tensors)
    networks = [empty_network(config, scaler) for _ in range(state.meta["networks"])]
    for network, weights in zip(networks, _network_weights(state), strict=True):
        network.load_state_dict(weights)
    calibrated = tensors["calibrated"].astype(bool)
    selection = Selection(
        tensors["shrinkage"],
        tensors["quantile_shrinkage"],
        tensors["shift"],
        np.zeros(0),
        calibrated,
        tensors["tail_use"],
    )
    widening = Widening.none(len(calibrated), len(HORIZONS))
    if "widening" in tensors:  # an artefact of before had none
        widening = Widening(tensors["widening"], tensors["usual_groups"].astype(bool))
    return FittedModel(
        config=config,
        anchor=anchor_class(config.anchor).from_state(
            ModelState(anchor_tensors, state.meta["anchor"])
        ),
        slots=TokenSlots.from_mapping(state.meta["token_slots"]),
        scaler=scaler,
        forecaster=assemble(networks, tensors["base"], tensors["base_tails"], selection),
        calibrated=calibrated,
        widening=widening,
        graph=InferenceGraph.from_tensors(tensors),
        meta=state.meta,
    )


def _network_weights(state: ModelState) -> tuple[dict[str, Tensor], ...]:
    """The state dict of each network of a stored ensemble."""
    found = []
    for index in range(state.meta["networks"]):
        prefix = f"networks.{index}."
        own = {key: value for key, value in state.tensors.items() if key.startswith(prefix)}
        found.append({key.removeprefix(prefix): torch.tensor(own[key]) for key in own})
    return tuple(found)


def earlier_version(
    state: ModelState, settings: AttentionConfig, trained_as_of: str
) -> Earlier | None:
    """What a warm start takes from an earlier version.

    None, which is a cold start, where that version had too little data to train a network, or another config: defaults change.
    """
    meta = state.meta
    if not settings.training.warm_start:
        raise ValueError("an earlier version was given: expected a config with warm_start true")
    if meta["model"] != NAME:
        raise ValueError(f"a warm start from model {meta['model']!r}: expected {NAME!r}")
    if meta["config"] != settings.as_mapping():
        log.warning("the version of %s has another config: starting cold", meta["trained_as_of"])
        return None
    if meta["trained_as_of"] >= trained_as_of:
        raise ValueError(
            f"a warm start of {trained_as_of} from {meta['trained_as_of']}: expected an earlier version"
        )
    if not meta["fit"]["trained"]:
        return None
    return Earlier(
        meta["trained_as_of"],
        meta["fit"]["validation_start"],
        _network_weights(state),
        TokenSlots.from_mapping(meta["token_slots"]),
    )
