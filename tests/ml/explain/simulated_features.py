"""The simulated market as a panel: prices, exchange flows as the on-chain modality, the spurious metric as a sentiment feature.

In: a seed. Out: a panel of six coins with what was known at each decision time, first releases only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd

from ml.panel import Panel
from orchestration.sources.simulated import SimulatedSource
from tests.ml.archive_frames import frames_from_bars

COINS = ("BTC", "ETH", "LTC", "XRP", "ADA", "SOL")
START, END = date(2022, 1, 1), date(2024, 6, 9)
DECISION = pd.Timedelta(minutes=30)
PLANTED, SPURIOUS, CLEAN = "exchange_netflow_ratio", "chatter_log", "coin_tosses"
FIELDS = {"onchain": (PLANTED,), "sentiment": (SPURIOUS, CLEAN)}


def simulated_panel(seed: int) -> Panel:
    """`coin_tosses` is noise without memory, another draw for each coin and day: unrelated to everything, and harmless."""
    source = SimulatedSource(seed, COINS, START, END, fine_from=END + timedelta(days=1))
    bars = _table(source, "ohlcv")
    bars = bars.assign(asset=bars["symbol"].str.split("/").str[0]).drop_duplicates(["asset", "ts"])
    daily, realized = frames_from_bars(bars, "simulated")
    truth, chain = source.truth(), _table(source, "onchain_metrics")
    inflow, outflow = (
        _as_first_known(chain[chain["metric"] == name]) for name in truth.planted_lead.metrics
    )
    flows = ((inflow - outflow) / (inflow + outflow)).stack().rename(PLANTED)
    metrics = _table(source, "sentiment_metrics")
    chatter = _as_first_known(metrics[metrics["metric"] == truth.spurious_metric]).iloc[:, 0]
    daily = daily.merge(flows.reset_index(), on=["as_of", "asset"], how="left")
    daily = daily.merge(np.log(chatter).rename(SPURIOUS).reset_index(), on="as_of", how="left")
    tosses = np.random.default_rng(seed).standard_normal(len(daily))
    ages = {"onchain_age_days": 1.02, "sentiment_age_days": 0.52}
    return Panel.from_frames(daily.assign(**ages, **{CLEAN: tosses}), realized)


def _table(source: SimulatedSource, name: str) -> pd.DataFrame:
    until = datetime(END.year, END.month, END.day, tzinfo=UTC) + timedelta(days=1)
    return pd.concat([part.to_pandas() for part in source.batches(name, None, until)])


def _as_first_known(rows: pd.DataFrame) -> pd.DataFrame:
    """(as_of, asset) values: the newest day whose first release was known at the decision time."""
    first = rows.sort_values("known_at").drop_duplicates(["asset", "ts"])
    known = pd.to_datetime(first["known_at"], utc=True) - DECISION - pd.Timedelta(microseconds=1)
    first = first.assign(as_of=known.dt.tz_localize(None).dt.floor("D"))
    newest = first.sort_values("ts").drop_duplicates(["asset", "as_of"], keep="last")
    return newest.pivot(index="as_of", columns="asset", values="value")
