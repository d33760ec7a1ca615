"""Published tables -> the rows of the sections about evidence: attention, scores, gates and model versions.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, as ``queries.py`` gives them. Never writes.
"""

from __future__ import annotations

from datetime import date

import duckdb

from orchestration.report.queries import COINS_FIRST, FORECASTS, HISTORY_DAYS, NothingYet, Row, rows

_NEWEST_WEIGHTS = """
    SELECT w.* FROM forecasts.attention_weights AS w LEFT JOIN models.registry AS m USING (model, model_version)
    WHERE w.as_of = $as_of
    QUALIFY dense_rank() OVER (PARTITION BY asset ORDER BY m.created_at DESC NULLS LAST, model_version DESC, model DESC) = 1
"""


def attention(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Share of each head's attention by group: modality, and scale where a modality has several."""
    return rows(
        connection,
        f"""
        SELECT asset, model, model_version, layer, head, any_value(head_scale) AS head_scale, scale, modality,
            CASE scale WHEN 'forecast' THEN 'forecast token' WHEN 'asset' THEN 'other coins'
                WHEN 'context' THEN replace(modality, '_', ' ') || CASE modality WHEN 'price' THEN ', context' ELSE '' END
                ELSE replace(modality, '_', ' ') || ', ' || scale END AS label,
            sum(weight) AS weight, count(*) AS tokens
        FROM ({_NEWEST_WEIGHTS}) GROUP BY ALL
        ORDER BY any_value({COINS_FIRST.format("").split(",")[0]}), asset, layer, head, label
        """,
        as_of=as_of,
    )


def attention_by_lag(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Mean over layers and heads of the attention on each past token, by its age."""
    return rows(
        connection,
        f"""
        SELECT asset, scale, lag_days, avg(weight) AS weight FROM ({_NEWEST_WEIGHTS})
        WHERE lag_days IS NOT NULL AND scale IN ('daily', 'hourly', 'weekly')
        GROUP BY asset, scale, lag_days ORDER BY asset, scale, lag_days
        """,
        as_of=as_of,
    )


def explanations(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """What moved each forecast, by feature group, with the verdict of the audit."""
    return rows(
        connection,
        f"""
        SELECT asset, horizon, model, model_version, feature_group, attention_rollout, integrated_gradients,
            ablation_effect, completeness_error, verdict, verdict_reason
        FROM forecasts.explanations AS e LEFT JOIN models.registry AS m USING (model, model_version)
        WHERE e.as_of = $as_of
        QUALIFY dense_rank() OVER (PARTITION BY asset, horizon ORDER BY m.created_at DESC NULLS LAST, model_version DESC, model DESC) = 1
        ORDER BY {COINS_FIRST.format("")}, horizon, abs(integrated_gradients) DESC NULLS LAST, feature_group
        """,
        as_of=as_of,
    )


def leaderboard(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    return rows(
        connection,
        """
        SELECT * EXCLUDE (as_of), as_of AS scored_until,
            rank() OVER (PARTITION BY horizon ORDER BY qlike NULLS LAST) AS place
        FROM evaluation.leaderboard
        WHERE as_of = (SELECT max(as_of) FROM evaluation.leaderboard WHERE as_of <= $as_of) AND segment_kind = 'all'
        ORDER BY horizon, qlike NULLS LAST, model
        """,
        as_of=as_of,
    )


def coverage(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """Coverage of the champion's intervals and its VaR breaches, all forecasts and those of the last 90 days."""
    return rows(
        connection,
        """
        SELECT horizon, count(*) AS forecasts, avg(covered_80::INT) AS covered_80, avg(covered_98::INT) AS covered_98,
            avg(covered_80::INT) FILTER (as_of > CAST($as_of AS DATE) - 90) AS covered_80_recent,
            avg(covered_98::INT) FILTER (as_of > CAST($as_of AS DATE) - 90) AS covered_98_recent,
            avg(var_95_breach::INT) AS var_95_breaches, avg(var_975_breach::INT) AS var_975_breaches,
            avg(var_99_breach::INT) AS var_99_breaches
        FROM evaluation.scores WHERE model = $model AND as_of + horizon <= $as_of
        GROUP BY horizon ORDER BY horizon
        """,
        as_of=as_of,
        model=model,
    )


def backtests(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """Forecast and risk tests of the champion, rejections first."""
    return rows(
        connection,
        """
        SELECT test, horizon, asset, benchmark, statistic, p_value, forecasts, verdict FROM evaluation.tests
        WHERE model = $model AND asset = 'ALL'
            AND as_of = (SELECT max(as_of) FROM evaluation.tests WHERE as_of <= $as_of)
        ORDER BY coalesce(p_value < 0.05, FALSE) DESC, test, horizon
        """,
        as_of=as_of,
        model=model,
    )


_NEWEST_VERDICTS = """
    SELECT *, max(checked_at) OVER (PARTITION BY suite) AS newest FROM quality.validations
    WHERE as_of >= $as_of AND coalesce(from_as_of, as_of) <= $as_of
    QUALIFY checked_at = newest
"""


def gates(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Newest verdicts that cover the day: critical failures first, then warnings, then what held."""
    return rows(
        connection,
        f"""
        SELECT suite, expectation, column_name, severity, success, observed, message, overridden_by, override_reason,
            epoch_us(checked_at) AS checked_us,
            CASE WHEN NOT success AND severity = 'critical' THEN CASE WHEN overridden_by IS NULL THEN 'failed'
                    ELSE 'overridden' END
                WHEN NOT success THEN 'warned'
                WHEN observed LIKE 'not checked%' THEN 'unasked' ELSE 'held' END AS state
        FROM ({_NEWEST_VERDICTS})
        ORDER BY success, severity = 'critical' DESC, overridden_by IS NOT NULL, suite, expectation
        """,
        as_of=as_of,
    )


def feature_moves(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The features that moved most since the day before, in standard deviations of their own daily moves."""
    columns = rows(
        connection,
        """
        SELECT column_name FROM duckdb_columns()
        WHERE schema_name = 'features' AND table_name = 'daily' AND data_type = 'DOUBLE'
            AND NOT column_name LIKE '%\\_age\\_days' ESCAPE '\\' AND NOT column_name LIKE 'target\\_%' ESCAPE '\\'
            AND database_name = current_database()
        ORDER BY column_index
        """,
    )
    if not columns:
        raise NothingYet("features.daily is not there yet")
    names = ", ".join('"' + str(row["column_name"]).replace('"', '""') + '"' for row in columns)
    return rows(
        connection,
        f"""
        WITH long AS (
            UNPIVOT (
                SELECT asset, as_of, {names} FROM features.daily
                WHERE as_of <= $as_of AND as_of >= CAST($as_of AS DATE) - CAST($days AS INTEGER)
            ) ON {names} INTO NAME feature VALUE value
        ),
        moved AS (
            SELECT *, value - lag(value) OVER one AS move, lag(value) OVER one AS before, lag(as_of) OVER one AS day_before
            FROM long WINDOW one AS (PARTITION BY asset, feature ORDER BY as_of)
        ),
        measured AS (
            SELECT *, stddev_samp(move) OVER past AS usual, count(move) OVER past AS moves FROM moved
            WINDOW past AS (
                PARTITION BY asset, feature ORDER BY as_of ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        )
        SELECT CASE WHEN count(*) OVER alike > 1 THEN 'market' ELSE asset END AS asset, feature, before, value AS after,
            move / usual AS deviations
        FROM measured
        WHERE as_of = $as_of AND day_before = as_of - 1 AND moves >= 20 AND usual > 0 AND isfinite(move / usual)
        WINDOW alike AS (PARTITION BY feature, before, value)
        QUALIFY row_number() OVER (PARTITION BY feature, before, value ORDER BY asset) = 1
        ORDER BY abs(move / usual) DESC, asset, feature LIMIT 12
        """,
        as_of=as_of,
        days=HISTORY_DAYS + 1,
    )


def versions(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The model versions behind the day's forecasts, with where they came from."""
    return rows(
        connection,
        f"""
        WITH used AS (SELECT DISTINCT model, model_version FROM ({FORECASTS}))
        SELECT u.model, u.model_version, r.status, r.status_reason, r.trained_as_of, r.train_start, r.train_end, r.data_hash,
            r.artifact_hash, r.code_version, r.seed, r.device, epoch_us(r.created_at) AS created_us
        FROM used u LEFT JOIN models.registry r USING (model, model_version)
        ORDER BY r.status = 'champion' DESC NULLS LAST, u.model, u.model_version
        """,
        as_of=as_of,
    )


def decisions(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The last decision day's decisions that changed something or could have, then the last promotions and retrains."""
    return rows(
        connection,
        """
        SELECT as_of, kind, model, statistic, threshold, reason FROM models.decisions
        WHERE as_of <= $as_of AND (
            kind IN ('promote', 'retrain')
            OR as_of = (SELECT max(as_of) FROM models.decisions WHERE as_of <= $as_of)
            OR (kind IN ('keep', 'refuse')
                AND as_of = (SELECT max(as_of) FROM models.decisions WHERE as_of <= $as_of AND kind IN ('keep', 'promote')))
        )
        ORDER BY as_of DESC, CASE kind WHEN 'promote' THEN 0 WHEN 'keep' THEN 1 WHEN 'retrain' THEN 2 WHEN 'drift' THEN 3
            WHEN 'refuse' THEN 4 ELSE 5 END, model
        LIMIT 40
        """,
        as_of=as_of,
    )


def drift(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """The last decision day's measures of drift nearest to their thresholds, or beyond."""
    return rows(
        connection,
        """
        SELECT as_of, model, kind, measure, subject, statistic, threshold, verdict, monitored_days, reference_days
        FROM models.drift
        WHERE as_of = (SELECT max(as_of) FROM models.drift WHERE as_of <= $as_of) AND threshold > 0
        QUALIFY row_number() OVER (PARTITION BY model, kind ORDER BY statistic / threshold DESC, subject, measure) <= 3
        ORDER BY statistic / threshold DESC, model, subject, measure LIMIT 12
        """,
        as_of=as_of,
    )


def quarantined(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Rows in quarantine by table and reason, not yet released."""
    return rows(
        connection,
        """
        SELECT table_name, reason, count(*) AS held FROM quarantine.rows WHERE released_at IS NULL
        GROUP BY table_name, reason ORDER BY held DESC, table_name LIMIT 10
        """,
        as_of=as_of,
    )
