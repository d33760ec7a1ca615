"""Nothing that became known after a decision time moves a feature of it; late and revised rows show when they came."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.transforms.conftest import Built
from tests.transforms.raw_market import (
    ASSETS,
    EMPTY_DAY,
    FIVE_MINUTE_DAYS,
    KRAKEN_DAY,
    LATE_DAY,
    REVISED_DAY,
    THIN_FIVE_MINUTE_DAY,
    Frames,
)
from tests.transforms.warehouse import connect, dbt, differences, store, table

POISON_AFTER = 68


def _poison(frames: Frames, decision: pd.Timestamp) -> Frames:
    """Every value that became known after the decision is replaced, and every other such row is withheld."""
    poisoned = {}
    for name, frame in frames.items():
        frame = frame.copy()
        future = frame["known_at"] > decision
        for column in frame.select_dtypes("number"):
            frame.loc[future, column] = frame.loc[future, column] * 3 + 1
        if name == "ohlcv":  # still bars: low <= open, close <= high
            frame.loc[future, "high"] *= 2
        if name == "order_books":
            frame.loc[future, ["bids", "asks"]] = ["[[7.0, 1.0]]", "[[8.0, 1.0]]"]
        keep = ~future | (np.arange(len(frame)) % 2 == 0)
        poisoned[name] = frame[keep]
    return poisoned


@pytest.fixture(scope="module")
def poisoned(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("poisoned") / "poisoned.duckdb"
    as_of = built.first + timedelta(days=POISON_AFTER)
    decision = pd.Timestamp(as_of, tz="UTC") + pd.Timedelta(days=1, minutes=30)
    store(path, _poison(built.frames, decision))
    dbt(path, ("run", built.first, built.last))
    return path, as_of.isoformat()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("features.daily", "as_of"),
        ("features.realized", "known_on"),
        ("features.hourly", "known_on"),
        ("features.order_book", "known_on"),
        ("features.funding_venues", "as_of"),
    ],
)
def test_rows_known_after_the_decision_change_no_number_before_it(
    built: Built, poisoned: tuple[Path, str], name: str, column: str
) -> None:
    path, as_of = poisoned
    assert differences(built.path, path, name, f"{column} <= DATE '{as_of}'") == (0, 0)
    assert differences(built.path, path, name, f"{column} > DATE '{as_of}'") != (0, 0)


def _daily(built: Built, asset: str, number: int) -> pd.Series:
    as_of = built.first + timedelta(days=number)
    rows = table(built.path, "features.daily", f"asset = '{asset}' AND as_of = DATE '{as_of}'")
    assert len(rows) == 1
    return rows.iloc[0]


def _versions(built: Built, asset: str, number: int) -> pd.DataFrame:
    day = built.first + timedelta(days=number)
    rows = table(built.path, "features.realized", f"asset = '{asset}' AND day = DATE '{day}'")
    rows["delay"] = (rows["known_on"] - rows["day"]).dt.days
    return rows.set_index("delay").sort_index()


def test_an_incomplete_day_is_flagged_and_the_day_before_speaks(built: Built) -> None:
    row, before = _daily(built, "ADA", LATE_DAY), _daily(built, "ADA", LATE_DAY - 1)
    assert not row["bars_complete"]
    assert row["bars_used"] <= 12
    assert row["bars_expected"] == 24
    assert row["price_age_days"] == 1
    assert not row["price_missing"]
    assert row["rv_d"] == before["rv_d"]


def test_late_bars_complete_their_day_on_the_as_of_on_which_they_came(built: Built) -> None:
    versions = _versions(built, "ADA", LATE_DAY)
    assert versions["complete"].tolist() == [False, True]
    assert versions.index.tolist() == [0, 2]


def test_a_revision_is_read_from_its_as_of_on_and_not_before(built: Built) -> None:
    versions = _versions(built, "ADA", REVISED_DAY)
    # 1: the late close at which the day's first return starts; 3: the revision
    assert versions.index.tolist() == [0, 1, 3]
    assert versions.loc[3, "close"] == pytest.approx(1.02 * versions.loc[0, "close"])
    first = _daily(built, "ADA", REVISED_DAY)
    assert first["close"] == versions.loc[0, "close"]
    after = _daily(built, "ADA", REVISED_DAY + 3)
    assert after["return_5d"] != pytest.approx(first["return_5d"])


def test_late_hours_say_when_they_came_and_revised_ones_stay_as_first_known(built: Built) -> None:
    hours = table(built.path, "features.hourly", "asset = 'ADA'")
    number = (hours["ts"] - pd.Timestamp(built.first, tz="UTC")).dt.days
    delay = (hours["known_on"] - hours["ts"].dt.tz_localize(None).dt.normalize()).dt.days
    afternoon = hours["ts"].dt.hour >= 12
    assert set(delay[(number == LATE_DAY) & afternoon]) == {2}
    assert set(delay[(number == LATE_DAY) & ~afternoon]) == {0}
    assert set(delay[number == REVISED_DAY]) == {0}
    assert not hours.duplicated(["asset", "ts"]).any()


def test_a_day_without_bars_keeps_its_row(built: Built) -> None:
    row = _daily(built, "ADA", EMPTY_DAY)
    assert row["bars_used"] == 0
    assert not row["bars_complete"]
    assert row["price_age_days"] == 1
    assert row["source"] == "simulated"


def test_every_coin_has_a_row_for_every_as_of(built: Built) -> None:
    counts = table(built.path, "features.daily").groupby("asset")["as_of"].nunique()
    assert counts.to_dict() == dict.fromkeys(ASSETS, (built.last - built.first).days + 1)


def test_five_minute_bars_are_used_where_enough_of_them_are_there(built: Built) -> None:
    intervals = {n: _daily(built, "BTC", n)["bar_interval"] for n in FIVE_MINUTE_DAYS}
    assert {n for n, interval in intervals.items() if interval == "1h"} == {THIN_FIVE_MINUTE_DAY}


def test_the_only_venue_of_a_day_speaks_for_it(built: Built) -> None:
    day = built.first + timedelta(days=KRAKEN_DAY)
    with connect(built.path) as connection:
        found = connection.execute(
            "SELECT venue, count(*), max(day = ?) FROM intermediate.int_realized_daily "
            "WHERE asset = 'ETH' AND known_on = day GROUP BY ALL ORDER BY ALL",
            [day],
        ).fetchall()
    (binance, binance_days, its_day), (kraken, kraken_days, his_day) = found
    assert (binance, its_day, kraken, his_day) == ("binance", False, "kraken", True)
    assert binance_days > 10 * kraken_days  # Kraken trades more, but has fewer bars


def test_a_modality_that_fell_silent_is_missing_after_its_limit_and_ages(built: Built) -> None:
    rows = table(built.path, "features.daily", "asset = 'ETH' AND as_of >= DATE '2024-03-03'")
    assert rows["funding_missing"].tolist() == [False] * 4 + [True] * (len(rows) - 4)
    assert rows["funding_rate_d"].isna().tolist() == rows["funding_missing"].tolist()
    assert np.allclose(np.diff(rows["funding_age_days"]), 1)


def test_venues_agree_with_the_mean_over_them_and_a_silent_one_has_no_row(built: Built) -> None:
    rows = table(built.path, "features.funding_venues")
    daily = table(built.path, "features.daily").set_index(["asset", "as_of"])
    by_day = rows.groupby(["asset", "as_of"])
    fresh = by_day.filter(lambda day: day["funding_age_days"].max() < 1)  # all of the as_of day
    means = fresh.groupby(["asset", "as_of"])["funding_rate_d"].mean()
    assert len(means) > 100
    assert by_day["venue"].nunique().max() == 2  # Deribit's rolling figure is no venue's rate
    np.testing.assert_allclose(means, daily.loc[means.index, "funding_rate_d"], rtol=1e-9)
    np.testing.assert_allclose(by_day["funding_deviation_d"].median(), 0, atol=1e-12)
    silent = daily["funding_missing"]
    assert not silent.loc[by_day.size().index].any()
    assert rows["funding_age_days"].between(0, 4.1).all()


def test_every_modality_that_is_there_names_its_providers(built: Built) -> None:
    rows = table(built.path, "features.daily")
    for modality, known in {
        "open_interest": {"a", "b"},
        "implied_volatility": {"deribit"},
        "onchain": {"coinmetrics", "etherscan"},
        "stablecoin": {"coinmetrics", "defillama"},
        "sentiment": {"alternative.me", "news", "vader", "wikipedia", "social"},
        "order_book": {"binance", "okx"},
    }.items():
        named = rows[f"{modality}_provider"].notna()
        np.testing.assert_array_equal(named, ~rows[f"{modality}_missing"], err_msg=modality)
        names = {n for text in rows[f"{modality}_provider"].dropna() for n in text.split("+")}
        assert names
        assert names <= known


def test_a_days_books_are_those_known_by_its_decision_time(built: Built) -> None:
    rows = table(built.path, "features.daily", "asset = 'BTC' AND book_spread_bps_d IS NOT NULL")
    hours = table(built.path, "features.order_book", "asset = 'BTC'")
    hours["day"] = hours["ts"].dt.tz_localize(None).dt.normalize()
    on_time = hours[pd.to_datetime(hours["known_on"]) == hours["day"]].groupby("day")
    rows = rows.set_index(pd.to_datetime(rows["as_of"]))
    shared = rows.index.intersection(on_time.size().index)
    assert len(shared) == 8
    # the mean of hourly means and the mean over the day's snapshots differ by holes alone
    np.testing.assert_allclose(
        rows.loc[shared, "book_spread_bps_d"], on_time["spread_bps"].mean().loc[shared], rtol=0.05
    )
    assert rows.loc[shared, "order_book_age_days"].between(0, 1).all()
    after = table(built.path, "features.daily", "asset = 'BTC' AND as_of > DATE '2024-03-15'")
    assert after["order_book_missing"].all()


def test_ages_are_never_negative_and_onchain_lags_by_more_than_a_day(built: Built) -> None:
    rows = table(built.path, "features.daily", "asset = 'BTC' AND as_of >= DATE '2024-01-05'")
    ages = rows[[column for column in rows if column.endswith("_age_days")]]
    assert (ages.min() >= 0).all()
    assert rows["onchain_age_days"].min() > 1
