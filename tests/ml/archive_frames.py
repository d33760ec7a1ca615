"""Feature frames straight from hourly bars, of the archive or made up, for tests of the models alone.

In: hourly bars. Out: features.daily and features.realized in the contract's columns, as far as the classical models
read them. Never: used outside tests; the product's features come from the dbt project.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

COINS = ("BTC", "ETH", "BNB", "LTC", "ADA", "XRP", "EOS", "XLM", "TRX", "ETC")
MIN_BARS = 20  # of 24: the days that the reference figures were made from
MAX_AGE_DAYS = 3


def archive_frames(
    folder: Path, coins: tuple[str, ...] = COINS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(features.daily, features.realized) from the archive's 1h bars."""
    bars = pd.read_parquet(
        folder / "ohlcv" / "1h.parquet", columns=["symbol", "ts", "high", "low", "close", "volume"]
    )
    bars["asset"] = bars["symbol"].str.split("/").str[0]
    return frames_from_bars(bars[bars["asset"].isin(coins)], "archive")


def made_up_bars(
    coins: tuple[str, ...] = ("BTC", "ETH", "LTC"), days: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Hourly bars of a market with persistent volatility, a weekly cycle and a common factor."""
    generator = np.random.default_rng(seed)
    hours = pd.date_range("2021-01-04", periods=24 * days, freq="h", tz="UTC")
    state, daily = 0.0, np.empty(days)
    for day in range(days):
        state = 0.95 * state + 0.25 * generator.standard_normal()
        daily[day] = state - (0.6 if day % 7 >= 5 else 0.0)
    frames = []
    for number, coin in enumerate(coins):
        own = daily + 0.2 * generator.standard_normal(days)
        sigma = np.repeat(0.006 * (1 + 0.2 * number) * np.exp(0.5 * own), 24)
        close = 100.0 * np.exp(np.cumsum(sigma * generator.standard_t(5, 24 * days) * 0.77))
        spread = np.abs(generator.standard_normal((2, 24 * days))) * sigma
        volume = np.exp(generator.normal(5, 0.3, 24 * days)) * sigma / 0.006
        frames.append(
            pd.DataFrame(
                {
                    "asset": coin,
                    "ts": hours,
                    "high": close * np.exp(spread[0]),
                    "low": close * np.exp(-spread[1]),
                    "close": close,
                    "volume": volume,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def frames_from_bars(bars: pd.DataFrame, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A day with fewer than 20 bars is incomplete: its row repeats the newest complete day, up to 3 days old."""
    days = _complete_days(bars)
    wide = {
        name: days.pivot(index="day", columns="asset", values=name).asfreq("D")
        for name in days.columns.difference(["asset", "day"])
    }
    age = _days_since(wide["rv"].notna())
    newest = {
        name: values.ffill(limit=MAX_AGE_DAYS).where(age <= MAX_AGE_DAYS)
        for name, values in wide.items()
    }
    log_rv = np.log(newest["rv"])
    log_volume = np.log(wide["usd"])
    market = log_rv.mean(axis=1)
    columns = {
        "price_age_days": age.astype(float),
        "close": newest["close"],
        "return_d": newest["ret"],
        "rv_d": newest["rv"],
        "high_low_range_d": np.log(newest["high"] / newest["low"]),
        **{f"rv_last_{k}h": newest[f"last{k}"] for k in (1, 4, 8, 12)},
        **{f"rv_{k}d": _mean_of_known(wide["rv"], k) for k in (2, 5, 22, 66)},
        "return_5d": wide["ret"].rolling(5, min_periods=4).sum(),
        "log_volume_ratio_22d": np.log(newest["usd"])
        - log_volume.rolling(22, min_periods=18).mean(),
        "market_log_rv_d": _same(market, log_rv),
        "market_log_rv_5d": _same(market.rolling(5, min_periods=4).mean(), log_rv),
        "btc_rv_d": _same(newest["rv"]["BTC"], log_rv),
        "btc_rv_5d": _same(_mean_of_known(wide["rv"], 5)["BTC"], log_rv),
        "btc_return_d": _same(newest["ret"]["BTC"], log_rv),
        "target_weekday": _same(
            pd.Series((log_rv.index.dayofweek + 1) % 7, log_rv.index, dtype=float), log_rv
        ),
    }
    daily = pd.concat(
        {name: frame.stack(future_stack=True) for name, frame in columns.items()}, axis=1
    ).reset_index()
    daily = daily.rename(columns={"day": "as_of"})
    daily.insert(0, "source", source)
    realized = days.rename(columns={"rv": "realized_variance", "ret": "return"})
    realized = realized[["asset", "day", "realized_variance", "return", "close"]].assign(
        known_on=realized["day"], complete=True, source=source
    )
    return daily, realized


def _complete_days(hourly: pd.DataFrame) -> pd.DataFrame:
    bars = hourly.sort_values(["asset", "ts"])
    bars["ret"] = np.log(bars["close"]).groupby(bars["asset"]).diff()
    bars["rv"], bars["usd"] = bars["ret"] ** 2, bars["volume"] * bars["close"]
    bars["day"] = bars["ts"].dt.tz_localize(None).dt.floor("D")
    for hours in (1, 4, 8, 12):
        bars[f"last{hours}"] = bars["rv"].where(bars["ts"].dt.hour >= 24 - hours, 0.0)
    sums = ["ret", "rv", "usd", "last1", "last4", "last8", "last12"]
    grouped = bars.groupby(["asset", "day"])
    days = (
        grouped[sums]
        .sum()
        .join(
            grouped.agg(
                bars=("ret", "size"),
                high=("high", "max"),
                low=("low", "min"),
                close=("close", "last"),
            )
        )
    )
    days = days[(days["bars"] >= MIN_BARS) & (days["rv"] > 0)]
    return days.reset_index()


def _mean_of_known(values: pd.DataFrame, days: int) -> pd.DataFrame:
    return values.rolling(days, min_periods=int(np.ceil(0.8 * days))).mean()


def _same(series: pd.Series, like: pd.DataFrame) -> pd.DataFrame:
    """One series for every asset."""
    return pd.DataFrame(dict.fromkeys(like.columns, series)).rename_axis(
        index="day", columns="asset"
    )


def _days_since(known: pd.DataFrame) -> pd.DataFrame:
    row = np.arange(len(known))[:, None]
    last = np.maximum.accumulate(np.where(known, row, -10_000), axis=0)
    return pd.DataFrame(row - last, known.index, known.columns)
