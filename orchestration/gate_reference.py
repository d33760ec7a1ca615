"""The earlier rows that a raw table's gate is judged against, read and aggregated in SQL.

In: an open connection and the window of the reference. Out: a ``quality.Reference``: only the columns, the neighbours and the medians that a check asks
for, where 90 days of 200 coins' 5-minute bars as one pandas frame took 4 GiB. ``quality.FrameReference`` of the same rows gives the same verdicts
(tests/orchestration/test_gate_reference.py). Never: outlives its connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb
import pandas as pd

from orchestration.sources.schema import TableSchema
from quality.frames import Kind, typed
from quality.reference import NEIGHBOURS

_NEWEST = 16
"""Rows of a series among which the neighbours are looked for; where revisions fill them, all its rows are read."""


class StoredReference:
    """Rows of ``table`` with ``after < known_at <= before`` that ``kept``, an SQL condition of ours, lets through."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: TableSchema,
        kinds: Mapping[str, Kind],
        after: datetime,
        before: datetime,
        kept: str,
    ) -> None:
        self._connection, self._kinds = connection, kinds
        self._columns = set(table.columns) & set(kinds)
        self._rows = (
            f"(SELECT * FROM {table.qualified_name}, (SELECT CAST($before AS TIMESTAMPTZ) AS run_end) "
            f"WHERE known_at > $after AND known_at <= $before AND {kept})"
        )
        self._window = {"after": after, "before": before}

    def has(self, columns: Iterable[str]) -> bool:
        return not set(columns) - self._columns

    @cached_property
    def _count(self) -> int:
        return int(self._frame(f"SELECT count(*) AS n FROM {self._rows}")["n"].iloc[0])

    def __len__(self) -> int:
        return self._count

    def rows(self, columns: Sequence[str]) -> pd.DataFrame:
        found = self._frame(f"SELECT {_listed(columns)} FROM {self._rows}")
        return typed(found, self._kinds).frame

    def beside(
        self, frame: pd.DataFrame, columns: Sequence[str], series: Sequence[str]
    ) -> pd.DataFrame:
        first = frame.groupby(list(series), sort=False, as_index=False)["ts"].min()
        self._connection.register("judged_from", first)
        keys, matched = _listed(series), " AND ".join(f'r."{k}" = f."{k}"' for k in series)
        try:
            found = self._frame(
                f"""
                WITH earlier AS (
                    SELECT {_listed(series, "r")}, max(r.ts, {_NEWEST}) AS newest
                    FROM {self._rows} r JOIN judged_from f ON {matched} WHERE r.ts < f.ts GROUP BY ALL
                ),
                least AS (
                    SELECT {keys}, list_sort(list_distinct(newest), 'DESC')[{NEIGHBOURS}] AS ts FROM earlier
                )
                SELECT {_listed(columns, "r")} FROM {self._rows} r
                JOIN judged_from f ON {matched} LEFT JOIN least l ON {matched.replace('f."', 'l."')}
                WHERE l.ts IS NULL OR r.ts >= l.ts
                ORDER BY ALL
                """
            )
        finally:
            self._connection.unregister("judged_from")
        return typed(found, self._kinds).frame

    def typical_sizes(
        self,
        column: str,
        series: Sequence[str],
        metrics: Sequence[str] | None,
        besides: Sequence[str],
    ) -> pd.Series:
        size, usable, given = f'abs("{column}")', "", {}
        if metrics is not None:
            usable, given = " AND list_contains($metrics, metric)", {"metrics": list(metrics)}
        if besides:
            usable, given = usable + " AND NOT list_contains($besides, metric)", {**given, "besides": list(besides)}  # fmt: skip
        found = self._frame(
            f"SELECT {_listed(series)}, median({size}) AS size FROM {self._rows} WHERE {size} > 0{usable} "
            f"GROUP BY ALL ORDER BY ALL",
            given,
        )
        return found.astype(dict.fromkeys(series, str)).set_index(list(series))["size"]

    def _frame(self, query: str, given: Mapping[str, Any] | None = None) -> pd.DataFrame:
        return self._connection.execute(query, {**self._window, **(given or {})}).df()


def _listed(columns: Sequence[str], table: str | None = None) -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns)
