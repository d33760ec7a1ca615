"""What providers revised, and by how much: the raw tables read as what they are, every version of every fact.

In: a connection to a warehouse. Out: a header and a row per table, provider and metric (in wide tables: column). Never writes, and
never says which version is right. Downloads of one provider are versions of one series; a NULL is no version.
"""

from __future__ import annotations

from typing import Any

import duckdb

from orchestration.sources.schema import TABLES, TableSchema

HEADER = (
    "table",
    "provider",
    "metric",
    "facts",
    "share revised",
    "revisions",
    "median change",
    "p99 change",
    "latest revision",
    "oldest revised (days)",
    "history moves",
)
ROUNDING = 1e-9
"""Versions closer than this, relative to their size, are one value printed twice."""
MATERIAL_CHANGE = 0.001
OFTEN_REVISED, OLD_DAYS, OLD_REVISED = 0.05, 7, 0.01
"""History moves where over 5 % of facts were revised and the median change is material, or over 1 % were changed materially more than
7 days after their ``ts``: what a model is trained on is then not what anyone could have read at the time."""
PROVIDER_FAMILY = "regexp_replace(provider, '(_csv|_api)?(_[0-9]{4}-[0-9]{2}(-[0-9]{2})?)?$', '')"
"""As the macro ``provider_family`` of transforms/: coinmetrics_csv_2021-05-06 and coinmetrics_api_2026-06 are coinmetrics."""


def revision_table(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """``HEADER`` and its rows, those whose history moves first, then by share revised.

    ``facts`` is the number of keys with a value, ``share revised`` the fraction of them with versions that differ, ``revisions`` the
    number of changes. Changes are between the first and the newest version of a revised fact, relative to the first (to the newest
    where the first is zero); text has none. Ages are from ``ts`` to the revision's ``known_at``.
    """
    rows = [
        row for schema in TABLES.values() for row in connection.execute(_query(schema)).fetchall()
    ]
    return HEADER, sorted(rows, key=lambda row: (not row[-1], -row[4], row[:3]))


def _query(schema: TableSchema) -> str:
    """Facts with more than one row are found first, by a hash of their keys; only their values are then looked at."""
    numbers = [c for c in schema.value_columns if schema.columns[c] == "DOUBLE"]
    columns = numbers or [c for c in schema.value_columns if schema.columns[c] == "VARCHAR"]
    long = "metric" in schema.key
    provider = next(c for c in ("provider", "venue", "publisher") if c in schema.key)
    family = PROVIDER_FAMILY if provider == "provider" else provider
    key = [f'"{c}"' for c in schema.key if c != provider]
    keys = ", ".join(["family", *key])
    values = ", ".join(f'"{c}"' for c in columns)
    extra = "" if "ts" in schema.key else "ts, "
    measure = "metric" if long else "measure"
    if numbers:
        differs = f"abs(value - previous) > {ROUNDING} * greatest(abs(value), abs(previous))"
        change = "abs(newest - first) / coalesce(nullif(abs(first), 0), abs(newest))"
    else:
        differs, change = "value <> previous", "CAST(NULL AS DOUBLE)"
    counts = ", ".join(f'count("{c}") AS "{c}"' for c in columns)
    spare = ", ".join(f'greatest(count("{c}") - 1, 0) AS "{c}"' for c in columns)
    total = ", ".join(f'sum("{c}") AS "{c}"' for c in columns)
    group = "family, metric" if long else "family"
    unpivoted = f"ON {values} INTO NAME measure VALUE"
    return f"""
    WITH versions AS NOT MATERIALIZED (
        SELECT {family} AS family, {", ".join(key)}, {extra}known_at, ingested_at, batch_id, {values} FROM {schema.qualified_name}
    ),
    repeated AS MATERIALIZED (SELECT hash({keys}) AS digest FROM versions GROUP BY digest HAVING count(*) > 1),
    again AS MATERIALIZED (SELECT * FROM versions WHERE hash({keys}) IN (FROM repeated)),
    stored AS (UNPIVOT (SELECT {group}, {counts} FROM versions GROUP BY ALL) {unpivoted} stored),
    spared AS (
        UNPIVOT (SELECT {group}, {total} FROM (SELECT {keys}, {spare} FROM again GROUP BY ALL) GROUP BY ALL) {unpivoted} spared
    ),
    facts AS (
        SELECT family, {measure}, stored - coalesce(spared, 0) AS facts
        FROM stored LEFT JOIN spared USING ({group}, measure) WHERE stored > 0
    ),
    steps AS (
        SELECT *,
            lag(value) OVER fact AS previous,
            first_value(value) OVER fact AS first,
            last_value(value) OVER (fact ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS newest
        FROM (UNPIVOT again {unpivoted} value)
        WINDOW fact AS (PARTITION BY {keys}, measure ORDER BY known_at, ingested_at, batch_id)
    ),
    revised AS (
        SELECT {keys}, measure,
            count(*) AS revisions,
            any_value({change}) AS change,
            max(known_at) AS latest,
            max(epoch_us(known_at) - epoch_us(ts)) / 86400e6 AS age_days
        FROM steps WHERE {differs} GROUP BY ALL
    ),
    measured AS (
        SELECT family, {measure},
            count(*) AS revised,
            sum(revisions) AS revisions,
            median(change) AS median_change,
            quantile_cont(change, 0.99) AS p99_change,
            max(latest) AS latest,
            max(age_days) AS oldest_days,
            count(*) FILTER (age_days > {OLD_DAYS} AND coalesce(change, 1) > {MATERIAL_CHANGE}) AS old_revised
        FROM revised GROUP BY ALL
    )
    SELECT '{schema.qualified_name}', family, {measure}, CAST(facts AS BIGINT),
        coalesce(revised, 0) / facts AS share,
        CAST(coalesce(revisions, 0) AS BIGINT), median_change, p99_change, latest, oldest_days,
        coalesce(
            share > {OFTEN_REVISED} AND coalesce(median_change, 1) > {MATERIAL_CHANGE} OR old_revised / facts > {OLD_REVISED}, false
        )
    FROM facts LEFT JOIN measured USING (family, {measure})
    """
