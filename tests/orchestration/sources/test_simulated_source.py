"""The simulated market as a source: windows, determinism, lateness, revisions, holes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.sources.protocol import SourceError
from orchestration.sources.schema import TABLES
from orchestration.sources.simulated import SimulatedSource

FILLED = tuple(table for table in TABLES if table != "order_books")
"""Order books are captured live and nowhere else."""

START = date(2022, 1, 1)
FINE = date(2022, 2, 10)
UNTIL = datetime(2022, 3, 20, 0, 30, tzinfo=UTC)
DAY = pd.Timedelta(days=1)
HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource(7, ["BTC", "ETH", "XRP"], START, fine_from=FINE)


@pytest.fixture(scope="module")
def long_run() -> SimulatedSource:
    return SimulatedSource(7, ["BTC", "ETH"], START)


@pytest.mark.parametrize("table", FILLED)
def test_every_row_says_simulated_and_is_within_the_window(source, read, table: str) -> None:
    frame = read(source, table, None, UNTIL)
    assert len(frame)
    assert (frame["source"] == "simulated").all()
    assert (frame["known_at"] <= pd.Timestamp(UNTIL)).all()
    required = [name for name in TABLES[table].columns if name not in TABLES[table].nullable]
    assert frame[required].notna().all().all()
    key = [*TABLES[table].key, "known_at"]
    assert not frame.duplicated(key).any()


@pytest.mark.parametrize("table", FILLED)
def test_daily_windows_add_up_to_one_big_window(source, read, rows, table: str) -> None:
    edges = [datetime(2022, 1, 25, 0, 30, tzinfo=UTC) + timedelta(days=at) for at in range(25)]
    whole = read(source, table, None, edges[-1])
    parts = [read(source, table, None, edges[0])]
    parts += [read(source, table, after, until) for after, until in pairwise(edges)]
    assert np.array_equal(rows(*parts), rows(whole))


@settings(max_examples=10, deadline=None)
@given(minutes=st.lists(st.integers(0, 60 * 24 * 70), min_size=2, max_size=5, unique=True))
@pytest.mark.parametrize("table", ["ohlcv", "onchain_metrics", "sentiment_metrics"])
def test_any_windows_add_up(source, read, rows, table: str, minutes: list[int]) -> None:
    begin = datetime(2022, 1, 1, tzinfo=UTC)
    edges = [begin + timedelta(minutes=at) for at in sorted(minutes)]
    whole = read(source, table, edges[0], edges[-1])
    parts = [read(source, table, after, until) for after, until in pairwise(edges)]
    assert np.array_equal(rows(*parts), rows(whole))


def test_a_window_is_open_at_its_start_and_closed_at_its_end(source, read) -> None:
    edge = datetime(2022, 1, 5, 1, 1, tzinfo=UTC)  # the first bar of the day becomes known
    before = read(source, "ohlcv", edge - timedelta(hours=1), edge)
    assert set(before["known_at"]) == {pd.Timestamp(edge)}
    assert pd.Timestamp(edge) not in set(
        read(source, "ohlcv", edge, edge + timedelta(hours=1))["known_at"]
    )


@pytest.mark.parametrize("table", FILLED)
def test_the_past_does_not_depend_on_the_end_or_on_what_was_asked_before(
    source, read, table: str
) -> None:
    until = datetime(2022, 2, 20, 0, 30, tzinfo=UTC)
    ended = SimulatedSource(7, ["BTC", "ETH", "XRP"], START, end=date(2022, 3, 1), fine_from=FINE)
    asked = SimulatedSource(7, ["BTC", "ETH", "XRP"], START, fine_from=FINE)
    read(asked, table, datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 1, 2, tzinfo=UTC))
    expected = read(source, table, None, until)
    pd.testing.assert_frame_equal(read(ended, table, None, until), expected)
    pd.testing.assert_frame_equal(read(asked, table, None, until), expected)


@pytest.mark.parametrize("table", ["ohlcv", "funding_rates", "onchain_metrics"])
def test_a_coin_does_not_depend_on_the_other_coins(source, read, rows, table: str) -> None:
    alone = SimulatedSource(7, ["XRP"], START, fine_from=FINE)
    mine = read(alone, table, None, UNTIL)
    theirs = read(source, table, None, UNTIL)
    column = "symbol" if table == "ohlcv" else "asset"
    chosen = mine[column].str.startswith("XRP")
    assert chosen.any()
    assert np.array_equal(rows(mine[chosen]), rows(theirs[theirs[column].str.startswith("XRP")]))
    assert set(mine[column].str[:3]) - {"XRP", "BTC"} <= {"USD", "DAI", "ALL"}


def test_the_seed_decides_everything(read) -> None:
    first, again, other = (
        read(SimulatedSource(seed, ["BTC"], START), "ohlcv", None, UNTIL) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["close"], other["close"].head(len(first)).reindex(first.index))


def test_the_end_of_the_market_ends_the_data(read) -> None:
    source = SimulatedSource(7, ["BTC"], START, end=date(2022, 1, 31))
    late = datetime(2022, 12, 1, tzinfo=UTC)
    for table in FILLED:
        assert read(source, table, None, late)["ts"].max() < pd.Timestamp("2022-02-01", tz="UTC")
    assert len(read(source, "onchain_metrics", datetime(2022, 2, 5, tzinfo=UTC), late))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"assets": ["btc"]}, "ticker 'btc': expected upper-case"),
        ({"assets": []}, "without coins"),
        ({"assets": ["BTC", "BTC"]}, "each of them once"),
        ({"start": date(1969, 1, 1)}, "simulated start 1969-01-01"),
        ({"end": date(2021, 1, 1)}, "simulated end 2021-01-01: expected 2022-01-01"),
    ],
)
def test_impossible_markets_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        SimulatedSource(1, **arguments)


def test_hundreds_of_coins_are_one_market(read) -> None:
    source = SimulatedSource(7, [f"C{at}" for at in range(200)], START)
    frame = read(source, "ohlcv", None, datetime(2022, 1, 3, tzinfo=UTC))
    assert frame["symbol"].nunique() == 201  # Bitcoin is always there
    assert source.assets[0] == "C0"
    assert (frame["low"] > 0).all()


# -- late, revised, missing -----------------------------------------------------------------------


def test_nothing_is_known_before_it_happened(long_run, read) -> None:
    until = datetime(2022, 12, 31, tzinfo=UTC)
    bars = read(long_run, "ohlcv", None, until)
    assert (bars["known_at"] - bars["ts"] >= pd.Timedelta(minutes=61)).all()
    chain = read(long_run, "onchain_metrics", None, until)
    daily = chain[chain["provider"] == "coinmetrics"]
    delay = daily["known_at"] - daily["ts"]
    assert (delay > DAY).all()
    moods = read(long_run, "sentiment_metrics", None, until)
    delays = (moods["known_at"] - moods["ts"]).groupby(moods["metric"]).unique()
    assert delays["fear_greed"] == [HOUR]
    assert delays["market_news_positive_count"] == [25 * HOUR]
    assert delays["gdelt_S_gdelt_raw"] == [8 * DAY]
    assert delays["wikipedia_pageviews"] == [48 * HOUR]
    headlines = read(long_run, "headlines", None, until)
    assert ((headlines["known_at"] - headlines["ts"]) == pd.Timedelta(minutes=5)).all()
    assert headlines["id"].is_unique


def test_chain_metrics_come_around_five_and_mostly_before_one_pm(long_run, read) -> None:
    frame = read(long_run, "onchain_metrics", None, datetime(2023, 1, 1, tzinfo=UTC))
    delay = (frame["known_at"] - frame["ts"] - DAY)[frame["metric"] == "TxCnt"] / HOUR
    assert 4.5 < delay.median() < 5.7
    assert delay.min() >= 3
    assert 0 < (delay > 13).mean() < 0.03  # a day that takes a day longer, now and then


def test_exchange_flows_are_revised_a_week_later(long_run, read) -> None:
    frame = read(long_run, "onchain_metrics", None, datetime(2023, 1, 1, tzinfo=UTC))
    flows = frame[frame["metric"] == "FlowInExUSD"].sort_values("known_at")
    versions = flows.groupby(["asset", "ts"])
    twice = versions.filter(lambda group: len(group) == 2).groupby(["asset", "ts"])
    gap = twice["known_at"].last() - twice["known_at"].first()
    assert set(gap) == {pd.Timedelta(days=long_run.truth().flow_revision_days)}
    change = np.log(twice["value"].last() / twice["value"].first())
    expected = long_run.truth().flow_first_release_noise / np.sqrt(2.0)
    assert abs(change.std() / expected - 1.0) < 0.15
    counts = frame[frame["metric"] == "TxCnt"]
    assert not counts.duplicated(["asset", "ts"]).any()


def test_some_days_and_bars_never_come_and_some_bars_come_late(long_run, read) -> None:
    until = datetime(2023, 12, 31, tzinfo=UTC)
    bars = read(long_run, "ohlcv", None, until)
    hourly = bars[(bars["interval"] == "1h") & (bars["symbol"] == "BTC/USDT")]
    per_day = hourly.groupby(hourly["ts"].dt.floor("D")).size()
    assert 1 <= (per_day < 24).sum() <= 20
    late = hourly[hourly["known_at"] - hourly["ts"] > pd.Timedelta(minutes=61)]
    assert len(late)
    assert (late["known_at"] - late["ts"]).max() < 2 * DAY
    whole = pd.date_range("2022-01-02", "2023-12-25", tz="UTC")
    chain = read(long_run, "onchain_metrics", None, until)
    counted = chain[(chain["metric"] == "TxCnt") & (chain["asset"] == "BTC")]["ts"]
    assert 1 <= len(whole.difference(pd.DatetimeIndex(counted))) <= 20
    moods = read(long_run, "sentiment_metrics", None, until)
    fear = moods[moods["metric"] == "fear_greed"]["ts"]
    assert 1 <= len(whole.difference(pd.DatetimeIndex(fear))) <= 12
    funding = read(long_run, "funding_rates", None, until)
    days = funding.groupby("venue")["ts"].apply(lambda ts: ts.dt.floor("D").nunique())
    assert days.min() < days.max()


def test_a_day_of_the_newest_data_needs_no_history_of_bars(long_run, read) -> None:
    long_run.latent_variance([date(2024, 6, 30)])
    begun = datetime.now(tz=UTC)
    for table in FILLED:
        read(
            long_run,
            table,
            datetime(2024, 6, 29, 0, 30, tzinfo=UTC),
            datetime(2024, 6, 30, 0, 30, tzinfo=UTC),
        )
    assert datetime.now(tz=UTC) - begun < timedelta(seconds=5)
