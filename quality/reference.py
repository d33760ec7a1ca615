"""Earlier rows of the table that is judged, as much of them as a check asks for.

In: a frame, or what stands for one elsewhere. Out: ``Reference``: rows of some columns, the rows beside a frame's first, the typical size of each series.
A caller with five million earlier rows gives a reference that reads and aggregates where they lie; ``FrameReference`` is the plain one that
others are tested against. Never: judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from quality.frames import Kind, typed

NEIGHBOURS = 3
"""Bars of a series before the frame's first that a check of neighbours may look at: one, and what tells whether that one is sound."""


class Reference(Protocol):
    """Rows of before the judged ones, of the same table."""

    def has(self, columns: Iterable[str]) -> bool:
        """Whether every one of the columns is there."""

    def __len__(self) -> int: ...

    def rows(self, columns: Sequence[str]) -> pd.DataFrame:
        """These columns of all rows, typed."""

    def beside(
        self, frame: pd.DataFrame, columns: Sequence[str], series: Sequence[str]
    ) -> pd.DataFrame:
        """These columns of rows from the ``NEIGHBOURS``-th time before each series' first ``ts`` in ``frame`` on; more rows change nothing."""

    def typical_sizes(
        self,
        column: str,
        series: Sequence[str],
        metrics: Sequence[str] | None,
        besides: Sequence[str],
    ) -> pd.Series:
        """Median of the sizes above zero of ``column`` in each series, by the series as texts; of ``metrics`` alone, and not of ``besides``."""


class FrameReference:
    """A reference that is a frame."""

    def __init__(self, frame: pd.DataFrame, kinds: Mapping[str, Kind]) -> None:
        self._frame = typed(frame, kinds).frame

    def has(self, columns: Iterable[str]) -> bool:
        return not set(columns) - set(self._frame.columns)

    def __len__(self) -> int:
        return len(self._frame)

    def rows(self, columns: Sequence[str]) -> pd.DataFrame:
        return self._frame[list(columns)]

    def beside(
        self, frame: pd.DataFrame, columns: Sequence[str], series: Sequence[str]
    ) -> pd.DataFrame:
        return self._frame[list(columns)]

    def typical_sizes(
        self,
        column: str,
        series: Sequence[str],
        metrics: Sequence[str] | None,
        besides: Sequence[str],
    ) -> pd.Series:
        return typical_sizes(self._frame, column, series, metrics, besides)


def typical_sizes(
    frame: pd.DataFrame,
    column: str,
    series: Sequence[str],
    metrics: Sequence[str] | None,
    besides: Sequence[str],
) -> pd.Series:
    """``Reference.typical_sizes`` of a frame."""
    size = frame[column].abs()
    usable = size > 0
    if metrics is not None:
        usable &= frame["metric"].isin(list(metrics))
    if besides:
        usable &= ~frame["metric"].isin(list(besides))
    return size[usable].groupby([frame[key].astype(str) for key in series]).median()
