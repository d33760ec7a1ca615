r"""Rare days: which days had a jump or a crash.

jump: the ratio test on realised and bipower variation rejects at 0.1 % (`ml.baselines.jumps`). crash: the day's log return lies below -3 times the
root of the mean realised variance of the 22 days before it, as known the day before.

In: columns of features.daily by day and coin. Out: 1, 0, or NaN where the day was not known on its own evening.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ml.baselines.jumps import RATIO_DAYS, SIGNIFICANCE, is_jump, jump_statistic

Floats = NDArray[np.float64]

JUMP, CRASH = "jump", "crash"
KINDS: tuple[str, ...] = (JUMP, CRASH)
CRASH_DEVIATIONS = 3.0
"""About one day in a hundred on the archive, where a normal return would give one in 700."""
MEASURES: tuple[str, ...] = (
    "price_age_days", "rv_d", "bipower_d", "quarticity_d", "bars_expected", "return_d", "rv_22d", "rv_66d",
    "target_weekday", "target_weekend_share_5", "target_weekend_share_22",
)  # fmt: skip
"""Columns of features.daily that are read here and in `ml.tails.rare_risk`."""
LOOKBACK_DAYS = RATIO_DAYS
RULES: dict[str, str] = {
    JUMP: f"ratio test on realised and bipower variation rejects at {1 - SIGNIFICANCE:.1%}",
    CRASH: f"log return below -{CRASH_DEVIATIONS:g} sigma, sigma from rv_22d of the day before",
}


def rare_days(measures: Mapping[str, Floats], kind: str) -> Floats:
    """(T, N) 1 where the day was one of this kind, 0 where not, NaN where it was not complete by its decision time.

    `measures` hold `MEASURES`, each (T, N). Raises ValueError for a kind that is not `jump` or `crash`.
    """
    fresh = measures["price_age_days"] == 0
    if kind == JUMP:
        parts = (
            np.where(fresh, measures[name], np.nan)
            for name in ("rv_d", "bipower_d", "quarticity_d", "bars_expected")
        )
        statistic = jump_statistic(*parts)
        return np.where(np.isfinite(statistic), is_jump(statistic), np.nan)
    if kind == CRASH:
        sigma = np.full(fresh.shape, np.nan)
        sigma[1:] = np.sqrt(measures["rv_22d"][:-1])
        returns = np.where(fresh, measures["return_d"], np.nan)
        judged = np.isfinite(returns) & (sigma > 0)
        return np.where(judged, returns < -CRASH_DEVIATIONS * sigma, np.nan)
    raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")


def any_ahead(days: Floats, horizon: int, coverage: float = 0.8) -> Floats:
    """(T, N) 1 where one of the known days t+1 .. t+h was such a day, 0 where none was; NaN past the end or with less than 80 % of them known.

    The rule looks at how many days are known, never at what they were: horizons kept for their hits alone would raise the rate.
    An unknown day counts as none, so that the share of ones is that of the known days.
    """
    count, known, seen = (np.zeros(days.shape) for _ in range(3))
    for step in range(1, horizon + 1):
        ahead = np.full(days.shape, np.nan)
        ahead[:-step] = days[step:]
        count[:-step] += 1
        known += np.isfinite(ahead)
        seen += np.nan_to_num(ahead)
    judged = (count == horizon) & (known >= coverage * horizon)
    return np.where(judged, seen > 0, np.nan)
