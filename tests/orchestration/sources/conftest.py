"""A small archive in the documented layout, in both formats, and what tests of sources share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from orchestration.sources.protocol import Source
from orchestration.sources.schema import TABLES

START = datetime(2023, 3, 1, tzinfo=UTC)


def _hours(count: int, step: timedelta = timedelta(hours=1)) -> list[datetime]:
    return [START + step * at for at in range(count)]


def _bars(symbol: str, stamps: list[datetime]) -> pd.DataFrame:
    close = [100.0 + 0.1 * at for at in range(len(stamps))]
    return pd.DataFrame(
        {
            "venue": "binance",
            "symbol": symbol,
            "ts": stamps,
            "open": close,
            "high": [value + 1.25 for value in close],
            "low": [value - 1.0 for value in close],
            "close": close,
            "volume": 1.0 / 3.0,
        }
    )


def archive_frames() -> dict[str, pd.DataFrame]:
    """Every file of the layout by its stem, four days of data."""
    days = _hours(4, timedelta(days=1))
    day_one = {"ts": days}
    return {
        "ohlcv/1h": pd.concat([_bars("BTC/USDT", _hours(96)), _bars("XRP/USDT", _hours(96))]),
        "ohlcv/5m": _bars("BTC/USDT", _hours(48, timedelta(minutes=5))),
        "funding/rates": pd.DataFrame(
            {
                "venue": ["bitmex", "dydx", "deribit", "bybit"],
                "symbol": ["XBTUSD", "XRP-USD", "BTC-PERPETUAL(interest_8h)", "XRP/USDT:USDT"],
                "ts": _hours(4),
                "rate": [1e-4, -2e-5, 0.0, 3e-4],
                "interval_hours": [8.0, 1.0, 8.0, 8.0],
            }
        ),
        "open_interest/1d": pd.DataFrame(
            {
                "provider": "coinalyze",
                "asset": "BTC",
                "contract": "BTCUSD_PERP.A",
                **day_one,
                "open": 1.0e8,
                "high": 1.2e8,
                "low": 0.9e8,
                "close": 1.1e8,
            }
        ),
        "implied_volatility/dvol": pd.DataFrame(
            {
                "venue": "deribit",
                "index_name": ["BTC-DVOL", "BTC-DVOL", "ETH-DVOL", "ETH-DVOL"],
                "resolution": ["1h", "1d", "1d", "1d"],
                "ts": days,
                "open": [55.0, None, None, None],
                "high": [56.0, None, None, None],
                "low": [54.0, None, None, None],
                "close": [55.5, 56.5, 70.25, 71.0],
            }
        ),
        "onchain/metrics": pd.DataFrame(
            {
                "provider": "coinmetrics_csv_2023-04-06",
                "asset": "BTC",
                "metric": ["TxCnt", "TxCnt", "FlowInExUSD", "SplyExpFut10yr"],
                "ts": [days[0], days[1], days[1], days[1]],
                "value": [1.0, 2.0, 3.0, 4.0],
                "known_at": [None, days[2] + timedelta(hours=5)] + [days[2]] * 2,
            }
        ),
        "onchain/stablecoins": pd.DataFrame(
            {
                "provider": ["coinmetrics_csv_2023-04-06", "defillama_csv_2024-12-01"],
                "asset": ["USDC", "ALL_STABLES"],
                "metric": ["SplyCur", "CirculatingUSD"],
                "ts": days[:2],
                "value": [4.0e10, 1.3e11],
            }
        ),
        "onchain/vintages": pd.DataFrame(
            {
                "provider": ["coinmetrics_api_2026-06", "coinmetrics_api_2026-06"],
                "asset": "BTC",
                "metric": ["FlowOutExUSD", "TxCnt"],
                "ts": days[:2],
                "value": [5.0, 2.0],
            }
        ),
        "sentiment/metrics": pd.DataFrame(
            {
                "provider": "any",
                "metric": [
                    "fear_greed",
                    "market_news_positive_count",
                    "gdelt_S_gdelt_raw",
                    "btc_wikipedia_pageviews",
                    "btc_reddit_posts_volume",
                    "never_seen_before",
                ],
                "ts": days[0],
                "value": [30.0, 12.0, -1.5, 3400.0, 55.0, 1.0],
                "label": ["Fear", None, None, None, None, None],
            }
        ),
        "headlines/headlines": pd.DataFrame(
            {
                "publisher": ["Desk", "Desk", "Wire"],
                "ts": [START, START + timedelta(minutes=1), START + timedelta(hours=5)],
                "title": ['A "quoted", title', "Two\nlines", "Plain €"],
                "url": ["https://a.invalid/1", None, "https://a.invalid/3"],
            }
        ),
    }


def write_archive(folder: Path, frames: dict[str, pd.DataFrame], extension: str) -> Path:
    """Write the files of an archive as Parquet or as CSV with ISO times in UTC."""
    for stem, frame in frames.items():
        path = folder / f"{stem}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if extension == "parquet":
            typed = frame.copy()
            for column in ("ts", "known_at"):
                if column in typed:
                    typed[column] = pd.to_datetime(typed[column], utc=True)
            typed.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    return folder


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    return archive_frames()


@pytest.fixture
def write() -> Callable[[Path, dict[str, pd.DataFrame], str], Path]:
    return write_archive


@pytest.fixture(scope="session")
def read() -> Callable[..., pd.DataFrame]:
    """All rows of a window as one frame in the order they came, types checked."""

    def _read(
        source: Source,
        table: str,
        known_after: datetime | None = None,
        known_until: datetime = datetime(2100, 1, 1, tzinfo=UTC),
    ) -> pd.DataFrame:
        batches = list(source.batches(table, known_after, known_until))
        for batch in batches:
            assert batch.schema == TABLES[table].arrow
            assert 0 < batch.num_rows <= 250_000
        joined = pa.concat_tables([TABLES[table].empty(), *batches])
        return joined.to_pandas()

    return _read


@pytest.fixture(scope="session")
def rows() -> Callable[..., np.ndarray]:
    """A hash per row, sorted, to compare frames whose rows came in another order."""

    def _rows(*frames: pd.DataFrame) -> np.ndarray:
        return np.sort(
            np.concatenate([pd.util.hash_pandas_object(frame, index=False) for frame in frames])
        )

    return _rows
