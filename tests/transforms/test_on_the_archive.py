"""Real bars: the SQL gives the columns of the classical models' reference script, days with holes apart."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestration.sources.archive import ArchiveSource
from orchestration.sources.schema import TABLES
from tests.transforms.warehouse import connect, dbt, store, table

FIRST, LAST = date(2022, 9, 1), date(2023, 4, 15)  # 24 March 2023: an outage of two hours

pytestmark = pytest.mark.archive


@pytest.fixture(scope="module")
def bars(archive_folder: Path) -> pd.DataFrame:
    """BTC's and ETH's bars that became known in the span."""
    source = ArchiveSource(archive_folder, ("BTC", "ETH"))
    batches = source.batches(
        "ohlcv", datetime(2022, 9, 1, 0, 30, tzinfo=UTC), datetime(2023, 4, 16, 0, 30, tzinfo=UTC)
    )
    return pd.concat([batch.to_pandas() for batch in batches], ignore_index=True)


@pytest.fixture(scope="module")
def features(bars: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("archive") / "archive.duckdb"
    frames = {name: bars.iloc[:0].reindex(columns=list(t.columns)) for name, t in TABLES.items()}
    store(path, {**frames, "ohlcv": bars})
    dbt(path, ("run", FIRST, LAST), assets=["BTC", "ETH"], rv_interval="1h")
    with connect(path) as connection:
        found = connection.execute("SELECT count(*) FROM raw.ohlcv").fetchone()
    assert found == (len(bars),)
    frame = table(path, "features.daily", "asset = 'BTC'")
    return frame.set_index(pd.to_datetime(frame["as_of"]))


def _reference(bars: pd.DataFrame) -> pd.DataFrame:
    """Daily columns as the reference script has them: returns are close to close, across holes too."""
    btc = bars[(bars["symbol"] == "BTC/USDT") & (bars["interval"] == "1h")].sort_values("ts")
    btc["r"] = np.log(btc["close"]).diff()
    btc["day"] = btc["ts"].dt.tz_localize(None).dt.floor("D")
    hour = btc["ts"].dt.hour
    for k in (1, 4, 8, 12):
        btc[f"rv_last_{k}h"] = np.where(hour >= 24 - k, btc["r"] ** 2, 0)
    btc["rv_d"] = btc["r"] ** 2
    btc["usd"] = btc["volume"] * btc["close"]
    days = btc.groupby("day").agg(
        bars=("r", "size"),
        rv_d=("rv_d", "sum"),
        return_d=("r", "sum"),
        usd=("usd", "sum"),
        high=("high", "max"),
        low=("low", "min"),
        **{f"rv_last_{k}h": (f"rv_last_{k}h", "sum") for k in (1, 4, 8, 12)},
    )
    days["high_low_range_d"] = np.log(days["high"] / days["low"])
    for window in (2, 5, 22, 66):
        days[f"rv_{window}d"] = days["rv_d"].rolling(window).mean()
    days["return_5d"] = days["return_d"].rolling(5).sum()
    log_volume = np.log(days["usd"])
    days["log_volume_ratio_22d"] = log_volume - log_volume.rolling(22).mean()
    return days.drop(columns=["usd", "high", "low"])


def test_columns_equal_the_reference_on_days_without_holes(
    bars: pd.DataFrame, features: pd.DataFrame
) -> None:
    reference = _reference(bars)
    whole = reference["bars"].rolling(67, min_periods=67).min() == 24  # one more: the first close
    assert whole.sum() > 100
    for column in reference.columns.drop("bars"):
        expected, found = reference.loc[whole, column], features[column].reindex(whole.index)[whole]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15, err_msg=column)


def test_holes_are_counted_and_the_day_counts_when_enough_is_there(
    bars: pd.DataFrame, features: pd.DataFrame
) -> None:
    reference = _reference(bars)["bars"].reindex(features.index)
    assert (reference < 24).any()
    assert (features["bars_used"] == reference).all()
    assert (features["bars_complete"] == (reference >= 0.8 * 24)).all()
