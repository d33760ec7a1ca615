"""The panel: what was known when, targets, and the hash of it all."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml.panel import FUNDING_FIELDS, Panel

DAYS = pd.date_range("2023-01-01", periods=40, freq="D")


def small_frames(days: pd.DatetimeIndex = DAYS) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Two coins; RV of day k is k + 1 (BTC) or 100 (k + 1) (ETH); log price grows 0.01 a day."""
    daily, realized = [], []
    for asset, scale in (("ETH", 100.0), ("BTC", 1.0)):
        number = np.arange(1.0, len(days) + 1)
        daily.append(
            pd.DataFrame(
                {
                    "asset": asset,
                    "as_of": days,
                    "source": "simulated",
                    "rv_d": scale * number,
                    "price_missing": False,
                }
            )
        )
        realized.append(
            pd.DataFrame(
                {
                    "asset": asset, "day": days, "known_on": days, "complete": True, "return": 0.01,
                    "realized_variance": scale * number, "close": np.exp(0.01 * number), "source": "simulated",
                }
            )
        )  # fmt: skip
    hours = pd.date_range(days[0], periods=24 * len(days), freq="h", tz="UTC")
    hourly = pd.DataFrame(
        {
            "asset": "BTC",
            "ts": hours,
            "known_on": hours.floor("D").tz_localize(None),
            "log_return": 0.5,
        }
    )
    return pd.concat(daily), pd.concat(realized), hourly


def test_target_is_the_mean_of_the_days_after_the_row() -> None:
    panel = Panel.from_frames(*small_frames())
    assert panel.assets == ("BTC", "ETH")
    assert panel.target(5)[0].tolist() == [np.mean([2, 3, 4, 5, 6]), 100 * np.mean([2, 3, 4, 5, 6])]
    assert panel.target(1)[:-1, 0].tolist() == list(range(2, 41))


@pytest.mark.parametrize("horizon", [1, 5, 22])
def test_no_target_ends_after_the_last_day(horizon: int) -> None:
    known = Panel.from_frames(*small_frames()).until(date(2023, 1, 30))
    target = known.target(horizon)
    assert np.isfinite(target[: 30 - horizon]).all()
    assert np.isnan(target[30 - horizon :]).all()


def test_target_needs_four_fifths_of_its_days() -> None:
    daily, realized, hourly = small_frames()
    third = realized["day"] == DAYS[2]
    fourth = realized["day"] == DAYS[3]
    one_missing = Panel.from_frames(daily, realized[~third], hourly)
    assert one_missing.target(5)[0, 0] == np.mean([2, 4, 5, 6])
    assert np.isnan(one_missing.target(1)[1, 0])
    two_missing = Panel.from_frames(daily, realized[~third & ~fourth], hourly)
    assert np.isnan(two_missing.target(5)[0, 0])


def test_incomplete_days_are_no_realized_variance() -> None:
    daily, realized, hourly = small_frames()
    realized.loc[realized["day"] == DAYS[4], "complete"] = False
    assert np.isnan(Panel.from_frames(daily, realized, hourly).realized_variance()[4]).all()


def test_a_revision_is_seen_only_from_the_day_it_was_known() -> None:
    daily, realized, hourly = small_frames()
    revised = realized[realized["day"] == DAYS[10]].assign(known_on=DAYS[15], realized_variance=7.0)
    panel = Panel.from_frames(daily, pd.concat([revised, realized]), hourly)
    assert panel.realized_variance()[10].tolist() == [7.0, 7.0]
    assert panel.until(date(2023, 1, 16)).realized_variance()[10].tolist() == [7.0, 7.0]
    assert panel.until(date(2023, 1, 15)).realized_variance()[10].tolist() == [11.0, 1100.0]


def test_horizon_return_spans_a_day_without_bars() -> None:
    daily, realized, hourly = small_frames()
    panel = Panel.from_frames(daily, realized[realized["day"] != DAYS[3]], hourly)
    assert panel.horizon_return(5)[0, 0] == pytest.approx(0.05)
    assert np.isnan(panel.horizon_return(1)[2, 0])
    assert np.isnan(panel.horizon_return(5)[35:]).all()


def test_values_after_the_day_leave_what_was_known_untouched() -> None:
    daily, realized, hourly = small_frames()
    as_of = date(2023, 1, 20)
    honest = Panel.from_frames(daily, realized, hourly).until(as_of)
    later = pd.Timestamp(as_of)
    daily.loc[daily["as_of"] > later, "rv_d"] = 1e9
    realized.loc[realized["known_on"] > later, "realized_variance"] = 1e9
    hourly.loc[hourly["known_on"] > later, "log_return"] = 1e9
    poisoned = Panel.from_frames(daily, realized, hourly)
    assert poisoned.until(as_of).data_hash() == honest.data_hash()
    assert poisoned.data_hash() != honest.data_hash()


def test_hash_ignores_row_order_and_rows_outside_the_window() -> None:
    daily, realized, hourly = small_frames()
    panel = Panel.from_frames(daily, realized, hourly)
    shuffled = Panel.from_frames(
        daily.sample(frac=1, random_state=1),
        realized.sample(frac=1, random_state=2),
        hourly.iloc[::-1],
    )
    assert shuffled.data_hash() == panel.data_hash()
    later = Panel.from_frames(*(frame[frame["asset"].notna()] for frame in small_frames(DAYS[:35])))
    as_of = date(2023, 1, 30)
    assert later.until(as_of).window(10).data_hash() == panel.until(as_of).window(10).data_hash()


def test_hours_that_came_late_are_missing() -> None:
    daily, realized, hourly = small_frames()
    hourly["known_on"] = hourly["known_on"].mask(
        hourly["ts"].dt.hour == 23, hourly["known_on"] + timedelta(days=1)
    )
    panel = Panel.from_frames(daily, realized, hourly)
    assert panel.hourly.shape == (40, 24, 2, 1)
    assert panel.hourly_fields == ("log_return",)
    assert np.isnan(panel.hourly[:, 23, 0, 0]).all()
    assert (panel.hourly[:, :23, 0, 0] == 0.5).all()
    assert np.isnan(panel.hourly[:, :, 1]).all()


def test_days_without_rows_are_kept_as_missing() -> None:
    daily, realized, hourly = small_frames()
    panel = Panel.from_frames(daily[daily["as_of"] != DAYS[7]], realized, hourly)
    assert len(panel.days) == 40
    assert np.isnan(panel.feature("rv_d")[7]).all()
    assert panel.feature("price_missing")[0].tolist() == [0.0, 0.0]


def test_nullable_and_arrow_columns_become_floats() -> None:
    daily, realized, hourly = small_frames()
    daily["news"] = pd.array([1, None] * 40, dtype="Int32")
    daily["as_of"] = daily["as_of"].dt.date
    daily["revised"] = pd.Series([True, None] * 40, dtype=object, index=daily.index)
    daily["label"] = "text"
    revised = Panel.from_frames(daily, realized, hourly).feature("revised")
    assert np.nansum(revised) == 40
    assert np.isnan(revised).sum() == 40
    assert "label" not in Panel.from_frames(daily, realized, hourly).features
    values = Panel.from_frames(daily, realized, hourly).feature("news")
    assert values.dtype == np.float64
    assert np.isnan(values).sum() == 40


def test_two_rows_for_one_key_are_refused() -> None:
    daily, realized, hourly = small_frames()
    with pytest.raises(ValueError, match=r"features.daily has two rows for \(ETH, 2023-01-01"):
        Panel.from_frames(pd.concat([daily, daily.iloc[:1]]), realized, hourly)
    with pytest.raises(ValueError, match=r"features.realized has two rows for \(ETH, 2023-01-01"):
        Panel.from_frames(daily, pd.concat([realized, realized.iloc[:1]]), hourly)
    with pytest.raises(ValueError, match=r"features.hourly has two rows for \(BTC, 2023-01-01"):
        Panel.from_frames(daily, realized, pd.concat([hourly, hourly.iloc[:1]]))


def test_mixed_sources_unknown_days_and_columns_are_named() -> None:
    daily, realized, hourly = small_frames()
    panel = Panel.from_frames(daily, realized, hourly)
    daily.iloc[0, daily.columns.get_loc("source")] = "archive"
    with pytest.raises(ValueError, match=r"mixes sources \['archive', 'simulated'\]"):
        Panel.from_frames(daily, realized, hourly)
    with pytest.raises(
        ValueError, match="as_of 2024-01-01: the panel has 2023-01-01 to 2023-02-09"
    ):
        panel.until(date(2024, 1, 1))
    with pytest.raises(KeyError, match="feature 'mvrv' is not in the panel"):
        panel.feature("mvrv")
    with pytest.raises(ValueError, match="horizon 0: expected a positive number of days"):
        panel.target(0)
    with pytest.raises(ValueError, match="window of 0 days"):
        panel.window(0)


def test_a_panel_without_realized_days_has_no_targets() -> None:
    daily, realized, hourly = small_frames()
    panel = Panel.from_frames(daily, realized.iloc[:0], hourly)
    assert np.isnan(panel.target(1)).all()
    assert len(panel.until(date(2023, 1, 5)).realized.day) == 0
    with pytest.raises(ValueError, match=r"features.daily has no rows"):
        Panel.from_frames(daily.iloc[:0], realized)


def funding_rows() -> pd.DataFrame:
    """Two venues of BTC on every day, one of them of ETH on the first ten."""
    parts = []
    for asset, venue, days in (
        ("BTC", "okx", DAYS),
        ("BTC", "binance", DAYS),
        ("ETH", "okx", DAYS[:10]),
    ):
        number = np.arange(1.0, len(days) + 1)
        parts.append(
            pd.DataFrame(
                {
                    "source": "simulated", "asset": asset, "as_of": days, "venue": venue,
                    "funding_rate_d": 1e-4 * number, "funding_rate_7d": np.nan,
                    "funding_deviation_d": 0.0, "funding_age_days": 0.02,
                }
            )
        )  # fmt: skip
    return pd.concat(parts)


def test_funding_stands_by_venue_and_is_cut_with_the_days() -> None:
    panel = Panel.from_frames(*small_frames(), funding_rows())
    assert panel.funding is not None
    assert panel.funding.venues == ("binance", "okx")
    assert panel.funding.values.shape == (40, 2, 2, len(FUNDING_FIELDS))
    rate = panel.funding.values[..., 0]  # (day, coin, venue)
    assert rate[4, 0].tolist() == pytest.approx([5e-4, 5e-4])
    assert np.isfinite(rate[:, 1]).tolist() == [[False, True]] * 10 + [[False, False]] * 30
    cut = panel.until(date(2023, 1, 20)).window(5)
    assert cut.funding is not None
    np.testing.assert_array_equal(cut.funding.values, panel.funding.values[15:20])
    assert Panel.from_frames(*small_frames()).funding is None
    with pytest.raises(ValueError, match="two rows for"):
        Panel.from_frames(*small_frames(), pd.concat([funding_rows(), funding_rows().iloc[:1]]))


def test_the_hash_holds_funding_and_is_that_of_the_panel_alone_without_it() -> None:
    frames, funding = small_frames(), funding_rows()
    plain = Panel.from_frames(*frames).data_hash()
    panel = Panel.from_frames(*frames, funding)
    assert panel.data_hash() != plain
    assert Panel.from_frames(*frames, funding.iloc[:0]).data_hash() == plain
    shuffled = Panel.from_frames(*frames, funding.sample(frac=1, random_state=1))
    assert shuffled.data_hash() == panel.data_hash()
    # A venue that is not heard of within the window does not change the hash of the window.
    old = funding[funding["asset"] == "BTC"].iloc[:3].assign(venue="aevo")
    more = Panel.from_frames(*frames, pd.concat([funding, old]))
    assert more.data_hash() != panel.data_hash()
    assert more.window(30).data_hash() == panel.window(30).data_hash()


def test_providers_are_names_by_day_and_coin() -> None:
    daily, realized, hourly = small_frames()
    daily["onchain_provider"] = np.where(daily["asset"] == "BTC", "coinmetrics", None)
    daily["sentiment_provider"] = None
    panel = Panel.from_frames(daily, realized, hourly)
    labels = panel.providers["onchain"]
    assert labels.names == ("", "coinmetrics")
    assert (labels.codes[:, 0] == 1).all()
    assert (labels.codes[:, 1] == 0).all()
    assert panel.providers["sentiment"].names == ("",)
    assert "onchain_provider" not in panel.features
    assert panel.window(3).providers["onchain"].codes.shape == (3, 2)
