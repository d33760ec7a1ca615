"""Which worker makes which fits: a spec, split into shards of about equal cost.

In: a worker spec and how many workers may run at once. Out: specs that together make the same fits, each once. Never: a warm start in another
shard than the fit that it begins with, or a split of a model that learns from all coins together.

What is split is (model, fold, coins): each fit is a unit, a chain of warm starts is one, and a large fit of a model that fits each coin by itself
is cut by coins (`ml.coin_parts`). A worker takes 3 to 11 seconds to start, so cheap fits share one: no shard is expected to cost less than
``WORTH_A_START`` seconds unless it is the only one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ml.models import MODELS, Entry

WORTH_A_START = 20.0
ROUNDS = 2
"""Shards per worker: with two, one that was thought cheaper than it is does not decide when all are done."""
FEWEST_COINS = 8
"""Coins of the smallest part of a fit."""


@dataclass(frozen=True)
class Unit:
    """Fits that one worker must make, in this order."""

    fits: tuple[dict[str, Any], ...]
    seconds: float
    needs_gpu: bool


def split(
    spec: dict[str, Any], at_once: int, coins: Sequence[str] | None = None
) -> list[tuple[dict[str, Any], bool, float]]:
    """Specs of the shards, whether each may use a GPU, and the seconds that it is expected to take.

    ``coins`` are those of the snapshot; without them no fit is cut by coins. One worker gets the spec as it is.
    """
    size = len(coins or ()) or 10
    units = list(_units(spec, size))
    if at_once > 1 and coins is not None:
        units = [part for unit in units for part in _by_coins(unit, at_once, coins)]
    if at_once == 1 or len(units) == 1:
        seconds = sum(unit.seconds for unit in units)
        needs_gpu = any(unit.needs_gpu for unit in units)
        return [(spec, needs_gpu, seconds)]
    found = []
    for needs_gpu in (True, False):  # a fit without a network would only hold the GPU
        alike = [unit for unit in units if unit.needs_gpu == needs_gpu]
        for bin_ in _bins(alike, at_once):
            fits = [fit for unit in bin_ for fit in unit.fits]
            found.append(({**spec, "fits": fits}, needs_gpu, sum(unit.seconds for unit in bin_)))
    return sorted(found, key=lambda shard: -shard[2])  # the longest begins first


def expected_seconds(fit: dict[str, Any], coins: int) -> float:
    """Roughly what a fit takes on one core: only the ratios matter, and what a start costs."""
    entry = MODELS[fit["model"]]
    share = coins / 10 * fit["window_days"] / 1500
    return _of_ten_coins(entry, bool(fit.get("check_explanations"))) * share


def _of_ten_coins(entry: Entry, checked: bool) -> float:
    if entry.resumes:
        return 270.0 if checked else 90.0  # two more networks are trained for the checks
    if entry.uses_torch:
        return 60.0
    if entry.reads_hourly:
        return 5.0
    return 2.0 if entry.is_garch else 0.5


def _units(spec: dict[str, Any], coins: int) -> Iterator[Unit]:
    chains: dict[int, list[dict[str, Any]]] = {}
    place: dict[tuple[str, str], int] = {}
    for number, fit in enumerate(spec["fits"]):
        warm = fit.get("warm_from")
        key = number
        if warm is not None and warm.get("uri") is None:
            key = place.get((fit["model"], str(warm["trained_as_of"])), number)
        chains.setdefault(key, []).append(fit)
        place[fit["model"], str(fit["trained_as_of"])] = key
    for fits in chains.values():
        yield Unit(
            tuple(fits),
            sum(expected_seconds(fit, coins) for fit in fits),
            spec.get("device", "auto") != "cpu" and MODELS[fits[0]["model"]].uses_torch,
        )


def _by_coins(unit: Unit, at_once: int, coins: Sequence[str]) -> list[Unit]:
    """A large fit of a model that fits each coin by itself, in parts of neighbouring coins."""
    fit = unit.fits[0]
    count = min(at_once, int(unit.seconds // WORTH_A_START), len(coins) // FEWEST_COINS)
    if count < 2 or len(unit.fits) > 1 or not MODELS[fit["model"]].per_coin:
        return [unit]
    bounds = [round(len(coins) * place / count) for place in range(count + 1)]
    parts = [list(coins[start:stop]) for start, stop in pairwise(bounds)]
    return [
        Unit(({**fit, "coins": part},), unit.seconds * len(part) / len(coins), unit.needs_gpu)
        for part in parts
    ]


def _bins(units: Sequence[Unit], at_once: int) -> list[list[Unit]]:
    """Longest first into the emptiest of as many shards as are worth a start."""
    total = sum(unit.seconds for unit in units)
    count = max(1, min(len(units), ROUNDS * at_once, int(total // WORTH_A_START)))
    bins: list[list[Unit]] = [[] for _ in range(count)]
    filled = [0.0] * count
    order = {id(unit): number for number, unit in enumerate(units)}
    for unit in sorted(units, key=lambda unit: (-unit.seconds, order[id(unit)])):
        target = filled.index(min(filled))
        bins[target].append(unit)
        filled[target] += unit.seconds
    return [sorted(bin_, key=lambda unit: order[id(unit)]) for bin_ in bins if bin_]
