"""Plausible frames of every table, made up from one seed, and a decision time that suits them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ASSETS = ("BTC", "ETH", "ADA")
START = pd.Timestamp("2023-03-01", tz="UTC")
DAYS = 12
NOW = datetime(2023, 3, 13, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def archive() -> Path:
    """Folder of the real archive, or a skip."""
    folder = os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not folder:
        pytest.skip("VOLCAST_TEST_ARCHIVE is not set: no real archive to test on")
    return Path(folder)


def ohlcv(days: int = DAYS, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hours = pd.date_range(START, periods=24 * days, freq="h")
    frames = []
    for asset, price in zip(ASSETS, (23_000.0, 1_600.0, 0.35), strict=True):
        close = price * np.exp(np.cumsum(rng.normal(0, 0.006, len(hours))))
        opened = np.concatenate([[price], close[:-1]])
        high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.002, len(hours))))
        low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.002, len(hours))))
        volume = np.exp(rng.normal(6, 0.5, len(hours)))
        frames.append(
            pd.DataFrame(
                {
                    "venue": "binance",
                    "symbol": f"{asset}/USDT",
                    "interval": "1h",
                    "ts": hours,
                    "open": opened,
                    "high": high,
                    "low": low,
                    "close": close,
                    "volume": volume,
                    "quote_volume": volume * close,
                    "trades": np.nan,
                    "taker_buy_volume": np.nan,
                    "known_at": hours + pd.Timedelta(hours=1),
                    "source": "simulated",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def funding_rates(seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    for venue, hours in (("binanceusdm", 8), ("bybit", 8), ("dydx", 1)):
        times = pd.date_range(START, periods=DAYS * 24 // hours, freq=f"{hours}h")
        frames += [
            pd.DataFrame(
                {
                    "venue": venue,
                    "symbol": f"{asset}/USDT:USDT",
                    "asset": asset,
                    "ts": times,
                    "rate": rng.normal(0.0001, 0.0001, len(times)) * hours / 8,
                    "interval_hours": float(hours),
                    "known_at": times,
                    "source": "simulated",
                }
            )
            for asset in ASSETS[:2]
        ]
    return pd.concat(frames, ignore_index=True)


def _daily(delay_hours: float, days: int = DAYS) -> pd.DataFrame:
    times = pd.date_range(START, periods=days, freq="D")
    return pd.DataFrame(
        {
            "ts": times,
            "known_at": times + pd.Timedelta(hours=delay_hours),
            "source": "simulated",
        }
    )


def open_interest(seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 1e9 * np.exp(np.cumsum(rng.normal(0, 0.02, DAYS)))
    return _daily(24).assign(
        venue="all",
        symbol="BTC-aggregate",
        asset="BTC",
        open=close * 0.99,
        high=close * 1.02,
        low=close * 0.97,
        close=close,
        resolution="1d",
    )


def implied_volatility(seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hours = pd.date_range(START, periods=24 * DAYS, freq="h")
    close = 60 * np.exp(np.cumsum(rng.normal(0, 0.003, len(hours))))
    return pd.DataFrame(
        {
            "venue": "deribit",
            "symbol": "BTC-DVOL",
            "asset": "BTC",
            "resolution": "1h",
            "ts": hours,
            "open": close,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "known_at": hours + pd.Timedelta(hours=1),
            "source": "simulated",
        }
    )


def onchain_metrics(seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    levels = {"AdrActCnt": 9e5, "HashRate": 3e8, "CapMVRVCur": 1.4, "FlowInExNtv": 4e4}
    frames = [
        _daily(29, DAYS - 1).assign(
            provider="coinmetrics",
            asset="BTC",
            metric=metric,
            value=level * np.exp(rng.normal(0, 0.05, DAYS - 1)),
        )
        for metric, level in levels.items()
    ]
    return pd.concat(frames, ignore_index=True)


def sentiment_metrics(seed: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    fear = _daily(1).assign(
        metric="fear_greed", value=rng.integers(20, 70, DAYS).astype(float), label="Fear"
    )
    news = _daily(25, DAYS - 1).assign(
        metric="market_news_positive_count",
        value=rng.poisson(9, DAYS - 1).astype(float),
        label=None,
    )
    return pd.concat([fear, news], ignore_index=True).assign(provider="news", asset="MARKET")


def headlines() -> pd.DataFrame:
    times = pd.date_range(START, periods=40, freq="7h")
    return pd.DataFrame(
        {
            "publisher": "CoinTelegraph",
            "id": [f"id-{i}" for i in range(40)],
            "ts": times,
            "title": [f"Bitcoin holds steady on day {i} of the rally" for i in range(40)],
            "url": [f"https://example.org/{i}" for i in range(40)],
            "known_at": times + pd.Timedelta(minutes=10),
            "source": "simulated",
        }
    )


def order_books(seed: int = 10) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    times = pd.date_range(NOW - pd.Timedelta(hours=10), NOW, freq="15min", inclusive="left")
    mids = 23_000 * np.exp(np.cumsum(rng.normal(0, 1e-4, len(times))))
    steps = 0.5 + np.arange(5)

    def side(sign: int) -> list[str]:
        amounts = rng.lognormal(size=(len(times), 5))
        return [
            json.dumps(np.stack([mid + sign * steps, row], axis=1).tolist())
            for mid, row in zip(mids, amounts, strict=True)
        ]

    return pd.DataFrame(
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "asset": "BTC",
            "ts": times,
            "bids": side(-1),
            "asks": side(1),
            "known_at": times + pd.Timedelta(seconds=1),
            "source": "live",
        }
    )


def features_daily(days: int = DAYS, seed: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    for asset in ASSETS:
        as_of = pd.date_range(START, periods=days, freq="D").tz_localize(None)
        variance = np.exp(rng.normal(np.log(0.001), 0.5, days))
        share = rng.uniform(0.3, 0.7, days)
        frames.append(
            pd.DataFrame(
                {
                    "source": "simulated",
                    "asset": asset,
                    "as_of": as_of.date,
                    "decision_time": (as_of + pd.Timedelta(hours=24.5)).tz_localize("UTC"),
                    "bar_interval": "1h",
                    "bars_expected": 24,
                    "bars_used": 24,
                    "bars_complete": True,
                    "close": 100.0,
                    "price_age_days": 0.0,
                    "price_missing": False,
                    "return_d": rng.normal(0, 0.03, days),
                    "rv_d": variance,
                    "semivariance_neg_d": variance * share,
                    "semivariance_pos_d": variance * (1 - share),
                    "rv_5d": variance,
                    "rv_22d": variance,
                    "target_weekday": (as_of.dayofweek + 1) % 7,
                    "funding_rate_d": rng.normal(1e-4, 1e-4, days),
                    "funding_age_days": 0.1,
                    "funding_missing": False,
                    "implied_volatility": rng.uniform(0.5, 0.7, days),
                    "implied_volatility_age_days": 0.0,
                    "implied_volatility_missing": False,
                    "open_interest": np.nan,
                    "open_interest_missing": True,
                    "fear_greed": rng.uniform(0.2, 0.8, days),
                    "onchain_age_days": 1.0,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def features_hourly(seed: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hours = pd.date_range(START, periods=24 * DAYS, freq="h")
    returns = rng.normal(0, 0.006, len(hours))
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "asset": asset,
                    "ts": hours,
                    "known_on": hours.tz_localize(None).date,
                    "source": "simulated",
                    "log_return": returns,
                    "realized_variance": returns**2,
                    "high_low_range": np.abs(returns) + 0.001,
                    "log_volume_ratio": rng.normal(0, 0.4, len(hours)),
                    "signed_volume_share": rng.uniform(-0.3, 0.3, len(hours)),
                    "bars": 1,
                }
            )
            for asset in ASSETS
        ],
        ignore_index=True,
    )


def features_realized(seed: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    days = pd.date_range(START, periods=DAYS, freq="D").tz_localize(None)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "asset": asset,
                    "day": days.date,
                    "known_on": days.date,
                    "source": "simulated",
                    "bar_interval": "1h",
                    "bars_used": 24,
                    "bars_expected": 24,
                    "complete": True,
                    "realized_variance": np.exp(rng.normal(-7, 0.5, DAYS)),
                    "return": rng.normal(0, 0.03, DAYS),
                    "close": 100.0,
                }
            )
            for asset in ASSETS
        ],
        ignore_index=True,
    )


CLEAN = {
    "raw.ohlcv": ohlcv,
    "raw.funding_rates": funding_rates,
    "raw.open_interest": open_interest,
    "raw.implied_volatility": implied_volatility,
    "raw.onchain_metrics": onchain_metrics,
    "raw.sentiment_metrics": sentiment_metrics,
    "raw.headlines": headlines,
    "raw.order_books": order_books,
    "features.daily": features_daily,
    "features.hourly": features_hourly,
    "features.realized": features_realized,
}
