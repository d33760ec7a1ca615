"""Realised correlation matrices from hourly returns, and which coins can have one.

In: hourly log returns of N coins on T days, NaN = missing. Out: a correlation matrix for each usable day, the coins that were kept
and a reason for each that was not.
Never: a filled hour, a matrix put together from pairs with different hours (it need not be positive semi-definite), or a
coin left out without a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOURS = 24
FEWEST_HOURS = 20
"""Hours of a day that all coins must share: five of six. The matrix of a day is one of at most 24 observations already."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CoinChoice:
    """The coins that share enough hours on enough days, and why the others do not."""

    kept: tuple[int, ...]  # columns
    refused: dict[int, str]  # column -> reason


def choose_coins(
    returns: Floats, candidates: Sequence[int], last: int, fewest: int, day: str
) -> CoinChoice:
    """Of `candidates` (columns of returns (T, 24, N)), those that share `FEWEST_HOURS` on `fewest` of the last `last` days.

    First go the coins that could not be kept alone: a price that stood still on too many days, or too few hours. While the others
    still share too few days, the one goes without which most days are usable; of equal ones, in this order, the one that stands still
    on most days in the hours shared, lacks most hours on unusable days, comes last. A coin with a fault of its own costs the others
    nothing. `day` names the last row in the reasons.
    """
    recent = returns[-last:]
    hours = np.isfinite(recent).sum(axis=1)  # (T, N)
    enough = hours >= FEWEST_HOURS
    moved = _moved(recent)
    span = f"the {last} days to {day}" if last > 1 else f"the day to {day}"
    days = f" on at least {fewest} of them" if last > 1 else ""
    kept: list[int] = []
    refused: dict[int, str] = {}
    for column in candidates:
        if int((enough & moved)[:, column].sum()) >= fewest:
            kept.append(column)
            continue
        reasons = []
        if int(enough[:, column].sum()) < fewest:
            known = f"{int(hours[:, column].sum())} of {HOURS * last} hours known in {span}"
            reasons.append(f"{known}: expected {FEWEST_HOURS} hours{days}")
        if still := int((enough & ~moved)[:, column].sum()):
            stood = f"its price did not move on {still} of {span}" if last > 1 else f"its price did not move in {span}"  # fmt: skip
            reasons.append(f"{stood}: expected a move{days}")
        refused[column] = "; ".join(reasons)
    while kept and (shared := int(usable_days(recent[:, :, kept]).sum())) < fewest:
        worst, without = _costliest(recent, kept)
        refused[worst] = (
            f"{int(hours[:, worst].sum())} of {HOURS * last} hours known in {span}: with it the {len(kept)} coins share {FEWEST_HOURS} hours "
            f"and a move of each on {shared} of {last} days, without it on {without}: expected at least {fewest}"
        )
        kept.remove(worst)
    return CoinChoice(tuple(kept), refused)


def usable_days(returns: Floats) -> NDArray[np.bool_]:
    """(T, 24, N) -> (T,) days on which all coins share 20 hours, and every coin moved in them."""
    shared = _shared_hours(returns)
    moved = _moved(np.where(shared[:, :, None], returns, np.nan)).all(axis=1)
    return np.asarray((shared.sum(axis=1) >= FEWEST_HOURS) & moved)


def realized_correlations(returns: Floats) -> Floats:
    """(T, 24, N) -> (T, N, N) correlation of the hourly returns of each day about 0, NaN on days that are not usable.

    Hours that any coin lacks are left out for all, so each matrix is positive semi-definite with a diagonal of 1.
    Source: Andersen, Bollerslev, Diebold and Labys (2003), "Modeling and forecasting realized volatility", Econometrica 71.
    """
    shared = _shared_hours(returns)
    known = np.where(shared[:, :, None], returns, 0.0)
    days, _, coins = known.shape
    covariance = np.zeros((days, coins, coins))
    for hour in range(known.shape[1]):  # elementwise: a day sums alike alone and in a block
        covariance += known[:, hour, :, None] * known[:, hour, None, :]
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    scale = spread[:, :, None] * spread[:, None, :]
    usable = usable_days(returns)[:, None, None]
    correlation = np.where(usable, covariance / np.where(scale > 0, scale, np.nan), np.nan)
    diagonal = np.arange(coins)
    correlation[:, diagonal, diagonal] = np.where(usable[:, :, 0], 1.0, np.nan)
    return correlation


def mean_over_days(daily: Floats, length: int, fewest: int) -> Floats:
    """(T, N, N) daily matrices, NaN where a day has none -> (T, N, N): row t the mean of days t-length+1 .. t.

    NaN where fewer than `fewest` of these days have a matrix, and before day `length`. A mean of correlation matrices is one:
    positive semi-definite, with a diagonal of 1.
    """
    if len(daily) < length:
        return np.full_like(daily, np.nan)
    known = np.isfinite(daily[:, :1, :1]).astype(np.float64)  # (T, 1, 1)
    filled = np.nan_to_num(daily)
    total, count = np.zeros_like(daily), np.zeros_like(known)
    for back in range(length - 1, -1, -1):  # oldest first
        rows = slice(length - 1 - back, len(daily) - back)
        total[length - 1 :] += filled[rows]
        count[length - 1 :] += known[rows]
    return np.where(count >= fewest, total / np.maximum(count, 1.0), np.nan)


def _shared_hours(returns: Floats) -> NDArray[np.bool_]:
    """(T, 24, N) -> (T, 24) hours that every coin has."""
    return np.asarray(np.isfinite(returns).all(axis=2), dtype=bool)


def _moved(returns: Floats) -> NDArray[np.bool_]:
    """(T, 24, N) -> (T, N) days on which a known return of the coin is not 0."""
    return np.asarray((np.nan_to_num(returns) != 0.0).any(axis=1))


def _costliest(recent: Floats, kept: Sequence[int]) -> tuple[int, int]:
    """The column that spoils most days of (T, 24, N) for the other columns `kept`, and the usable days without it."""
    own = recent[:, :, list(kept)]
    spoilt = ~usable_days(own)  # (T,)
    shared = np.where(_shared_hours(own)[:, :, None], own, np.nan)
    still = (~_moved(shared) & spoilt[:, None]).sum(axis=0)
    lacking = (~np.isfinite(own) & spoilt[:, None, None]).sum(axis=(0, 1))
    without = [
        int(usable_days(np.delete(own, place, axis=2)).sum()) if len(kept) > 1 else 0
        for place in range(len(kept))
    ]
    worst = max(
        range(len(kept)), key=lambda p: (without[p], int(still[p]), int(lacking[p]), kept[p])
    )
    return kept[worst], without[worst]
