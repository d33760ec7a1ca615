"""The raw tables: their columns, DuckDB types and keys, in one place.

In: nothing. Out: ``TABLES``, which the warehouse turns into DDL and every source turns into Arrow
batches. Never: reads data, opens a database, or knows which source fills a table.

Every raw table is append-only and bitemporal: ``ts`` is the event time (a bar's open, a day's
midnight at its start), ``known_at`` the first instant at which the row could have been read from
its provider. A revision is a row with the same key, a later ``known_at`` and other values. The
warehouse adds ``ingested_at`` and ``batch_id``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

RAW_SCHEMA = "raw"
"""The schema of the warehouse that holds these tables."""

WAREHOUSE_COLUMNS: dict[str, str] = {"ingested_at": "TIMESTAMPTZ", "batch_id": "VARCHAR"}
"""Columns that the warehouse adds to every raw table; a source never fills them."""

SOURCE_NAMES: tuple[str, ...] = ("archive", "simulated", "live")
"""The values of the ``source`` column."""

MARKET_ASSET = "MARKET"
"""The ``asset`` of a sentiment metric that describes no single coin."""

_ARROW_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "DOUBLE": pa.float64(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class TableSchema:
    """One raw table.

    ``name`` is unqualified (``ohlcv``); ``columns`` maps a column to its DuckDB type, in table
    order; ``key`` names one fact, so that ``key`` and ``known_at`` together name one row;
    ``nullable`` lists the columns that may be NULL. A NULL elsewhere is the provider's fault: a
    source passes it on and the gate quarantines the row.
    """

    name: str
    key: tuple[str, ...]
    columns: dict[str, str]
    nullable: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        unknown = [column for column in (*self.key, *self.nullable) if column not in self.columns]
        if unknown:
            raise ValueError(f"table {self.name!r}: key or nullable names no column: {unknown}")
        for column in ("ts", "known_at", "source"):
            if column not in self.columns:
                raise ValueError(f"table {self.name!r}: column {column!r} is missing")

    @property
    def qualified_name(self) -> str:
        """The table's SQL name, ``raw.ohlcv``."""
        return f"{RAW_SCHEMA}.{self.name}"

    @property
    def warehouse_columns(self) -> dict[str, str]:
        """Columns as the warehouse stores them: the source's and its own two."""
        return {**self.columns, **WAREHOUSE_COLUMNS}

    @property
    def value_columns(self) -> tuple[str, ...]:
        """What a revision may change: every column outside the key, ``known_at`` and ``source``."""
        bookkeeping = {*self.key, "known_at", "source"}
        return tuple(column for column in self.columns if column not in bookkeeping)

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a source's batches."""
        return pa.schema(
            [pa.field(column, _ARROW_TYPES[kind]) for column, kind in self.columns.items()]
        )

    def empty(self) -> pa.Table:
        """A batch without rows."""
        return self.arrow.empty_table()


_TIMES = {"known_at": "TIMESTAMPTZ", "source": "VARCHAR"}
_OHLC = {"open": "DOUBLE", "high": "DOUBLE", "low": "DOUBLE", "close": "DOUBLE"}

OHLCV = TableSchema(
    name="ohlcv",
    key=("venue", "symbol", "interval", "ts"),
    columns={
        "venue": "VARCHAR",
        "symbol": "VARCHAR",  # BTC/USDT
        "interval": "VARCHAR",  # 5m, 1h
        "ts": "TIMESTAMPTZ",  # open time of the bar
        **_OHLC,
        "volume": "DOUBLE",  # base units
        "quote_volume": "DOUBLE",
        "trades": "DOUBLE",
        "taker_buy_volume": "DOUBLE",  # base units
        **_TIMES,
    },
    nullable=frozenset({"quote_volume", "trades", "taker_buy_volume"}),
)

FUNDING_RATES = TableSchema(
    name="funding_rates",
    key=("venue", "symbol", "asset", "ts"),
    columns={
        "venue": "VARCHAR",
        "symbol": "VARCHAR",
        "asset": "VARCHAR",
        "ts": "TIMESTAMPTZ",  # settlement time
        "rate": "DOUBLE",  # decimal per interval: 0.0001 is 1 bp
        "interval_hours": "DOUBLE",
        **_TIMES,
    },
)

OPEN_INTEREST = TableSchema(
    name="open_interest",
    key=("venue", "symbol", "asset", "ts"),
    columns={
        "venue": "VARCHAR",
        "symbol": "VARCHAR",
        "asset": "VARCHAR",
        "ts": "TIMESTAMPTZ",
        **_OHLC,  # USD
        "resolution": "VARCHAR",  # 1d
        **_TIMES,
    },
    nullable=frozenset({"open", "high", "low"}),
)

IMPLIED_VOLATILITY = TableSchema(
    name="implied_volatility",
    key=("venue", "symbol", "asset", "resolution", "ts"),
    columns={
        "venue": "VARCHAR",
        "symbol": "VARCHAR",  # BTC-DVOL
        "asset": "VARCHAR",
        "resolution": "VARCHAR",  # 1h, 1d
        "ts": "TIMESTAMPTZ",
        **_OHLC,  # annualised percent
        **_TIMES,
    },
    nullable=frozenset({"open", "high", "low"}),
)

ONCHAIN_METRICS = TableSchema(
    name="onchain_metrics",
    key=("provider", "asset", "metric", "ts"),
    columns={
        "provider": "VARCHAR",
        "asset": "VARCHAR",  # a coin, a stablecoin, or ALL_STABLES
        "metric": "VARCHAR",  # the provider's own name
        "ts": "TIMESTAMPTZ",
        "value": "DOUBLE",
        **_TIMES,
    },
)

SENTIMENT_METRICS = TableSchema(
    name="sentiment_metrics",
    key=("provider", "asset", "metric", "ts"),
    columns={
        "provider": "VARCHAR",
        "asset": "VARCHAR",  # MARKET unless the metric is of one coin
        "metric": "VARCHAR",
        "ts": "TIMESTAMPTZ",
        "value": "DOUBLE",
        "label": "VARCHAR",
        **_TIMES,
    },
    nullable=frozenset({"label"}),
)

HEADLINES = TableSchema(
    name="headlines",
    key=("publisher", "id"),
    columns={
        "publisher": "VARCHAR",
        "id": "VARCHAR",
        "ts": "TIMESTAMPTZ",  # publication time
        "title": "VARCHAR",
        "url": "VARCHAR",
        **_TIMES,
    },
    nullable=frozenset({"url"}),
)

ORDER_BOOKS = TableSchema(
    name="order_books",
    key=("venue", "symbol", "asset", "ts"),
    columns={
        "venue": "VARCHAR",
        "symbol": "VARCHAR",
        "asset": "VARCHAR",
        "ts": "TIMESTAMPTZ",  # the venue's stamp of the snapshot, or the moment of reading
        "bids": "VARCHAR",  # JSON [[price, amount], ...], best first, as the venue gave them
        "asks": "VARCHAR",
        **_TIMES,
    },
)

TABLES: dict[str, TableSchema] = {
    table.name: table
    for table in (
        OHLCV,
        FUNDING_RATES,
        OPEN_INTEREST,
        IMPLIED_VOLATILITY,
        ONCHAIN_METRICS,
        SENTIMENT_METRICS,
        HEADLINES,
        ORDER_BOOKS,
    )
}
"""Every raw table by its unqualified name."""


def table_schema(name: str) -> TableSchema:
    """The schema of ``name`` (``ohlcv`` or ``raw.ohlcv``); KeyError quotes an unknown name."""
    schema = TABLES.get(name.removeprefix(f"{RAW_SCHEMA}."))
    if schema is None:
        raise KeyError(f"raw table {name!r}: expected one of {', '.join(TABLES)}")
    return schema
