"""The made-up market of tests/ml with the realised measures beside it."""

from __future__ import annotations

import pandas as pd
import pytest

from ml.panel import Panel
from tests.ml.archive_frames import made_up_bars
from tests.ml.baselines.realised_frames import measured_frames


@pytest.fixture(scope="session")
def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """500 days of three coins; one day without bars; a fourth coin listed 60 days before the end."""
    bars = made_up_bars(("BTC", "ETH", "LTC", "NEW"))
    day = bars["ts"].dt.floor("D")
    listed = day.max() - pd.Timedelta(days=60)
    outage = day == pd.Timestamp("2021-09-10", tz="UTC")
    kept = ~outage & ((bars["asset"] != "NEW") | (day > listed))
    return measured_frames(bars[kept], "simulated")


@pytest.fixture(scope="session")
def panel(market: tuple[pd.DataFrame, pd.DataFrame]) -> Panel:
    return Panel.from_frames(*market)
