"""Any pandas frame -> a frame of declared types that every check can rely on.

In: a frame as it came (strings, dates, junk) and the kinds of its columns. Out: float64 numbers, UTC timestamps, text
with None for nothing, positions 0..n-1 as index, and a mask of rows that hold a value which could not be read. Never
raises on a value and never drops or reorders a row: positions in the result are positions in the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Kind = Literal["number", "text", "time", "flag"]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TypedFrame:
    """``frame`` holds the declared columns that were there; ``unreadable`` is True for rows with an unusable value."""

    frame: pd.DataFrame
    unreadable: Mask
    duplicate_columns: tuple[str, ...]


def typed(frame: pd.DataFrame, kinds: Mapping[str, Kind]) -> TypedFrame:
    """Read the columns of ``kinds`` that ``frame`` has, and no others; of a repeated column the first copy."""
    names = [str(name) for name in frame.columns]
    duplicates = sorted({name for name in names if names.count(name) > 1 and name in kinds})
    unreadable = np.zeros(len(frame), dtype=bool)
    columns: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name not in names:
            continue
        raw = frame.iloc[:, names.index(name)].reset_index(drop=True)
        values, bad = _READERS[kind](raw)
        columns[name] = values
        unreadable |= bad
    return TypedFrame(
        pd.DataFrame(columns, index=pd.RangeIndex(len(frame))), unreadable, tuple(duplicates)
    )


def _is_nothing(value: Any) -> bool:
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _read_number(raw: pd.Series) -> tuple[Floats, Mask]:
    if pd.api.types.is_numeric_dtype(raw.dtype) and not pd.api.types.is_complex_dtype(raw.dtype):
        values = raw.to_numpy(dtype=np.float64, na_value=np.nan)
        return values, np.asarray(np.isinf(values))
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return np.full(len(raw), np.nan), np.asarray(raw.notna(), dtype=bool)
    values = np.full(len(raw), np.nan)
    bad = np.zeros(len(raw), dtype=bool)
    for i, value in enumerate(raw.astype(object)):
        if _is_nothing(value):
            continue
        try:
            values[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            bad[i] = True
    return values, bad | np.isinf(values)


def _read_text(raw: pd.Series) -> tuple[Any, Mask]:
    good = np.zeros(len(raw), dtype=bool)
    if isinstance(raw.dtype, pd.StringDtype):
        texts = raw.astype(object)
        return texts.where(raw.notna() & (texts != ""), None), good
    cleaned = [
        None if _is_nothing(value) or str(value) == "" else str(value)
        for value in raw.astype(object)
    ]
    return pd.Series(cleaned, dtype=object), good


def _read_time(raw: pd.Series) -> tuple[Any, Mask]:
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        times = raw if raw.dt.tz is not None else raw.dt.tz_localize("UTC")
        return times.dt.tz_convert("UTC").dt.as_unit("us"), np.zeros(len(raw), dtype=bool)
    values = np.full(len(raw), np.datetime64("NaT"), dtype="datetime64[us]")
    bad = np.zeros(len(raw), dtype=bool)
    seen: dict[Any, np.datetime64 | None] = {}
    for i, value in enumerate(raw.astype(object)):
        if _is_nothing(value):
            continue
        moment = _moment(value, seen)
        if moment is None:
            bad[i] = True
        else:
            values[i] = moment
    return pd.Series(values).dt.tz_localize("UTC"), bad


def _moment(value: Any, seen: dict[Any, np.datetime64 | None]) -> np.datetime64 | None:
    """UTC instant of a date, a datetime or ISO text; None for anything else: a bare number has no unit."""
    if isinstance(value, (bool, int, float, np.number)):
        return None
    try:
        if value not in seen:
            seen[value] = _parse(value)
        return seen[value]
    except TypeError:  # not hashable, so certainly no instant
        return None


def _parse(value: Any) -> np.datetime64 | None:
    try:
        stamp = pd.Timestamp(value)
        if pd.isna(stamp):
            return None
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        naive: np.datetime64 = stamp.as_unit("us").tz_localize(None).to_datetime64()
        return naive
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None


def _read_flag(raw: pd.Series) -> tuple[Floats, Mask]:
    """1.0, 0.0 or NaN; anything but a truth value is unreadable."""
    values, bad = _read_number(raw)
    odd = ~np.isnan(values) & (values != 0.0) & (values != 1.0)
    return np.where(odd, np.nan, values), bad | odd


_READERS: dict[Kind, Any] = {
    "number": _read_number,
    "text": _read_text,
    "time": _read_time,
    "flag": _read_flag,
}
