"""Published tables -> the rows that say how far explanations are to be believed: the audit's figures, checks of each version, spurious correlations.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, as ``queries.py`` gives them. Never writes.
"""

from __future__ import annotations

from datetime import date

import duckdb

from orchestration.report.queries import COINS_FIRST, Row, rows


def audit_figures(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Every figure behind the verdict of each explained forecast; of two versions the newer."""
    return rows(
        connection,
        f"""
        SELECT a.* EXCLUDE (source) FROM forecasts.attention_audits AS a LEFT JOIN models.registry AS m USING (model, model_version)
        WHERE a.as_of = $as_of
        QUALIFY dense_rank() OVER (PARTITION BY asset, horizon ORDER BY m.created_at DESC NULLS LAST, model_version DESC, model DESC) = 1
        ORDER BY {COINS_FIRST.format("")}, horizon
        """,
        as_of=as_of,
    )


def version_checks(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Checks of the versions that explained the day's forecasts, those that are judged."""
    return rows(
        connection,
        """
        SELECT model, model_version, check_name, subject, statistic, threshold, verdict, reason FROM models.explanation_checks
        WHERE stage = '' AND (model, model_version) IN (
            SELECT model, model_version FROM forecasts.explanations WHERE as_of = $as_of
        )
        ORDER BY model, model_version, check_name, subject
        """,
        as_of=as_of,
    )


def spurious_counts(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Checks by modality and verdict, as at the last Sunday judged."""
    return rows(
        connection,
        """
        SELECT as_of AS judged_on, model, modality, count(*) FILTER (verdict = 'flagged') AS flagged,
            count(*) FILTER (verdict = 'clear') AS cleared, count(*) FILTER (verdict = 'not judged') AS not_judged
        FROM models.spurious_checks
        WHERE as_of = (SELECT max(as_of) FROM models.spurious_checks WHERE as_of <= $as_of)
        GROUP BY ALL ORDER BY flagged DESC, modality
        """,
        as_of=as_of,
    )


def spurious_flags(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """What was flagged, over all coins first."""
    return rows(
        connection,
        """
        SELECT model, modality, asset, check_name, segment, horizon, statistic, p_value, observations, reason
        FROM models.spurious_checks
        WHERE verdict = 'flagged' AND as_of = (SELECT max(as_of) FROM models.spurious_checks WHERE as_of <= $as_of)
        ORDER BY asset <> 'ALL', modality, check_name, p_value NULLS FIRST, asset, segment, horizon LIMIT 40
        """,
        as_of=as_of,
    )


def leads(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Leads that were found: which feature tells of variance that is not forecast from prices, how many days ahead."""
    return rows(
        connection,
        """
        SELECT model, modality, asset, segment, lead_days, statistic, p_value, observations, reason FROM models.spurious_checks
        WHERE check_name = 'lead_lag' AND lead_days IS NOT NULL AND p_value <= threshold
            AND as_of = (SELECT max(as_of) FROM models.spurious_checks WHERE as_of <= $as_of)
        ORDER BY p_value NULLS LAST, modality, segment, asset LIMIT 12
        """,
        as_of=as_of,
    )
