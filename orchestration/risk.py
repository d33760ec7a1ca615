"""Forecasts -> rows of forecasts.risk, by the functions of ml/risk.

In: stored forecasts of the days, the tails kept in each version's artefact, the age of the price data. Out: VaR, ES, uncertainty and advised
leverage. The score takes no gate warnings: their number depends on how days were grouped into runs, and a backfill must equal daily runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from ml import artifacts
from ml.forecasts import QUANTILE_COLUMNS
from ml.risk.leverage import LeveragePolicy, advise
from ml.risk.mixture import mixture_var_es
from ml.risk.tails import TailFit
from ml.risk.uncertainty import disagreement, interval_width, uncertainty
from ml.risk.var_es import var_es
from orchestration.settings import Settings
from orchestration.versions import ServedDays, served_days

LONGEST_AGE_DAYS = 4.0
"""Age that a forecast is given when no complete price day is near."""


def risk_rows(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    blocks: Sequence[ServedDays],
    first: date,
    last: date,
) -> pd.DataFrame:
    """One row per stored forecast of ``blocks``. A forecast whose version has no tail for its coin is left out; it has no VaR."""
    if not blocks:
        return pd.DataFrame()
    policy = LeveragePolicy(settings.target_volatility, settings.max_leverage, settings.es_budget)
    forecasts = _forecasts(connection, settings, first, last)
    parts = []
    for block in blocks:
        state = artifacts.load(
            str(settings.artifacts_dir / block.artifact_uri), block.artifact_hash
        )
        tails = {
            (asset, int(horizon)): TailFit.from_dict(tail)
            for asset, by_horizon in state.meta["tail"].items()
            for horizon, tail in by_horizon.items()
            if tail
        }
        mine = forecasts[
            (forecasts["model_version"] == block.model_version)
            & (forecasts["model"] == block.model)
            & forecasts["as_of"].isin(pd.to_datetime(list(block.days)))
        ]
        for key, rows in mine.groupby(["asset", "horizon"], sort=True):
            asset, horizon = str(key[0]), int(str(key[1]))
            tail = tails.get((asset, horizon))
            if tail is not None:
                parts.append(rows.assign(**var_es(rows["variance"].to_numpy(), horizon, tail)))
    if not parts:
        return pd.DataFrame()
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(**mixture_var_es(rows[list(QUANTILE_COLUMNS)].to_numpy(), rows["horizon"]))
    advice = [
        advise(volatility, doubt, shortfall, policy)
        for volatility, doubt, shortfall in zip(
            rows["volatility"], rows["uncertainty"], rows["es_975"], strict=True
        )
    ]
    return rows.assign(
        advised_leverage=[item.leverage for item in advice], reason=[item.reason for item in advice]
    )


def _forecasts(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date
) -> pd.DataFrame:
    """Stored forecasts of the days by the versions that serve them, each with its uncertainty."""
    served = pd.DataFrame(
        [
            {"as_of": pd.Timestamp(day), "model": block.model, "model_version": block.model_version}
            for block in served_days(connection, settings, first, last)
            for day in block.days
        ]
    )
    connection.register("served", served)
    rows = connection.execute(
        """
        SELECT f.source, f.asset, f.as_of, f.horizon, f.model, f.model_version, f.variance, f.volatility, f.* LIKE 'q%',
            least(coalesce(d.price_age_days, $longest), $longest) AS age
        FROM forecasts.volatility f
        JOIN served s ON s.as_of::DATE = f.as_of AND s.model = f.model AND s.model_version = f.model_version
        JOIN features.daily d ON d.asset = f.asset AND d.as_of = f.as_of
        ORDER BY f.as_of, f.asset, f.horizon, f.model
        """,
        {"longest": LONGEST_AGE_DAYS},
    ).df()
    connection.unregister("served")
    rows["as_of"] = pd.to_datetime(rows["as_of"])
    spread = (
        rows.groupby(["as_of", "asset", "horizon"])["variance"]
        .agg(lambda values: float(disagreement(values.to_numpy()[:, None])[0]))
        .rename("spread")
    )
    rows = rows.join(spread, on=["as_of", "asset", "horizon"])
    width = interval_width(2 * np.log(rows["q05"].to_numpy()), 2 * np.log(rows["q95"].to_numpy()))
    found = uncertainty(
        rows["spread"].to_numpy(), width, rows["age"].to_numpy(), np.zeros(len(rows))
    )
    return rows.assign(uncertainty=found.score)
