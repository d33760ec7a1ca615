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

    While too few days are shared, the coin with the fewest hours goes, of equal ones the last: a young coin or one with an
    outage costs the others nothing. `day` names the last row in the reasons.
    """
    kept, refused = list(candidates), {}
    recent = returns[-last:]
    hours = np.isfinite(recent).sum(axis=(0, 1))
    while kept and int(usable_days(recent[:, :, kept]).sum()) < fewest:
        worst = min(reversed(kept), key=lambda column: int(hours[column]))
        kept.remove(worst)
        days = f"{last} days" if last > 1 else "day"
        refused[worst] = (
            f"{int(hours[worst])} of {HOURS * last} hours known in the {days} to {day}: expected {FEWEST_HOURS} hours shared with "
            f"the other coins on at least {fewest} of them"
        )
    return CoinChoice(tuple(kept), refused)


def usable_days(returns: Floats) -> NDArray[np.bool_]:
    """(T, 24, N) -> (T,) days on which all coins share 20 hours, and every coin moved in them."""
    shared = _shared_hours(returns)
    moved = (np.where(shared[:, :, None], returns, 0.0) != 0.0).any(axis=1).all(axis=1)
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
