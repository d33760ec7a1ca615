"""Has a column's distribution moved against a reference?

In: two samples of a column. Out: the population stability index (PSI) between them, and measures for suites that
count the columns whose PSI is large or that have gone dark. Never compares samples too small to tell.

PSI = sum over bins of (p - q) log(p / q), bins at the reference's deciles (Siddiqi, *Credit Risk Scorecards*, 2006:
under 0.1 no change, over 0.25 a shift). Under no change its mean is about (bins - 1)(1/n + 1/m) (Yurdakul, 2018),
which is taken off the measured value, so that small samples do not raise alarms by their size alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from quality.frames import Floats
from quality.sequences import listing
from quality.suite import Evidence, FrameMeasure, Measurement

BINS = 10
LEAST_ROWS = 100
SHIFT = 0.25


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


def drifted_columns(columns: tuple[str, ...], shift: float = SHIFT) -> FrameMeasure:
    """Number of ``columns`` whose PSI against the reference is over ``shift``; the detail names them."""

    def measure(evidence: Evidence) -> Measurement | str:
        reference = evidence.reference
        if reference is None:
            return "no reference given"
        compared = [c for c in columns if c in evidence.frame and c in reference]
        index = {
            column: population_stability_index(
                evidence.frame[column].to_numpy(dtype=np.float64),
                reference[column].to_numpy(dtype=np.float64),
            )
            for column in compared
        }
        known = {column: value for column, value in index.items() if np.isfinite(value)}
        if not known:
            return f"no column with {LEAST_ROWS} values in both frame and reference"
        drifted = sorted((c for c in known if known[c] > shift), key=lambda c: -known[c])
        detail = listing([f"{column} (PSI {known[column]:.2f})" for column in drifted])
        return Measurement(len(drifted), detail or f"{len(known)} columns compared")

    return measure


def dark_columns(columns: tuple[str, ...]) -> FrameMeasure:
    """Number of ``columns`` that over half of the reference's rows have and under a fifth of the frame's."""

    def measure(evidence: Evidence) -> Measurement | str:
        reference = evidence.reference
        if reference is None or reference.empty:
            return "no reference given"
        compared = [c for c in columns if c in evidence.frame and c in reference]
        now = evidence.frame[compared].notna().mean()
        usual = reference[compared].notna().mean()
        dark = sorted(now.index[(usual > 0.5) & (now < 0.2)])
        return Measurement(len(dark), listing([str(name) for name in dark]))

    return measure


def log_range(frame: pd.DataFrame) -> Floats:
    """Log of high over low: the scale of a bar, comparable over coins."""
    with np.errstate(all="ignore"):
        high, low = frame["high"].to_numpy(np.float64), frame["low"].to_numpy(np.float64)
        return np.asarray(np.log(high / low), dtype=np.float64)


def bar_range_drift(evidence: Evidence) -> Measurement | str:
    """PSI of the bars' log ranges against the reference."""
    if evidence.reference is None:
        return "no reference given"
    index = population_stability_index(log_range(evidence.frame), log_range(evidence.reference))
    if np.isnan(index):
        return f"fewer than {LEAST_ROWS} bars in frame or reference"
    return Measurement(index)
