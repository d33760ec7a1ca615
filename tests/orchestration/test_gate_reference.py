"""The gate of bars gives the same verdict, row for row, whether its reference is a frame or stays in the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from orchestration.gate_reference import StoredReference
from orchestration.sources.schema import TABLES
from quality import SUITES, validate
from tests.quality.plausible_frames import ohlcv

SUITE = SUITES["raw.ohlcv"]
DAYS = 40
LAST = pd.Timestamp("2023-03-01", tz="UTC") + pd.Timedelta(days=DAYS - 1)
"""The judged day's midnight; the 39 before it are the reference."""


def market(fault: str) -> pd.DataFrame:
    """Forty days of three coins with one fault that is only seen beside the days before, or none."""
    bars = ohlcv(days=DAYS)
    first = (bars["ts"] == LAST) & (bars["symbol"] == "BTC/USDT")
    before = (bars["ts"] == LAST - pd.Timedelta(hours=1)) & (bars["symbol"] == "BTC/USDT")
    day = bars["ts"] >= LAST
    prices = ["open", "high", "low", "close"]
    if fault == "fat finger in the first bar":
        bars.loc[first, ["high", "close"]] *= 12.0
    elif fault == "a leap that the first bar undoes":
        bars.loc[before, prices] *= 12.0  # its open too: only the bar before it tells
    elif fault == "a leap that stays":
        bars.loc[day & (bars["symbol"] == "BTC/USDT"), prices] *= 12.0
    elif fault == "other units":
        bars.loc[day, prices] *= 100.0
        bars.loc[day, "volume"] /= 100.0
    elif fault == "another scale of ranges":
        bars.loc[day, "high"] *= 1.2
    elif fault == "revisions of old bars":
        old = bars[bars["ts"].between(LAST - pd.Timedelta(days=20), LAST - pd.Timedelta(days=19))]
        bars = pd.concat([bars, old.assign(close=old["close"] * 1.0001, known_at=LAST + pd.Timedelta(hours=5))])  # fmt: skip
    elif fault == "many versions of the last bars":
        last = bars[bars["ts"].between(LAST - pd.Timedelta(hours=3), LAST, inclusive="left")]
        versions = [
            last.assign(known_at=last["known_at"] + pd.Timedelta(seconds=n)) for n in range(1, 8)
        ]
        bars = pd.concat([bars, *versions])
        bars.loc[first, ["high", "close"]] *= 12.0
    elif fault == "a gap before the day":
        gap = bars["ts"].between(LAST - pd.Timedelta(days=9), LAST, inclusive="left")
        bars = bars[~(gap & (bars["symbol"] == "BTC/USDT"))]
        bars.loc[bars["symbol"].eq("BTC/USDT") & (bars["ts"] == LAST), ["high", "close"]] *= 12.0
    elif fault == "zeros":
        bars.loc[bars["ts"] < LAST, "volume"] = np.where(np.arange((bars["ts"] < LAST).sum()) % 3, bars.loc[bars["ts"] < LAST, "volume"], 0.0)  # fmt: skip
    return bars.reset_index(drop=True)


FAULTS = [
    "none",
    "fat finger in the first bar",
    "a leap that the first bar undoes",
    "a leap that stays",
    "other units",
    "another scale of ranges",
    "revisions of old bars",
    "many versions of the last bars",
    "a gap before the day",
    "zeros",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_verdict_is_the_same_row_for_row(fault: str) -> None:
    bars = market(fault)
    judged = bars["known_at"] > LAST
    frame, earlier = bars[judged].reset_index(drop=True), bars[~judged].reset_index(drop=True)
    now = (LAST + pd.Timedelta(days=1, minutes=30)).to_pydatetime()
    plain = validate("raw.ohlcv", frame, reference=earlier, now=now)
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA raw")
        connection.register("bars", bars)
        connection.execute("CREATE TABLE raw.ohlcv AS FROM bars")
        after = datetime(2022, 1, 1, tzinfo=UTC)
        stored = StoredReference(connection, TABLES["ohlcv"], SUITE.columns, after, LAST.to_pydatetime(), "true")  # fmt: skip
        assert len(stored) == len(earlier)
        beside = stored.beside(frame, ["symbol", "ts"], ["venue", "symbol", "interval"])
        ours = validate("raw.ohlcv", frame, reference=stored, now=now)
    assert ours == plain
    if fault not in ("none", "zeros", "revisions of old bars"):
        assert plain.failures != []
    if fault == "none":
        assert len(beside) == 9  # three coins, three bars each, of 2,808
    assert now - LAST > timedelta(days=1)
