"""Nowcasts: the shifted panel against features made from bars on a shifted clock, bad bars, and the calendar of hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from benchmarks.nowcast import panel_of
from ml.baselines.har import HarxCal
from ml.baselines.panel_har import PanelHar
from ml.forecasts import HORIZONS
from ml.nowcast import BarsError, NewHours, Nowcaster
from ml.nowcast.shifting import History, relabelled, shifted
from ml.panel import Panel
from tests.ml.archive_frames import made_up_bars

DAYS = 320
EXACT = (
    "rv_d", "rv_2d", "rv_5d", "rv_22d", "rv_66d", "rv_last_1h", "rv_last_4h", "rv_last_8h", "rv_last_12h", "quarticity_d",
    "return_d", "market_log_rv_d", "market_log_rv_5d", "btc_rv_d", "btc_rv_5d", "btc_return_d",
)  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return made_up_bars(days=DAYS)


@pytest.fixture(scope="module")
def known(bars: pd.DataFrame) -> Panel:
    full = panel_of(bars)
    return full.until(full.days[-2].astype(date))


@pytest.fixture(scope="module")
def tomorrow(bars: pd.DataFrame, known: Panel) -> pd.DataFrame:
    return bars[bars["ts"] >= pd.Timestamp(known.days[-1]).tz_localize("UTC") + timedelta(days=1)]


@pytest.fixture(scope="module")
def nowcaster(known: Panel) -> Nowcaster:
    model = PanelHar()
    model.fit(known, known.days[-1].astype(date), {"window_days": 240}, 0)
    return Nowcaster(model, known)


def hours(known: Panel, bars: pd.DataFrame) -> NewHours:
    start = (known.days[-1] + np.timedelta64(1, "D")).astype("datetime64[us]")
    return NewHours.of(bars, known.assets, known.feature("close")[-1], start, np.full(3, 24))


@pytest.mark.parametrize("k", [1, 7, 12, 23])
def test_the_shifted_panel_equals_features_made_on_a_clock_that_runs_k_hours_late(
    bars: pd.DataFrame, known: Panel, tomorrow: pd.DataFrame, k: int
) -> None:
    new = hours(known, tomorrow[tomorrow["ts"].dt.hour < k])
    assert len(new) == k
    found = shifted(History.of(known, 200), new)
    late = panel_of(bars.assign(ts=bars["ts"] - pd.Timedelta(hours=k)))
    row = late.row(known.days[-1].astype(date))
    for name in EXACT:
        np.testing.assert_allclose(
            found.features[name][-60:],
            late.features[name][row - 59 : row + 1],
            rtol=1e-4,
            err_msg=name,
        )
    # No path within the hour is kept: the range is near, and its error has no sign.
    ratio = np.log(
        found.features["high_low_range_d"] / late.features["high_low_range_d"][row - 199 : row + 1]
    )
    assert abs(np.nanmedian(ratio[70:])) < 0.1
    volume = (
        found.features["quote_volume_d"][-60:] / late.features["quote_volume_d"][row - 59 : row + 1]
    )
    np.testing.assert_allclose(volume, 1, atol=0.1)


def test_after_24_hours_the_newest_row_is_the_daily_row_of_the_next_day(
    bars: pd.DataFrame, known: Panel, tomorrow: pd.DataFrame
) -> None:
    found = shifted(History.of(known, 200), hours(known, tomorrow))
    daily = panel_of(bars)
    assert found.days[-1] == daily.days[-1]
    for name in (
        *EXACT,
        "high_low_range_d",
        "quote_volume_d",
        "log_volume_ratio_22d",
        "target_weekday",
        "return_5d",
    ):
        np.testing.assert_allclose(
            found.features[name][-1], daily.features[name][-1], rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("model_class", [PanelHar, HarxCal])
def test_after_24_hours_the_nowcast_is_the_next_daily_forecast(
    bars: pd.DataFrame, known: Panel, tomorrow: pd.DataFrame, model_class: type
) -> None:
    model = model_class()
    model.fit(known, known.days[-1].astype(date), {"window_days": 240}, 0)
    full = panel_of(bars)
    daily = model.forecast(full, [full.days[-1].astype(date)])
    found = Nowcaster(model, known).update(tomorrow)
    np.testing.assert_allclose(found.variance, daily.variance[0], rtol=1e-5)
    np.testing.assert_allclose(found.log_quantiles, daily.log_quantiles[0], atol=1e-5)
    assert found.at == datetime.combine(
        full.days[-1].astype(date) + timedelta(days=1), datetime.min.time(), UTC
    )


def test_a_burst_of_volatility_raises_the_forecast_within_the_day(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame
) -> None:
    first = tomorrow[tomorrow["ts"].dt.hour < 8].copy()
    calm = nowcaster.update(first)
    burst = first.copy()
    late = burst["ts"].dt.hour == 7
    burst.loc[late, ["high"]] *= 1.12
    burst.loc[late, ["close"]] *= 1.10
    assert (nowcaster.update(burst).variance > 1.2 * calm.variance)[:, 0].all()
    assert (np.diff(calm.log_quantiles, axis=-1) >= 0).all()


def test_the_same_bars_give_the_same_nowcast_in_any_order_and_twice(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 5]
    once = nowcaster.update(part)
    again = nowcaster.update(part.sample(frac=1, random_state=3))
    np.testing.assert_array_equal(once.variance, again.variance)


def test_a_coin_that_lacks_an_hour_is_refused_with_the_reason_and_the_others_go_on(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 6]
    holed = part[~((part["asset"] == "LTC") & (part["ts"].dt.hour == 3))]
    found = nowcaster.update(holed)
    assert found.status[:2] == ("ok", "ok")
    assert found.status[2].startswith("5 of 6 hours: no whole hour from")
    assert np.isnan(found.variance[2]).all()
    assert np.isfinite(found.variance[:2]).all()
    frame = found.to_frame()
    assert len(frame) == 3 * len(HORIZONS)
    assert frame.loc[frame["asset"] == "LTC", "volatility"].isna().all()


def test_a_coin_that_is_late_does_not_hold_the_others_back(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 6]
    found = nowcaster.update(part[~((part["asset"] == "LTC") & (part["ts"].dt.hour > 2))])
    assert found.at.hour == 6
    early = part[(part["asset"] == "BTC") | (part["ts"].dt.hour < 4)]
    assert nowcaster.update(early).at.hour == 4
    assert "most coins lack" in nowcaster.update(early).notes[0]


def test_five_minute_bars_add_up_to_the_hours_and_a_running_hour_waits(known: Panel) -> None:
    start = (known.days[-1] + np.timedelta64(1, "D")).astype("datetime64[us]")
    random = np.random.default_rng(0)
    stamps = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(5 * np.arange(23), unit="min")
    close = 100 * np.exp(np.cumsum(0.001 * random.standard_normal(23)))
    frame = pd.DataFrame(
        {
            "asset": "BTC",
            "ts": stamps,
            "high": close * 1.001,
            "low": close * 0.999,
            "close": close,
            "volume": 2.0,
        }
    )
    found = NewHours.of(frame, known.assets, np.full(3, 100.0), start, np.array([288, 24, 24]))
    returns = np.diff(np.log(np.concatenate([[100.0], close])))
    assert len(found) == 1  # 11 of 12 bars of the second hour are enough, but it is not over
    np.testing.assert_allclose(found.realized_variance[0, 0], (returns[:12] ** 2).sum())
    np.testing.assert_allclose(found.fourth_moment[0, 0], 96 * (returns[:12] ** 4).sum())
    np.testing.assert_allclose(found.log_return[0, 0], returns[:12].sum())
    assert found.status[1].startswith("0 of 1 hours")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"close": np.nan}, "close nan: expected a positive price"),
        ({"close": -1.0}, "close -1.0: expected a positive price"),
        ({"high": np.inf}, "high inf: expected a positive price"),
        ({"volume": -5.0}, "volume -5.0: expected a number of at least 0"),
        ({"volume": "many"}, "volume many: expected a number"),
        ({"high": 0.001}, "high 0.001 below low"),
        ({"close": 1e9}, "close 1000000000.0: expected between low"),
        ({"asset": "DOGE"}, "asset 'DOGE': expected one of BTC, ETH, LTC"),
        ({"open": 0.0}, "open 0.0: expected a positive price, or nothing"),
        ({"open": 1e6}, "open 1000000.0: expected between low"),
        ({"quote_volume": -5.0}, "quote_volume -5.0: expected a number of at least 0, or nothing"),
        (
            {"taker_buy_volume": 1e12},
            "taker_buy_volume 1000000000000.0: expected at most the volume",
        ),
        ({"ts": pd.NaT}, "ts is missing"),
        ({"ts": "yesterday-ish"}, "expected instants in UTC"),
    ],
)
def test_a_bad_bar_is_an_error_that_names_it(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame, change: dict[str, object], says: str
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 3]
    part = part.assign(**{name: None for name in change if name not in part})
    part = part.astype(dict.fromkeys(change, object))
    for column, value in change.items():
        part.iloc[1, part.columns.get_loc(column)] = value
    with pytest.raises(BarsError, match=says):
        nowcaster.update(part)


def test_bars_that_are_there_twice_late_early_or_too_many_are_said(
    nowcaster: Nowcaster, bars: pd.DataFrame, tomorrow: pd.DataFrame
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 3]
    with pytest.raises(BarsError, match="there twice"):
        nowcaster.update(pd.concat([part, part.iloc[:1]]))
    with pytest.raises(BarsError, match="ends after"):
        nowcaster.update(
            part,
            datetime.combine(nowcaster.as_of, datetime.min.time()) + timedelta(days=1, hours=2),
        )
    with pytest.raises(BarsError, match="no bars since"):
        nowcaster.update(bars[bars["ts"] < part["ts"].min()])
    with pytest.raises(BarsError, match="run the daily job"):
        nowcaster.update(tomorrow.assign(ts=tomorrow["ts"] + pd.Timedelta(hours=1)))
    with pytest.raises(BarsError, match="bars lack volume"):
        nowcaster.update(part.drop(columns="volume"))
    with pytest.raises(BarsError, match="open on the clock"):
        nowcaster.update(part.assign(ts=part["ts"] + pd.Timedelta(minutes=7)))
    both = nowcaster.update(bars[bars["ts"] <= part["ts"].max()])
    assert "of days that are forecast" in both.notes[0]
    np.testing.assert_array_equal(both.variance, nowcaster.update(part).variance)


def test_a_candle_that_is_still_running_is_an_error(
    nowcaster: Nowcaster, tomorrow: pd.DataFrame
) -> None:
    running = tomorrow.assign(
        ts=tomorrow["ts"] + (pd.Timestamp.now(tz="UTC").floor("h") - tomorrow["ts"].min())
    )
    with pytest.raises(BarsError, match="ends after"):
        nowcaster.update(running)


def test_one_coin_s_unknown_taker_volume_leaves_the_others_alone(
    known: Panel, tomorrow: pd.DataFrame
) -> None:
    part = tomorrow[tomorrow["ts"].dt.hour < 2]
    part = part.assign(taker_buy_volume=0.75 * part["volume"], quote_volume=np.nan)
    part.loc[(part["asset"] == "ETH") & (part["ts"].dt.hour == 1), "taker_buy_volume"] = np.nan
    found = hours(known, part)
    np.testing.assert_allclose(found.signed_volume_share[:, 0], 0.5)
    assert np.isfinite(found.signed_volume_share[0, 1])
    assert np.isnan(found.signed_volume_share[1, 1])
    np.testing.assert_allclose(
        found.quote_volume, hours(known, part.drop(columns="quote_volume")).quote_volume
    )


def test_the_first_return_runs_from_the_open_where_the_day_before_has_no_close(
    known: Panel, tomorrow: pd.DataFrame
) -> None:
    start = (known.days[-1] + np.timedelta64(1, "D")).astype("datetime64[us]")
    part = tomorrow[tomorrow["ts"].dt.hour < 2]
    close = known.feature("close")[-1].copy()
    close[1] = np.nan
    refused = NewHours.of(part, known.assets, close, start, np.full(3, 24))
    assert refused.status[1].startswith("no close of the day before")
    assert np.isnan(refused.realized_variance[:, 1]).all()
    assert refused.status[0] == "ok"
    opened = part.assign(open=part["low"])
    found = NewHours.of(opened, known.assets, close, start, np.full(3, 24))
    first = opened[(opened["asset"] == "ETH") & (opened["ts"].dt.hour == 0)].iloc[0]
    assert found.status[1] == "ok"
    assert found.log_return[0, 1] == pytest.approx(np.log(first["close"] / first["open"]))
    whole = NewHours.of(part, known.assets, known.feature("close")[-1], start, np.full(3, 24))
    np.testing.assert_array_equal(found.log_return[:, 0], whole.log_return[:, 0])


def test_the_calendar_goes_over_from_today_to_tomorrow(known: Panel) -> None:
    same = relabelled(known, 0)
    np.testing.assert_array_equal(same.features["target_weekday"], known.features["target_weekday"])
    later = relabelled(known, 1).features["target_weekday"]
    np.testing.assert_array_equal(later, (known.features["target_weekday"] + 1) % 7)
