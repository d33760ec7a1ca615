"""The leaderboard: one row per horizon and model.

In: the frame of `ml.evaluation.scores`. Out: the rows of evaluation.leaderboard.
Never: comparing two models on different coins and days.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ml.evaluation.aggregation import losses_by_day, mean_by_model, shared_with
from ml.evaluation.comparison import TestResult, diebold_mariano, model_confidence_set

COLUMNS: tuple[str, ...] = (
    "source", "as_of", "horizon", "model", "forecasts", "assets", "first_as_of", "last_as_of", "qlike", "mse", "mae",
    "log_mse", "coverage_80", "coverage_98", "qlike_ratio_harx_cal", "dm_statistic", "dm_p_value", "in_mcs_90",
)  # fmt: skip
MEANS: dict[str, str] = {
    "qlike": "qlike",
    "mse": "squared_error",
    "mae": "absolute_error",
    "log_mse": "log_error",
    "coverage_80": "covered_80",
    "coverage_98": "covered_98",
}
MCS_SIZE = 0.1
MCS_MIN_SHARE = 0.8
"""A model with fewer of the forecasts than this share of the most is left out of the set: it would shrink the common
days of all the others."""


def leaderboard(
    scores: pd.DataFrame, benchmark: str = "harx_cal", as_of: date | None = None
) -> pd.DataFrame:
    """Rows of evaluation.leaderboard, best QLIKE first within a horizon.

    Means: over each coin's days, then over coins, on all forecasts of the model. `qlike_ratio_harx_cal` and the
    Diebold-Mariano test compare with the benchmark on the coins and days that both forecast (1 and NaN for the
    benchmark itself; NaN where it has no forecasts). `in_mcs_90`: in the 90 % model confidence set of the horizon;
    missing when there are too few days, or the model has too few of the forecasts. `as_of` defaults to the last day
    scored.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    source = checked_source(scores)
    evaluated = pd.Timestamp(as_of) if as_of is not None else scores["as_of"].max()
    rows: list[dict[str, Any]] = []
    for horizon, group in scores.groupby("horizon"):
        means = {name: mean_by_model(group, column) for name, column in MEANS.items()}
        confidence = confidence_set(group, int(str(horizon)))
        for model, own in group.groupby("model"):
            name = str(model)
            compared = compare(group, name, benchmark, int(str(horizon)))
            p_value = confidence.get(name, np.nan)
            rows.append(
                {
                    "source": source,
                    "as_of": evaluated,
                    "horizon": horizon,
                    "model": name,
                    "forecasts": len(own),
                    "assets": own["asset"].nunique(),
                    "first_as_of": own["as_of"].min(),
                    "last_as_of": own["as_of"].max(),
                    **{key: float(values.loc[(horizon, model)]) for key, values in means.items()},
                    "qlike_ratio_harx_cal": qlike_ratio(group, name, benchmark),
                    "dm_statistic": compared.statistic if name != benchmark else np.nan,
                    "dm_p_value": compared.p_value if name != benchmark else np.nan,
                    "in_mcs_90": pd.NA if np.isnan(p_value) else bool(p_value >= MCS_SIZE),
                }
            )
    board = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"in_mcs_90": "boolean"})
    return board.sort_values(["horizon", "qlike", "model"], ignore_index=True)


def checked_source(scores: pd.DataFrame) -> str:
    """The source of all rows; ValueError when they mix two, or score one model twice for a coin, day and horizon."""
    sources = sorted(set(scores["source"].astype(str)))
    if len(sources) != 1:
        raise ValueError(f"scores mix sources {sources}: evaluate each source by itself")
    key = ["asset", "as_of", "horizon", "model"]
    repeated = scores.duplicated(key)
    if repeated.any():
        first = tuple(scores.loc[repeated, key].iloc[0])
        raise ValueError(f"two scores for {first}: keep one model version for each day")
    return sources[0]


def qlike_ratio(scores: pd.DataFrame, model: str, benchmark: str) -> float:
    """Mean QLIKE of the model over the benchmark's, for one horizon, where both have a forecast."""
    means = mean_by_model(shared_with(scores, model, benchmark), "qlike").droplevel("horizon")
    if benchmark not in means or model not in means:
        return float("nan")
    return float(means[model] / means[benchmark])


def compare(scores: pd.DataFrame, model: str, benchmark: str, horizon: int) -> TestResult:
    """Diebold-Mariano on QLIKE for one horizon: the mean difference over coins of each day that both forecast."""
    shared = shared_with(scores, model, benchmark)
    if benchmark not in set(shared["model"]) or model not in set(shared["model"]):
        return TestResult(np.nan, np.nan, 0)
    daily = losses_by_day(shared)
    return diebold_mariano(daily[model], daily[benchmark], horizon)


def confidence_set(scores: pd.DataFrame, horizon: int) -> dict[str, float]:
    """Model confidence set p-values for one horizon, of the models that have enough of the forecasts."""
    counts = scores["model"].value_counts()
    eligible = counts.index[counts >= MCS_MIN_SHARE * counts.max()]
    daily = losses_by_day(scores[scores["model"].isin(eligible)])
    return {
        str(name): float(p) for name, p in model_confidence_set(daily, horizon, MCS_SIZE).items()
    }
