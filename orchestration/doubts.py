"""Stored drift and audit verdicts -> two causes of doubt about each forecast, for the uncertainty score.

In: a read connection and forecasts by asset, as_of, horizon, model and model_version. Out: arrays of their length. Reads drift of the last Sunday
strictly before each as_of, as a decision of that Sunday holds from the day after, and the audit of the forecast itself: nothing that a daily run did
not have.
"""

from __future__ import annotations

from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.risk.uncertainty import AUDIT_DOUBT

OF_THE_VERSION = ("features", "attention")
"""Drift of these is held against the version's own training: a version trained since has seen the change. Drift of errors is about the model, until
a Sunday finds it gone: that a refit mends it is a hope, not yet a fact."""
UNEXPLAINED = AUDIT_DOUBT["invalid"]
"""What a forecast counts whose model explains itself but whose explanation is missing."""
Floats = NDArray[np.float64]


def drift_kinds(connection: duckdb.DuckDBPyConnection, forecasts: pd.DataFrame) -> Floats:
    """How many kinds of drift (0 to 3) were found of each forecast's model on the Sunday before its as_of; 0 where none was judged."""
    if forecasts.empty:
        return np.zeros(0)
    days = pd.to_datetime(forecasts["as_of"])
    first, last = days.min().date(), days.max().date()
    found = connection.execute(
        """
        WITH subjects AS (
            SELECT as_of, model, model_version, kind, subject,
                -- as the learning loop has it: a feature has drifted when every measure of it says so, else any
                CASE WHEN kind = 'features' THEN bool_and(verdict = 'drift') ELSE bool_or(verdict = 'drift') END AS drifted
            FROM models.drift WHERE as_of >= ? AND as_of < ? GROUP BY as_of, model, model_version, kind, subject
        )
        SELECT DISTINCT as_of AS sunday, model, model_version AS judged_version, kind FROM subjects WHERE drifted
        """,
        [first - timedelta(days=7), last],
    ).df()
    keys = pd.DataFrame(
        {
            "row": np.arange(len(forecasts)),
            "sunday": _sunday_before(days),
            "model": forecasts["model"].astype(str).to_numpy(),
            "model_version": forecasts["model_version"].astype(str).to_numpy(),
        }
    )
    found["sunday"] = pd.to_datetime(found["sunday"]).astype(keys["sunday"].dtype)
    both = keys.merge(found, on=["sunday", "model"], how="inner")
    counts = ~both["kind"].isin(OF_THE_VERSION) | (both["model_version"] == both["judged_version"])
    return np.bincount(both.loc[counts, "row"], minlength=len(forecasts)).astype(np.float64)


def _sunday_before(days: pd.Series) -> NDArray[np.datetime64]:
    """The last Sunday strictly before each day."""
    back = (days.dt.dayofweek + 1) % 7
    return (days - pd.to_timedelta(back.where(back > 0, 7), unit="D")).to_numpy()


def audit_doubts(
    connection: duckdb.DuckDBPyConnection, forecasts: pd.DataFrame, audited: tuple[str, ...]
) -> Floats:
    """`AUDIT_DOUBT` of each forecast's verdict; 0 for models that explain nothing and where the residual is not used.

    A forecast that its attention residual does not move is its anchor's: there is nothing to explain, whatever the verdict says of its weights.
    Raises ValueError on a verdict that is none of the three.
    """
    doubt = np.zeros(len(forecasts))
    claims = forecasts["model"].isin(audited).to_numpy()
    if not claims.any():
        return doubt
    days = pd.to_datetime(forecasts.loc[claims, "as_of"])
    verdicts = connection.execute(
        """
        SELECT asset, as_of, horizon, model, model_version, min(verdict) AS verdict, max(abs(ablation_effect)) > 0 AS used
        FROM forecasts.explanations WHERE as_of BETWEEN ? AND ? AND list_contains(?, model) GROUP BY ALL
        """,
        [days.min().date(), days.max().date(), list(audited)],
    ).df()
    unknown = sorted(set(verdicts["verdict"].astype(str)) - set(AUDIT_DOUBT))
    if unknown:
        raise ValueError(f"audit verdict {unknown[0]!r}: expected one of {', '.join(AUDIT_DOUBT)}")
    keys = ["asset", "as_of", "horizon", "model", "model_version"]
    types = {"as_of": "datetime64[s]", "horizon": "int64", "asset": "str", "model": "str", "model_version": "str"}  # fmt: skip
    wanted = forecasts.loc[claims, keys].astype(types)
    both = wanted.merge(verdicts.astype(types), on=keys, how="left", validate="one_to_one")
    counted = both["verdict"].map(AUDIT_DOUBT).astype(float).fillna(UNEXPLAINED)
    doubt[claims] = np.where(both["used"].fillna(True).astype(bool), counted, 0.0)
    return doubt
