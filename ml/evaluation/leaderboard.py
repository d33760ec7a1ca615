"""The leaderboard: one row per horizon and model, over all and by segment, with what it was made from.

In: the frame of `ml.evaluation.scores`. Out: the rows of evaluation.leaderboard.
Never: comparing two models on different coins and days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ml.evaluation.aggregation import (
    PAIR,
    log_error_parts,
    losses_by_day,
    mean_by_model,
    r_squared,
    shared_with,
)
from ml.evaluation.comparison import TestResult, diebold_mariano, model_confidence_set
from ml.evaluation.segments import ALL

COLUMNS: tuple[str, ...] = (
    "source", "as_of", "horizon", "model", "forecasts", "assets", "first_as_of", "last_as_of", "qlike", "mse", "mae",
    "log_mse", "coverage_80", "coverage_98", "qlike_ratio_harx_cal", "dm_statistic", "dm_p_value", "in_mcs_90",
    "segment_kind", "segment", "log_bias_squared", "log_error_variance", "r2", "r2_log", "pinball", "crps", "width_80",
    "fz_975", "model_versions", "code_version", "data_version",
)  # fmt: skip
MEANS: dict[str, str] = {
    "qlike": "qlike",
    "mse": "squared_error",
    "mae": "absolute_error",
    "log_mse": "log_error",
    "coverage_80": "covered_80",
    "coverage_98": "covered_98",
    "pinball": "pinball",
    "crps": "crps",
    "width_80": "width_80",
    "fz_975": "fz_975",
}
"""Column of the leaderboard: column of the scores whose mean it is; NaN where the scores have no such column."""
MCS_SIZE = 0.1
MOST_NAMED = 3
"""Code versions that a row names; of more it says how many."""
MCS_MIN_SHARE = 0.8
"""A model with fewer of the forecasts than this share of the most is left out of the set: it would shrink the common
days of all the others."""


def leaderboard(
    scores: pd.DataFrame,
    benchmark: str = "harx_cal",
    as_of: date | None = None,
    segments: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rows of evaluation.leaderboard, best QLIKE first within a horizon and segment.

    Means: over each coin's days, then over coins, on all forecasts of the model. `qlike_ratio_harx_cal` and the
    Diebold-Mariano test compare with the benchmark on the coins and days that both forecast (1 and NaN for the
    benchmark itself; NaN where it has no forecasts). `in_mcs_90`: in the 90 % model confidence set of the horizon;
    missing when there are too few days, or the model has too few of the forecasts. `as_of` defaults to the last day
    scored. `log_mse` = `log_bias_squared` + `log_error_variance`; the two R^2 have no fitted line.

    Without `segments` one row a horizon and model, of segment_kind and segment 'all'; with them (see
    `ml.evaluation.segments`) the same numbers once more on each segment's coin-days. A segment's days need not follow
    each other; the long-run variances take them as if they did.

    Ledger: `forecasts` and `model_versions` counted, `code_version` and `data_version` as `ledger` has them.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    source = checked_source(scores)
    evaluated = pd.Timestamp(as_of) if as_of is not None else scores["as_of"].max()
    rows: list[dict[str, Any]] = []
    for kind, segment, own in _in_segments(scores, segments):
        for horizon, group in own.groupby("horizon"):
            for row in _rows(group, int(str(horizon)), benchmark):
                rows.append(
                    {
                        "source": source,
                        "as_of": evaluated,
                        "segment_kind": kind,
                        "segment": segment,
                        **row,
                    }
                )
    board = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"in_mcs_90": "boolean"})
    if segments is None:
        return board.sort_values(["horizon", "qlike", "model"], ignore_index=True)
    everything = board["segment_kind"].ne(ALL)
    order = ["_rest", "segment_kind", "segment", "horizon", "qlike", "model"]
    board = board.assign(_rest=everything).sort_values(order, ignore_index=True)
    return board.drop(columns="_rest")


def ledger(scores: pd.DataFrame) -> dict[str, Any]:
    """What a row was made from: model_versions, code_version, data_version.

    `code_version`: the distinct values of that column of the scores, where they have one (from models.registry), up to
    three by name, more as their number and hash. `data_version`: 12 hex digits of the sha256 over the outcomes that were
    judged and, where the scores have a column of that name, the data versions that the models were fitted on.
    """
    digest = hashlib.sha256()
    outcomes = scores[["asset", "as_of", "horizon", "realized_variance"]].drop_duplicates()
    outcomes = outcomes.sort_values(["asset", "as_of", "horizon"])
    digest.update("|".join(outcomes["asset"].astype("str")).encode())
    days = pd.to_datetime(outcomes["as_of"]).to_numpy().astype("datetime64[D]").astype(np.int64)
    digest.update(days.tobytes())
    digest.update(outcomes["horizon"].to_numpy(np.int64).tobytes())
    digest.update(outcomes["realized_variance"].to_numpy(np.float64).tobytes())
    if "data_version" in scores:
        digest.update("|".join(sorted(set(scores["data_version"].astype("str")))).encode())
    code = sorted(set(scores["code_version"].astype("str"))) if "code_version" in scores else []
    text = ", ".join(code)
    if len(code) > MOST_NAMED:
        text = f"{len(code)} versions, {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return {
        "model_versions": int(scores["model_version"].nunique())
        if "model_version" in scores
        else 0,
        "code_version": text,
        "data_version": digest.hexdigest()[:12],
    }


def _in_segments(
    scores: pd.DataFrame, segments: pd.DataFrame | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    yield ALL, ALL, scores
    if segments is None or segments.empty:
        return
    keyed = scores.assign(
        asset=scores["asset"].astype("str"), as_of=pd.to_datetime(scores["as_of"])
    )
    for (kind, segment), own in segments.groupby(["segment_kind", "segment"]):
        keys = own[[*PAIR, "horizon"]].astype({"as_of": keyed["as_of"].dtype})
        chosen = keyed.merge(keys, on=[*PAIR, "horizon"], how="inner")
        if not chosen.empty:
            yield str(kind), str(segment), chosen


def _rows(group: pd.DataFrame, horizon: int, benchmark: str) -> Iterator[dict[str, Any]]:
    """One horizon's rows, without source, day and segment."""
    means = {
        name: mean_by_model(group.astype({column: "float64"}), column)
        for name, column in MEANS.items()
        if column in group
    }
    confidence = confidence_set(group, horizon)
    for model, own in group.groupby("model"):
        name = str(model)
        compared = compare(group, name, benchmark, horizon)
        p_value = confidence.get(name, np.nan)
        yield {
            "horizon": horizon,
            "model": name,
            "forecasts": len(own),
            "assets": own["asset"].nunique(),
            "first_as_of": own["as_of"].min(),
            "last_as_of": own["as_of"].max(),
            **{key: float(values.loc[(horizon, model)]) for key, values in means.items()},
            **_errors(own),
            "qlike_ratio_harx_cal": qlike_ratio(group, name, benchmark),
            "dm_statistic": compared.statistic if name != benchmark else np.nan,
            "dm_p_value": compared.p_value if name != benchmark else np.nan,
            "in_mcs_90": pd.NA if np.isnan(p_value) else bool(p_value >= MCS_SIZE),
            **ledger(own),
        }


def _errors(own: pd.DataFrame) -> dict[str, float]:
    """Parts of the log error and R^2 by coin, then their means over coins."""
    found = []
    for _, coin in own.groupby("asset", observed=True):
        y, f = (coin[name].to_numpy(np.float64) for name in ("realized_variance", "variance"))
        parts = log_error_parts(y, f)
        fits = r_squared(y, f), r_squared(np.log(y), np.log(f))
        found.append((parts.squared_bias, parts.variance, *fits))
    names = ("log_bias_squared", "log_error_variance", "r2", "r2_log")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


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
