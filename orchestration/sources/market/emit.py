"""From arrays to batches of a raw table: windows of ``known_at`` and Arrow columns.

In: numpy columns with times in microseconds since 1970. Out: Arrow tables of a ``TableSchema``.
Never: draws anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.sources.market.latent import EPOCH, day_number
from orchestration.sources.schema import TableSchema

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

IntArray = NDArray[np.int64]
SOURCE = "simulated"


@dataclass(frozen=True)
class KnownWindow:
    """``after < known_at <= until`` in microseconds since 1970."""

    after: int
    until: int

    @classmethod
    def of(cls, known_after: datetime | None, known_until: datetime) -> KnownWindow:
        """None means from the beginning."""
        after = -(2**62) if known_after is None else microseconds(known_after)
        return cls(after, microseconds(known_until))

    def days(self, first: int, last: int | None, longest_delay_days: int) -> range:
        """Days (since 1970) whose rows can be in the window, if none is known later than the delay
        after its start.
        """
        begin = max(first, self.after // DAY - longest_delay_days)
        end = self.until // DAY
        return range(begin, (end if last is None else min(end, last)) + 1)

    def holds(self, known_at: IntArray) -> NDArray[np.bool_]:
        """Which rows are in the window."""
        return (known_at > self.after) & (known_at <= self.until)


@dataclass(frozen=True)
class Calendar:
    """The days a simulated market has prices for, as days since 1970; ``last`` None: no end."""

    first: int
    last: int | None

    @classmethod
    def of(cls, first_day: date, last_day: date | None) -> Calendar:
        """From dates, both inclusive."""
        return cls(day_number(first_day), None if last_day is None else day_number(last_day))


def microseconds(value: datetime) -> int:
    """Microseconds since 1970, exact."""
    elapsed = value - datetime(EPOCH.year, EPOCH.month, EPOCH.day, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


@dataclass(frozen=True)
class Labels:
    """A text column: a value of ``names`` per row, by position."""

    names: Sequence[str | None]
    codes: IntArray


Column = Labels | str | NDArray[np.float64] | IntArray


def table_of(
    schema: TableSchema, columns: dict[str, Column], keep: NDArray[np.bool_] | None = None
) -> pa.Table:
    """Columns by name -> one table; text may be one value for all rows. ``source`` is added; a
    column not given is NULL.
    """
    rows = int(columns["ts"].shape[0])  # type: ignore[union-attr]
    count = rows if keep is None else int(keep.sum())
    arrays = []
    for name, kind in zip(schema.arrow.names, schema.arrow.types, strict=True):
        value = SOURCE if name == "source" else columns.get(name)
        if value is None:
            arrays.append(pa.nulls(count, kind))
        elif isinstance(value, str):
            arrays.append(pa.repeat(pa.scalar(value, kind), count))
        elif isinstance(value, Labels):
            codes = value.codes if keep is None else value.codes[keep]
            dictionary = pa.DictionaryArray.from_arrays(
                pa.array(codes.astype(np.int32)), pa.array(list(value.names), pa.string())
            )
            arrays.append(dictionary.cast(pa.string()))
        else:
            chosen = value if keep is None else value[keep]
            plain = pa.int64() if pa.types.is_timestamp(kind) else pa.float64()
            arrays.append(pa.array(chosen.astype(plain.to_pandas_dtype()), plain).cast(kind))
    return pa.Table.from_arrays(arrays, schema=schema.arrow)
