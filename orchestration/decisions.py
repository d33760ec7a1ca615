"""The stored decisions of the learning loop: which days wait for one, and which retrains wait for their fit.

In: a connection to the warehouse or to its published copy. Out: days. Imports no statistics, so that a run with nothing to judge loads none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
import pandas as pd

from orchestration.settings import Settings


@dataclass
class Learnt:
    """Rows to write, and the days that were judged; each may be empty."""

    decisions: list[dict[str, Any]] = field(default_factory=list)
    drift: list[dict[str, Any]] = field(default_factory=list)
    profiles: dict[str, pd.DataFrame] = field(default_factory=dict)  # by version
    judged: list[date] = field(default_factory=list)

    @property
    def retrains(self) -> list[str]:
        """Models that are to be trained again."""
        return [row["model"] for row in self.decisions if row["kind"] == "retrain"]


def pending_days(connection: duckdb.DuckDBPyConnection, last: date) -> list[date]:
    """Sundays up to ``last`` that have forecasts, later than any that was judged."""
    rows = connection.execute(
        """
        SELECT DISTINCT as_of FROM forecasts.volatility
        WHERE as_of <= $last AND isodow(as_of) = 7
            AND as_of > coalesce((SELECT max(as_of) FROM models.decisions), DATE '1970-01-01')
        ORDER BY as_of
        """,
        {"last": last},
    ).fetchall()
    return [row[0] for row in rows]


def open_retrains(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[date]:
    """Days of retrains whose version does not exist yet, in order."""
    rows = connection.execute(
        """
        SELECT DISTINCT d.as_of FROM models.decisions d
        ANTI JOIN models.registry r ON r.model = d.model AND r.trained_as_of = d.as_of
        WHERE d.kind = 'retrain' AND list_contains(?, d.model) ORDER BY d.as_of
        """,
        [list(settings.models)],
    ).fetchall()
    return [row[0] for row in rows]
