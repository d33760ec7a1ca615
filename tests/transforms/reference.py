"""features.daily's price columns, computed in plain Python from raw bars: slow, obvious, and without a line of SQL.

In: the raw ohlcv frame. Out: one dict for an asset and as_of. Written from the definitions in the columns' descriptions, with the
measures of ml.realized. Never: reads the warehouse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from ml import realized

OFFSET = pd.Timedelta(minutes=30)
NEEDED = {2: 1, 5: 3, 22: 18, 66: 53}


@dataclass(frozen=True)
class Day:
    """The chosen bars of one day as known at one as_of, in order, with the close each return starts from."""

    interval: str
    bars: pd.DataFrame
    starts: np.ndarray

    @property
    def complete(self) -> bool:
        return len(self.bars) >= 0.8 * {"5m": 288, "1h": 24}[self.interval]

    @property
    def returns(self) -> np.ndarray:
        return realized.log_returns(self.bars["close"], self.bars["open"], self.starts)

    @property
    def ohlc(self) -> tuple[float, float, float, float]:
        bars = self.bars
        return (bars["open"].iloc[0], bars["high"].max(), bars["low"].min(), bars["close"].iloc[-1])

    @property
    def overnight(self) -> float:
        first = self.bars["ts"].iloc[0]
        start = self.starts[0] if first == first.normalize() else np.nan
        return 0.0 if np.isnan(start) else float(np.log(self.bars["open"].iloc[0] / start))

    @property
    def quote_volume(self) -> float:
        return float(self.bars["quote_volume"].sum())


class Reference:
    """Price features of one market."""

    def __init__(self, ohlcv: pd.DataFrame) -> None:
        bars = ohlcv.copy()
        bars["asset"] = bars["symbol"].str.split("/").str[0]
        bars["quote_volume"] = bars["quote_volume"].fillna(bars["volume"] * bars["close"])
        bars["end"] = bars["ts"] + pd.to_timedelta(bars["interval"].map({"5m": 5, "1h": 60}), "min")
        self._bars = bars

    def known(self, asset: str, as_of: date) -> pd.DataFrame:
        """Every bar of the asset as it was known at the decision time, newest version of each."""
        decision = pd.Timestamp(as_of, tz="UTC") + pd.Timedelta(days=1) + OFFSET
        bars = self._bars[(self._bars["asset"] == asset) & (self._bars["known_at"] <= decision)]
        key = ["venue", "interval", "ts"]
        return bars.sort_values("known_at").drop_duplicates(key, keep="last").sort_values("ts")

    @staticmethod
    def day(known: pd.DataFrame, number: date) -> Day | None:
        """One day of the known bars: complete before not, 5 minutes before hours, then the fullest, then the largest."""
        start = pd.Timestamp(number, tz="UTC")
        inside = known[(known["ts"] >= start) & (known["ts"] < start + pd.Timedelta(days=1))]
        choices = []
        for (venue, interval), bars in inside.groupby(["venue", "interval"]):
            share = len(bars) / {"5m": 288, "1h": 24}[interval]
            complete = share >= 0.8
            rank = (complete, complete and interval == "5m", share, bars["quote_volume"].sum())
            choices.append((rank, venue, interval, bars))
        if not choices:
            return None
        _, venue, interval, bars = max(choices, key=lambda choice: choice[0])
        own = known[known["venue"] == venue]
        closes = own[own["interval"] == interval].set_index("end")["close"]
        other = own[own["interval"] != interval].set_index("end")["close"]
        starts = closes.reindex(bars["ts"]).to_numpy(copy=True)
        if bars["ts"].iloc[0] == start and np.isnan(starts[0]):
            starts[0] = other.get(start, np.nan)
        return Day(interval, bars, starts)

    def price_features(self, asset: str, as_of: date) -> dict[str, float]:
        """Numbers of features.daily by column; NaN where the SQL has NULL."""
        known = self.known(asset, as_of)
        days = {lag: self.day(known, as_of - timedelta(days=lag)) for lag in range(66)}
        complete = {lag: day for lag, day in days.items() if day is not None and day.complete}
        values: dict[str, float] = {"bars_used": len(days[0].bars) if days[0] else 0}
        fresh = [lag for lag in sorted(complete) if lag <= 3]
        if fresh:
            values |= _day_features(complete[fresh[0]], fresh[0])
            values |= _spread(complete, fresh[0])
        values |= _window_features(complete)
        if fresh and not np.isnan(values["mean_log_volume"]):
            volume = np.log(complete[fresh[0]].quote_volume)
            values["log_volume_ratio_22d"] = volume - values["mean_log_volume"]
        del values["mean_log_volume"]
        return values


def _day_features(day: Day, age: int) -> dict[str, float]:
    r, (open_, high, low, close) = day.returns, day.ohlc
    negative, positive = realized.semivariances(r)
    hours = day.bars["ts"].dt.hour.to_numpy()
    return {
        "price_age_days": age,
        "close": close,
        "return_d": r.sum(),
        "abs_return_d": abs(r.sum()),
        "rv_d": float(realized.realized_variance(r)),
        "bipower_d": float(realized.bipower_variation(r)),
        "jump_d": float(realized.jump_variation(r)),
        "quarticity_d": float(realized.realized_quarticity(r)),
        "semivariance_neg_d": float(negative),
        "semivariance_pos_d": float(positive),
        "parkinson_d": float(realized.parkinson(high, low)),
        "garman_klass_d": float(realized.garman_klass(open_, high, low, close)),
        "rogers_satchell_d": float(realized.rogers_satchell(open_, high, low, close)),
        "high_low_range_d": np.log(high / low),
        "quote_volume_d": day.quote_volume,
        **{f"rv_last_{k}h": (r[hours >= 24 - k] ** 2).sum() for k in (1, 4, 8, 12)},
    }


def _spread(complete: dict[int, Day], lag: int) -> dict[str, float]:
    if lag + 1 not in complete:
        return {}
    pair = np.array([complete[lag + 1].ohlc, complete[lag].ohlc])
    return {"corwin_schultz_d": float(realized.corwin_schultz(pair[:, 1], pair[:, 2], pair[:, 3]))}


def _window_features(complete: dict[int, Day]) -> dict[str, float]:
    values = {}
    for length, needed in NEEDED.items():
        days = [complete[lag] for lag in range(length - 1, -1, -1) if lag in complete]
        enough = len(days) >= needed
        variances = [float(realized.realized_variance(day.returns)) for day in days]
        values[f"rv_{length}d"] = float(np.mean(variances)) if enough else np.nan
        if length in (5, 22):
            total = sum(day.returns.sum() for day in days)
            values[f"return_{length}d"] = total if enough else np.nan
        if length == 22:
            r = [day.returns.sum() for day in days]
            volume = [day.quote_volume for day in days]
            prices = np.array([day.ohlc for day in days]).reshape(-1, 4).T
            overnight = [day.overnight for day in days]
            values["amihud_22d"] = float(realized.amihud(r, volume)) if enough else np.nan
            values["mean_log_volume"] = float(np.mean(np.log(volume))) if enough else np.nan
            values["yang_zhang_22d"] = (
                float(realized.yang_zhang(*prices, overnight=overnight)) if enough else np.nan
            )
    return values
