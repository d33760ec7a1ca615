"""The calendar of what is fitted once a month, and the columns that it reads.

In: days, a read connection. Out: the fit that serves a day; columns of features.daily as arrays. The grid hangs on the calendar, so a backfill and
daily runs use the same fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import duckdb

from ml.panel import Panel

SUNDAY = 6


def monthly_fit(day: date) -> date:
    """The newest first Sunday of a month strictly before ``day``: what is known on it serves the days after it."""
    found = _first_sunday(day)
    return found if found < day else _first_sunday(day.replace(day=1) - timedelta(days=1))


def _first_sunday(day: date) -> date:
    first = day.replace(day=1)
    return first + timedelta(days=(SUNDAY - first.weekday()) % 7)


def read_columns(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str], first: date, last: date
) -> Panel:
    """Columns of features.daily of first .. last as a panel without realised versions. Raises ``LookupError`` when there are no rows."""
    columns = ", ".join(f'"{name}"' for name in names)
    daily = connection.execute(
        f"SELECT source, asset, as_of, {columns} FROM features.daily WHERE as_of BETWEEN ? AND ? ORDER BY asset, as_of",
        [first, last],
    ).df()
    if daily.empty:
        raise LookupError(f"features.daily has no rows from {first} to {last}")
    nothing = connection.execute("SELECT * FROM features.realized LIMIT 0").df()
    return Panel.from_frames(daily, nothing)


def missing_days(
    connection: duckdb.DuckDBPyConnection, table: str, first: date, last: date
) -> dict[date, list[str]]:
    """Days of first .. last with the coins that features.daily has and ``table`` lacks, in order."""
    rows = connection.execute(
        f"SELECT DISTINCT d.as_of, d.asset FROM features.daily d ANTI JOIN {table} t ON t.asset = d.asset AND t.as_of = d.as_of "
        "WHERE d.as_of BETWEEN ? AND ? ORDER BY d.as_of, d.asset",
        [first, last],
    ).fetchall()
    found: dict[date, list[str]] = {}
    for day, asset in rows:
        found.setdefault(day, []).append(str(asset))
    return found
