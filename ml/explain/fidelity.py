r"""Infidelity and sensitivity of an explanation (Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations").

With f the log variance, Phi an explanation by feature group, and I the removal of a random set z of groups (their values set to the
training mean, the baseline of integrated gradients),

    infidelity      = E_z [(sum_g z_g Phi_g - (f(x) - f(x - I)))^2]                    definition 2.1, in log variance^2
    infidelity share = infidelity / E_z [(f(x) - f(x - I))^2]     0: Phi accounts for every removal; 1: it says as much as nothing would
    attention share = the same for the best multiple of attention, min over beta of E_z [(beta sum_g z_g a_g - (f(x) - f(x - I)))^2] / ...
    max-sensitivity = max over |y - x| <= r of ||Phi(y) - Phi(x)|| / ||Phi(x)||        definition 2.3, relative as captum reports it

In: a forecaster and a batch. Out: figures per forecast and horizon. Never: randomness of its own: what is drawn comes from the seeds.
captum.metrics is the reference of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.removal import ROWS_AT_ONCE, BoolArray, FloatArray, tokens_of_groups, without_tokens

Explanation = Callable[[TokenBatch], FloatArray]
"""A batch -> (B, G) or (B, G, H)."""


def infidelity(
    forecaster: TokenForecaster,
    batch: TokenBatch,
    attribution: FloatArray,
    attention: FloatArray,
    groups: BoolArray,
    seeds: Sequence[int],
    draws: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Infidelity of an attribution (B, H), its share (B, H), and the share of the best multiple of attention (B, H).

    attribution (B, G, H) in units of log variance; attention (B, G); groups (B, G): those that are drawn from, each with chance 1/2 and
    never none of them. NaN where a forecast has no such group; shares are NaN where no removal changes the forecast.
    """
    drawn = drawn_sets(groups, seeds, draws)
    changes = _changes(forecaster, batch, drawn)  # (B, draw, H)
    said = np.einsum("bdg,bgh->bdh", drawn, np.nan_to_num(attribution))
    weighed = np.einsum("bdg,bg->bd", drawn, np.nan_to_num(attention))[..., None]
    squared = (changes**2).mean(axis=1)
    missed = ((said - changes) ** 2).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # min over beta of the mean of (beta w - c)^2 is mean c^2 - (mean wc)^2 / mean w^2.
        explained = (weighed * changes).mean(axis=1) ** 2 / (weighed**2).mean(axis=1)
        shares = missed / squared, 1 - explained / squared
    none = groups.sum(axis=1) == 0
    missed[none] = np.nan
    unmoved = np.logical_or(none[:, None], squared == 0)
    return missed, *(np.where(unmoved, np.nan, share) for share in shares)


def drawn_sets(groups: BoolArray, seeds: Sequence[int], draws: int) -> BoolArray:
    """(B, draw, G): random sets of each forecast's groups, none of them empty."""
    found = np.zeros((len(groups), draws, groups.shape[1]), dtype=bool)
    for row, seed in enumerate(seeds):
        here = np.flatnonzero(groups[row])
        if len(here) == 0:
            continue
        random = np.random.default_rng(seed)
        chosen = random.random((draws, len(here))) < 0.5
        empty = ~chosen.any(axis=1)
        chosen[empty, random.integers(len(here), size=int(empty.sum()))] = True
        found[row][:, here] = chosen
    return found


def _changes(forecaster: TokenForecaster, batch: TokenBatch, drawn: BoolArray) -> FloatArray:
    """(B, draw, H): f(x) - f(x with those groups at their training mean)."""
    removed = (drawn.reshape(-1, drawn.shape[-1]) @ tokens_of_groups(batch)).astype(bool)
    owner = np.repeat(np.arange(len(batch)), drawn.shape[1])
    everything = tuple(batch.inputs)  # every group goes to its mean, none is masked
    found = np.empty((len(owner), batch.anchor.shape[1]))
    with torch.no_grad():
        full = forecaster.forward_tokens(batch).cpu().numpy()
        for start in range(0, len(owner), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            rows = without_tokens(batch.take(owner[part]), removed[part], everything)
            found[part] = forecaster.forward_tokens(rows).cpu().numpy()
    changes: FloatArray = (full[owner] - found).reshape(len(batch), drawn.shape[1], -1)
    return changes


def max_sensitivity(
    explanation: Explanation,
    batch: TokenBatch,
    groups: BoolArray,
    seeds: Sequence[int],
    radius: float,
    draws: int,
) -> FloatArray:
    """Largest relative change of the explanation of those groups (B, G) when every input moves by at most `radius`; (B,) or (B, H).

    Inputs are scaled, so the radius is in training standard deviations; moves are uniform in the cube of that radius, where captum's
    default takes 0.02. NaN where the explanation is 0.
    """
    here = groups[..., None]
    own = explanation(batch)
    flat = own.ndim == 2
    own = np.where(here, own[..., None] if flat else own, 0.0)  # (B, G, 1 or H)
    size = np.sqrt((own**2).sum(axis=1))
    worst = np.zeros_like(size)
    for moved in nearby(batch, seeds, radius, draws):
        found = explanation(moved)
        found = np.where(here, found[..., None] if flat else found, 0.0)
        worst = np.maximum(worst, np.sqrt(((found - own) ** 2).sum(axis=1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative: FloatArray = np.where(size > 0, worst / size, np.nan)
    return relative[:, 0] if flat else relative


def nearby(batch: TokenBatch, seeds: Sequence[int], radius: float, draws: int) -> list[TokenBatch]:
    """`draws` batches with every input moved, uniformly, by at most `radius`; each forecast's moves come from its own seed."""
    shapes = {group: tuple(values.shape[1:]) for group, values in batch.inputs.items()}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    moves = np.stack(
        [
            np.random.default_rng(seed).uniform(-radius, radius, (draws, sum(sizes)))
            for seed in seeds
        ]
    )  # (B, draw, input)
    found = []
    for draw in range(draws):
        parts = np.split(moves[:, draw], np.cumsum(sizes)[:-1], axis=1)
        inputs = {
            group: values + torch.from_numpy(part.reshape(len(batch), *shapes[group])).to(values)
            for (group, values), part in zip(batch.inputs.items(), parts, strict=True)
        }
        found.append(batch.with_inputs(inputs))
    return found
