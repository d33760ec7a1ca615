"""Forecasts with some of their tokens taken away.

In: a batch and which tokens of which forecast go. Out: log variances. How a token goes is the same everywhere: a context token is masked
from attention; price and calendar tokens, which a forecast cannot do without, are set to their training mean.
Never: a change of the anchor. What an anchor itself reads (the default one: price and calendar) stays in the forecast, so taking price
tokens away shows their effect on the correction alone, taking a context token away its effect on the whole forecast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date

import numpy as np
import torch
from numpy.typing import NDArray

from ml.explain.protocol import TokenBatch, TokenForecaster

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ROWS_AT_ONCE = 256
"""Forecasts a pass; more do not fit into a core's cache and take twice as long each (measured on the default network)."""


def present_groups(batch: TokenBatch) -> BoolArray:
    """(B, G): the forecast has at least one token of the group."""
    here = [batch.mask[:, batch.token_slice(group)].any(dim=1) for group in batch.inputs]
    return torch.stack(here, dim=1).cpu().numpy()


def audited_groups(batch: TokenBatch) -> BoolArray:
    """(B, G): groups that are there, less that of the forecast token itself.

    Rollout leaves the forecast token at least 2^-layers of itself, whatever it attends to: a rank of its group would be that constant's.
    """
    present = present_groups(batch)
    present[:, list(batch.inputs).index(batch.forecast_group)] = False
    return present


def tokens_of_groups(batch: TokenBatch) -> BoolArray:
    """(G, token): which tokens a group has."""
    owner = np.array(batch.token_groups)
    return np.stack([owner == group for group in batch.inputs])


def without_tokens(
    batch: TokenBatch, removed: BoolArray, always_present: Sequence[str]
) -> TokenBatch:
    """The batch without those tokens, removed (B, token). Always-present groups go to their training mean, others are masked."""
    gone = torch.from_numpy(removed).to(batch.mask.device)
    mask = batch.mask.clone()
    inputs = dict(batch.inputs)
    for group in batch.inputs:
        place = batch.token_slice(group)
        own = gone[:, place]
        if group in always_present:
            inputs[group] = inputs[group].masked_fill(own[..., None], 0.0)
        else:
            mask[:, place] &= ~own
    return batch.with_inputs(inputs).with_mask(mask)


def log_variance_without(
    forecaster: TokenForecaster, batch: TokenBatch, owner: NDArray[np.int64], removed: BoolArray
) -> FloatArray:
    """(R, H) log variance of forecast owner[r] of the batch without the tokens removed[r]; owner (R,), removed (R, token)."""
    found = np.empty((len(owner), batch.anchor.shape[1]))
    with torch.no_grad():
        for start in range(0, len(owner), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            rows = without_tokens(batch.take(owner[part]), removed[part], forecaster.always_present)
            found[part] = forecaster.forward_tokens(rows).cpu().numpy()
    return found


def seed_of(asset: str, day: date, version: str, purpose: str) -> int:
    """The seed of what is drawn for one forecast: the same in a daily run and in a backfill."""
    text = f"{asset}|{day.isoformat()}|{version}|{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
