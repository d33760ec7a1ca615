"""Rows that are kept but that no feature reads move no number: 1-minute bars, running funding rates, tones of single coins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestration.sources.schema import TABLES
from tests.transforms.conftest import Built
from tests.transforms.raw_market import DAYS, FIVE_MINUTE_DAYS, day
from tests.transforms.warehouse import connect, dbt, differences, store

NO_FEATURE_READS = {
    "ohlcv": "\"interval\" = '1m'",
    "funding_rates": "contains(symbol, '(current)')",
    "sentiment_metrics": "asset = 'ETH' AND provider IN ('gdelt', 'vader')",
}


def _minutes() -> pd.DataFrame:
    """Wild 1m bars of a coin with other bars, before and amid its 5m ones, and of a coin without any."""
    ts = pd.date_range(day(FIVE_MINUTE_DAYS.start - 2), periods=3 * 1440, freq="1min")
    price = 1e5 * np.exp(np.sin(np.arange(len(ts))))
    bars = pd.DataFrame({"ts": ts, "open": price, "high": price * 2, "low": price / 2})
    bars = bars.assign(close=price * 1.5, volume=1e9, venue="binance", interval="1m")
    bars["known_at"] = ts + pd.Timedelta(minutes=1, seconds=5)
    return pd.concat(
        [bars.assign(symbol="BTC/USDT"), bars.assign(symbol="XRP/USDT")], ignore_index=True
    )


def _running_rates() -> pd.DataFrame:
    ts = pd.date_range(day(50), day(70), freq="15min")
    rates = pd.DataFrame({"ts": ts, "known_at": ts, "rate": 0.04, "interval_hours": 8.0})
    return pd.concat(
        [
            rates.assign(venue=venue, asset=asset, symbol=f"{asset}/USDT:USDT(current)")
            for venue, asset in (("binanceusdm", "BTC"), ("bybit", "ETH"), ("bybit", "ADA"))
        ],
        ignore_index=True,
    )


def _tones_of_a_coin() -> pd.DataFrame:
    ts = pd.date_range(day(0), periods=DAYS, freq="1D")
    parts = [
        pd.DataFrame({"ts": ts, "known_at": ts + pd.Timedelta(hours=24, minutes=10), "value": value})
        .assign(provider=provider, metric=metric, asset="ETH")
        for provider, metric, value in (
            ("vader", "headline_tone", 0.99),
            ("vader", "headline_count", 9000.0),
            ("gdelt", "gdelt_tone", 90.0),
            ("gdelt", "gdelt_article_count", 9000.0),
        )
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def with_more_rows(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("more") / "more.duckdb"
    more = {
        "ohlcv": _minutes(),
        "funding_rates": _running_rates(),
        "sentiment_metrics": _tones_of_a_coin(),
    }
    frames = dict(built.frames)
    for name, rows in more.items():
        rows = rows.assign(source="simulated").reindex(columns=list(TABLES[name].columns))
        frames[name] = pd.concat([built.frames[name], rows], ignore_index=True)
    store(path, frames)
    dbt(path, ("build", built.first, built.last))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "features.daily",
        "features.hourly",
        "features.realized",
        "intermediate.int_realized_daily",
        "intermediate.int_hourly_bars",
        "intermediate.int_funding_daily",
        "intermediate.int_asset_days",
    ],
)
def test_rows_that_no_feature_reads_move_no_number(
    built: Built, with_more_rows: Path, name: str
) -> None:
    assert differences(built.path, with_more_rows, name) == (0, 0)


@pytest.mark.parametrize("name", NO_FEATURE_READS)
def test_they_are_there_for_whoever_asks(built: Built, with_more_rows: Path, name: str) -> None:
    query = f"SELECT count(*) FROM staging.stg_{name} WHERE {NO_FEATURE_READS[name]}"
    query = query.replace('"interval"', "bar_interval")
    found = []
    for path in (built.path, with_more_rows):
        with connect(path) as connection:
            found.append(connection.execute(query).fetchone())
    assert found[0] == (0,)
    assert found[1] != (0,)
