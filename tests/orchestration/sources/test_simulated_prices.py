"""Bars of the simulated market: consistent across intervals, with the latent state, and with themselves."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from orchestration.sources.simulated import SimulatedSource

START = date(2022, 1, 1)
UNTIL = datetime(2022, 7, 1, 0, 1, tzinfo=UTC)  # the last bar of June is known, no later one


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource(7, ["BTC", "ETH", "XRP"], START, fine_from=date(2022, 3, 1))


@pytest.fixture(scope="module")
def bars(source: SimulatedSource, read) -> pd.DataFrame:
    return read(source, "ohlcv", None, UNTIL)


@pytest.fixture(scope="module")
def hourly(bars: pd.DataFrame) -> pd.DataFrame:
    frame = bars[bars["interval"] == "1h"].copy()
    frame["day"] = frame["ts"].dt.floor("D")
    frame["log_return"] = np.log(frame["close"] / frame["open"])
    return frame


def test_hourly_bars_are_the_sum_of_their_five_minute_bars(bars: pd.DataFrame) -> None:
    fine = bars[bars["interval"] == "5m"].sort_values("ts")
    assert set(fine["symbol"]) == {"BTC/USDT", "ETH/USDT"}
    assert fine["ts"].min() == pd.Timestamp("2022-03-01", tz="UTC")
    total = ["volume", "quote_volume", "trades", "taker_buy_volume"]
    made = fine.groupby(["symbol", fine["ts"].dt.floor("h")]).agg(
        {
            "open": "first",
            "high": "max",
            "low": "min",
            "close": "last",
            **dict.fromkeys(total, "sum"),
        }
    )
    coarse = bars[bars["interval"] == "1h"].set_index(["symbol", "ts"])
    there = coarse.index.intersection(made.index)
    assert len(there) == len(made)
    prices = ["open", "high", "low", "close"]
    pd.testing.assert_frame_equal(coarse.loc[there, prices], made.loc[there, prices])
    assert np.allclose(coarse.loc[there, total], made.loc[there, total], rtol=1e-12)


def test_bars_are_possible(bars: pd.DataFrame) -> None:
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["low"] > 0).all()
    assert (bars["taker_buy_volume"] <= bars["volume"]).all()
    assert (bars["trades"] >= 1).all()
    mean_price = bars["quote_volume"] / bars["volume"]
    assert (mean_price <= bars["high"] * (1 + 1e-6)).all()
    assert (mean_price >= bars["low"] * (1 - 1e-6)).all()


def test_a_bar_opens_where_the_last_one_closed(hourly: pd.DataFrame) -> None:
    for _, frame in hourly.sort_values("ts").groupby("symbol"):
        follows = frame["ts"].diff() == pd.Timedelta(hours=1)
        gap = (frame["open"] / frame["close"].shift() - 1.0)[follows]
        assert gap.abs().max() < 1e-5


def test_realised_variance_estimates_the_latent_one(
    source: SimulatedSource, hourly: pd.DataFrame
) -> None:
    realised = hourly.groupby(["symbol", "day"])["log_return"].apply(lambda r: (r**2).sum())
    count = hourly.groupby(["symbol", "day"]).size()
    days = sorted(hourly["day"].dt.date.unique())
    truth = source.latent_variance(days)
    for asset, frame in truth.groupby("asset"):
        whole = (count[f"{asset}/USDT"] == 24).to_numpy()
        ratio = realised[f"{asset}/USDT"].to_numpy() / frame["quadratic_variance"].to_numpy()
        assert abs(ratio[whole].mean() - 1.0) < 0.08
        log_truth = np.log(frame["quadratic_variance"].to_numpy())[whole]
        log_realised = np.log(realised[f"{asset}/USDT"].to_numpy())[whole]
        assert np.corrcoef(log_truth, log_realised)[0, 1] > 0.75


def test_finer_bars_estimate_better(source: SimulatedSource, bars: pd.DataFrame) -> None:
    chosen = bars[(bars["symbol"] == "BTC/USDT") & (bars["ts"] >= "2022-03-01")]
    returns = np.log(chosen["close"] / chosen["open"]) ** 2
    realised = returns.groupby([chosen["interval"], chosen["ts"].dt.floor("D")]).sum()
    days = [stamp.date() for stamp in realised["5m"].index]
    truth = source.latent_variance(days).query("asset == 'BTC'")["quadratic_variance"].to_numpy()
    error = {name: np.std(np.log(realised[name].to_numpy() / truth)) for name in ("1h", "5m")}
    assert error["5m"] < 0.5 * error["1h"]


def test_the_daily_return_is_the_latent_one(source: SimulatedSource, hourly: pd.DataFrame) -> None:
    ordered = hourly[hourly["symbol"] == "BTC/USDT"].sort_values("ts")
    days = ordered.groupby("day").agg(
        opened=("open", "first"), closed=("close", "last"), bars=("ts", "size")
    )
    truth = source.latent_variance([stamp.date() for stamp in days.index]).query("asset == 'BTC'")
    whole = (days["bars"] == 24).to_numpy()
    made = np.log(days["closed"] / days["opened"]).to_numpy()
    assert np.allclose(made[whole], truth["log_return"].to_numpy()[whole], atol=2e-6)


def test_us_hours_are_the_busiest_and_asian_night_the_quietest(hourly: pd.DataFrame) -> None:
    by_hour = (hourly["log_return"] ** 2).groupby(hourly["ts"].dt.hour).mean()
    assert by_hour[[14, 15, 16, 17]].mean() > 1.3 * by_hour[[3, 4, 5, 6]].mean()


def test_volume_rises_with_volatility(hourly: pd.DataFrame) -> None:
    bitcoin = hourly[hourly["symbol"] == "BTC/USDT"].groupby("day")
    volume = np.log(bitcoin["quote_volume"].sum())
    variance = np.log(bitcoin["log_return"].apply(lambda r: (r**2).sum()))
    assert volume.corr(variance) > 0.4


def test_extremes_are_those_of_a_path_not_of_its_ends(hourly: pd.DataFrame) -> None:
    parkinson = np.log(hourly["high"] / hourly["low"]) ** 2 / (4.0 * np.log(2.0))
    assert 0.85 < parkinson.mean() / (hourly["log_return"] ** 2).mean() < 1.1
