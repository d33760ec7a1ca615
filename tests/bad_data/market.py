"""A small sound market as the files of an archive, which faults are put into.

In: nothing. Out: frames by stem, and a writer. Three coins, 40 days of hours; everything is within its usual range.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 40
LAST = date(2024, 2, 9)
"""The last whole day."""
COINS = {"BTC": 42_000.0, "ETH": 2_300.0, "SOL": 100.0}
SLOTS = START + timedelta(days=20)
"""Faults have their times from here on, off the grid of the bars."""


def slot(number: int) -> datetime:
    """The time of the fault of that number: a minute of the hour of its own, so that its rows of later hours are its own too."""
    return SLOTS + timedelta(days=number // 59, minutes=1 + number % 59)


def bars(
    symbol: str = "BTC/USDT",
    venue: str = "binance",
    start: datetime = START,
    hours: int = 24 * DAYS,
    price: float = 42_000.0,
    seed: int = 1,
) -> pd.DataFrame:
    """Hourly bars of a random walk with 0.5 % an hour."""
    generator = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(0.005 * generator.standard_normal(hours)))
    opened = np.append(price, close[:-1])
    return pd.DataFrame(
        {
            "venue": venue,
            "symbol": symbol,
            "ts": [start + timedelta(hours=hour) for hour in range(hours)],
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": 50.0 + 10.0 * generator.random(hours),
            "quote_volume": 50.0 * close,
        }
    )


def frames() -> dict[str, pd.DataFrame]:
    """Every file by its stem."""
    days = [START + timedelta(days=day) for day in range(DAYS)]
    settlements = [START + timedelta(hours=8 * count) for count in range(3 * DAYS)]
    return {
        "ohlcv/1h": pd.concat(
            [
                bars(f"{coin}/USDT", price=price, seed=seed)
                for seed, (coin, price) in enumerate(COINS.items())
            ],
            ignore_index=True,
        ),
        "funding/rates": pd.DataFrame(
            {
                "venue": "bybit",
                "symbol": "BTC/USDT:USDT",
                "ts": settlements,
                "rate": 1e-4,
                "interval_hours": 8.0,
            }
        ),
        "open_interest/1d": pd.DataFrame(
            {
                "provider": "coinalyze",
                "asset": "BTC",
                "contract": "BTCUSD_PERP.A",
                "ts": days,
                "open": 1e8,
                "high": 1.2e8,
                "low": 9e7,
                "close": 1.1e8,
            }
        ),
        "implied_volatility/dvol": pd.DataFrame(
            {
                "venue": "deribit",
                "index_name": "BTC-DVOL",
                "resolution": "1d",
                "ts": days,
                "open": 55.0,
                "high": 57.0,
                "low": 54.0,
                "close": 56.0,
            }
        ),
        "onchain/metrics": pd.DataFrame(
            {
                "provider": "coinmetrics_csv_2024-03-01",
                "asset": "BTC",
                "metric": "AdrActCnt",
                "ts": days,
                "value": 9e5,
            }
        ),
        "sentiment/metrics": pd.DataFrame(
            {
                "provider": "alternative.me",
                "metric": "fear_greed",
                "ts": days,
                "value": 60.0,
                "label": "Greed",
            }
        ),
        "headlines/headlines": pd.DataFrame(
            {
                "publisher": "Desk",
                "ts": [day + timedelta(hours=9, minutes=5) for day in days],
                "title": "Bitcoin holds its range as funding stays flat",
                "url": [f"https://desk.example/{day:%Y%m%d}" for day in days],
            }
        ),
    }


def write(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    """The frames as Parquet, times in UTC to the microsecond."""
    for stem, frame in tables.items():
        path = folder / f"{stem}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(arrow(frame), path)
    return folder


def arrow(frame: pd.DataFrame) -> pa.Table:
    """Python's times and texts as they are; no guess by pandas."""
    columns = {}
    for name in frame.columns:
        values = [None if value is pd.NaT else value for value in frame[name].tolist()]
        if name in ("ts", "known_at"):
            columns[name] = pa.array(values, pa.timestamp("us", "UTC"), from_pandas=True)
        elif name in TEXTS:
            columns[name] = pa.array(values, pa.string(), from_pandas=True)
        else:
            columns[name] = pa.array([np.nan if v is None else v for v in values], pa.float64())
    return pa.table(columns)


TEXTS = frozenset(
    {"venue", "symbol", "provider", "asset", "contract", "index_name", "resolution", "metric", "label",
     "publisher", "title", "url"}
)  # fmt: skip
