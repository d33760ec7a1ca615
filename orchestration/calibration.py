"""Quantiles as the models gave them -> quantiles corrected by what followed, as published.

In: new forecasts, and all earlier ones with the outcomes known by now. Out: the rows of ``forecasts.volatility``. What a day's quantiles are
depends on the forecasts and outcomes up to it alone, so a backfill gives what daily runs give.
"""

from __future__ import annotations

from datetime import date

import duckdb
import pandas as pd

from ml.conformal import KEY, adjust
from ml.evaluation.outcomes import first_known_outcomes
from ml.forecasts import HORIZONS, QUANTILE_COLUMNS


def calibrated_forecasts(
    connection: duckdb.DuckDBPyConnection, own: pd.DataFrame, last: date
) -> pd.DataFrame:
    """``own``, the new forecasts of some days, with quantiles corrected by the outcomes known at each decision time."""
    columns = [*KEY, *QUANTILE_COLUMNS]
    earlier = earlier_quantiles(connection, sorted(own["model"].astype(str).unique()), last)
    new = own[columns].astype({"as_of": "datetime64[s]"})
    both = pd.concat([earlier[columns].astype({"as_of": "datetime64[s]"}), new], ignore_index=True)
    both = both.drop_duplicates(list(KEY), keep="last", ignore_index=True)
    realized = connection.execute(
        "SELECT * FROM features.realized WHERE known_on <= ? AND day >= ?",
        [last, both["as_of"].min()],
    ).df()
    adjusted = adjust(both, first_known_outcomes(realized, HORIZONS))
    kept = own.drop(columns=["calibrated", *QUANTILE_COLUMNS])
    keys = [name for name in KEY if name != "as_of"]
    return kept.astype({"as_of": "datetime64[s]"}).merge(
        adjusted.astype({name: own[name].dtype for name in keys}),
        on=list(KEY),
        how="left",
        validate="m:1",
    )


def earlier_quantiles(
    connection: duckdb.DuckDBPyConnection, models: list[str], last: date
) -> pd.DataFrame:
    """The models' own quantiles up to ``last``; of several versions that forecast a day, the newest."""
    return connection.execute(
        """
        SELECT q.* FROM forecasts.model_quantiles q LEFT JOIN models.registry m USING (model, model_version)
        WHERE q.as_of <= ? AND list_contains(?, q.model)
        QUALIFY row_number() OVER (
            PARTITION BY q.model, q.asset, q.as_of, q.horizon ORDER BY m.created_at DESC NULLS LAST, q.model_version
        ) = 1
        ORDER BY q.model, q.as_of, q.asset, q.horizon
        """,
        [last, models],
    ).df()
