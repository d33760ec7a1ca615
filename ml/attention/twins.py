"""Networks that a served one is held against: of another seed, trained on permuted targets, and with random weights.

In: a fitted model and the panel that it was fitted on. Out: models that differ from it in their networks' weights alone, and the checks
of explanations made with them (ml/explain/checks.py).
Never: a change of the fitted model; more than `MOST_STEPS` optimiser steps a training, or more epochs than the served network took.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ml.attention.checkpoints import Checkpoints
from ml.attention.config import AttentionConfig
from ml.attention.execution import deterministic, one_thread
from ml.attention.fitting import LEVELS, training_samples, untrained_network
from ml.attention.loop import train
from ml.attention.network import AttentionNetwork, ResidualForecaster
from ml.attention.stored import FittedModel
from ml.attention.training import Samples, TrainingConfig
from ml.explain.checks import Check, not_judged
from ml.explain.sanity_checks import run_checks
from ml.panel import Panel

if TYPE_CHECKING:
    from ml.attention.model import AttentionModel

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("heads", ("residual_head.", "quantile_head.", "tail_head.", "norm.")),
    ("mlp", (".mlp.", ".mlp_norm.")),
    ("values", (".attention.value.",)),
    ("queries_and_keys", (".attention.query.", ".attention.key.", ".attention_norm.")),
    ("embedding", ("embed.", "position", "gate")),
)
"""From the output inwards; a parameter belongs to the stage with the first part that begins its name (or, with a leading dot, is in it)."""
DRAWS = 3
"""Networks with all weights random; one for each stage before that."""
MOST_STEPS = 2000
PERMUTED_SAMPLES = 4096
"""Samples that the network of permuted targets learns by heart: every k-th of the training block."""
CHECKED_DAYS, CHECKED_FORECASTS = 22, 64
"""Maps are compared on so many forecasts, spread evenly over the last days of the training panel."""
_OTHER_SEED, _PERMUTED, _RANDOM = 500_000, 600_000, 700_000  # away from the ensemble's own seeds


def explanation_checks(
    model: AttentionModel,
    panel: Panel,
    report: Callable[[str], None],
    checkpoints: Checkpoints | None = None,
) -> list[Check]:
    """The checks of a fitted model; panel: what it was fitted on, up to its training day.

    checkpoints: where a training is kept, and what a killed worker goes on from. The same model and panel give the same checks.
    """
    fitted = model.fitted
    if not np.any(model.residual_weight()):
        return not_judged("residual weight is 0 at all horizons: there is nothing to check")
    batch = model.encode(panel, panel.days[-CHECKED_DAYS:].tolist())
    if len(batch) == 0:
        return not_judged("the newest days of the training window give no forecast to check on")
    spread = np.linspace(0, len(batch) - 1, min(len(batch), CHECKED_FORECASTS))
    batch = batch.take(np.unique(spread.round().astype(np.int64)))
    seed = int(fitted.meta["seed"])
    with one_thread(), deterministic(model.device):
        first = max(0, len(panel.days) - fitted.config.window_days)
        config = fitted.config
        training, validation = training_samples(
            panel, first, config, fitted.slots, fitted.scaler, model.device
        )
        report(f"checks of explanations: training a network from seed {seed + _OTHER_SEED}")
        other = _train(model, training, validation, seed + _OTHER_SEED, checkpoints, "other-seed")
        report("checks of explanations: training a network on permuted targets")
        noise = permuted(training, seed + _PERMUTED)
        learnt = _train(model, noise, noise, seed + _PERMUTED, checkpoints, "permuted")
        random = {
            stage: [
                with_network(model, randomised(model.forecaster, stage, seed + _RANDOM + draw))
                for draw in range(DRAWS if stage == STAGES[-1][0] else 1)
            ]
            for stage, _ in STAGES
        }
        return run_checks(
            model, batch, random, with_network(model, learnt), with_network(model, other)
        )


def with_network(model: AttentionModel, forecaster: ResidualForecaster) -> AttentionModel:
    """The model with other networks: for its maps, not for forecasts, so it has no graph."""
    return model.of(replace(model.fitted, forecaster=forecaster.cpu().double().eval(), graph=None))


def randomised(forecaster: ResidualForecaster, stage: str, seed: int) -> ResidualForecaster:
    """A copy whose weights are random from the output up to and with that stage.

    Every tensor is drawn anew from a normal with its own mean and standard deviation, so that attention stays as sharp as it was.
    Raises ValueError for an unknown stage.
    """
    names = [name for name, _ in STAGES]
    if stage not in names:
        raise ValueError(f"stage {stage!r}: expected one of {', '.join(names)}")
    chosen = set(names[: names.index(stage) + 1])
    found = copy.deepcopy(forecaster).cpu()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for network in found.networks:
            for name, weights in network.named_parameters():
                if stage_of(name) in chosen:
                    spread = weights.std() if weights.numel() > 1 else weights.abs()
                    noise = torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
                    weights.copy_(weights.mean() + spread * noise)
    return found


def stage_of(parameter: str) -> str:
    """The stage of a network's parameter, by its name; ValueError for one that belongs to none."""
    for stage, parts in STAGES:
        if any(
            part in parameter if part.startswith(".") else parameter.startswith(part)
            for part in parts
        ):
            return stage
    raise ValueError(f"parameter {parameter!r}: expected a name of {STAGES}")


def permuted(samples: Samples, seed: int, most: int = PERMUTED_SAMPLES) -> Samples:
    """Every k-th sample, at most `most`, with the errors of the anchor dealt out anew among them; the horizons of an error stay together."""
    step = -(-len(samples) // most)
    kept = samples.take(slice(0, None, step))
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))
    errors = (kept.target - kept.anchor)[order.to(kept.target.device)]
    return replace(kept, target=kept.anchor + errors)


def capped(config: AttentionConfig, samples: int, epochs: int) -> TrainingConfig:
    """The training of a fit with at most `epochs` epochs and `MOST_STEPS` steps, always from the start."""
    per_epoch = -(-samples // config.training.batch_size)
    affordable = max(1, min(epochs, MOST_STEPS // per_epoch))
    return replace(
        config.training,
        epochs=affordable,
        min_steps=min(config.training.min_steps, affordable * per_epoch),
        patience=affordable,
        warm_start=False,
    )


def _train(
    model: AttentionModel,
    training: Samples,
    validation: Samples,
    seed: int,
    checkpoints: Checkpoints | None,
    name: str,
) -> ResidualForecaster:
    """The fitted forecaster with one network trained on those samples, left at its best validation epoch."""
    fitted: FittedModel = model.fitted
    network: AttentionNetwork = untrained_network(
        fitted.config, fitted.scaler, fitted.forecaster, seed
    ).to(model.device)
    history: Sequence[Sequence[object]] = fitted.meta["fit"]["histories"]
    epochs = max((len(own) - 1 for own in history), default=1)
    train(
        network,
        training,
        validation,
        torch.tensor(LEVELS, dtype=torch.float32, device=model.device),
        fitted.config.tokens.droppable,
        capped(fitted.config, len(training), max(1, epochs)),
        seed,
        slot=None if checkpoints is None else checkpoints.slot(f"check-{name}"),
    )
    found = copy.deepcopy(fitted.forecaster).cpu()
    found.networks = torch.nn.ModuleList([network.cpu()])
    return found
