"""Rows -> series in time order, with revisions folded: what the time-series checks share.

In: a typed frame, the columns that name a series and its time column. Out: for every row the value before and after it
in its own series, and the distinct times of each series. Never loops over rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from quality.frames import Floats, Mask

Integers = npt.NDArray[np.int64]


def series_numbers(frame: pd.DataFrame, columns: tuple[str, ...]) -> Integers:
    """A number per row, equal for rows of the same series."""
    grouped = frame.groupby(list(columns), sort=False, dropna=False, observed=True)
    return np.asarray(grouped.ngroup(), dtype=np.int64)


def microseconds(frame: pd.DataFrame, column: str) -> Integers:
    """Times as integers; NaT is the least of them."""
    naive = frame[column].dt.tz_localize(None)
    return np.asarray(naive.to_numpy(dtype="datetime64[us]").astype(np.int64), dtype=np.int64)


NO_TIME = int(np.iinfo(np.int64).min)
HOUR = 3_600_000_000
DAY = 24 * HOUR
BAR_LENGTHS = {"1m": HOUR // 60, "5m": HOUR // 12, "1h": HOUR, "1d": DAY}
"""Microseconds of a bar, by the name of its interval or resolution."""


@dataclass(frozen=True)
class Sequence:
    """``bar`` numbers each row's (series, time); ``newest`` is the row that holds a bar's newest version.

    Bars are numbered by series, then time, so the bar before bar b is b - 1 where ``same_series_as_previous[b]``.
    """

    series: Integers  # (bars,)
    time: Integers  # (bars,) microseconds
    newest: Integers  # (bars,) row positions
    bar: Integers  # (rows,)
    same_series_as_previous: Mask  # (bars,)

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: tuple[str, ...], time: str = "ts") -> Sequence:
        series, times = series_numbers(frame, columns), microseconds(frame, time)
        if "known_at" in frame and time != "known_at":
            order = np.lexsort((microseconds(frame, "known_at"), times, series))
        else:
            order = np.lexsort((times, series))
        s, t = series[order], times[order]
        starts = np.ones(len(order), dtype=bool)
        starts[1:] = (s[1:] != s[:-1]) | (t[1:] != t[:-1])
        ends = np.append(starts[1:], True) if len(order) else starts
        bar = np.empty(len(order), dtype=np.int64)
        bar[order] = np.cumsum(starts) - 1
        newest = order[ends]
        bar_series = series[newest]
        same = np.zeros(len(newest), dtype=bool)
        same[1:] = bar_series[1:] == bar_series[:-1]
        return cls(bar_series, times[newest], newest, bar, same)

    def before(self, values: Floats) -> Floats:
        """(rows,) -> per row the newest version of the value one bar earlier; NaN at a series' start."""
        newest = values[self.newest]
        previous = np.full(len(newest), np.nan)
        previous[1:] = np.where(self.same_series_as_previous[1:], newest[:-1], np.nan)
        return previous[self.bar]

    def after(self, values: Floats) -> Floats:
        """(rows,) -> per row the newest version of the value one bar later; NaN at a series' end."""
        newest = values[self.newest]
        following = np.full(len(newest), np.nan)
        following[:-1] = np.where(self.same_series_as_previous[1:], newest[1:], np.nan)
        return following[self.bar]


def label(frame: pd.DataFrame, row: int, columns: tuple[str, ...]) -> str:
    """A row's series in words: ``binance BTC/USDT 1h``."""
    return " ".join(str(frame[column].iloc[row]) for column in columns)


def listing(names: list[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
