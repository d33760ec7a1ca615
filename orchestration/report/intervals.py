"""Where the marks of a summary row's interval bar lie.

In: rows of the summary. Out: the same rows with ``bar``: percentages of the bar's width, on one logarithmic scale per horizon, so
that coins can be compared down the column. Never changes a number that is shown.
"""

from __future__ import annotations

import math

from orchestration.report.queries import Row

_MARKS = ("q01", "q10", "volatility", "q90", "q99", "implied")


def with_interval_bars(rows: list[Row]) -> None:
    """Add ``bar`` to every row: mark -> position in percent, or None where a mark is missing."""
    for horizon in {row["horizon"] for row in rows}:
        alike = [row for row in rows if row["horizon"] == horizon]
        seen = [row[mark] for row in alike for mark in _MARKS if row[mark]]
        low, high = (math.log(min(seen)), math.log(max(seen))) if seen else (0.0, 1.0)
        width = max(high - low, 1e-9)
        for row in alike:
            row["bar"] = {
                mark: round(100 * (math.log(row[mark]) - low) / width, 2)
                if row[mark] and row[mark] > 0
                else None
                for mark in _MARKS
            }
