"""Gates of what live sources bring: order books, 1-minute bars, running funding rates, tones."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from orchestration.sources.schema import TABLES
from quality import CRITICAL, SUITES, WARNING, validate
from tests.quality.plausible_frames import (
    NOW,
    START,
    funding_rates,
    order_books,
    sentiment_metrics,
)
from tests.quality.test_gates import result


def _book(**sides: str) -> pd.DataFrame:
    frame = order_books()
    for column, text in sides.items():
        frame.loc[3, column] = text
    return frame


@pytest.mark.parametrize(
    ("sides", "expectation"),
    [
        ({"bids": "[[22999.5, 1"}, "bids_are_levels"),
        ({"bids": "[]"}, "bids_are_levels"),
        ({"asks": '{"12": 1}'}, "asks_are_levels"),
        ({"asks": "[23001, 23002]"}, "asks_are_levels"),
        ({"asks": "[[23001.0]]"}, "asks_are_levels"),
        ({"asks": '["12", "34"]'}, "asks_are_levels"),
        ({"bids": "[[22999.5, 0]]"}, "bids_are_levels"),
        ({"bids": "[[-1, 2]]"}, "bids_are_levels"),
        ({"bids": "[[22999.5, NaN]]"}, "bids_are_levels"),
        ({"asks": "[[23001.0, Infinity]]"}, "asks_are_levels"),
        ({"asks": "[[23001.0, null]]"}, "asks_are_levels"),
        ({"asks": f"[[{10**400}, 1]]"}, "asks_are_levels"),
        ({"bids": "[[22898, 1], [22899, 1]]"}, "bids_fall"),
        ({"bids": "[[22899, 1], [22899, 2]]"}, "bids_fall"),
        ({"asks": "[[23102, 1], [23101, 1]]"}, "asks_rise"),
        ({"bids": "[[23105, 1]]", "asks": "[[23104, 1]]"}, "book_is_not_crossed"),
        ({"bids": "[[23104, 1]]", "asks": "[[23104, 1]]"}, "book_is_not_crossed"),
    ],
)
def test_a_row_that_is_no_book_is_quarantined_alone(
    sides: dict[str, str], expectation: str
) -> None:
    verdict = validate("raw.order_books", _book(**sides), now=NOW)
    assert [(r.expectation, r.severity, r.failing_rows) for r in verdict.failures] == [
        (expectation, CRITICAL, [3])
    ]
    assert verdict.only_rows_failed


def test_numbers_in_quotes_and_more_behind_price_and_amount_are_a_book() -> None:
    frame = _book(bids='[["22000.5", "1e-3", "7"], [22000, 2, 3]]')
    assert validate("raw.order_books", frame, now=NOW).failures == []


def test_old_books_warn_and_stop_nothing() -> None:
    verdict = validate("raw.order_books", order_books(), now=NOW + pd.Timedelta(hours=3))
    assert verdict.passed
    found = result(verdict, "order_books_are_fresh")
    assert (found.success, found.severity) == (False, WARNING)


def test_a_day_of_deep_books_is_judged_in_seconds() -> None:
    levels = np.stack([23_000 + np.arange(400.0), np.ones(400)], axis=1)
    frame = pd.concat([order_books()] * 50, ignore_index=True)
    frame["ts"] = pd.date_range(START, periods=len(frame), freq="7min")
    frame["known_at"] = frame["ts"] + pd.Timedelta(seconds=1)
    frame["asks"] = json.dumps(levels.tolist())
    frame["bids"] = json.dumps((levels[::-1] - [500, 0]).tolist())
    started = time.perf_counter()
    assert validate("raw.order_books", frame).failures == []
    assert time.perf_counter() - started < 10


def _minutes(days: int = 2) -> pd.DataFrame:
    times = pd.date_range(NOW - pd.Timedelta(days=days), NOW, freq="min", inclusive="left")
    close = 23_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 5e-4, len(times))))
    return pd.DataFrame(
        {
            "venue": "binance",
            "symbol": "BTC/USDT",
            "interval": "1m",
            "ts": times,
            "open": close,
            "high": close * 1.0005,
            "low": close * 0.9995,
            "close": close,
            "volume": np.arange(1.0, len(times) + 1),
            "known_at": times + pd.Timedelta(minutes=1),
            "source": "live",
        }
    )


def test_one_minute_bars_are_sound() -> None:
    frame = _minutes()
    frame.loc[frame.index[-1], "known_at"] = NOW
    assert validate("raw.ohlcv", frame, now=NOW).failures == []


def test_a_minute_is_closed_sixty_seconds_after_its_open() -> None:
    frame = _minutes()
    frame.loc[7, "known_at"] -= pd.Timedelta(seconds=30)
    found = result(validate("raw.ohlcv", frame, now=NOW), "bar_is_closed_when_known")
    assert found.failing_rows == [7]


def test_missing_minutes_are_counted_in_minutes() -> None:
    frame = _minutes()
    verdict = validate("raw.ohlcv", frame.drop(index=range(100, 130)), now=NOW)
    assert "BTC/USDT 1m: 30 of 2880" in result(verdict, "no_bars_are_missing").observed
    thin = _minutes(3).drop(index=range(1500, 2600))
    assert "1m" in result(validate("raw.ohlcv", thin, now=NOW), "days_are_filled").observed


def test_other_lengths_are_quarantined() -> None:
    frame = _minutes()
    frame.loc[4, "interval"] = "3m"
    found = result(validate("raw.ohlcv", frame, now=NOW), "interval_is_known")
    assert (found.severity, found.failing_rows) == (CRITICAL, [4])


def _running(every: str, until: pd.Timestamp, rate: float = 0.0001) -> pd.DataFrame:
    times = pd.date_range(START, until, freq=every)
    return pd.DataFrame(
        {
            "venue": "binanceusdm",
            "symbol": "BTC/USDT:USDT(current)",
            "asset": "BTC",
            "ts": times,
            "rate": rate,
            "interval_hours": 8.0,
            "known_at": times,
            "source": "live",
        }
    )


def test_running_rates_are_no_settlements() -> None:
    newest = pd.Timestamp(NOW)
    sparse = pd.concat([funding_rates(), _running("5D", newest, 0.005)], ignore_index=True)
    verdict = validate("raw.funding_rates", sparse, reference=sparse, now=NOW)
    assert verdict.failures == []  # neither gaps of 5 days nor a rate 50 times the settled ones
    settled = funding_rates()
    gap = settled[(settled["ts"] < "2023-03-04") | (settled["ts"] >= "2023-03-09")]
    both = pd.concat([gap, _running("15min", newest)], ignore_index=True)
    alone, beside = (validate("raw.funding_rates", frame, now=NOW) for frame in (gap, both))
    for expectation in ("no_settlements_are_missing", "funding_is_fresh", "venues_agree"):
        assert result(beside, expectation).observed == result(alone, expectation).observed
    assert not result(beside, "no_settlements_are_missing").success


def test_running_rates_do_not_hide_that_settlements_stopped() -> None:
    settled = funding_rates()
    old = settled[settled["ts"] < "2023-03-10"]
    frame = pd.concat([old, _running("15min", pd.Timestamp(NOW))], ignore_index=True)
    assert not result(validate("raw.funding_rates", frame, now=NOW), "funding_is_fresh").success
    only = validate("raw.funding_rates", _running("15min", pd.Timestamp(NOW)), now=NOW)
    assert result(only, "funding_is_fresh").observed == "not checked: no settlement"


def test_an_impossible_running_rate_is_quarantined_like_any_other() -> None:
    frame = _running("8h", pd.Timestamp(NOW))
    frame.loc[2, "rate"] = 0.3
    assert result(validate("raw.funding_rates", frame, now=NOW), "rate_in_range").failing_rows == [
        2
    ]


@pytest.mark.parametrize(
    ("metric", "sound", "unsound", "expectation"),
    [
        ("gdelt_tone", -99.0, -101.0, "gdelt_tone_in_range"),
        ("gdelt_tone", 31.0, 100.5, "gdelt_tone_in_range"),
        ("headline_tone", -1.0, -1.5, "headline_tone_in_range"),
        ("gdelt_article_count", 0.0, -1.0, "counts_are_not_negative"),
        ("headline_count", 40.0, -2.0, "counts_are_not_negative"),
    ],
)
@pytest.mark.parametrize("asset", ["MARKET", "BTC"])
def test_tones_and_counts_have_bounds(
    metric: str, sound: float, unsound: float, expectation: str, asset: str
) -> None:
    frame = sentiment_metrics().head(6)
    frame = frame.assign(metric=metric, asset=asset, value=sound, label=None)
    assert validate("raw.sentiment_metrics", frame).failures == []
    frame.loc[4, "value"] = unsound
    found = result(validate("raw.sentiment_metrics", frame), expectation)
    assert (found.severity, found.failing_rows) == (CRITICAL, [4])


def test_a_tone_near_zero_has_no_unit_to_change() -> None:
    frame = sentiment_metrics().head(6).assign(metric="headline_tone", value=0.2, label=None)
    calm = frame.assign(value=0.0004)
    assert validate("raw.sentiment_metrics", calm, reference=frame).failures == []
    counts = frame.assign(metric="headline_count")
    shifted = validate("raw.sentiment_metrics", counts.assign(value=400.0), reference=counts)
    assert not result(shifted, "metrics_keep_their_unit").success


def test_every_raw_table_has_a_suite_with_its_columns_and_key() -> None:
    for table in TABLES.values():
        suite = SUITES[table.qualified_name]
        assert suite.key == table.key
        assert set(suite.columns) == set(table.columns)
