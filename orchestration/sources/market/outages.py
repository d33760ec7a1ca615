"""When the simulated exchange was down: hours without bars, lost for ever or delivered late.

In: draws and days. Out: ``Outages`` per day. Never: touches prices, which move on while nobody sees
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.sources.market.emit import DAY, HOUR, IntArray
from orchestration.sources.market.law import MARKET_KEY
from orchestration.sources.market.randomness import Draws

DAILY_PROBABILITY = 0.012
LONGEST_HOURS = 10


@dataclass(frozen=True)
class Outages:
    """Per day: hours ``start <= hour < end`` are hit (none where both are 0); ``lost`` or known at
    ``restored_at``.
    """

    start: IntArray
    end: IntArray
    lost: NDArray[np.bool_]
    restored_at: IntArray  # microseconds since 1970


def outages(draws: Draws, first: int, last: int) -> Outages:
    """The outages of the days ``first`` to ``last`` (days since 1970)."""
    uniform = draws.uniform("outage", MARKET_KEY, first, last, 5)
    happens = uniform[:, 0] < DAILY_PROBABILITY
    start = np.floor(24.0 * uniform[:, 1]).astype(np.int64)
    length = 1 + np.floor(LONGEST_HOURS * uniform[:, 2] ** 2).astype(np.int64)
    end = np.minimum(start + length, 24)
    repair = np.floor((4.0 + 16.0 * uniform[:, 4]) * 60.0).astype(np.int64) * (HOUR // 60)
    return Outages(
        start=np.where(happens, start, 0),
        end=np.where(happens, end, 0),
        lost=uniform[:, 3] < 0.5,
        restored_at=np.arange(first, last + 1) * DAY + end * HOUR + repair,
    )
