"""Faults of a whole day of a market, as a daily run meets them. Out: ``FAULTS``; ``make(frame)`` changes a file's rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd

from tests.bad_data.corpus import GateCloses, GateWarns, MarketFault, Outcome
from tests.bad_data.market import LAST

DAY = datetime.combine(LAST, time(), UTC)
"""The day that is judged."""
PRICES = ["open", "high", "low", "close"]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def bars(name: str, outcome: Outcome, change: Change) -> MarketFault:
    return MarketFault(name, "whole days", outcome, "ohlcv/1h", change)


def of(frame: pd.DataFrame, coin: str, start: datetime = DAY) -> pd.Series:
    return (frame["symbol"] == f"{coin}/USDT") & (frame["ts"] >= start)


def frozen(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[of(frame, "ETH"), [*PRICES, "volume"]] = 2300.0
    return frame


def without(coin: str, start: datetime, keep: int = 0) -> Change:
    """All but the last ``keep`` bars of a coin from ``start`` on are gone."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        gone = frame.index[of(frame, coin, start)]
        return frame.drop(gone[: len(gone) - keep]).reset_index(drop=True)

    return change


def dead(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["ts"] < DAY - timedelta(days=3)]


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[of(frame, "SOL", DAY - timedelta(days=1)), "symbol"] = "NEWSOL/USDT"
    return frame


def times(factor: float, start: datetime, hours: int, columns: list[str] | None = None) -> Change:
    """BTC's bars are multiplied for some hours."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        rows = of(frame, "BTC", start) & (frame["ts"] < start + timedelta(hours=hours))
        frame.loc[rows, columns or PRICES] *= factor
        return frame

    return change


def summer_time(frame: pd.DataFrame) -> pd.DataFrame:
    """From 02:00 on the clock of the exporter is an hour ahead; its last bar would be of the future."""
    late = frame["ts"] >= DAY + timedelta(hours=2)
    frame.loc[late, "ts"] += timedelta(hours=1)
    return frame


def holes(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[of(frame, "BTC"), "close"] = np.nan
    return frame


def percent(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[frame["ts"] >= DAY, "rate"] *= 100
    return frame


FAULTS = [
    bars("frozen prices", GateWarns("bars_do_not_repeat"), frozen),
    bars("a day with three bars", GateWarns("no_bars_are_missing"), without("ETH", DAY, keep=3)),
    bars("a coin without bars for a day", GateCloses("no_coin_is_gone"), without("ETH", DAY - timedelta(hours=1))),
    bars("days without any bar", GateCloses("frame_has_rows"), dead),
    bars("a symbol renamed, as MATIC to POL", GateCloses("no_coin_is_gone"), renamed),
    bars("a ticker used again for another coin, as LUNA", GateWarns("no_unconfirmed_leap"), times(1e4, DAY + timedelta(hours=12), 24)),
    bars("a fat finger in the first bar of a day", GateCloses("no_fat_finger"), times(10, DAY, 1)),
    bars("a fat finger in the last bar of a day", GateWarns("no_unconfirmed_leap"), times(10, DAY + timedelta(hours=23), 1)),
    bars("a fat finger in the last bar of the day before", GateCloses("no_fat_finger"), times(10, DAY - timedelta(hours=1), 1)),
    bars("volume from coins to contracts", GateWarns("volumes_keep_their_unit"), times(1000, DAY, 24, ["volume"])),
    bars("the hour that summer time leaves out", GateWarns("no_bars_are_missing"), summer_time),
    bars("more than 5 % of a day's bars refused", GateCloses("quarantined_share"), holes),
    MarketFault("funding from decimals to percent", "whole days", GateCloses("quarantined_share"), "funding/rates", percent),
]  # fmt: skip
