"""Feature tables -> the arrays that models read.

In: a read connection and a range of days. Out: frames in the layout of the training snapshot, and ``ml.panel.Panel``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import pandas as pd

from ml.panel import Panel

LONGEST_TARGET_DAYS = 22


@dataclass(frozen=True)
class FeatureFrames:
    """features.daily, .realized, .hourly and .funding_venues as frames, cut to what was known at the decision time of ``as_of``."""

    daily: pd.DataFrame
    realized: pd.DataFrame
    hourly: pd.DataFrame
    source: str
    as_of: date
    funding: pd.DataFrame | None  # None in a warehouse whose features were never built with it

    @property
    def panel(self) -> Panel:
        return Panel.from_frames(self.daily, self.realized, self.hourly, self.funding)


def read_features(
    connection: duckdb.DuckDBPyConnection,
    to_as_of: date,
    history_days: int | None = None,
    *,
    hourly: bool = True,
) -> FeatureFrames:
    """Everything known for ``to_as_of``, at most ``history_days`` back; raises ``LookupError`` when there is nothing.

    ``hourly`` asks for what only attention reads: hours and funding by venue.
    """
    first = (
        to_as_of - timedelta(days=history_days) if history_days is not None else date(1970, 1, 1)
    )
    daily = connection.execute(
        "SELECT * FROM features.daily WHERE as_of BETWEEN ? AND ? ORDER BY asset, as_of",
        [first, to_as_of],
    ).df()
    if daily.empty:
        raise LookupError(
            f"no features up to {to_as_of}: run the line for that day first (`volcast run --as-of {to_as_of}`)"
        )
    realized = connection.execute(
        "SELECT * FROM features.realized WHERE day >= ? AND known_on <= ? ORDER BY asset, day, known_on",
        [first, to_as_of],
    ).df()
    limit = "" if hourly else " LIMIT 0"
    hours = connection.execute(
        f"SELECT * FROM features.hourly WHERE ts >= ? AND known_on <= ? ORDER BY asset, ts{limit}",
        [first, to_as_of],
    ).df()
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'features' AND table_name = 'funding_venues'"
    ).fetchone()
    funding = None
    if found and found[0]:
        funding = connection.execute(
            f"SELECT * FROM features.funding_venues WHERE as_of BETWEEN ? AND ? ORDER BY asset, as_of, venue{limit}",
            [first, to_as_of],
        ).df()
    source = str(daily["source"].iloc[-1])
    return FeatureFrames(daily, realized, hours, source, to_as_of, funding)
