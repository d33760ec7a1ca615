"""A small made-up market as frames and as a panel, shared by the tests of the models."""

from __future__ import annotations

import pandas as pd
import pytest

from ml.panel import Panel
from tests.ml.archive_frames import made_up_bars
from tests.ml.baselines.realised_frames import hourly_frame, measured_frames


@pytest.fixture(scope="session")
def market() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Daily, realised and hourly: 500 days of three coins; one day without bars; a fourth coin listed 60 days before the end."""
    bars = made_up_bars(("BTC", "ETH", "LTC", "NEW"))
    day = bars["ts"].dt.floor("D")
    listed = day.max() - pd.Timedelta(days=60)
    outage = day == pd.Timestamp("2021-09-10", tz="UTC")
    kept = ~outage & ((bars["asset"] != "NEW") | (day > listed))
    kept_bars = bars[kept]
    return *measured_frames(kept_bars, "simulated"), hourly_frame(kept_bars, "simulated")


@pytest.fixture(scope="session")
def panel(market: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> Panel:
    return Panel.from_frames(*market)
