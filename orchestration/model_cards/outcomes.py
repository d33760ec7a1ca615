"""Sections on how the version did: losses, calibration, VaR and ES.

In: ``Facts``. Out: sections. Never: a loss of a forecast whose outcome was not known; never the in-window fit.
"""

from __future__ import annotations

from orchestration.model_cards.sections import Column, Facts, Section, table

HORIZON = Column("horizon, days", "horizon")
BENCHMARK = "harx_cal"


def losses(facts: Facts) -> Section:
    section = Section(
        "Outcome analysis: losses against baselines",
        "QLIKE, RV/F - log(RV/F) - 1, of forecasts whose outcome is known; 0 is perfect. The benchmark is HARX-cal on the same coins and days.",
    )
    own = facts.some(
        """
        SELECT s.horizon, count(*) AS forecasts, count(DISTINCT s.as_of) AS days, avg(s.qlike) AS qlike, avg(b.qlike) AS benchmark,
            avg(s.qlike) / avg(b.qlike) AS ratio, avg(s.log_error) AS log_mse, min(s.as_of) AS first, max(s.as_of) AS last
        FROM evaluation.scores s
        LEFT JOIN (
            SELECT asset, as_of, horizon, qlike FROM evaluation.scores WHERE model = $benchmark
            QUALIFY row_number() OVER (PARTITION BY asset, as_of, horizon ORDER BY model_version DESC) = 1
        ) b USING (asset, as_of, horizon)
        WHERE s.model = $model AND s.model_version = $version GROUP BY s.horizon ORDER BY s.horizon
        """,
        benchmark=BENCHMARK,
    )
    if not own:
        section.notes.append("No forecast of this version has an outcome yet.")
    section.tables = table(
        "This version",
        own,
        (
            HORIZON,
            Column("forecasts", "forecasts", "count"),
            Column("days", "days", "count"),
            Column("QLIKE", "qlike", "number", 4),
            Column("HARX-cal's", "benchmark", "number", 4),
            Column("ratio", "ratio", "number", 3),
            Column("squared log error", "log_mse", "number", 3),
            Column("first as_of", "first", "day"),
            Column("last as_of", "last", "day"),
        ),
    )
    board = facts.some(
        """
        SELECT * FROM (
            SELECT *, rank() OVER (PARTITION BY horizon ORDER BY qlike NULLS LAST) AS place, count(*) OVER (PARTITION BY horizon) AS models
            FROM evaluation.leaderboard
            WHERE segment_kind = 'all' AND as_of = (SELECT max(as_of) FROM evaluation.leaderboard WHERE as_of <= $as_of)
        ) WHERE model = $model ORDER BY horizon
        """
    )
    section.tables += table(
        "The model, all its versions, on the forecasts that every model made",
        board,
        (
            HORIZON,
            Column("place", "place", "count"),
            Column("of models", "models", "count"),
            Column("forecasts", "forecasts", "count"),
            Column("QLIKE", "qlike", "number", 4),
            Column("/ HARX-cal", "qlike_ratio_harx_cal", "number", 3),
            Column("DM p", "dm_p_value", "p_value"),
            Column("in 90 % MCS", "in_mcs_90"),
            Column("R², log", "r2_log", "number", 3),
        ),
    )
    section.tables += table(
        "The model by segment",
        facts.some(
            """
            SELECT horizon, segment_kind, segment, forecasts, qlike, qlike_ratio_harx_cal FROM evaluation.leaderboard
            WHERE model = $model AND segment_kind IN ('regime', 'year', 'target_day', 'coin_group')
                AND as_of = (SELECT max(as_of) FROM evaluation.leaderboard WHERE as_of <= $as_of)
            ORDER BY horizon, segment_kind, segment
            """
        ),
        (
            HORIZON,
            Column("by", "segment_kind", "words"),
            Column("segment", "segment"),
            Column("forecasts", "forecasts", "count"),
            Column("QLIKE", "qlike", "number", 4),
            Column("/ HARX-cal", "qlike_ratio_harx_cal", "number", 3),
        ),
    )
    return section


def calibration(facts: Facts) -> Section:
    section = Section(
        "Outcome analysis: calibration",
        "Shares of outcomes inside the stated intervals, and the probability integral transform (PIT) in fifths: 20 % each where quantiles are right.",
    )
    fifths = ", ".join(f"avg((pit >= {n / 5} AND pit < {(n + 1) / 5 if n < 4 else 1.01})::INT) FILTER (pit IS NOT NULL) AS fifth_{n}" for n in range(5))  # fmt: skip
    found = facts.some(
        f"""
        SELECT horizon, count(*) AS forecasts, avg(covered_80::INT) AS covered_80, avg(covered_98::INT) AS covered_98, {fifths}
        FROM evaluation.scores WHERE model = $model AND model_version = $version GROUP BY horizon ORDER BY horizon
        """
    )
    section.tables = table(
        "This version",
        found,
        (
            HORIZON,
            Column("forecasts", "forecasts", "count"),
            Column("inside 80 %", "covered_80", "percent"),
            Column("inside 98 %", "covered_98", "percent"),
            *(
                Column(f"PIT {n * 20}–{n * 20 + 20} %", f"fifth_{n}", "percent", 0)
                for n in range(5)
            ),
        ),
    )
    corrected = facts.rows(
        """
        SELECT horizon, count(*) AS forecasts, count(*) FILTER (calibrated) AS corrected, min(outcomes) AS least, max(outcomes) AS most
        FROM forecasts.volatility WHERE model = $model AND model_version = $version GROUP BY horizon ORDER BY horizon
        """
    )
    section.tables += table(
        "Outcomes that corrected the quantiles (at least 60 to count as calibrated)",
        corrected,
        (
            HORIZON,
            Column("forecasts", "forecasts", "count"),
            Column("calibrated", "corrected", "count"),
            Column("fewest outcomes", "least", "count"),
            Column("most", "most", "count"),
        ),
    )
    if not found:
        section.notes.append("No outcome yet: coverage is not known.")
    return section


def tail_risk(facts: Facts) -> Section:
    section = Section(
        "Outcome analysis: VaR and ES",
        "Breaches of the version's VaR of a long position, and the model's backtests by coin at 5 % (a test of few forecasts says little).",
    )
    section.tables = table(
        "Breaches, this version",
        facts.some(
            """
            SELECT horizon, count(var_95_breach) AS forecasts, avg(var_95_breach::INT) AS b95, avg(var_975_breach::INT) AS b975,
                avg(var_99_breach::INT) AS b99, avg(fz_975) AS fz
            FROM evaluation.scores WHERE model = $model AND model_version = $version
            GROUP BY horizon HAVING count(var_95_breach) > 0 ORDER BY horizon
            """
        ),
        (
            HORIZON,
            Column("forecasts", "forecasts", "count"),
            Column("VaR 95 % (5 %)", "b95", "percent"),
            Column("97.5 % (2.5 %)", "b975", "percent"),
            Column("99 % (1 %)", "b99", "percent"),
            Column("FZ loss, 97.5 %", "fz", "number", 3),
        ),
    )
    tests = table(
        "Backtests of the model, coins",
        facts.some(
            """
            SELECT test, horizon, count(*) AS coins, count(p_value) AS judged, count(*) FILTER (p_value < 0.05) AS rejected,
                min(p_value) AS least_p
            FROM evaluation.tests
            WHERE model = $model AND asset <> 'ALL' AND as_of = (SELECT max(as_of) FROM evaluation.tests WHERE as_of <= $as_of)
                AND regexp_matches(test, '^(kupiec|christoffersen|dynamic_quantile|acerbi)')
            GROUP BY test, horizon HAVING count(p_value) > 0 ORDER BY test, horizon
            """
        ),
        (
            Column("test", "test", "words"),
            HORIZON,
            Column("coins", "coins", "count"),
            Column("judged", "judged", "count"),
            Column("rejected", "rejected", "count"),
            Column("least p", "least_p", "p_value"),
        ),
    )
    section.tables += tests
    if not tests:
        section.notes.append("No backtest of VaR or ES has enough forecasts yet.")
    section.tables += table(
        "Traffic lights of the model (Basel zones)",
        facts.some(
            """
            SELECT horizon, light, count(*) AS backtests FROM evaluation.traffic_lights
            WHERE model = $model AND as_of = (
                SELECT coalesce(max(as_of) FILTER (asset <> 'ALL' AND NOT starts_with(asset, 'portfolio:')), max(as_of))
                FROM evaluation.traffic_lights WHERE as_of <= $as_of
            )
            GROUP BY horizon, light ORDER BY horizon, light
            """
        ),
        (HORIZON, Column("light", "light"), Column("backtests", "backtests", "count")),
    )
    if not section.tables:
        section.notes.append("No risk figures of this version have been judged yet.")
    return section
