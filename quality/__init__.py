"""Data quality gates: suites of expectations over raw and feature tables, and the verdict that they give.

In: a table's rows as a pandas frame. Out: ``Verdict``. Knows nothing of Dagster, the warehouse or the models: it never
stores a verdict, quarantines a row or stops a run; it says which rows and why.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from quality.engine import run_suite
from quality.reference import FrameReference, Reference
from quality.suites import SUITES
from quality.verdict import CRITICAL, WARNING, Result, Severity, Verdict

__all__ = [
    "CRITICAL",
    "SUITES",
    "WARNING",
    "FrameReference",
    "Reference",
    "Result",
    "Severity",
    "Verdict",
    "validate",
]


def validate(
    suite: str,
    frame: pd.DataFrame,
    *,
    reference: pd.DataFrame | Reference | None = None,
    now: datetime | None = None,
    assets: Iterable[str] | None = None,
    rows_only: bool = False,
) -> Verdict:
    """Judge ``frame`` by the suite of the table that it belongs to.

    ``suite``: a table name such as ``raw.ohlcv`` or ``features.daily`` (the keys of ``SUITES``).
    ``frame``: all rows of a window of time over all coins, so that gaps and missing coins can be told.
    ``reference``: earlier rows of the same table, for drift, changed units, the bar before the first one and the
    coins to expect; a frame, or a ``Reference`` where there are too many for one.
    ``now``: the decision time, with a time zone; without it, age and look-ahead are not checked.
    ``assets``: the coins that must be there; without it, those of the reference.
    ``rows_only``: ask only what refuses single rows, for batches on their way in; the rest is asked of whole windows.

    Checks that could not be asked are in the verdict as successes whose ``observed`` starts with "not checked".
    Raises ValueError for an unknown suite or a ``now`` without a time zone; never for a value in the frame.
    """
    if suite not in SUITES:
        raise ValueError(f"suite {suite!r}: expected one of {', '.join(SUITES)}")
    return run_suite(SUITES[suite], frame, reference, now, assets, rows_only)
