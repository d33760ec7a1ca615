"""Deletion and insertion curves: does the order in which attention ranks the inputs take a forecast apart sooner than chance?

Units (feature groups, or tokens) are taken from a forecast x one after the other, the most attended first, and put back in the same order.
With f the log variance, S_k the first k of n units,

    deletion area  = mean over k = 1 .. n-1 of |f(x without S_k) - f(x)|     large: what goes first mattered
    insertion area = mean over k = 1 .. n-1 of |f(only S_k of the units) - f(x)|     small: what comes first suffices
    gap            = deletion area - insertion area

An order and its reverse swap the two areas, so the gap of a random order is symmetric about 0. Attention's gap is ranked among those of
random orders, drawn in pairs of an order and its reverse: p = (1 + orders with a gap as large) / (1 + orders), which is at most
slightly conservative where attention ranks at random.

In: a forecaster, a batch and a score per unit. Out: areas and p-values per forecast and horizon. Never: a unit that the forecast does not have.
Sources: Samek et al. (2017), "Evaluating the visualization of what a deep neural network has learned" (deletion against random order);
Petsiuk, Das and Saenko (2018), "RISE" (deletion and insertion areas); the areas here are of |change|, as a forecast has no class whose score falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.removal import BoolArray, FloatArray, log_variance_without


@dataclass(frozen=True)
class Curves:
    """Areas of B forecasts and H horizons, in units of log variance; NaN where a forecast has fewer than two units."""

    deletion: FloatArray  # (B, H) area in the order of the scores
    insertion: FloatArray  # (B, H)
    deletion_random: FloatArray  # (B, H) mean area over random orders
    insertion_random: FloatArray  # (B, H)
    deletion_p: FloatArray  # (B, H) share of random orders with as large a deletion area
    insertion_p: FloatArray  # (B, H) with as small an insertion area
    gap_p: FloatArray  # (B, H) with as large a gap: what the audit judges

    @property
    def gap(self) -> FloatArray:
        return self.deletion - self.insertion


def deletion_and_insertion(
    forecaster: TokenForecaster,
    batch: TokenBatch,
    units: BoolArray,
    present: BoolArray,
    scores: FloatArray,
    seeds: Sequence[int],
    orders: int,
    steps: int | None = None,
) -> Curves:
    """Curves in the order of falling scores against random orders.

    units (U, token): the tokens of each unit; present (B, U): the units that a forecast has; scores (B, U); seeds (B,): one a
    forecast; orders: random orders, an even number; steps: at most so many points of a curve, spread evenly (default: all n-1).
    Raises ValueError for an odd or non-positive number of orders, or a score of a present unit that is not finite.
    """
    if orders < 2 or orders % 2:
        raise ValueError(f"orders {orders}: expected an even number, at least 2")
    if not np.isfinite(scores[present]).all():
        row, unit = np.argwhere(~np.isfinite(scores) & present)[0]
        raise ValueError(
            f"score {scores[row, unit]} of unit {unit} of forecast {row}: expected a number"
        )
    horizons = batch.anchor.shape[1]
    areas = np.full((2, len(batch), orders + 1, horizons), np.nan)  # deletion, insertion
    plans = {}
    for row, seed in enumerate(seeds):
        plan = _plan(present[row], scores[row], seed, orders, steps)
        if plan is not None:
            plans[row] = plan
    rows = list(plans)
    if rows:
        # All subsets of all forecasts in one evaluation, each subset of a forecast once.
        subsets, places = [], []
        for plan in plans.values():
            flat = plan.reshape(-1, plan.shape[-1])
            distinct, place = np.unique(flat, axis=0, return_inverse=True)
            subsets.append(distinct)
            places.append(place.reshape(plan.shape[:-1]))  # (order, side, step)
        owner = np.repeat(np.array(rows), [len(distinct) for distinct in subsets])
        removed = np.concatenate(subsets) @ units  # (R, unit) @ (unit, token): any of the units
        values = log_variance_without(forecaster, batch, owner, removed)
        full = log_variance_without(
            forecaster, batch, np.array(rows), np.zeros((len(rows), units.shape[1]), bool)
        )
        start = 0
        for position, (row, distinct, place) in enumerate(zip(rows, subsets, places, strict=True)):
            own = np.abs(values[start : start + len(distinct)] - full[position])  # (subset, H)
            areas[:, row] = own[place].mean(axis=2).transpose(1, 0, 2)
            start += len(distinct)
    deletion, insertion = areas  # (B, order, H); order 0 is that of the scores
    gap = deletion - insertion
    return Curves(
        deletion=deletion[:, 0],
        insertion=insertion[:, 0],
        deletion_random=deletion[:, 1:].mean(axis=1),
        insertion_random=insertion[:, 1:].mean(axis=1),
        deletion_p=_share(deletion[:, 1:] >= deletion[:, :1]),
        insertion_p=_share(insertion[:, 1:] <= insertion[:, :1]),
        gap_p=_share(gap[:, 1:] >= gap[:, :1]),
    )


def _share(as_extreme: BoolArray) -> FloatArray:
    """(B, order, H) -> (B, H): (1 + orders as extreme) / (1 + orders)."""
    share: FloatArray = (1.0 + as_extreme.sum(axis=1)) / (1.0 + as_extreme.shape[1])
    return share


def _plan(
    present: BoolArray, scores: FloatArray, seed: int, orders: int, steps: int | None
) -> NDArray[np.bool_] | None:
    """(order, side, step, unit): what is removed at each point of both curves, the scores' order first; None with fewer than two units."""
    here = np.flatnonzero(present)
    n = len(here)
    if n < 2:
        return None
    random = np.random.default_rng(seed)
    drawn = np.stack([random.permutation(n) for _ in range(orders // 2)])
    by_score = np.argsort(-scores[here], kind="stable")
    order = np.concatenate([by_score[None], drawn, drawn[:, ::-1]])  # (order, n)
    rank = np.argsort(order, axis=1)  # place of each unit in the order
    points = np.arange(1, n)
    if steps is not None and steps < len(points):
        points = np.unique(np.round(np.linspace(0, n, steps + 2)[1:-1]).astype(np.int64))
    removed = np.zeros((len(order), 2, len(points), len(present)), dtype=bool)
    taken = rank[:, None, :] < points[None, :, None]  # (order, step, n)
    removed[:, 0][..., here] = taken
    removed[:, 1][..., here] = ~taken
    return removed
