"""Eighty days of made-up raw rows with everything that real data does wrong, as frames by raw table.

In: a seed. Out: frames with the columns of orchestration/sources/schema.py. Holes, late and revised rows, a second venue, days of
5-minute bars of which one is too thin, providers that publish late, repeat or fall silent. Never: writes to a database.
"""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd

from orchestration.sources.schema import TABLES

ASSETS = ("ADA", "BTC", "ETH")
FIRST_DAY = date(2024, 1, 1)
DAYS = 80
FIVE_MINUTE_DAYS = range(60, 72)
THIN_FIVE_MINUTE_DAY = 65
LATE_DAY, REVISED_DAY, EMPTY_DAY, KRAKEN_DAY = 66, 67, 68, 69
"""Days (from FIRST_DAY) on which ADA's bars come late, are revised, never come, and on which only Kraken has ETH."""

Frames = dict[str, pd.DataFrame]


def day(number: int) -> pd.Timestamp:
    """Midnight at the start of a day, counted from FIRST_DAY."""
    return pd.Timestamp(FIRST_DAY, tz="UTC") + pd.Timedelta(days=number)


LATE_BOOKS = day(66) + pd.Timedelta(hours=13)
"""An hour of which every order-book snapshot comes a day late."""


def raw_market(seed: int = 11) -> Frames:
    """Frames by unqualified table name."""
    rng = np.random.default_rng(seed)
    frames = {
        "ohlcv": _bars(rng),
        "funding_rates": _funding(rng),
        "open_interest": _open_interest(rng),
        "implied_volatility": _implied_volatility(rng),
        "onchain_metrics": _onchain(rng),
        "sentiment_metrics": _sentiment(rng),
        "headlines": _headlines(),
        "order_books": _order_books(rng),
    }
    for name, frame in frames.items():
        frame["source"] = "simulated"
        for column in TABLES[name].columns:
            if column not in frame:
                frame[column] = np.nan
        frames[name] = frame[list(TABLES[name].columns)]
    return frames


def _path(rng: np.random.Generator, length: int, interval: str, start: float) -> pd.DataFrame:
    """Bars of a random walk whose first open is ``start``."""
    minutes = {"5m": 5, "1h": 60}[interval]
    scale = 0.006 * np.sqrt(minutes / 60)
    moves = rng.standard_t(4, length) * scale
    gaps = rng.normal(0, scale / 10, length)
    close = start * np.exp(np.cumsum(moves + gaps))
    open_ = np.concatenate([[start], close[:-1]]) * np.exp(gaps)
    wick = np.abs(rng.normal(0, scale, (2, length)))
    return pd.DataFrame(
        {
            "interval": interval,
            "minutes": minutes,
            "open": open_,
            "high": np.maximum(open_, close) * np.exp(wick[0]),
            "low": np.minimum(open_, close) * np.exp(-wick[1]),
            "close": close,
            "volume": rng.lognormal(5, 0.5, length),
        }
    )


def _bars(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for asset, price in zip(ASSETS, (0.5, 40_000.0, 2_500.0), strict=True):
        bars = _path(rng, DAYS * 24, "1h", price)
        bars["ts"] = pd.date_range(day(0), periods=len(bars), freq="1h")
        bars["venue"], bars["asset"] = "binance", asset
        parts.append(bars)
    kraken = parts[-1].copy()
    kraken["venue"] = "kraken"
    kraken[["open", "high", "low", "close"]] *= 1.001
    kraken["volume"] *= 3
    kraken = kraken[rng.random(len(kraken)) > 0.1]  # more volume, fewer bars
    number = (parts[-1]["ts"] - day(0)).dt.days
    parts[-1] = parts[-1][number != KRAKEN_DAY]
    fine = _path(rng, len(FIVE_MINUTE_DAYS) * 288, "5m", 41_000.0)
    fine["ts"] = pd.date_range(day(FIVE_MINUTE_DAYS.start), periods=len(fine), freq="5min")
    fine["venue"], fine["asset"] = "binance", "BTC"
    thin = ((fine["ts"] - day(0)).dt.days == THIN_FIVE_MINUTE_DAY) & (rng.random(len(fine)) < 0.4)
    bars = pd.concat([*parts, kraken, fine[~thin]], ignore_index=True)
    bars = bars[rng.random(len(bars)) > 0.004].reset_index(drop=True)  # holes
    bars["symbol"] = bars["asset"] + "/USDT"
    bars["quote_volume"] = np.where(
        bars["venue"] == "kraken", bars["volume"] * bars["close"], np.nan
    )
    length = pd.to_timedelta(bars["minutes"], unit="m")
    bars["known_at"] = bars["ts"] + length + pd.Timedelta(seconds=20)
    number = (bars["ts"] - day(0)).dt.days
    ada = bars["asset"] == "ADA"
    bars = bars[~(ada & (number == EMPTY_DAY))]
    late = ada & (number == LATE_DAY) & (bars["ts"].dt.hour >= 12)
    bars.loc[late[bars.index], "known_at"] += pd.Timedelta(days=2)
    revised = bars[(ada & (number == REVISED_DAY))[bars.index]].copy()
    revised[["open", "high", "low", "close"]] *= 1.02
    revised["known_at"] += pd.Timedelta(days=3)
    return pd.concat([bars, revised], ignore_index=True)


def _funding(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for venue, symbol, hours in (
        ("binanceusdm", "BTC/USDT:USDT", 8),
        ("dydx", "BTC-USD", 1),
        ("deribit", "BTC-PERPETUAL(interest_8h)", 8),
        ("binanceusdm", "ETH/USDT:USDT", 8),
    ):
        ts = pd.date_range(day(0), day(DAYS), freq=f"{hours}h", inclusive="left")
        rates = pd.DataFrame({"ts": ts, "rate": rng.normal(1e-4, 1e-4, len(ts)) * hours / 8})
        rates["venue"], rates["symbol"], rates["interval_hours"] = venue, symbol, float(hours)
        rates["asset"] = symbol[:3]
        rates["known_at"] = ts + pd.Timedelta(minutes=1)
        parts.append(rates[rng.random(len(rates)) > 0.05])
    rates = pd.concat(parts, ignore_index=True)
    late = rng.random(len(rates)) < 0.05
    rates.loc[late, "known_at"] += pd.Timedelta(days=1.5)
    return rates[~((rates["asset"] == "ETH") & (rates["ts"] > day(62)))].reset_index(drop=True)


def _daily(
    rng: np.random.Generator, level: float, known_after: str, missing: float = 0.05
) -> pd.DataFrame:
    """A daily series stamped at the day's start, with holes, a few late and a few revised values."""
    ts = pd.date_range(day(0), periods=DAYS, freq="1D")
    values = pd.DataFrame({"ts": ts, "value": level * np.exp(np.cumsum(rng.normal(0, 0.05, DAYS)))})
    values["known_at"] = ts + pd.Timedelta(known_after)
    values = values[rng.random(DAYS) > missing]
    late = rng.random(len(values)) < 0.1
    values.loc[late, "known_at"] += pd.Timedelta(days=4)
    revised = values[rng.random(len(values)) < 0.1].copy()
    revised["value"] *= 1.1
    revised["known_at"] += pd.Timedelta(days=5)
    return pd.concat([values, revised], ignore_index=True)


def _open_interest(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for venue, symbol, level in (("a", "BTC-aggregate", 1e10), ("b", "BTCUSD_PERP", 1e9)):
        part = _daily(rng, level, "1 days 00:05:00").rename(columns={"value": "close"})
        part["venue"], part["symbol"], part["asset"] = venue, symbol, "BTC"
        part["resolution"] = "1d"
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _implied_volatility(rng: np.random.Generator) -> pd.DataFrame:
    ts = pd.date_range(day(0), day(DAYS), freq="1h", inclusive="left")
    hourly = pd.DataFrame({"ts": ts, "close": 60 * np.exp(np.cumsum(rng.normal(0, 0.01, len(ts))))})
    hourly["known_at"] = ts + pd.Timedelta(hours=1, minutes=1)
    late = rng.random(len(hourly)) < 0.05
    hourly.loc[late, "known_at"] += pd.Timedelta(days=1)
    hourly = hourly[(ts < day(64)) | (ts >= day(65))]
    hourly["resolution"], hourly["asset"] = "1h", "BTC"
    daily = _daily(rng, 70, "1 days 00:01:00").rename(columns={"value": "close"})
    daily["resolution"], daily["asset"] = "1d", "ETH"
    both = pd.concat([hourly, daily], ignore_index=True)
    both["venue"], both["symbol"] = "deribit", both["asset"] + "-DVOL"
    return both


def _onchain(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for provider, asset, metric, level, known_after in (
        ("coinmetrics_csv_2024-03-01", "BTC", "AdrActCnt", 9e5, "37h"),
        ("coinmetrics_csv_2024-03-01", "BTC", "TxCnt", 3e5, "37h"),
        ("coinmetrics_csv_2024-03-01", "BTC", "FeeTotNtv", 20, "37h"),
        ("coinmetrics_csv_2024-03-01", "BTC", "HashRate", 1e8, "30h"),
        ("coinmetrics_csv_2024-03-01", "BTC", "CapMVRVCur", 2, "30h"),
        ("coinmetrics", "BTC", "FlowInExUSD", 5e8, "30h"),
        ("coinmetrics", "BTC", "FlowOutExUSD", 5e8, "30h"),
        ("etherscan", "ETH", "TxGrowth", 1e6, "37h"),
        ("coinmetrics", "USDT", "SplyCur", 8e10, "37h"),
        ("coinmetrics", "USDC", "SplyCur", 3e10, "37h"),
        ("coinmetrics", "USDT_ETH", "SplyCur", 4e10, "37h"),
        ("defillama", "ALL_STABLES", "CirculatingUSD", 1.3e11, "12h"),
    ):
        part = _daily(rng, level, known_after)
        part["provider"], part["asset"], part["metric"] = provider, asset, metric
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _sentiment(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for provider, asset, metric, level, known_after in (
        ("alternative.me", "MARKET", "fear_greed", 30, "1h"),
        ("news", "MARKET", "market_news_positive_count", 10, "25h"),
        ("news", "MARKET", "market_news_neutral_count", 10, "25h"),
        ("news", "MARKET", "market_news_negative_count", 10, "25h"),
        ("vader", "MARKET", "headline_tone", 0.1, "24h"),
        ("vader", "MARKET", "headline_count", 20, "24h"),
        ("wikipedia", "BTC", "btc_wikipedia_pageviews", 3e3, "48h"),
        ("social", "ETH", "social_posts_created", 500, "36h"),
    ):
        part = _daily(rng, level, known_after, missing=0.1 if metric == "fear_greed" else 0.0)
        part["value"] = part["value"].clip(upper=99) if metric == "fear_greed" else part["value"]
        part["value"] = (
            part["value"].clip(upper=0.9) if metric == "headline_tone" else part["value"]
        )
        part["provider"], part["asset"], part["metric"] = provider, asset, metric
        parts.append(part)
    return pd.concat(parts, ignore_index=True).astype({"value": float})


def _headlines() -> pd.DataFrame:
    ts = pd.date_range(day(0), periods=DAYS, freq="1D") + pd.Timedelta(hours=9)
    frame = pd.DataFrame({"ts": ts, "known_at": ts + pd.Timedelta(minutes=5)})
    frame["publisher"], frame["title"] = "desk", "Bitcoin rallies"
    frame["id"] = [str(number) for number in range(len(frame))]
    return frame


def _order_books(rng: np.random.Generator) -> pd.DataFrame:
    """Three markets of two coins every 20 minutes of eight days, with holes, late and revised snapshots."""
    parts = []
    for venue, asset, price in (
        ("binance", "BTC", 40_000.0),
        ("okx", "BTC", 40_010.0),
        ("okx", "ETH", 2_500.0),
    ):
        ts = pd.date_range(day(64), day(72), freq="20min", inclusive="left")
        books = pd.DataFrame({"ts": ts, "known_at": ts + pd.Timedelta(seconds=2)})
        for side, sign in (("bids", -1), ("asks", 1)):
            steps = 1e-4 * sign * (0.5 + np.arange(12) * rng.uniform(2, 8, (len(ts), 1)))
            levels = np.stack([price * (1 + steps), rng.lognormal(0, 1, (len(ts), 12))], axis=-1)
            books[side] = [json.dumps(book) for book in levels.round(6).tolist()]
        books["venue"], books["asset"], books["symbol"] = venue, asset, f"{asset}/USDT"
        books = books[rng.random(len(books)) > 0.1]
        late = (rng.random(len(books)) < 0.1) | (books["ts"].dt.floor("h") == LATE_BOOKS)
        books.loc[late, "known_at"] += pd.Timedelta(hours=20)
        revised = books[rng.random(len(books)) < 0.05].copy()
        revised["bids"], revised["asks"] = "[[1.0, 1.0]]", "[[1.1, 1.0]]"
        revised["known_at"] += pd.Timedelta(hours=26)
        parts += [books, revised]
    return pd.concat(parts, ignore_index=True)
