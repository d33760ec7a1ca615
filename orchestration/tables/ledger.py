"""What makes forecasts append-only: a line per write, and the rows that a re-forecast replaced."""

from __future__ import annotations

from orchestration.tables.layout import FORECAST_KEY, LAKE_SNAPSHOT, RUN, OutputTable

TABLE_NAME = {"table_name": ("VARCHAR", "table of the schema forecasts")}

LEDGER = OutputTable(
    "forecasts.ledger",
    "What was last written to each forecast table, by day and model version: number of rows and hash of their content. `volcast doctor` holds the tables against it.",
    ("table_name", "as_of", "model", "model_version"),
    {
        **TABLE_NAME,
        "as_of": FORECAST_KEY["as_of"],
        "model": ("VARCHAR", "model by name; '' where the table has none"),
        "model_version": ("VARCHAR", "version in models.registry; '' where the table has none"),
        "rows": ("BIGINT", "rows stored"),
        "content_hash": (
            "VARCHAR",
            "sum of the MD5 halves of the rows as text, run_id and created_at left out: the same rows in any order give the same",
        ),
        **RUN,
        **LAKE_SNAPSHOT,
    },
)

SUPERSEDED = OutputTable(
    "forecasts.superseded",
    "Rows of the forecast tables that a later write changed or took away, as they were: a re-forecast is a new version, the old one stays here.",
    ("table_name", "as_of", "row_key", "superseded_at"),
    {
        **TABLE_NAME,
        "asset": ("VARCHAR", "coin by its ticker; null where the row is not of one"),
        "as_of": FORECAST_KEY["as_of"],
        "horizon": ("INTEGER", "days h; null where the row has none"),
        "model": ("VARCHAR", "model by name; null where the table has none"),
        "model_version": ("VARCHAR", "version that made it; null where the table has none"),
        "row_key": ("VARCHAR", "the row's key, JSON"),
        "row_json": (
            "JSON",
            "the row as it was; of the tables by token, rows and content hash of a day and version",
        ),
        "made_at": ("TIMESTAMPTZ", "when it was written; null where its table does not say"),
        "superseded_at": ("TIMESTAMPTZ", "when it was replaced"),
        "superseded_by": ("VARCHAR", "Dagster run that replaced it; null where it does not say"),
    },
)

BY_TOKEN = ("forecasts.attention_weights", "forecasts.token_attributions")
"""Large tables: what supersedes their rows keeps a line that sums the old ones up."""

TABLES = (LEDGER, SUPERSEDED)
