"""The tables that orchestration itself writes: columns, types, keys and what each means, in one place.

In: nothing. Out: ``OUTPUT_TABLES``, from which the warehouse makes DDL and SQL comments, Dagster its column schemas and
the docs their reference. The raw tables are in ``sources/schema.py``, the feature tables in ``transforms/``.
"""

from __future__ import annotations

from orchestration.tables import (
    evaluation,
    explanations,
    forecasts,
    ledger,
    models,
    operations,
    portfolio,
    regimes,
    risk,
    spurious,
)
from orchestration.tables.layout import OutputTable

__all__ = ["OUTPUT_TABLES", "OutputTable"]

OUTPUT_TABLES: dict[str, OutputTable] = {
    table.name: table
    for module in (
        models,
        forecasts,
        explanations,
        spurious,
        risk,
        portfolio,
        regimes,
        evaluation,
        ledger,
        operations,
    )
    for table in module.TABLES
}
