r"""What an event does to forecasts or to what they miss: a difference between its days and quiet ones, with its uncertainty.

.. math:: y_{it} = a_i + \delta A_{it} + u_{it}, \quad \widehat{V}(\hat\delta) = \frac{\sum_{|k| \le L} (1 - \tfrac{|k|}{L+1}) \sum_t g_t g_{t-k}}
    {(\sum_{it} \tilde A_{it}^2)^2}, \quad g_t = \sum_i \tilde A_{it} \hat u_{it}

i the coin, t the day, A whether the event is active, tilde less the coin's mean. All coins of a day are one cluster, and days up to L apart may go together:
Driscoll and Kraay (1998), Review of Economics and Statistics 80. L is the longer of h - 1 and the rule floor(4 (T/100)^(2/9)) of Newey and West (1994).
Episodes, not coin-days, are what is counted: runs of days with the event on any coin, more than h days apart. The interval is that of Student's t with
episodes - 1 degrees of freedom.

In: values and events by day and coin. Out: an `Effect`. Never: an interval from fewer than 5 episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_EPISODES = 5
"""With fewer, Student's t has under 4 degrees of freedom, and one episode is a quarter of the evidence."""
FEWEST_QUIET_DAYS = 30
LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """The difference, NaN where it cannot be had; the interval, NaN where there are too few episodes."""

    estimate: float
    low_95: float
    high_95: float
    episodes: int
    active_coin_days: int
    quiet_coin_days: int

    @property
    def judged(self) -> bool:
        """Whether it has an interval."""
        return bool(np.isfinite(self.low_95))


def event_effect(values: Floats, active: Floats, horizon: int) -> Effect:
    """Mean of `values` (T, N) on active less that on quiet days, within coins.

    `active` (T, N): 1, 0, or NaN where the event was not judged; rows are consecutive days. Only coins with both kinds of day count towards the
    difference. Raises ValueError on shapes that differ or a horizon below 1.
    """
    if values.shape != active.shape or values.ndim != 2:
        raise ValueError(
            f"values {values.shape} and active {active.shape}: expected the same (days, coins)"
        )
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    given = np.isfinite(values) & np.isfinite(active)
    on = given & (active > 0)
    count = episodes(np.asarray(on.any(axis=1)), horizon)
    shown, quiet = int(on.sum()), int((given & ~on).sum())
    treated, outcome = _within(np.where(on, 1.0, 0.0), given), _within(values, given)
    size = float((treated**2).sum())
    if not size > 0:
        return Effect(np.nan, np.nan, np.nan, count, shown, quiet)
    estimate = float((treated * outcome).sum() / size)
    quiet_days = int((given & ~on).any(axis=1).sum())
    if count < FEWEST_EPISODES or quiet_days < FEWEST_QUIET_DAYS:
        return Effect(estimate, np.nan, np.nan, count, shown, quiet)
    moments = (treated * (outcome - estimate * treated)).sum(axis=1)  # (T,)
    days = int(given.any(axis=1).sum())
    lags = min(max(horizon - 1, int(4 * (days / 100) ** (2 / 9))), len(moments) - 1)
    total = float(moments @ moments)
    for lag in range(1, lags + 1):
        total += 2.0 * (1.0 - lag / (lags + 1)) * float(moments[lag:] @ moments[:-lag])
    from scipy.stats import t as student  # half a second: only when there is work

    half = float(student.ppf(0.5 + LEVEL / 2, count - 1)) * np.sqrt(max(total, 0.0)) / size
    return Effect(estimate, estimate - half, estimate + half, count, shown, quiet)


def episodes(active_days: NDArray[np.bool_], horizon: int) -> int:
    """Runs of active days (T,) with more than `horizon` quiet days between them."""
    at = np.flatnonzero(active_days)
    return int(len(at) > 0) + int((np.diff(at) > horizon + 1).sum())


def _within(values: Floats, given: NDArray[np.bool_]) -> Floats:
    """(T, N) less the coin's mean over its given days; 0 elsewhere."""
    filled = np.where(given, values, 0.0)
    mean = filled.sum(axis=0) / np.maximum(given.sum(axis=0), 1)
    return np.where(given, filled - mean, 0.0)
