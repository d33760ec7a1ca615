"""Every test of every model in words: the rows of evaluation.tests.

In: the frame of `ml.evaluation.scores`. Out: one row per test, horizon, coin (or ALL) and model, with a verdict.
Never: a verdict from too few forecasts: the row is there, its p-value NaN, and says 'too few forecasts (n)'.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ml.evaluation.aggregation import losses_by_day
from ml.evaluation.comparison import (
    TestResult,
    diebold_mariano,
    mincer_zarnowitz,
    stepwise_superior,
    superior_predictive_ability,
)
from ml.evaluation.conditional import encompassing, giacomini_white
from ml.evaluation.leaderboard import MCS_SIZE, checked_source, compare, confidence_set
from ml.evaluation.tails import acerbi_szekely, christoffersen, dynamic_quantile, kupiec

COLUMNS: tuple[str, ...] = (
    "source", "as_of", "test", "horizon", "asset", "model", "benchmark", "statistic", "p_value", "forecasts", "verdict",
)  # fmt: skip
SIGNIFICANCE = 0.05
ALL = "ALL"
VAR_LEVELS: dict[str, float] = {"95": 0.95, "975": 0.975, "99": 0.99}


def comparison_tests(
    scores: pd.DataFrame, benchmark: str = "harx_cal", as_of: date | None = None
) -> pd.DataFrame:
    """Rows of evaluation.tests at 5 % (the confidence set at 10 %), columns `COLUMNS`.

    `diebold_mariano` (ALL: mean over coins by day; and by coin), `giacomini_white` and `encompassing` (does the model add
    to the benchmark, on log variance without each coin's mean error), `mcs_90`, `spa` (does any model beat the
    benchmark), `step_m` (which ones do; no p-value), `mincer_zarnowitz` by coin; where there are VaR forecasts `kupiec_*`, `christoffersen_*` and `dynamic_quantile_*`
    at 95, 97.5 and 99 % and `acerbi_szekely_975`, by coin, on every h-th day so that horizons do not overlap, and
    `fissler_ziegel_975`, Diebold-Mariano on the joint loss of VaR and ES by day.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    source = checked_source(scores)
    evaluated = pd.Timestamp(as_of) if as_of is not None else scores["as_of"].max()
    rows: list[dict[str, Any]] = []
    for key, group in scores.sort_values("as_of").groupby("horizon"):
        horizon = int(str(key))
        found = [*_against_benchmark(group, benchmark, horizon), *_by_coin(group, horizon)]
        rows += [{"source": source, "as_of": evaluated, "horizon": horizon, **row} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _against_benchmark(
    scores: pd.DataFrame, benchmark: str, horizon: int
) -> Iterator[dict[str, Any]]:
    models = sorted(set(scores["model"].astype(str)))
    for model in models:
        if model == benchmark or benchmark not in models:
            continue
        result = compare(scores, model, benchmark, horizon)
        yield _row("diebold_mariano", ALL, model, result, _better_or_worse(result), benchmark)
        pair = scores[scores["model"].isin([model, benchmark])]
        yield from _beyond_averages(pair, model, benchmark, horizon)
        for asset, coin in pair.groupby("asset"):
            wide = coin.pivot(index="as_of", columns="model", values="qlike").reindex(
                columns=[model, benchmark]
            )
            result = diebold_mariano(wide[model], wide[benchmark], horizon)
            yield _row(
                "diebold_mariano", str(asset), model, result, _better_or_worse(result), benchmark
            )
    yield from _sets(scores, models, benchmark, horizon)


def _beyond_averages(
    pair: pd.DataFrame, model: str, benchmark: str, horizon: int
) -> Iterator[dict[str, Any]]:
    """Giacomini-White, encompassing and, where there are VaR and ES, Fissler-Ziegel, of all coins."""
    daily = losses_by_day(pair)
    result = giacomini_white(daily[model], daily[benchmark], horizon)
    known = (
        "foreseeable difference" if result.p_value < SIGNIFICANCE else "no foreseeable difference"
    )
    yield _row("giacomini_white", ALL, model, result, known, benchmark)
    errors = pair.assign(error=np.log(pair["realized_variance"] / pair["variance"]))
    errors["error"] -= errors.groupby(["model", "asset"], observed=True)["error"].transform("mean")
    wide = {
        str(name): own.pivot(index="as_of", columns="asset", values="error")
        for name, own in errors.groupby("model", observed=True)
    }
    ours, rival = wide[benchmark].align(wide[model], join="inner")
    result = encompassing(ours.sort_index(), rival.sort_index(), horizon)
    adds = "adds to the benchmark" if result.p_value < SIGNIFICANCE else "adds nothing"
    yield _row("encompassing", ALL, model, result, adds, benchmark)
    if "fz_975" in pair and pair.groupby("model", observed=True)["fz_975"].count().min() > 0:
        joint = losses_by_day(pair[non_overlapping(pair["as_of"], horizon)], "fz_975")
        joint = joint.reindex(columns=[model, benchmark])
        result = diebold_mariano(joint[model], joint[benchmark])
        yield _row("fissler_ziegel_975", ALL, model, result, _better_or_worse(result), benchmark)


def _sets(
    scores: pd.DataFrame, models: list[str], benchmark: str, horizon: int
) -> Iterator[dict[str, Any]]:
    p_values = confidence_set(scores, horizon)
    daily = losses_by_day(scores[scores["model"].isin(p_values)])
    for model in models:
        p_value = p_values.get(model, np.nan)
        loss = float(daily[model].mean()) if model in daily else np.nan
        count = len(daily) if model in daily else int((scores["model"] == model).sum())
        verdict = "in the set" if p_value >= MCS_SIZE else "not in the set"
        yield _row("mcs_90", ALL, model, TestResult(loss, p_value, count), verdict)
    if benchmark in daily and daily.shape[1] > 1:
        rivals = daily.drop(columns=benchmark)
        result = superior_predictive_ability(daily[benchmark], rivals, horizon)
        beaten = "beaten by some model" if result.p_value < SIGNIFICANCE else "beaten by none"
        yield _row("spa", ALL, benchmark, result, beaten)
        if not np.isnan(result.p_value):
            better = set(stepwise_superior(daily[benchmark], rivals, horizon, SIGNIFICANCE))
            for name in rivals:
                gain = float((daily[benchmark] - rivals[name]).mean())
                found = TestResult(gain, np.nan, len(daily))
                row = _row("step_m", ALL, str(name), found, "", benchmark)
                verdict = "beats the benchmark" if str(name) in better else "does not beat it"
                yield {**row, "verdict": verdict}


def _by_coin(scores: pd.DataFrame, horizon: int) -> Iterator[dict[str, Any]]:
    for (key, coin), own in scores.groupby(["model", "asset"], observed=True):
        model, asset = str(key), str(coin)
        result = mincer_zarnowitz(own["realized_variance"], own["variance"], horizon)
        biased = "biased" if result.p_value < SIGNIFICANCE else "unbiased"
        yield _row("mincer_zarnowitz", asset, model, result, biased)
        apart = own[non_overlapping(own["as_of"], horizon)]
        for suffix, level in VAR_LEVELS.items():
            known = apart.dropna(subset=[f"var_{suffix}_breach"])
            if known.empty:
                continue
            hits = known[f"var_{suffix}_breach"].to_numpy(dtype=bool)
            risk = known[f"var_{suffix}"].to_numpy(dtype=np.float64)
            yield from _coverage(asset, model, suffix, level, hits, risk)
        known = apart.dropna(subset=["var_975_breach", "es_975"])
        known = known[
            known["var_975"] > 0
        ]  # a past without losses beyond 97.5 % has no shortfall to test
        if not known.empty:
            simple = np.expm1(known["horizon_return"].to_numpy(dtype=np.float64))
            result = acerbi_szekely(simple, known["var_975"], known["es_975"])
            short = (
                "shortfall understated" if result.p_value < SIGNIFICANCE else "shortfall adequate"
            )
            yield _row("acerbi_szekely_975", asset, model, result, short)


def _coverage(
    asset: str, model: str, suffix: str, level: float, hits: Any, risk: Any
) -> Iterator[dict[str, Any]]:
    result = kupiec(hits, level)
    side = "too many breaches" if hits.mean() > 1.0 - level else "too few breaches"
    verdict = side if result.p_value < SIGNIFICANCE else "coverage right"
    yield _row(f"kupiec_{suffix}", asset, model, result, verdict)
    for name, result in (
        ("christoffersen", christoffersen(hits, level)),
        ("dynamic_quantile", dynamic_quantile(hits, risk, level)),
    ):
        clustered = (
            "clustered or wrong" if result.p_value < SIGNIFICANCE else "independent and right"
        )
        yield _row(f"{name}_{suffix}", asset, model, result, clustered)


def non_overlapping(days: pd.Series[Any], horizon: int) -> Any:
    """Mask of every h-th day counted from the first, so that horizons do not overlap."""
    since = (days - days.min()) / pd.Timedelta(days=1)
    return (since % horizon) == 0


def _better_or_worse(result: TestResult) -> str:
    if not result.p_value < SIGNIFICANCE:
        return "no difference"
    return "better" if result.statistic < 0 else "worse"


def _row(
    test: str,
    asset: str,
    model: str,
    result: TestResult,
    verdict: str,
    benchmark: str | None = None,
) -> dict[str, Any]:
    few = f"too few forecasts ({result.observations})"
    return {
        "test": test,
        "asset": asset,
        "model": model,
        "benchmark": benchmark,
        "statistic": result.statistic,
        "p_value": result.p_value,
        "forecasts": result.observations,
        "verdict": few if np.isnan(result.p_value) else verdict,
    }
