"""The raw tables' schema: what the warehouse and every source rely on."""

from __future__ import annotations

import pyarrow as pa
import pytest

from orchestration.sources.schema import TABLES, WAREHOUSE_COLUMNS, TableSchema, table_schema


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_bitemporal_and_names_its_source(name: str) -> None:
    table = TABLES[name]
    assert {"ts", "known_at", "source"} <= set(table.columns)
    assert set(table.key).isdisjoint({"known_at", "source"})
    assert not set(table.key) & table.nullable
    assert set(table.value_columns) | set(table.key) | {"known_at", "source"} == set(table.columns)
    assert list(table.warehouse_columns)[-2:] == list(WAREHOUSE_COLUMNS)


def test_arrow_schema_has_the_columns_in_order_with_utc_microseconds() -> None:
    schema = TABLES["ohlcv"].arrow
    assert schema.names == list(TABLES["ohlcv"].columns)
    assert schema.field("ts").type == pa.timestamp("us", tz="UTC")
    assert schema.field("trades").type == pa.float64()


def test_tables_are_found_with_and_without_their_schema_name() -> None:
    assert table_schema("raw.headlines") is table_schema("headlines")
    assert table_schema("headlines").qualified_name == "raw.headlines"
    with pytest.raises(KeyError, match="'headline': expected one of ohlcv"):
        table_schema("headline")


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['coin'\]"):
        TableSchema(
            "bad", ("coin",), {"ts": "TIMESTAMPTZ", "known_at": "TIMESTAMPTZ", "source": "VARCHAR"}
        )
