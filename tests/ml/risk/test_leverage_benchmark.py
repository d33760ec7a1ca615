"""Inputs of `python -m benchmarks leverage`: trades after the decision, and shortfall that knows no later return."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from benchmarks.leverage_inputs import _with_shortfall, sunday_before, trade_prices


def test_a_trade_is_made_at_the_first_hourly_close_after_the_decision() -> None:
    hours = pd.date_range("2023-01-01", "2023-01-03 23:00", freq="h", tz="UTC")
    bars = pd.DataFrame({"asset": "BTC", "ts": hours, "close": np.arange(len(hours), dtype=float)})
    prices = trade_prices(bars, ["BTC"], date(2023, 1, 1), date(2023, 1, 2))
    assert prices["BTC"].tolist() == [
        24.0,
        48.0,
    ]  # the bars of 00:00 on the days after, over at 01:00


def test_the_sunday_before_is_strictly_before() -> None:
    days = pd.Series(pd.to_datetime(["2023-01-01", "2023-01-02", "2023-01-07", "2023-01-08"]))
    found = [str(day.date()) for day in sunday_before(days)]
    assert found == ["2022-12-25", "2023-01-01", "2023-01-01", "2023-01-01"]


def test_shortfall_learns_from_returns_that_are_over_on_the_sunday_before() -> None:
    days = pd.date_range("2023-01-01", periods=120)
    chance = np.random.default_rng(1)
    rows = pd.DataFrame(
        {"asset": "BTC", "horizon": 5, "as_of": days, "variance": 1e-3, "horizon_return": 0.05 * chance.standard_normal(120)}
    ).assign(sunday=sunday_before(pd.Series(days)))  # fmt: skip
    found = _with_shortfall(rows)["es_975"]
    cut = 100
    known = rows.assign(
        horizon_return=rows["horizon_return"].where(days <= days[cut] - pd.Timedelta(days=5), -0.5)
    )
    again = _with_shortfall(known)["es_975"]
    assert found.notna().sum() > 40
    assert again[: cut + 1].equals(found[: cut + 1])
    assert again.iloc[-1] > 2 * found.iloc[-1]
