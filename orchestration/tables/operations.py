"""What keeps the line honest: gate verdicts and overrides, quarantine, the ingest ledger, the state of streams and of the warehouse."""

from __future__ import annotations

from orchestration.tables.layout import SOURCE, OutputTable

VALIDATIONS = OutputTable(
    "quality.validations",
    "Every gate verdict, kept. Training and forecasting read it before they start.",
    ("validation_id",),
    {
        "validation_id": ("VARCHAR", "id of one expectation's verdict"),
        "suite": ("VARCHAR", "suite, named after the table that it guards"),
        "from_as_of": ("DATE", "first day that the verdict covers"),
        "as_of": ("DATE", "last day that the verdict covers"),
        "run_id": ("VARCHAR", "Dagster run"),
        "expectation": ("VARCHAR", "what was expected"),
        "column_name": ("VARCHAR", "column, where one is meant"),
        "severity": ("VARCHAR", "critical stops training and forecasting, warning is shown"),
        "success": ("BOOLEAN", "whether it held"),
        "observed": ("VARCHAR", "what was seen"),
        "message": ("VARCHAR", "what to do"),
        "checked_at": ("TIMESTAMPTZ", "when"),
        "overridden_by": ("VARCHAR", "who let it pass in spite of the failure"),
        "override_reason": ("VARCHAR", "why"),
    },
)

OVERRIDES = OutputTable(
    "quality.overrides",
    "Explicit, named permissions to go on in spite of a failed gate.",
    ("suite", "expectation", "as_of"),
    {
        "suite": ("VARCHAR", "suite"),
        "expectation": ("VARCHAR", "expectation, or * for all of the suite"),
        "as_of": ("DATE", "day for which it holds"),
        "overridden_by": ("VARCHAR", "who"),
        "reason": ("VARCHAR", "why"),
        "created_at": ("TIMESTAMPTZ", "when"),
    },
)

QUARANTINE = OutputTable(
    "quarantine.rows",
    "Rows that a gate refused, whole, with the reason; releasable.",
    ("row_id",),
    {
        "row_id": ("VARCHAR", "hash of table, row and reason: the same refusal is kept once"),
        "table_name": ("VARCHAR", "raw table that the row was meant for"),
        "batch_id": ("VARCHAR", "batch that brought it"),
        "reason": ("VARCHAR", "why it was refused"),
        "row_json": ("JSON", "the row as it came"),
        "quarantined_at": ("TIMESTAMPTZ", "when"),
        "released_at": ("TIMESTAMPTZ", "when it was let into the raw table, else null"),
        "released_by": ("VARCHAR", "who released it"),
    },
)

BATCHES = OutputTable(
    "raw.batches",
    "Every batch that was offered: the ingest ledger.",
    ("batch_id",),
    {
        "batch_id": ("VARCHAR", "hash of source, table, window and content"),
        **SOURCE,
        "table_name": ("VARCHAR", "raw table"),
        "known_after": (
            "TIMESTAMPTZ",
            "start of the window of known_at, exclusive; null: from the beginning",
        ),
        "known_until": ("TIMESTAMPTZ", "end of the window of known_at, inclusive"),
        "rows_offered": ("BIGINT", "rows in the batch"),
        "rows_inserted": ("BIGINT", "rows that were new"),
        "rows_duplicate": ("BIGINT", "rows that the table had already"),
        "rows_quarantined": ("BIGINT", "rows that were refused"),
        "ingested_at": ("TIMESTAMPTZ", "when"),
        "rows_quarantined_before": (
            "BIGINT",
            "of the refused rows, those that the quarantine held already: a refusal is kept once",
        ),
    },
)

STREAMS = OutputTable(
    "raw.streams",
    "What every stream of the source last gave: the cursor it resumes from, and why it is stale where it is.",
    ("stream",),
    {
        "stream": (
            "VARCHAR",
            "stream of the source, such as binance/ohlcv/5m/BTC; a whole table where nothing finer can be resumed",
        ),
        **SOURCE,
        "table_name": ("VARCHAR", "raw table that it fills"),
        "provider": ("VARCHAR", "who is asked"),
        "assets": ("VARCHAR", "coins that it was asked for so far, comma separated"),
        "read_from": ("DATE", "first day of the source when it was last read from the beginning"),
        "known_until": (
            "TIMESTAMPTZ",
            "cursor: every row known up to here is stored; null: nothing yet",
        ),
        "status": ("VARCHAR", "ok, unavailable, refused, changed shape, not listed or failed"),
        "detail": ("VARCHAR", "the error, where the status is not ok"),
        "notes": (
            "VARCHAR",
            "what the last read noticed: fallbacks, fields that are new; a line each",
        ),
        "succeeded_at": (
            "TIMESTAMPTZ",
            "when it was last read to the end; null for a source of the past",
        ),
        "attempted_at": ("TIMESTAMPTZ", "when it was last tried; null for a source of the past"),
    },
)

STATE = OutputTable(
    "meta.state",
    "Small facts about the warehouse itself: layout version, revision, what the feature build covers.",
    ("key",),
    {"key": ("VARCHAR", "name"), "value": ("VARCHAR", "value")},
)

TABLES = (
    VALIDATIONS,
    OVERRIDES,
    QUARANTINE,
    BATCHES,
    STREAMS,
    STATE,
)
