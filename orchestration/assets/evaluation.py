"""Scores, leaderboard and tests, once the realised values are known.

In: forecasts whose target has ended, features.realized as known at the last day of the run. Out: ``evaluation.scores``, ``.leaderboard``,
``.tests``, ``.traffic_lights``. A forecast that is scored is not scored again; leaderboard, tests and lights are kept as at the last day of each
run, the lights of single coins only of Sundays and of the newest of these days.
"""

from collections.abc import Callable
from datetime import date

import dagster as dg
import duckdb
import pandas as pd

from orchestration.assets.common import key_of, output_options, result
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.warehouse import bump_revision, get_state, replace_rows, set_state

BENCHMARK = "harx_cal"
SCORES_KNOWN = (
    "SELECT count(*), sum(hash(s)) FROM evaluation.scores s WHERE as_of + horizon <= $last"
)
PASSED_COINS = """
    asset <> 'ALL' AND NOT starts_with(asset, 'portfolio:') AND isodow(as_of) < 7
    AND as_of < (SELECT max(as_of) FROM evaluation.traffic_lights)
"""
"""Lights of single coins that are kept no longer: 8,000 of 20 coins and 11 models, every day."""


@dg.asset(
    **output_options(
        "evaluation.scores",
        "evaluation",
        deps=[
            key_of("forecasts.volatility"),
            key_of("forecasts.risk"),
            key_of("features.realized"),
        ],
    )
)
def scores(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)
    with platform.warehouse.read() as connection:
        forecasts = unscored_forecasts(connection, last)
        earliest = forecasts["as_of"].min() if len(forecasts) else last
        realized = connection.execute(
            "SELECT * FROM features.realized WHERE known_on <= ? AND day >= CAST(? AS DATE)",
            [last, earliest],
        ).df()
    made = pd.DataFrame()
    if len(forecasts):
        from ml.evaluation.scores import score_frame

        made = score_frame(forecasts, realized)
    if len(made):
        for attempt in platform.warehouse.writes():
            with attempt as connection:
                replace_rows(
                    connection,
                    "evaluation.scores",
                    made.assign(source=platform.source.name),
                    on=["asset", "as_of", "horizon", "model", "model_version"],
                )
    with platform.warehouse.read() as connection:
        total = connection.execute("SELECT count(*) FROM evaluation.scores").fetchone()
        recent = connection.execute(
            "SELECT model, avg(qlike), avg(covered_80::INT) FROM evaluation.scores "
            "WHERE horizon = 1 AND as_of > CAST(? AS DATE) - 60 GROUP BY model ORDER BY model",
            [last],
        ).fetchall()
    plotted = {f"qlike_60d_{model}": float(qlike) for model, qlike, _ in recent}
    plotted |= {f"coverage_80_60d_{model}": float(share) for model, _, share in recent}
    return result(platform, int(total[0]) if total else 0, scored=len(made), **plotted)


@dg.asset(
    **output_options("evaluation.leaderboard", "evaluation", deps=[key_of("evaluation.scores")])
)
def leaderboard(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)

    def rank() -> pd.DataFrame:
        from ml.evaluation.leaderboard import leaderboard as ranked
        from ml.evaluation.segments import segments

        with platform.warehouse.read() as connection:
            scored = live_scores(connection, last)
            if scored.empty:
                return scored
            regimes = segment_features(connection, last)
        return ranked(scored, benchmark=BENCHMARK, segments=segments(scored, regimes))

    written = _as_at(platform, "evaluation.leaderboard", last, rank)
    rows = written[written["segment_kind"] == "all"] if len(written) else written
    best = rows[rows["horizon"] == 1].sort_values("qlike") if len(rows) else rows
    return result(
        platform,
        len(written),
        best_model_1d=str(best["model"].iloc[0]) if len(best) else None,
        best_qlike_1d=float(best["qlike"].iloc[0]) if len(best) else None,
        leaderboard=dg.MetadataValue.md(
            rows[
                ["horizon", "model", "forecasts", "qlike", "qlike_ratio_harx_cal", "in_mcs_90"]
            ].to_markdown(index=False)
        )
        if len(rows)
        else None,
    )


@dg.asset(**output_options("evaluation.tests", "evaluation", deps=[key_of("evaluation.scores")]))
def tests(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)

    def compare() -> pd.DataFrame:
        from ml.evaluation.verdicts import comparison_tests

        with platform.warehouse.read() as connection:
            scored = live_scores(connection, last)
        if scored.empty:
            return scored
        found = comparison_tests(scored, benchmark=BENCHMARK)
        return found.assign(benchmark=found["benchmark"].fillna(""))

    rows = _as_at(platform, "evaluation.tests", last, compare)
    return result(platform, len(rows), tests=len(rows))


@dg.asset(
    **output_options(
        "evaluation.traffic_lights",
        "evaluation",
        deps=[
            key_of("evaluation.scores"),
            key_of("forecasts.risk"),
            key_of("forecasts.portfolio_components"),
        ],
    )
)
def traffic_lights(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    _, last = day_range(context)
    rows = light_rows(platform, last)
    lights = rows["light"] if len(rows) else pd.Series(dtype="str")
    return result(
        platform,
        len(rows),
        **{colour: int((lights == colour).sum()) for colour in ("green", "yellow", "red")},
        not_judged=int(lights.isna().sum()),
    )


def light_rows(platform: Platform, last: date) -> pd.DataFrame:
    """Rows of evaluation.traffic_lights as at ``last``, stored; those of coins on weekdays that have passed are given up."""

    def judge() -> pd.DataFrame:
        from ml.evaluation.traffic_lights import traffic_lights as judged

        with platform.warehouse.read() as connection:
            coins, books = risk_outcomes(connection, last)
        return judged(coins, books)

    evidence = """
        SELECT (SELECT sum(hash(asset, as_of, horizon, model, model_version, horizon_return)) FROM evaluation.scores WHERE as_of + horizon <= $last),
            (SELECT sum(hash(asset, as_of, horizon, model, model_version, es_975, mixture_es_975)) FROM forecasts.risk WHERE as_of + horizon <= $last),
            (SELECT sum(hash(portfolio, as_of, horizon, model, model_version, es_975, mixture_es_975)) FROM forecasts.portfolio_risk
                WHERE as_of + horizon <= $last)
    """
    rows = _as_at(platform, "evaluation.traffic_lights", last, judge, evidence)
    passed = f"FROM evaluation.traffic_lights WHERE {PASSED_COINS}"
    with platform.warehouse.read() as connection:
        found = connection.execute(f"SELECT count(*) {passed}").fetchone()
    if found and found[0]:
        for attempt in platform.warehouse.writes():
            with attempt as connection:
                connection.execute(f"DELETE {passed}")
                bump_revision(connection)
    return rows


def risk_outcomes(
    connection: duckdb.DuckDBPyConnection, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """VaR and ES beside what followed by ``last``: of every coin, and of every portfolio whose coins' returns are all known.

    Of a day that several versions of a model forecast, the newest version's.
    """
    newest = """
        JOIN models.registry m USING (model, model_version) WHERE as_of + horizon <= $last
        QUALIFY row_number() OVER (PARTITION BY {key}, as_of, horizon, model ORDER BY m.created_at DESC, model_version) = 1
    """
    coins = connection.execute(
        "SELECT r.*, s.horizon_return FROM evaluation.scores s JOIN forecasts.risk r USING (asset, as_of, horizon, model, model_version)"
        + newest.format(key="asset"),
        {"last": last},
    ).df()
    earned = connection.execute(
        "SELECT portfolio, as_of, horizon, model, model_version, c.weight * (exp(s.horizon_return) - 1) AS simple_return "
        "FROM forecasts.portfolio_components c LEFT JOIN evaluation.scores s USING (asset, as_of, horizon, model, model_version) "
        "WHERE as_of + horizon <= ? ORDER BY portfolio, as_of, horizon, model, model_version, c.asset",
        [last],
    ).df()
    key = ["portfolio", "as_of", "horizon", "model", "model_version"]
    total = earned.groupby(key)["simple_return"].agg(lambda parts: parts.sum(skipna=False))
    books = connection.execute(
        "SELECT * FROM forecasts.portfolio_risk" + newest.format(key="portfolio"), {"last": last}
    ).df()
    books = books.merge(total.reset_index(), on=key, how="inner")
    return coins, books.assign(asset="portfolio:" + books["portfolio"].astype(str))


def unscored_forecasts(connection: duckdb.DuckDBPyConnection, last: date) -> pd.DataFrame:
    """Forecasts whose horizon ended by ``last`` and that have no score, with the VaR and ES that go with them."""
    return connection.execute(
        """
        SELECT f.*, r.var_95, r.var_975, r.var_99, r.es_975
        FROM forecasts.volatility f
        LEFT JOIN forecasts.risk r USING (asset, as_of, horizon, model, model_version)
        ANTI JOIN evaluation.scores s USING (asset, as_of, horizon, model, model_version)
        WHERE f.as_of + f.horizon <= ?
        ORDER BY f.as_of, f.asset, f.horizon, f.model
        """,
        [last],
    ).df()


def live_scores(connection: duckdb.DuckDBPyConnection, last: date) -> pd.DataFrame:
    """Scores known by ``last``; of a day that several versions of a model forecast, the newest version's."""
    return connection.execute(
        """
        SELECT s.*, m.code_version, m.data_hash AS data_version FROM evaluation.scores s JOIN models.registry m USING (model, model_version)
        WHERE s.as_of + s.horizon <= ?
        QUALIFY row_number() OVER (
            PARTITION BY s.asset, s.as_of, s.horizon, s.model ORDER BY m.created_at DESC, s.model_version
        ) = 1
        ORDER BY s.as_of, s.asset, s.horizon, s.model
        """,
        [last],
    ).df()


def segment_features(connection: duckdb.DuckDBPyConnection, last: date) -> pd.DataFrame:
    """asset, as_of, rv_22d and whether the day had a jump: what tells the regimes of a leaderboard apart."""
    from ml.baselines.jumps import is_jump, jump_statistic

    frame = connection.execute(
        "SELECT asset, as_of, rv_22d, rv_d, bipower_d, quarticity_d, bars_expected FROM features.daily "
        "WHERE as_of <= ? ORDER BY asset, as_of",
        [last],
    ).df()
    parts = []
    for _, coin in frame.groupby("asset"):
        measures = (
            coin[[name]].to_numpy(float)
            for name in ("rv_d", "bipower_d", "quarticity_d", "bars_expected")
        )
        statistic = jump_statistic(*measures)[:, 0]
        parts.append(coin.assign(jump=is_jump(statistic)))
    found = pd.concat(parts, ignore_index=True) if parts else frame.assign(jump=False)
    return found[["asset", "as_of", "rv_22d", "jump"]]


def _as_at(
    platform: Platform,
    table: str,
    last: date,
    judge: Callable[[], pd.DataFrame],
    evidence_query: str = SCORES_KNOWN,
) -> pd.DataFrame:
    """The rows of ``table`` as at ``last``: judged anew when there is other evidence (by default scores) than last time, else as stored."""
    key = f"{table}:{last}"
    with platform.warehouse.read() as connection:
        row = connection.execute(evidence_query, {"last": last}).fetchone()
        evidence = str(row)
        if get_state(connection, key) == evidence:
            return connection.execute(f"SELECT * FROM {table} WHERE as_of = ?", [last]).df()
    rows = judge().assign(source=platform.source.name, as_of=pd.Timestamp(last))
    for attempt in platform.warehouse.writes():
        with attempt as connection:
            connection.execute(f"DELETE FROM {table} WHERE as_of = ?", [last])
            replace_rows(connection, table, rows, on=["as_of"])
            set_state(connection, key, evidence)
            bump_revision(connection)
    return rows


EVALUATION_ASSETS = [scores, leaderboard, tests, traffic_lights]
