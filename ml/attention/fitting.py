"""One fit, step by step: a panel that ends on the training day goes in, a fitted forecaster comes out.

1. The window's newest part is the validation block; the anchor (by default HARX-cal) is fitted on what lies before it.
2. Training samples carry the anchor's held-out forecasts and targets that end before the validation block; validation
   samples carry forecasts of the anchor that never saw the block.
3. Tokens are scaled by training samples alone; networks are trained, and stopped by the validation loss.
4. The validation block chooses how much of the residual to use, calibrates the quantiles, and says how much wider they must be
   where a modality is missing.

The anchor that is published is fitted again on the whole window; the networks are not. Nothing reads a row or a target
after the training day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.attention.anchors import anchor_class
from ml.attention.checkpoints import Checkpoints
from ml.attention.config import AttentionConfig
from ml.attention.execution import place
from ml.attention.loop import Progress, train
from ml.attention.network import AttentionNetwork, ResidualForecaster
from ml.attention.scaling import Scaler, encode, fit_scaler
from ml.attention.selection import Selection, qlike, select
from ml.attention.tails import fit_tails
from ml.attention.tokens import CONTEXT_GROUPS, TokenConfig, TokenSlots, fit_slots, price_share
from ml.attention.training import Outputs, Samples, predict, sample_weights
from ml.attention.widening import ALL_GROUPS, MASKED, Widening, find_widening
from ml.forecasts import HORIZONS, QUANTILE_LEVELS
from ml.panel import Panel

FloatArray = NDArray[np.float64]
LEVELS = np.array(QUANTILE_LEVELS)


@dataclass(frozen=True)
class Block:
    """Unscaled samples: S pairs of a panel row and a coin."""

    rows: NDArray[np.int64]  # (S,)
    assets: NDArray[np.int64]  # (S,)
    anchor: FloatArray  # (S, H) log variance
    target: FloatArray  # (S, H) log realised mean variance; NaN = unknown or purged

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Earlier:
    """The version that a warm start begins with. It saw nothing after its own training day."""

    trained_as_of: str
    validation_start: str  # its training targets end before this day
    weights: tuple[dict[str, Tensor], ...]  # of each network of the ensemble
    slots: TokenSlots  # what those weights know as first, second, ... venue and coin


@dataclass(frozen=True)
class Fitted:
    """What a fit learnt."""

    slots: TokenSlots
    scaler: Scaler
    forecaster: ResidualForecaster
    selection: Selection
    widening: Widening
    window_variance: (
        FloatArray  # (T, N, H): forecasts that did not see their own target through the anchor
    )
    record: dict[str, Any]  # JSON: blocks, losses, histories


def fit(
    panel: Panel,
    first: int,
    config: AttentionConfig,
    seed: int,
    device: str,
    progress: Progress | None,
    checkpoints: Checkpoints | None = None,
    earlier: Earlier | None = None,
) -> Fitted:
    """Fit on rows first .. T-1 of `panel`, which ends on the training day; earlier rows are history only.

    checkpoints: where each network's training is kept, and what a killed fit goes on from. earlier: the version to start from.
    """
    start = _block_start(panel, first, config)
    training, validation = _blocks(panel, first, start, config)
    if earlier is not None and earlier.validation_start > str(panel.days[start]):
        earlier = None  # it trained on days of this validation block
    # A warm start keeps the slots: another coin in a slot would be read by the weights of the one before.
    slots = fit_slots(panel, first, start, config.tokens) if earlier is None else earlier.slots
    scaler = fit_scaler(panel, training.rows, training.assets, config.tokens, slots)
    base = _base_quantiles(training)
    enough = (
        len(np.unique(training.rows)) >= config.selection.min_training_days
        and len(np.unique(validation.rows)) >= config.selection.min_validation_days
    )
    record: dict[str, Any] = {
        "training_start": str(panel.days[first]),
        "validation_start": str(panel.days[start]),
        "training_samples": len(training),
        "validation_samples": len(validation),
        "trained": enough,
        "histories": [],
        "trainings": [],
    }
    record["warm_from"] = None if earlier is None else earlier.trained_as_of
    base_tails = _base_tails(training)
    networks, residual = [], {}
    offsets, tails = np.zeros((0, *base.shape)), np.zeros((0, *base_tails.shape))
    widening = Widening.none(len(panel.assets), len(HORIZONS))
    if enough:
        prepared = _samples(training, slots, scaler, config, panel, device)
        checked = _samples(validation, slots, scaler, config, panel, device)
        masked = _masked(checked, config.tokens)
        outputs: dict[str, list[Outputs]] = {"training": [], "validation": []}
        outputs |= {name: [] for name in masked}
        for index in range(config.n_seeds):
            network = _network(config, scaler, base, base_tails, _network_seed(seed, index))
            network = network.to(device)
            trained = train(
                network,
                prepared,
                checked,
                torch.tensor(LEVELS, dtype=torch.float32, device=device),
                config.tokens.droppable,
                config.training,
                _network_seed(seed, index),
                progress,
                slot=None if checkpoints is None else checkpoints.slot(f"network-{index}"),
                earlier=None if earlier is None else earlier.weights[index],
            )
            record["histories"].append(trained.history)
            record["trainings"].append(trained.facts())
            outputs["training"].append(predict(network, prepared))
            outputs["validation"].append(predict(network, checked))
            for name, samples in masked.items():
                outputs[name].append(predict(network, samples))
            networks.append(network.cpu())
        residual = {block: _mean([out[0] for out in found]) for block, found in outputs.items()}
        offsets, tails = (_mean([out[k] for out in outputs["validation"]]) for k in (1, 2))
    else:
        networks = [_network(config, scaler, base, base_tails, _network_seed(seed, 0))]
    selection = _select(
        validation,
        residual.get("validation"),
        offsets,
        base,
        tails,
        base_tails,
        panel,
        config,
    )
    forecaster = assemble(networks, base, base_tails, selection)
    if enough:
        quantiles = {
            name: _quantiles(validation, found, forecaster)
            for name, found in outputs.items()
            if name != "training"
        }
        widening = find_widening(
            validation.target,
            quantiles.pop("validation"),
            quantiles,
            config.tokens.context_presence(checked.mask.cpu().numpy()),
            validation.rows,
            validation.assets,
            len(panel.assets),
            HORIZONS,
            LEVELS,
            config.selection,
        )
    record["widening"] = {
        str(horizon): dict(zip(MASKED, widening.factor[:, column].tolist(), strict=True))
        for column, horizon in enumerate(HORIZONS)
    }
    record["validation"] = _validation_record(validation, residual.get("validation"), selection)
    window_variance = np.full((len(panel.days), len(panel.assets), len(HORIZONS)), np.nan)
    for name, block in (("training", training), ("validation", validation)):
        correction = selection.shrinkage * residual[name] if name in residual else 0.0
        window_variance[block.rows, block.assets] = np.exp(block.anchor + correction)
    return Fitted(slots, scaler, forecaster, selection, widening, window_variance, record)


def training_samples(
    panel: Panel,
    first: int,
    config: AttentionConfig,
    slots: TokenSlots,
    scaler: Scaler,
    device: str,
) -> tuple[Samples, Samples]:
    """Training and validation samples of `fit` again, for a panel and what was fitted on it."""
    blocks = _blocks(panel, first, _block_start(panel, first, config), config)
    return tuple(_samples(block, slots, scaler, config, panel, device) for block in blocks)  # type: ignore[return-value]


def untrained_network(
    config: AttentionConfig, scaler: Scaler, forecaster: ResidualForecaster, seed: int
) -> AttentionNetwork:
    """A network as `fit` begins with it, at the base quantiles and tails of a fitted forecaster."""
    base, tails = (x.cpu().numpy() for x in (forecaster.base, forecaster.base_tails))
    return _network(config, scaler, base, tails, seed)


def assemble(
    networks: list[AttentionNetwork],
    base: FloatArray,
    base_tails: FloatArray,
    selection: Selection,
) -> ResidualForecaster:
    """The forecaster in double precision and evaluation mode: a block of days then gives a single day's numbers."""
    parts = (
        base,
        selection.shrinkage,
        selection.quantile_shrinkage,
        selection.shift,
        base_tails,
        selection.tail_use,
    )
    return ResidualForecaster(networks, *(torch.tensor(part) for part in parts)).double().eval()


def empty_network(config: AttentionConfig, scaler: Scaler) -> AttentionNetwork:
    """A network of the fitted shape, to load weights into."""
    shapes = scaler.shapes(config.tokens)
    return AttentionNetwork(config.network, shapes, len(HORIZONS), len(QUANTILE_LEVELS))


def _network(
    config: AttentionConfig,
    scaler: Scaler,
    base: FloatArray,
    base_tails: FloatArray,
    seed: int,
) -> AttentionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = empty_network(config, scaler)
    network.set_base_quantiles(torch.tensor(base, dtype=torch.float32))
    network.set_base_tails(torch.tensor(base_tails, dtype=torch.float32))
    return network


def _network_seed(seed: int, index: int) -> int:
    return seed + 1000 * index


def _block_start(panel: Panel, first: int, config: AttentionConfig) -> int:
    """First row of the validation block: the newest share of the days on which any coin can be forecast."""
    share = price_share(panel, config.tokens).max(axis=1)
    usable = np.flatnonzero(share[first:] >= config.tokens.min_price_share) + first
    if len(usable) == 0:
        return len(panel.days) - 1
    n_days = len(panel.days) - int(usable[0])
    return max(
        first + 1, len(panel.days) - int(np.ceil(config.selection.validation_share * n_days))
    )


def _blocks(panel: Panel, first: int, start: int, config: AttentionConfig) -> tuple[Block, Block]:
    """Training samples (rows first .. start-1) and validation samples (rows start .. T-1)."""
    before: date = panel.days[start - 1].item()
    selection_anchor = anchor_class(config.anchor)()
    held_days, held_variance = selection_anchor.cross_fitted(panel, before, start - first)
    held_out = np.full((len(panel.days), len(panel.assets), len(HORIZONS)), np.nan)
    held_out[panel.rows(held_days.tolist())] = np.log(held_variance)
    selection_anchor.fit(panel, before, start - first, 0)
    fitted, _ = selection_anchor.forecast(panel, panel.days.tolist())
    # Where there is no held-out forecast the anchor's fit knew no target of that row: its own forecast is one.
    anchor = np.where(np.isfinite(held_out), held_out, fitted)
    target = np.full_like(anchor, np.nan)
    for column, horizon in enumerate(HORIZONS):
        ahead = panel.target(horizon)
        target[..., column] = np.log(np.where(ahead > 0, ahead, np.nan))
        target[max(0, start - horizon) : start, :, column] = (
            np.nan
        )  # the purge: ends on start or later
    usable = price_share(panel, config.tokens) >= config.tokens.min_price_share
    usable &= np.isfinite(anchor).all(axis=-1) & np.isfinite(target).any(axis=-1)
    row = np.arange(len(panel.days))[:, None]
    return (
        _block(usable & (row >= first) & (row < start), anchor, target),
        _block(usable & (row >= start), anchor, target),
    )


def _block(usable: NDArray[np.bool_], anchor: FloatArray, target: FloatArray) -> Block:
    rows, assets = np.nonzero(usable)
    return Block(rows, assets, anchor[rows, assets], target[rows, assets])


def _samples(
    block: Block,
    slots: TokenSlots,
    scaler: Scaler,
    config: AttentionConfig,
    panel: Panel,
    device: str,
) -> Samples:
    inputs, mask = encode(panel, block.rows, block.assets, config.tokens, slots, scaler)
    age = torch.tensor(len(panel.days) - 1 - block.rows, dtype=torch.float32)
    samples = Samples(
        {group: torch.from_numpy(values) for group, values in inputs.items()},
        torch.from_numpy(mask),
        torch.tensor(block.anchor, dtype=torch.float32),
        torch.tensor(block.target, dtype=torch.float32),
        sample_weights(age, config.training.half_life_days),
    )
    return place(samples, device, config.training.resident_share)


def _base_quantiles(block: Block) -> FloatArray:
    """(H, Q) quantiles of log target - log anchor over training samples; a normal with sd 0.6 where there are too few."""
    base = np.tile(0.6 * _NORMAL_QUANTILES, (len(HORIZONS), 1))
    for column in range(len(HORIZONS)):
        errors = block.target[:, column] - block.anchor[:, column]
        errors = errors[np.isfinite(errors)]
        if len(errors) >= 100:
            base[column] = np.quantile(errors, LEVELS)
    return base


def _base_tails(block: Block) -> FloatArray:
    """(H, 4) skewed t of log target - log anchor over training samples."""
    return np.stack([fit_tails(errors) for errors in (block.target - block.anchor).T])


_NORMAL_QUANTILES = np.array(
    [-2.326, -1.960, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 1.960, 2.326]
)


def _mean(parts: list[Tensor]) -> FloatArray:
    return torch.stack(parts).mean(0).cpu().numpy().astype(np.float64)


def _select(
    block: Block,
    residual: FloatArray | None,
    offsets: FloatArray,
    base: FloatArray,
    tails: FloatArray,
    base_tails: FloatArray,
    panel: Panel,
    config: AttentionConfig,
) -> Selection:
    if residual is None:  # the anchor alone: its quantiles can still be calibrated
        residual = np.zeros((len(block), len(HORIZONS)))
        offsets = np.broadcast_to(base, (len(block), *base.shape))
        tails = np.broadcast_to(base_tails, (len(block), *base_tails.shape))
    return select(
        block.target,
        block.anchor,
        residual,
        offsets,
        base,
        tails,
        base_tails,
        block.rows,
        block.assets,
        len(panel.assets),
        HORIZONS,
        LEVELS,
        config.selection,
    )


def _masked(samples: Samples, config: TokenConfig) -> dict[str, Samples]:
    """The samples without each context group, and without all of them, by `MASKED`; nothing for a group that none has."""
    found = {}
    for name in MASKED:
        mask = samples.mask.clone()
        gone = config.tokens_of(*(CONTEXT_GROUPS if name == ALL_GROUPS else (name,)))
        if mask[:, gone].any():
            mask[:, gone] = False
            found[name] = replace(samples, mask=mask)
    return found


def _quantiles(block: Block, outputs: list[Outputs], forecaster: ResidualForecaster) -> FloatArray:
    """(S, H, Q) log quantiles as the forecaster gives them for these outputs of its networks."""
    residual, offsets, tails = (_mean([out[part] for out in outputs]) for part in range(3))
    point = block.anchor + forecaster.shrinkage.numpy() * residual
    spread: FloatArray = forecaster.spread(*(torch.from_numpy(x) for x in (offsets, tails))).numpy()
    return point[..., None] + spread


def _validation_record(
    block: Block, residual: FloatArray | None, selection: Selection
) -> dict[str, Mapping[str, float | int]]:
    """Per horizon: mean QLIKE of the anchor, of the full residual and of the chosen share, and how it was chosen."""
    record: dict[str, Mapping[str, float | int]] = {}
    for column, horizon in enumerate(HORIZONS):
        known = np.isfinite(block.target[:, column])
        if not known.any():
            record[str(horizon)] = {"samples": 0, "shrinkage": 0.0}
            continue
        target, anchor = block.target[known, column], block.anchor[known, column]
        correction = np.zeros(len(target)) if residual is None else residual[known, column]
        record[str(horizon)] = {
            "samples": int(known.sum()),
            "qlike_anchor": float(qlike(target, anchor).mean()),
            "qlike_full_residual": float(qlike(target, anchor + correction).mean()),
            "qlike": float(qlike(target, anchor + selection.shrinkage[column] * correction).mean()),
            "shrinkage": float(selection.shrinkage[column]),
            "quantile_shrinkage": float(selection.quantile_shrinkage[column]),
            "gain_t": float(selection.gain_t[column]),
            "tail_use": float(selection.tail_use[column]),
        }
    return record
