"""What all Dagster assets share: options from a table's definition, and metadata that the UI shows and plots.

In: table definitions. Out: keyword arguments for ``dg.asset`` and metadata values.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from orchestration.partitions import DAILY, ONE_RUN
from orchestration.platform import Platform
from orchestration.sources.schema import TableSchema
from orchestration.tables import OUTPUT_TABLES

OWNERS = ["team:volatility-desk"]
WAREHOUSE_POOL = "warehouse"
GPU_POOL = "gpu"
DAILY_FRESHNESS = dg.FreshnessPolicy.cron(
    deadline_cron="0 3 * * *", lower_bound_delta=timedelta(hours=2, minutes=30)
)
"""Materialised between 00:30 and 03:00 UTC, or it is late."""


def key_of(table: str) -> dg.AssetKey:
    """A Dagster asset's key is its table's SQL address."""
    return dg.AssetKey(table.split("."))


def raw_columns(table: TableSchema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                kind,
                constraints=dg.TableColumnConstraints(nullable=name in table.nullable),
            )
            for name, kind in table.warehouse_columns.items()
        ]
    )


def output_columns(table: str) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, kind, description=description)
            for name, (kind, description) in OUTPUT_TABLES[table].columns.items()
        ]
    )


def output_options(
    table: str, group: str, *, kinds: set[str] | None = None, **more: Any
) -> dict[str, Any]:
    """Options of the asset that writes an output table."""
    spec = OUTPUT_TABLES[table]
    return {
        "key": key_of(table),
        "description": spec.description,
        "group_name": group,
        "owners": OWNERS,
        "kinds": kinds or {"python", "duckdb"},
        "partitions_def": DAILY,
        "backfill_policy": ONE_RUN,
        "pool": WAREHOUSE_POOL,
        "freshness_policy": DAILY_FRESHNESS,
        "metadata": {
            "dagster/column_schema": output_columns(table),
            "dagster/table_name": table,
            "unique key": ", ".join(spec.key),
        },
        **more,
    }


def output_specs(
    tables: Sequence[str], group: str, deps: Sequence[str], kinds: set[str] | None = None
) -> list[dg.AssetSpec]:
    """Specs of the tables that one multi-asset writes together; pool and backfill policy belong to it. ``deps`` are table names."""
    of_the_whole = {"backfill_policy", "pool"}
    return [
        dg.AssetSpec(
            **{
                name: value
                for name, value in output_options(table, group, kinds=kinds).items()
                if name not in of_the_whole
            },
            deps=[key_of(name) for name in deps],
        )
        for table in tables
    ]


def result(
    platform: Platform, rows: int, asset_key: dg.AssetKey | None = None, /, **metadata: Any
) -> dg.MaterializeResult[None]:
    """A materialisation: rows in the table, the source of the data, and whatever else is plotted over time."""
    return dg.MaterializeResult(
        asset_key=asset_key,
        metadata={**source_metadata(platform), "dagster/row_count": rows, **plain(metadata)},
    )


def source_metadata(platform: Platform) -> dict[str, Any]:
    name = platform.source.name
    return {"source": "SIMULATED MARKET" if name == "simulated" else name}


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without what the UI cannot plot: no None, no NaN."""
    return {key: value for key, value in metadata.items() if value is not None and value == value}
