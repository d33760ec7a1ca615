"""Has a column's distribution moved against a reference?

In: two samples of a column. Out: the population stability index (PSI) between them, and measures for suites that
count the columns whose PSI is large, that are off their scale, or that have gone dark. Never compares samples too small
to tell.

PSI = sum over bins of (p - q) log(p / q), bins at the reference's deciles (Siddiqi, *Credit Risk Scorecards*, 2006:
under 0.1 no change, over 0.25 a shift). Under no change its mean is about (bins - 1)(1/n + 1/m) (Yurdakul, 2018),
which is taken off the measured value, so that small samples do not raise alarms by their size alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from quality.frames import Floats
from quality.reference import Reference
from quality.sequences import listing
from quality.suite import Evidence, FrameMeasure, Measurement

BINS = 10
LEAST_ROWS = 100
OFF_SCALE = 8.0


def population_stability_index(sample: Floats, reference: Floats) -> float:
    """PSI of two samples, less its mean under no change; NaN where one has under ``LEAST_ROWS`` finite values."""
    sample, reference = sample[np.isfinite(sample)], reference[np.isfinite(reference)]
    if min(len(sample), len(reference)) < LEAST_ROWS:
        return float("nan")
    edges = np.unique(np.quantile(reference, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    shares = []
    for values in (sample, reference):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))
    p, q = shares
    index = float(np.sum((p - q) * np.log(p / q)))
    return max(index - len(edges) * (1.0 / len(sample) + 1.0 / len(reference)), 0.0)


def drifted_columns(
    columns: tuple[str, ...], time: str, shift: float, days: int = 60
) -> FrameMeasure:
    """Number of ``columns`` whose PSI against the reference is over ``shift``; the detail names them.

    Asked of frames that span ``days`` alone: volatility comes in clusters, so a week is never a fair sample of a year.
    """

    def measure(evidence: Evidence) -> Measurement | str:
        reference = evidence.reference
        if reference is None:
            return "no reference given"
        spanned = evidence.frame[time].dt.floor("D").nunique()
        if spanned < days:
            return f"{spanned} days, {days} needed to compare distributions"
        index = {
            column: population_stability_index(sample, usual)
            for column, sample, usual in _both(evidence.frame, reference, columns)
        }
        known = {column: value for column, value in index.items() if np.isfinite(value)}
        if not known:
            return f"no column with {LEAST_ROWS} values in both frame and reference"
        drifted = sorted((c for c in known if known[c] > shift), key=lambda c: -known[c])
        detail = listing([f"{column} (PSI {known[column]:.2f})" for column in drifted])
        return Measurement(len(drifted), detail or f"{len(known)} columns compared")

    return measure


def off_scale_columns(columns: tuple[str, ...]) -> FrameMeasure:
    """Number of ``columns`` whose median lies more than ``OFF_SCALE`` spreads from the reference's; the detail names them.

    A spread is the wider of the median absolute deviation and the 5 to 95 % range, in units of a normal's standard
    deviation, so heavy tails do not count as drift. It needs no more rows than a day has.
    """

    def measure(evidence: Evidence) -> Measurement | str:
        if evidence.reference is None:
            return "no reference given"
        found = {
            column: _spreads(sample, usual)
            for column, sample, usual in _both(evidence.frame, evidence.reference, columns)
        }
        known = {column: value for column, value in found.items() if np.isfinite(value)}
        if not known:
            return f"no column with {LEAST_ROWS} values in the reference"
        off = sorted((c for c in known if known[c] > OFF_SCALE), key=lambda c: -known[c])
        detail = listing([f"{column} ({known[column]:.0f} spreads)" for column in off])
        return Measurement(len(off), detail or f"{len(known)} columns compared")

    return measure


def _both(
    frame: pd.DataFrame, reference: Reference, columns: tuple[str, ...]
) -> Iterator[tuple[str, Floats, Floats]]:
    """Columns that both have, as finite values; ``log_range`` is made where a frame has high and low."""
    for column in columns:
        needed = ("high", "low") if column == "log_range" and column not in frame else (column,)
        if not reference.has(needed):
            continue
        pair = [_column(table, column) for table in (frame, reference.rows(needed))]
        if all(values is not None for values in pair):
            sample, usual = (values[np.isfinite(values)] for values in pair if values is not None)
            yield column, sample, usual


def _column(frame: pd.DataFrame, column: str) -> Floats | None:
    if column == "log_range" and {"high", "low"} <= set(frame.columns):
        with np.errstate(all="ignore"):
            high, low = frame["high"].to_numpy(np.float64), frame["low"].to_numpy(np.float64)
            return np.asarray(np.log(high / low), dtype=np.float64)
    return frame[column].to_numpy(dtype=np.float64) if column in frame else None


def _spreads(sample: Floats, usual: Floats) -> float:
    if len(sample) == 0 or len(usual) < LEAST_ROWS:
        return float("nan")
    middle = np.median(usual)
    deviation = 1.4826 * np.median(np.abs(usual - middle))
    tails = np.subtract(*np.quantile(usual, [0.95, 0.05])) / 3.29
    spread = max(float(deviation), float(tails))
    return abs(float(np.median(sample) - middle)) / spread if spread > 0 else float("nan")


def dark_columns(columns: tuple[str, ...]) -> FrameMeasure:
    """Number of ``columns`` that over half of the reference's rows have and under a fifth of the frame's."""

    def measure(evidence: Evidence) -> Measurement | str:
        reference = evidence.reference
        if reference is None or not len(reference):
            return "no reference given"
        compared = [c for c in columns if c in evidence.frame and reference.has([c])]
        now = evidence.frame[compared].notna().mean()
        usual = reference.rows(compared).notna().mean()
        dark = sorted(now.index[(usual > 0.5) & (now < 0.2)])
        return Measurement(len(dark), listing([str(name) for name in dark]))

    return measure
