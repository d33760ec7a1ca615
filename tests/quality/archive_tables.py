"""The real archive in the layout of the raw tables, for tests only; None of it is kept."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

_COIN = """CASE WHEN symbol LIKE '%BTC%' OR symbol LIKE 'XBT%' THEN 'BTC' WHEN symbol LIKE '%ETH%' THEN 'ETH'
           ELSE split_part(symbol, '/', 1) END"""

QUERIES = {
    "raw.ohlcv": """
        SELECT venue, symbol, '1h' AS interval, ts, open, high, low, close, volume, ts + INTERVAL 1 HOUR AS known_at
        FROM '{root}/ohlcv/1h.parquet' WHERE ts >= '{start}' AND ts < '{end}'
        UNION ALL
        SELECT venue, symbol, '5m', ts, open, high, low, close, volume, ts + INTERVAL 5 MINUTE
        FROM '{root}/ohlcv/5m.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
    "raw.funding_rates": f"""
        SELECT venue, symbol, {_COIN} AS asset, ts, rate, interval_hours, ts AS known_at
        FROM '{{root}}/funding/rates.parquet' WHERE ts >= '{{start}}' AND ts < '{{end}}'
    """,
    "raw.open_interest": """
        SELECT provider AS venue, contract AS symbol, asset, ts, open, high, low, close, '1d' AS resolution,
               ts + INTERVAL 1 DAY AS known_at
        FROM '{root}/open_interest/1d.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
    "raw.implied_volatility": """
        SELECT venue, index_name AS symbol, split_part(index_name, '-', 1) AS asset, resolution, ts, open, high, low,
               close, ts + CASE resolution WHEN '1h' THEN INTERVAL 1 HOUR ELSE INTERVAL 1 DAY END AS known_at
        FROM '{root}/implied_volatility/dvol.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
    "raw.onchain_metrics": """
        SELECT provider, asset, metric, ts, value, coalesce(known_at, ts + INTERVAL 37 HOUR) AS known_at
        FROM '{root}/onchain/metrics.parquet' WHERE ts >= '{start}' AND ts < '{end}'
        UNION ALL
        SELECT provider, asset, metric, ts, value, ts + INTERVAL 37 HOUR
        FROM '{root}/onchain/stablecoins.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
    "raw.sentiment_metrics": """
        SELECT provider, 'MARKET' AS asset, metric, ts, value, label, ts + INTERVAL 1 HOUR AS known_at
        FROM '{root}/sentiment/metrics.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
    "raw.headlines": """
        SELECT publisher, md5(concat_ws('|', url, title, ts::VARCHAR)) AS id, ts, title, url, ts + INTERVAL 10 MINUTE AS known_at
        FROM '{root}/headlines/headlines.parquet' WHERE ts >= '{start}' AND ts < '{end}'
    """,
}


def read(
    root: Path, table: str, start: str = "2017-01-01", end: str = "2024-01-01"
) -> pd.DataFrame:
    """Rows of ``table`` with ``start`` <= ts < ``end``."""
    query = QUERIES[table].format(root=root, start=start, end=end)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(f"SELECT *, 'archive' AS source FROM ({query})").df()
