r"""What all detectors share: robust scores against the coin's own past, and when an event begins and ends.

.. math:: z_t = \frac{x_t - \mathrm{median}(x_{t-365..t-1})}{1.4826\,\mathrm{MAD}(x_{t-365..t-1})}, \quad |z_t| \le 4

The day itself is not in its own past. An event begins on a day whose score is at least the threshold. It goes on while the score is at least the
release (hysteresis: a score that trembles about one level does not flicker), for at most 30 days after the last day at the threshold; a day that
cannot be judged ends it. Days that it has run are counted up to 30. So the state of a day depends on the 60 days before it and their past, however days
are grouped into runs.

In: columns of features.daily, (T, N) each. Out: `Findings`. Never: a later day's value, or a score from inputs that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PAST_DAYS = 365
FEWEST_PAST_DAYS = 180
"""Known days of the past 365 that an input is judged against: half a year."""
MEMORY_DAYS = 30
"""Days that an event may last after its score was last at the threshold, and the most that it is said to have run."""
LONGEST_MEAN_DAYS = 7
NEEDED_DAYS = PAST_DAYS + 2 * MEMORY_DAYS + LONGEST_MEAN_DAYS + 1
"""Rows up to a day that its state is made from; more change nothing."""
WIDEST = 4.0
"""More is no more evidence: a mean of four signals does not reach a threshold of 1.5 by one of them alone."""
MAD_TO_DEVIATION = 1.4826
"""1 / (the 75 % quantile of the normal distribution): the median absolute deviation as a standard deviation."""


@dataclass(frozen=True)
class Past:
    """The columns, and the rows that are to be judged."""

    columns: Mapping[str, Floats]
    rows: NDArray[np.int64]

    def value(self, name: str) -> Floats:
        """(T, N) a column. KeyError that names it when it is not there."""
        if name not in self.columns:
            raise KeyError(f"column {name!r} is not given: detectors read features.daily")
        return self.columns[name]

    def z(self, values: Floats) -> Floats:
        """(R, N) robust scores of the rows of values (T, N); NaN with fewer than 180 known days before, or a past without spread."""
        width = values.shape[1]
        padded = np.concatenate([np.full((PAST_DAYS, width), np.nan), values])
        windows = np.lib.stride_tricks.sliding_window_view(padded, PAST_DAYS, axis=0)
        past = windows[self.rows]  # (R, N, 365): the days before each row
        middle = _median(past)
        spread = MAD_TO_DEVIATION * _median(np.abs(past - middle[..., None]))
        known = np.isfinite(past).sum(axis=-1) >= FEWEST_PAST_DAYS
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (values[self.rows] - middle) / spread
        return np.where(known & (spread > 0) & np.isfinite(z), np.clip(z, -WIDEST, WIDEST), np.nan)

    def mean(self, values: Floats, days: int = LONGEST_MEAN_DAYS) -> Floats:
        """(T, N) mean of the known ones of the last `days` values, at least half of them: a week has no weekday."""
        total, known = np.zeros(values.shape), np.zeros(values.shape)
        for lag in range(min(days, len(values))):
            part = values[: len(values) - lag]
            total[lag:] += np.where(np.isfinite(part), part, 0.0)
            known[lag:] += np.isfinite(part)
        return np.where(2 * known >= days, total / np.maximum(known, 1.0), np.nan)


@dataclass(frozen=True)
class Detector:
    """A named event. `signals` gives (R, N) parts that are high before it, by name; `score` makes one number of them.

    `needs` are the columns of features.daily that it reads.
    """

    name: str
    meaning: str
    needs: tuple[str, ...]
    signals: Callable[[Past], dict[str, Floats]]
    score: Callable[[Mapping[str, Floats]], Floats]
    threshold: float
    release: float


@dataclass(frozen=True)
class Findings:
    """(R, N) scores, NaN where not judged; active on these rows; rows since the event began, at most 30; (R, N) by signal."""

    score: Floats
    active: NDArray[np.bool_]
    running_days: NDArray[np.int64]  # 0 on the day that it begins, and where none is active
    signals: dict[str, Floats]


def detect(detector: Detector, columns: Mapping[str, Floats], rows: NDArray[np.int64]) -> Findings:
    """The event on `rows` (R,) of columns (T, N). Raises KeyError for a column that is not given."""
    wanted = np.unique(np.clip(rows[:, None] - np.arange(2 * MEMORY_DAYS + 1), 0, None))
    with np.errstate(divide="ignore", invalid="ignore"):
        signals = detector.signals(Past(columns, wanted))
    score = np.full((int(wanted.max()) + 1, len(next(iter(signals.values()))[0])), np.nan)
    score[wanted] = detector.score(signals)
    active, running = _states(score, detector.threshold, detector.release)
    at = np.searchsorted(wanted, rows)
    return Findings(
        score[rows],
        active[rows],
        running[rows],
        {name: values[at] for name, values in signals.items()},
    )


def _states(
    score: Floats, threshold: float, release: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(T, N) whether active, and for how many days already, at most 30.

    A row is active where rows back to back at the release or above (False for NaN) lead to it from one at the threshold no more than 30 days ago.
    The 60 rows before a row say both: 30 whether it is active, and 30 more whether the 30th row before it was.
    """
    held, reached = score >= release, score >= threshold
    since = np.full(score.shape[1], MEMORY_DAYS + 1)  # rows since the threshold, within the spell
    was_active = np.zeros(score.shape[1], dtype=bool)
    active, running = np.zeros(score.shape, dtype=bool), np.zeros(score.shape, dtype=np.int64)
    days = np.zeros(score.shape[1], dtype=np.int64)
    for row in range(len(score)):
        forgotten = ~held[row] | (since > MEMORY_DAYS)
        since = np.where(
            held[row] & reached[row], 0, np.where(forgotten, MEMORY_DAYS + 1, since + 1)
        )
        active[row] = since <= MEMORY_DAYS
        days = np.where(active[row] & was_active, np.minimum(days + 1, MEMORY_DAYS), 0)
        running[row], was_active = days, active[row]
    return active, running


def mean_of(fewest: int) -> Callable[[Mapping[str, Floats]], Floats]:
    """The mean of the signals that are known, at least `fewest`."""

    def score(signals: Mapping[str, Floats]) -> Floats:
        total, known = _sums(signals)
        return np.where(known >= fewest, total / np.maximum(known, 1.0), np.nan)

    return score


def missing(signals: Mapping[str, Floats], row: int, column: int) -> list[str]:
    """Names of the signals that could not be judged on a row of a coin."""
    return [name for name, values in signals.items() if np.isnan(values[row, column])]


def _sums(signals: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    total = np.zeros(next(iter(signals.values())).shape)
    known = np.zeros(total.shape)
    for values in signals.values():
        total += np.where(np.isfinite(values), values, 0.0)
        known += np.isfinite(values)
    return total, known


def _median(values: Floats) -> Floats:
    """Median of the finite ones on the last axis; NaN where there is none. Sorting once is several times as fast as nanmedian."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.isfinite(values).sum(axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)
    pair = [np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0] for at in (low, high)]
    return np.asarray(0.5 * (pair[0] + pair[1]))
