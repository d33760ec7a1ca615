"""Row conditions of order-book snapshots: what a book of bids and asks must be.

In: ``Evidence`` whose ``bids`` and ``asks`` are JSON text. Out: a boolean per row. A side is a list of [price, amount], best first; a
venue may put more behind the two. Order and crossing are asked only of sides that can be read. Never mends a book.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from quality.frames import Floats, Mask
from quality.suite import Evidence, RowCondition


def _side(text: Any) -> Floats | None:
    """(levels, 2) prices and amounts, all above zero and finite; None for anything else, an empty side included."""
    try:
        levels = json.loads(text)
        if not isinstance(levels, list) or not all(isinstance(level, list) for level in levels):
            return None
        side = np.array([[float(level[0]), float(level[1])] for level in levels], dtype=np.float64)
    except (TypeError, ValueError, LookupError, OverflowError, RecursionError):
        return None
    sound = side.ndim == 2 and bool(np.isfinite(side).all()) and bool((side > 0).all())
    return side if sound else None


def _sides(evidence: Evidence, column: str) -> list[Floats | None]:
    return [_side(text) for text in evidence.frame[column]]


def is_a_side(column: str) -> RowCondition:
    """``column`` is a list of at least one [price, amount], all of them above zero and finite."""

    def condition(evidence: Evidence) -> Mask:
        return np.array([side is not None for side in _sides(evidence, column)], dtype=bool)

    return condition


def best_first(column: str, sign: int) -> RowCondition:
    """Prices of ``column`` rise (``sign`` 1, asks) or fall (-1, bids) from level to level; no price comes twice."""

    def condition(evidence: Evidence) -> Mask:
        return np.array(
            [
                side is None or bool((sign * np.diff(side[:, 0]) > 0).all())
                for side in _sides(evidence, column)
            ],
            dtype=bool,
        )

    return condition


def not_crossed(evidence: Evidence) -> Mask:
    """The best bid is below the best ask."""
    return np.array(
        [
            bid is None or ask is None or bool(bid[0, 0] < ask[0, 0])
            for bid, ask in zip(_sides(evidence, "bids"), _sides(evidence, "asks"), strict=True)
        ],
        dtype=bool,
    )
