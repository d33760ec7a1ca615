"""Each fault that a gate exists for is caught, with the right severity and the right rows; sound data passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import quality
from quality import CRITICAL, SUITES, WARNING, Result, Verdict, validate
from tests.quality.plausible_frames import ASSETS, CLEAN, NOW, features_daily, ohlcv

Fault = Callable[[pd.DataFrame], pd.DataFrame]


def result(verdict: Verdict, expectation: str) -> Result:
    return next(r for r in verdict.results if r.expectation == expectation)


def put(column: str, rows: list[int], value: object) -> Fault:
    def fault(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        if not isinstance(value, (int, float)):
            frame[column] = frame[column].astype(object)
        values = list(frame[column])
        for row in rows:
            values[row] = value(frame[column].iloc[row]) if callable(value) else value
        frame[column] = values
        return frame

    return fault


def times(column: str, rows: list[int], shift: str) -> Fault:
    def fault(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[rows, column] += pd.Timedelta(shift)
        return frame

    return fault


def without(rows: Callable[[pd.DataFrame], pd.Series]) -> Fault:
    return lambda frame: frame[~rows(frame)].reset_index(drop=True)


def scaled(column: str, rows: Callable[[pd.DataFrame], pd.Series], factor: float) -> Fault:
    def fault(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[rows(frame), column] *= factor
        return frame

    return fault


def spike(rows: list[int], factor: float) -> Fault:
    def fault(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[rows, ["open", "high", "low", "close"]] *= factor
        return frame

    return fault


def of_venue(venue: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame["venue"] == venue


@dataclass(frozen=True)
class Case:
    suite: str
    fault: Fault
    expectation: str
    severity: str
    rows: list[int]


DYDX = list(range(144, 144 + 2 * 288))

CASES = {
    # bars
    "no close": Case("raw.ohlcv", put("close", [3], np.nan), "close_is_complete", CRITICAL, [3]),
    "infinite price": Case(
        "raw.ohlcv", put("high", [3], np.inf), "values_are_readable", CRITICAL, [3]
    ),
    "text as price": Case(
        "raw.ohlcv", put("low", [7], "n/a"), "values_are_readable", CRITICAL, [7]
    ),
    "price of zero": Case("raw.ohlcv", put("low", [5, 9], 0.0), "low_in_range", CRITICAL, [5, 9]),
    "negative volume": Case(
        "raw.ohlcv", put("volume", [8], -1.0), "volume_in_range", CRITICAL, [8]
    ),
    "high under close": Case(
        "raw.ohlcv",
        put("high", [11], lambda x: x * 0.9),
        "high_covers_open_and_close",
        CRITICAL,
        [11],
    ),
    "low over open": Case(
        "raw.ohlcv", put("low", [11], lambda x: x * 1.1), "low_covers_open_and_close", CRITICAL, [11]
    ),
    "fat finger": Case("raw.ohlcv", spike([100], 10.0), "no_fat_finger", CRITICAL, [100]),
    "fat finger down": Case("raw.ohlcv", spike([100], 0.1), "no_fat_finger", CRITICAL, [100]),
    "fat finger in a wick": Case(
        "raw.ohlcv", put("high", [100], lambda x: x * 10), "no_fat_finger", CRITICAL, [100]
    ),
    "known before its close": Case(
        "raw.ohlcv", times("known_at", [4], "-30min"), "bar_is_closed_when_known", CRITICAL, [4]
    ),
    "known before it happened": Case(
        "raw.ohlcv", times("known_at", [4], "-2h"), "known_at_not_before_ts", CRITICAL, [4]
    ),
    "from the future": Case(
        "raw.ohlcv",
        times("known_at", [0, 1], "30D"),
        "known_at_not_after_decision_time",
        CRITICAL,
        [0, 1],
    ),
    "unknown source": Case(
        "raw.ohlcv", put("source", [2], "guess"), "source_is_known", CRITICAL, [2]
    ),
    "no symbol": Case("raw.ohlcv", put("symbol", [2], None), "symbol_is_complete", CRITICAL, [2]),
    "coin gone": Case(
        "raw.ohlcv",
        without(lambda f: (f["symbol"] == "ADA/USDT") & (f["ts"] >= f["ts"].max() - pd.Timedelta("30h"))),
        "no_coin_is_gone",
        CRITICAL,
        [],
    ),
    "a few bars gone": Case(
        "raw.ohlcv",
        without(lambda f: f.index.isin([40, 41, 42])),
        "no_bars_are_missing",
        WARNING,
        [],
    ),
    "a thin day": Case(
        "raw.ohlcv",
        without(lambda f: f.index.isin(range(24, 36))),
        "days_are_filled",
        WARNING,
        [],
    ),
    "dead volume": Case("raw.ohlcv", scaled("volume", of_venue("binance"), 0.0), "volume_is_alive", WARNING, []),
    # funding
    "rate in percent": Case(
        "raw.funding_rates", put("rate", [6], 0.09), "rate_in_range", CRITICAL, [6]
    ),
    "a venue in percent": Case(
        "raw.funding_rates",
        scaled("rate", of_venue("dydx"), 800.0),
        "venue_rate_is_decimal",
        CRITICAL,
        DYDX,
    ),
    "venues apart": Case(
        "raw.funding_rates", put("rate", [6, 7, 8], 0.02), "venues_agree", WARNING, []
    ),
    # other modalities
    "implied volatility as fraction": Case(
        "raw.implied_volatility", put("close", [9], 0.65), "close_in_range", CRITICAL, [9]
    ),
    "implied volatility too high": Case(
        "raw.implied_volatility", put("high", [9], 501.0), "high_in_range", CRITICAL, [9]
    ),
    "open interest negative": Case(
        "raw.open_interest", put("low", [2], -5.0), "low_in_range", CRITICAL, [2]
    ),
    "open interest in other units": Case(
        "raw.open_interest", scaled("close", lambda f: f.index == 6, 1e-4), "close_does_not_leap", WARNING, [6, 7]
    ),
    "fear and greed over 100": Case(
        "raw.sentiment_metrics", put("value", [4], 101.0), "fear_greed_in_range", CRITICAL, [4]
    ),
    "negative count of addresses": Case(
        "raw.onchain_metrics", put("value", [0], -1.0), "counts_are_not_negative", CRITICAL, [0]
    ),
    "a page as headline": Case(
        "raw.headlines", put("title", [5], "x" * 5000), "title_is_a_title", CRITICAL, [5]
    ),
    "a short headline": Case(
        "raw.headlines", put("title", [5], "BTC"), "title_has_a_usual_length", WARNING, [5]
    ),
    "mojibake": Case(
        "raw.headlines", put("title", [5], "Deutsche BÃ¶rse lists it"), "title_is_clean", WARNING, [5]
    ),
    "script in a headline": Case(
        "raw.headlines", put("title", [5], "<script>alert(1)</script> up"), "title_is_clean", WARNING, [5]
    ),
    # features
    "variance of a frozen feed": Case(
        "features.daily", put("rv_d", [3], 0.0), "rv_d_in_range", CRITICAL, [3]
    ),
    "implied volatility in percent": Case(
        "features.daily", put("implied_volatility", [3], 65.0), "implied_volatility_in_range", CRITICAL, [3]
    ),
    "negative age": Case(
        "features.daily", put("onchain_age_days", [2], -0.5), "no_negative_age", CRITICAL, [2]
    ),
    "wrong weekday": Case(
        "features.daily", put("target_weekday", [2], 6), "target_weekday_is_right", CRITICAL, [2]
    ),
    "decided the day before": Case(
        "features.daily", times("decision_time", [2], "-1D"), "decision_follows_the_day", CRITICAL, [2]
    ),
    "more bars than a day has": Case(
        "features.daily", put("bars_used", [2], 25), "bars_used_at_most_expected", CRITICAL, [2]
    ),
    "complete with half its bars": Case(
        "features.daily", put("bars_used", [2], 12), "complete_means_80_percent", CRITICAL, [2]
    ),
    "null that is not flagged": Case(
        "features.daily", put("funding_rate_d", [2], np.nan), "funding_is_there_unless_missing", WARNING, [2]
    ),
    "coin without its newest row": Case(
        "features.daily", without(lambda f: f.index == len(f) - 1), "no_coin_is_gone", CRITICAL, []
    ),
    "prices of most coins missing": Case(
        "features.daily", put("price_missing", list(range(36)), True), "most_coins_have_prices", CRITICAL, []
    ),
    "a day without features": Case(
        "features.daily", without(lambda f: f.index == 5), "no_days_are_missing", WARNING, []
    ),
    "hour with two of itself": Case(
        "features.hourly",
        lambda f: pd.concat([f, f.iloc[[0]]], ignore_index=True),
        "rows_are_unique",
        CRITICAL,
        [864],
    ),
    "target known before its day": Case(
        "features.realized",
        put("known_on", [5], lambda d: d - pd.Timedelta("2D")),
        "known_on_not_before_day",
        CRITICAL,
        [5],
    ),
    "target in percent squared": Case(
        "features.realized", scaled("realized_variance", lambda f: f.index == 5, 1e5), "realized_variance_in_range", CRITICAL, [5]
    ),
}  # fmt: skip


@pytest.mark.parametrize("suite", SUITES)
def test_sound_rows_pass_without_a_word(suite: str) -> None:
    frame = CLEAN[suite]()
    verdict = validate(suite, frame, reference=frame, now=NOW, assets=None)
    assert verdict.passed
    assert verdict.failures == []


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_caught_where_it_is(name: str) -> None:
    case = CASES[name]
    verdict = validate(case.suite, case.fault(CLEAN[case.suite]()), now=NOW)
    found = result(verdict, case.expectation)
    assert not found.success, found
    assert found.severity == case.severity
    assert found.failing_rows == case.rows
    assert found.message
    assert verdict.passed == all(r.severity == WARNING for r in verdict.failures)
    if case.severity == CRITICAL:
        assert not verdict.passed
        assert set(case.rows) <= set(verdict.rows_to_quarantine())


def test_rows_are_positions_whatever_the_index() -> None:
    frame = put("close", [3], np.nan)(ohlcv())
    frame.index = pd.Index([f"label-{i}" for i in range(len(frame))])
    found = result(validate("raw.ohlcv", frame, now=NOW), "close_is_complete")
    assert found.failing_rows == [3]


def test_equal_copies_leave_the_first_and_copies_that_differ_leave_none() -> None:
    frame = ohlcv()
    copies = frame.iloc[[10, 20]].copy()
    copies.loc[20, "volume"] += 1.0
    verdict = validate("raw.ohlcv", pd.concat([frame, copies], ignore_index=True), now=NOW)
    assert result(verdict, "rows_are_unique").failing_rows == [20, 864, 865]


def test_a_revision_is_not_a_duplicate() -> None:
    frame = ohlcv()
    revised = frame.iloc[[10]].copy()
    revised["known_at"] += pd.Timedelta("1D")
    revised["close"] *= 1.0001
    verdict = validate("raw.ohlcv", pd.concat([frame, revised], ignore_index=True), now=NOW)
    assert verdict.passed


def test_a_tenfold_move_that_stays_is_let_through_with_a_warning() -> None:
    frame = spike(list(range(100, 288)), 10.0)(ohlcv())
    verdict = validate("raw.ohlcv", frame, now=NOW)
    assert verdict.passed
    assert result(verdict, "no_unconfirmed_leap").failing_rows == [100]


def test_a_fat_finger_in_the_first_bar_shows_against_the_reference() -> None:
    frame = ohlcv()
    early, late = frame[frame["ts"] < "2023-03-08"], frame[frame["ts"] >= "2023-03-08"]
    late = spike([0], 10.0)(late.reset_index(drop=True))
    assert result(validate("raw.ohlcv", late, now=NOW), "no_fat_finger").success
    found = result(validate("raw.ohlcv", late, reference=early, now=NOW), "no_fat_finger")
    assert found.failing_rows == [0]


def test_a_coin_that_never_came_is_missed_by_name() -> None:
    frame = ohlcv()
    partly = frame[frame["symbol"] != "ADA/USDT"]
    by_list = validate("raw.ohlcv", partly, now=NOW, assets=ASSETS)
    by_history = validate("raw.ohlcv", partly, reference=frame, now=NOW)
    for verdict in (by_list, by_history):
        found = result(verdict, "no_coin_is_gone")
        assert not found.success
        assert "ADA" in found.observed
        assert found.failing_rows == []
    daily = features_daily()
    partly = daily[daily["asset"] != "ADA"]
    assert not validate("features.daily", partly, reference=daily, now=NOW).passed


def test_closes_of_venues_are_held_against_each_other() -> None:
    venues = [ohlcv().assign(venue=venue) for venue in ("binance", "coinbase", "kraken")]
    frame = pd.concat(venues, ignore_index=True)
    assert validate("raw.ohlcv", frame, now=NOW).failures == []
    off = scaled("close", lambda f: f.index == 30, 1.05)(frame)
    off["high"] = off[["high", "close"]].max(axis=1)
    found = result(validate("raw.ohlcv", off, now=NOW), "closes_agree_across_venues")
    assert (found.severity, found.failing_rows) == (WARNING, [30])
    off = spike([30], 2.0)(frame)
    found = result(validate("raw.ohlcv", off, now=NOW), "no_venue_far_from_the_others")
    assert (found.severity, found.failing_rows) == (CRITICAL, [30])


@pytest.mark.parametrize(
    ("hours", "severity"),
    [(2, None), (10, WARNING), (80, CRITICAL)],
    ids=["fresh", "late", "stale"],
)
def test_old_bars_warn_and_very_old_bars_stop(hours: int, severity: str | None) -> None:
    verdict = validate("raw.ohlcv", ohlcv(), now=NOW + pd.Timedelta(hours=hours - 1))
    failed = {r.severity for r in verdict.failures}
    assert severity is None or severity in failed
    assert verdict.passed == (severity != CRITICAL)


def test_a_shifted_distribution_warns_and_names_the_feature() -> None:
    reference = features_daily(days=60, seed=1)
    calm = features_daily(days=60, seed=2)
    wild = calm.assign(rv_d=calm["rv_d"] * 5, semivariance_neg_d=np.nan)
    assert result(
        validate("features.daily", calm, reference=reference), "features_have_not_drifted"
    ).success
    verdict = validate("features.daily", wild, reference=reference)
    found = result(verdict, "features_have_not_drifted")
    assert not found.success
    assert found.severity == WARNING
    assert "rv_d" in found.observed
    dark = result(verdict, "no_feature_went_dark")
    assert not dark.success
    assert "semivariance_neg_d" in dark.observed


def test_a_day_off_the_scale_of_its_past_warns_and_names_the_feature() -> None:
    past = features_daily(days=60, seed=1)
    day = past[past["as_of"] == past["as_of"].max()]
    assert result(
        validate("features.daily", day, reference=past), "features_are_on_their_scale"
    ).success
    percent = day.assign(funding_rate_d=day["funding_rate_d"] + 0.05)
    found = result(
        validate("features.daily", percent, reference=past), "features_are_on_their_scale"
    )
    assert (found.success, found.severity, found.failing_rows) == (False, WARNING, [])
    assert "funding_rate_d" in found.observed
    drift = result(validate("features.daily", percent, reference=past), "features_have_not_drifted")
    assert drift.observed == "not checked: 1 days, 60 needed to compare distributions"


def test_another_unit_shows_against_the_reference() -> None:
    frame = ohlcv()
    verdict = validate(
        "raw.ohlcv",
        scaled("volume", of_venue("binance"), 25_000.0)(frame),
        reference=frame,
        now=NOW,
    )
    found = result(verdict, "volumes_keep_their_unit")
    assert not found.success
    assert "USDT" in found.observed


def test_what_cannot_be_asked_says_so() -> None:
    verdict = validate("raw.ohlcv", ohlcv())
    unasked = {r.expectation: r.observed for r in verdict.results if not r.checked}
    assert unasked["known_at_not_after_decision_time"] == "not checked: no decision time given"
    assert unasked["volumes_keep_their_unit"] == "not checked: no reference given"
    assert verdict.passed


def test_known_on_may_not_lie_after_the_day_decided_on() -> None:
    frame = CLEAN["features.realized"]()
    frame.loc[11, "known_on"] = pd.Timestamp(
        "2023-03-13"
    ).date()  # usable for the 13th, not yet for the 12th
    found = result(
        validate("features.realized", frame, now=NOW), "known_on_not_after_decision_time"
    )
    assert found.failing_rows == [11]


@pytest.mark.parametrize("suite", SUITES)
def test_an_empty_frame_has_a_clear_verdict(suite: str) -> None:
    for frame in (CLEAN[suite]().iloc[:0], pd.DataFrame()):
        verdict = validate(suite, frame, now=NOW)
        found = result(verdict, "frame_has_rows")
        assert not found.success
        assert found.message
        stops = suite in {"raw.ohlcv", "features.daily", "features.realized"}
        assert found.severity == (CRITICAL if stops else WARNING)
        assert verdict.passed == (not stops)


@pytest.mark.parametrize("suite", SUITES)
def test_a_missing_column_fails_once_and_by_name(suite: str) -> None:
    column = SUITES[suite].required[-1]
    verdict = validate(suite, CLEAN[suite]().drop(columns=column), now=NOW)
    critical = [r for r in verdict.failures if r.severity == CRITICAL]
    assert [r.expectation for r in critical] == ["columns_are_there"]
    assert column in critical[0].observed


def test_a_column_that_comes_twice_is_critical() -> None:
    frame = ohlcv()
    twice = pd.concat([frame, frame[["close"]]], axis=1)
    found = result(validate("raw.ohlcv", twice, now=NOW), "columns_are_there")
    assert not found.success
    assert "close" in found.observed


def test_an_unknown_suite_and_a_naive_time_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'raw\.prices': expected one of raw\.ohlcv"):
        validate("raw.prices", ohlcv())
    with pytest.raises(ValueError, match="time zone"):
        validate("raw.ohlcv", ohlcv(), now=NOW.replace(tzinfo=None))


def test_a_check_that_breaks_is_a_critical_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("quality.conditions.Sequence.of", broken)
    verdict = validate("raw.open_interest", CLEAN["raw.open_interest"](), now=NOW)
    found = result(verdict, "close_does_not_leap")
    assert (found.severity, found.success) == (CRITICAL, False)
    assert "ZeroDivisionError: by design" in found.observed


def test_importing_quality_does_not_import_great_expectations() -> None:
    import subprocess
    import sys

    code = "import sys, quality; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert set(quality.__all__) >= {"validate", "Verdict", "Result"}


def test_every_expectation_is_named_once_and_says_what_to_do() -> None:
    for suite in SUITES.values():
        for expectation in suite.expectations:
            assert expectation.message, expectation.name
            assert expectation.severity in {CRITICAL, WARNING}
            assert expectation.name not in suite.columns
