"""The SQL's numbers against plain Python, on days with holes, late, revised and 5-minute bars."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml import realized
from tests.transforms.conftest import Built
from tests.transforms.raw_market import ASSETS, EMPTY_DAY, THIN_FIVE_MINUTE_DAY
from tests.transforms.reference import Reference
from tests.transforms.warehouse import table

SAMPLE = (0, 4, 21, 53, 60, *range(THIN_FIVE_MINUTE_DAY, EMPTY_DAY + 4), 77)


@pytest.fixture(scope="module")
def daily(built: Built) -> pd.DataFrame:
    frame = table(built.path, "features.daily")
    frame["as_of"] = frame["as_of"].dt.date
    return frame.set_index(["asset", "as_of"])


@pytest.mark.parametrize("asset", ASSETS)
def test_price_features_equal_the_reference(built: Built, daily: pd.DataFrame, asset: str) -> None:
    reference = Reference(built.frames["ohlcv"])
    compared = 0
    for number in SAMPLE:
        as_of = built.first + timedelta(days=number)
        for column, expected in reference.price_features(asset, as_of).items():
            found = daily.loc[(asset, as_of), column]
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-14, nan_ok=True), (
                f"{asset} {as_of} {column}: {found}, expected {expected}"
            )
            compared += not np.isnan(expected)
    assert compared > 25 * len(SAMPLE)


def test_market_terms_are_means_over_the_coins_whose_day_is_complete(daily: pd.DataFrame) -> None:
    last = daily.index.get_level_values("as_of").max()
    logs = []
    for lag in range(5):
        rows = daily.xs(last - timedelta(days=lag), level="as_of")
        logs.append(np.log(rows["rv_d"][rows["bars_complete"]]).mean())
    for asset in ASSETS:
        row = daily.loc[(asset, last)]
        assert row["market_log_rv_d"] == pytest.approx(logs[0])
        assert row["market_log_rv_5d"] == pytest.approx(np.mean(logs))
        assert row["btc_rv_5d"] == daily.loc[("BTC", last), "rv_5d"]


def test_the_calendar_describes_the_days_that_a_forecast_covers(daily: pd.DataFrame) -> None:
    row = daily.loc[("BTC", date(2024, 1, 5))]  # a Friday
    assert row["target_weekday"] == 5
    assert row["target_weekend_share_5"] == pytest.approx(2 / 5)
    assert row["target_weekend_share_22"] == pytest.approx(7 / 22)  # 6 to 27 January


def test_funding_is_a_mean_over_venues_per_eight_hours(built: Built, daily: pd.DataFrame) -> None:
    as_of = built.first + timedelta(days=50)
    decision = pd.Timestamp(as_of, tz="UTC") + pd.Timedelta(days=1, minutes=30)
    rates = built.frames["funding_rates"]
    rates = rates[(rates["asset"] == "BTC") & (rates["known_at"] <= decision)]
    rates = rates[~rates["symbol"].str.contains("interest_8h")]
    rates = rates[rates["ts"].dt.date == as_of]
    venues = (rates["rate"] * 8 / rates["interval_hours"]).groupby(rates["venue"]).mean()
    row = daily.loc[("BTC", as_of)]
    assert row["funding_rate_d"] == pytest.approx(venues.mean())
    assert row["funding_dispersion_d"] == pytest.approx(venues.std())
    assert row["funding_venues"] == 2


def test_chain_changes_compare_the_newest_known_day_with_seven_days_before_it(
    built: Built, daily: pd.DataFrame
) -> None:
    as_of = built.first + timedelta(days=60)
    decision = pd.Timestamp(as_of, tz="UTC") + pd.Timedelta(days=1, minutes=30)
    rows = built.frames["onchain_metrics"]
    rows = rows[(rows["metric"] == "TxGrowth") & (rows["known_at"] <= decision)]
    values = rows.sort_values("known_at").groupby("ts")["value"].last()
    newest = values.index.max()
    row = daily.loc[("ETH", as_of)]
    expected = np.log(values[newest] / values.get(newest - pd.Timedelta(days=7), np.nan))
    assert row["transactions_change_7d"] == pytest.approx(expected, nan_ok=True)
    age = (decision - newest - pd.Timedelta(days=1)) / pd.Timedelta(days=1)
    assert row["onchain_age_days"] == pytest.approx(age)


def test_hours_carry_five_minute_variance_where_there_are_bars(built: Built) -> None:
    hours = table(built.path, "features.hourly", "asset = 'BTC'").set_index("ts")
    bars = built.frames["ohlcv"]
    fine = bars[(bars["interval"] == "5m")].set_index("ts").sort_index()
    hour = hours[hours["bars"] == 12].index[30]
    inside = fine[hour : hour + pd.Timedelta(minutes=55)]
    start = fine["close"].reindex(inside.index - pd.Timedelta(minutes=5)).to_numpy()
    returns = realized.log_returns(inside["close"], inside["open"], start)
    assert hours.loc[hour, "realized_variance"] == pytest.approx(np.sum(returns**2))
    plain = hours[hours["bars"] == 1]
    assert np.allclose(plain["realized_variance"], plain["log_return"] ** 2)


def test_hourly_volume_is_measured_against_the_week_before(built: Built) -> None:
    hours = table(built.path, "features.hourly", "asset = 'ADA'").set_index("ts")
    bars = built.frames["ohlcv"]
    ada = bars[bars["symbol"] == "ADA/USDT"].drop_duplicates("ts").set_index("ts").sort_index()
    log_volume = np.log(ada["volume"] * ada["close"])
    at = pd.Timestamp(built.first, tz="UTC") + pd.Timedelta(days=40, hours=5)
    week = log_volume[at - pd.Timedelta(hours=168) : at - pd.Timedelta(hours=1)]
    assert hours.loc[at, "log_volume_ratio"] == pytest.approx(log_volume[at] - week.mean())
    assert hours["log_volume_ratio"].iloc[:134].isna().all()
