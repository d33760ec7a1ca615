"""The realised measures that `tests.ml.archive_frames` leaves out: jumps, quarticity, semivariances.

In: hourly bars and the features.daily rows made of them. Out: the same rows with more columns of the contract.
Never: used outside tests and benchmarks; the product's features come from the dbt project.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ml.realized import MU_1
from tests.ml.archive_frames import COINS, MAX_AGE_DAYS, MIN_BARS, frames_from_bars

MEASURES = ("bipower_d", "jump_d", "quarticity_d", "semivariance_neg_d", "semivariance_pos_d")


def archive_bars(folder: Path, coins: tuple[str, ...] = COINS) -> pd.DataFrame:
    """The archive's 1h bars of some coins."""
    bars = pd.read_parquet(
        folder / "ohlcv" / "1h.parquet", columns=["symbol", "ts", "high", "low", "close", "volume"]
    )
    bars["asset"] = bars["symbol"].str.split("/").str[0]
    return bars[bars["asset"].isin(coins)]


def measured_frames(bars: pd.DataFrame, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(features.daily, features.realized) with the realised measures."""
    daily, realized = frames_from_bars(bars, source)
    return with_measures(daily, bars), realized


def hourly_frame(bars: pd.DataFrame, source: str) -> pd.DataFrame:
    """features.hourly: each hour known on its own day; the volume ratio is to the mean log volume of the week before."""
    ordered = bars.sort_values(["asset", "ts"])
    coin = ordered["asset"]
    log_return = np.log(ordered["close"]).groupby(coin).diff()
    log_volume = np.log((ordered["volume"] * ordered["close"]).where(lambda usd: usd > 0))
    week_before = log_volume.groupby(coin).transform(
        lambda own: own.shift().rolling(168, min_periods=135).mean()
    )
    return pd.DataFrame(
        {
            "source": source,
            "asset": coin,
            "ts": ordered["ts"],
            "known_on": ordered["ts"].dt.tz_localize(None).dt.floor("D"),
            "log_return": log_return,
            "realized_variance": log_return**2,
            "high_low_range": np.log(ordered["high"] / ordered["low"]),
            "log_volume_ratio": log_volume - week_before,
            "bars": 1,
        }
    )


def with_measures(daily: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """`daily` with `MEASURES` and bars_expected; a stale row repeats the newest complete day, up to 3 days old."""
    measures = _of_complete_days(bars).reset_index().rename(columns={"day": "as_of"})
    measures["as_of"] = measures["as_of"].astype(daily["as_of"].dtype)
    joined = daily.merge(measures, on=["asset", "as_of"], how="left").sort_values(
        ["asset", "as_of"]
    )
    filled = joined.groupby("asset")[list(MEASURES)].ffill(limit=MAX_AGE_DAYS)
    fresh = (joined["price_age_days"] <= MAX_AGE_DAYS).to_numpy()
    joined[list(MEASURES)] = np.where(fresh[:, None], filled, np.nan)
    joined["bars_expected"] = 24.0
    return joined.reset_index(drop=True)


def _of_complete_days(hourly: pd.DataFrame) -> pd.DataFrame:
    bars = hourly.sort_values(["asset", "ts"])
    bars = bars.assign(
        r=np.log(bars["close"]).groupby(bars["asset"]).diff(),
        day=bars["ts"].dt.tz_localize(None).dt.floor("D"),
    )
    previous = bars["r"].abs().groupby([bars["asset"], bars["day"]]).shift()
    bars = bars.assign(
        rv=bars["r"] ** 2,
        product=bars["r"].abs() * previous,
        fourth=bars["r"] ** 4,
        down=bars["r"].clip(upper=0) ** 2,
        up=bars["r"].clip(lower=0) ** 2,
    )
    grouped = bars.groupby(["asset", "day"])
    sums, count = grouped[["rv", "product", "fourth", "down", "up"]].sum(), grouped["r"].size()
    bipower = MU_1**-2 * count / (count - 1) * sums["product"]
    found = pd.DataFrame(
        {
            "bipower_d": bipower,
            "jump_d": (sums["rv"] - bipower).clip(lower=0),
            "quarticity_d": count / 3 * sums["fourth"],
            "semivariance_neg_d": sums["down"],
            "semivariance_pos_d": sums["up"],
        }
    )
    return found[(count >= MIN_BARS) & (sums["rv"] > 0)]
