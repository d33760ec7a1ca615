"""Paths that a stationary, serially dependent series could as well have taken.

In: a series, how long a path is wanted. Out: rows to take. Never: other paths for the same series and seed.
"""

from __future__ import annotations

import numpy as np
from arch.bootstrap import optimal_block_length
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean_block(series: Floats, sample: int) -> float:
    """Mean block of the stationary bootstrap of (T,) or (T, K) values, for a sample of some days: 1 .. T/5.

    The longest that a column asks for by Politis and White (2004), Econometric Reviews 23, corrected by Patton, Politis and
    White (2009), from arch.bootstrap; and no shorter than three samples. The rule aims at the mean of all T days: its
    blocks break a fortnight in pieces, whose mean is then too regular, and alarms come two to three times too often.
    """
    columns = series.reshape(len(series), -1)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    if columns.shape[1] == 0:
        return 1.0
    wanted = optimal_block_length(columns)["stationary"].to_numpy(np.float64)
    return float(np.clip(max(float(np.nanmax(wanted)), 3 * sample), 1.0, max(len(series) / 5, 1.0)))


def stationary_paths(
    rows: int, length: int, block: float, repetitions: int, seed: int
) -> NDArray[np.int64]:
    """(repetitions, length) rows 0 .. rows-1, wrapped round at the end, in blocks of geometric length of that mean.

    Source: Politis and Romano (1994), JASA 89.
    """
    chance = np.random.default_rng(seed)
    fresh = chance.random((repetitions, length)) < 1.0 / block
    fresh[:, 0] = True
    starts = chance.integers(0, rows, (repetitions, length))
    position = np.arange(length)
    began = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    return np.asarray((np.take_along_axis(starts, began, axis=1) + position - began) % rows)
