"""Forecasts are append-only: what is stored is what was written, and what a later write replaced is kept.

In: the forecast tables beside ``forecasts.ledger`` and ``forecasts.superseded``. Out: findings. Days are compared by number of rows and content hash.
"""

from __future__ import annotations

from orchestration.doctor.finding import RESTORE, Count, Invariant, Look
from orchestration.ledger import LEDGERED, lines

_LINE = "as_of, model, model_version"


def _compare(look: Look) -> Count:
    checked = broken = 0
    example = ""
    for table, spec in LEDGERED.items():
        if table not in look.tables:
            continue
        near = "as_of >= (SELECT max(as_of) - $days FROM forecasts.ledger)"
        found = look.count(
            f"SELECT count(*) FROM forecasts.ledger WHERE table_name = '{table}' AND {near}",
            f"""
            WITH stored AS ({lines(spec, near)}),
            written AS (SELECT * FROM forecasts.ledger WHERE table_name = '{table}' AND {near})
            SELECT '{table}' AS "table", {_LINE}, s.rows AS rows_stored, w.rows AS rows_written, w.run_id AS written_by
            FROM stored AS s FULL JOIN written AS w USING ({_LINE})
            WHERE s.rows IS DISTINCT FROM w.rows OR s.content_hash IS DISTINCT FROM w.content_hash
            ORDER BY ALL
            """,
        )
        checked += found.checked
        broken += found.broken
        example = example or found.example
    return Count(checked, broken, example)


APPEND_ONLY = Invariant(
    "append-only",
    "the forecast tables hold, by day and version, the very rows that forecasts.ledger says were written; the newest 400 days unless --deep",
    f"rows were altered, added or deleted by hand: {RESTORE}; superseded rows are in forecasts.superseded",
    ("forecasts.ledger",),
    by=_compare,
)

SUPERSEDED = Invariant(
    "superseded",
    "every superseded row is kept whole: as JSON, with its key, from before it was replaced",
    f"the history of forecasts was changed by hand: {RESTORE}",
    ("forecasts.superseded",),
    "SELECT count(*) FROM forecasts.superseded",
    """
    SELECT table_name, as_of, row_key, made_at, superseded_at FROM forecasts.superseded
    WHERE row_json IS NULL OR NOT json_valid(row_json) OR NOT json_valid(row_key) OR superseded_at IS NULL OR made_at > superseded_at
    """,
)

INVARIANTS = (APPEND_ONLY, SUPERSEDED)
