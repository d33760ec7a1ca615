"""Adaptive conformal intervals: coverage through shifts, no future, the same in one run or in many, rising quantiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from ml.conformal import ADDED_COLUMNS, ConformalSettings, adjust
from ml.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS

START = pd.Timestamp("2021-01-01")
NORMAL = norm.ppf(QUANTILE_LEVELS)


def history(
    log_variance: np.ndarray, log_quantiles: np.ndarray, asset: str = "BTC", horizon: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts (T, Q) of successive days and their outcomes (T,), known when the horizon is over."""
    days = START + pd.to_timedelta(np.arange(len(log_variance)), unit="D")
    forecasts = pd.DataFrame({"asset": asset, "as_of": days, "horizon": horizon, "model": "m"})
    forecasts[list(QUANTILE_COLUMNS)] = np.sqrt(365 * np.exp(log_quantiles))
    outcomes = pd.DataFrame(
        {
            "asset": asset, "as_of": days, "horizon": horizon, "realized_variance": np.exp(log_variance),
            "known_on": days + pd.Timedelta(days=horizon),
        }
    )  # fmt: skip
    return forecasts, outcomes


def inside(frame: pd.DataFrame, outcomes: pd.DataFrame, low: str, high: str) -> np.ndarray:
    both = frame.merge(outcomes, on=["asset", "as_of", "horizon"])
    volatility = np.sqrt(365 * both["realized_variance"])
    return ((volatility >= both[low]) & (volatility <= both[high])).to_numpy()


def shifted(days: int = 1500, at: int = 700, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model that is right until variance doubles, residuals grow by half, and it takes no notice."""
    noise = np.random.default_rng(seed).standard_normal(days)
    late = np.arange(days) >= at
    log_variance = -8 + 0.6 * noise * np.where(late, 1.5, 1.0) + np.log(2) * late
    return history(log_variance, np.broadcast_to(-8 + 0.6 * NORMAL, (days, len(NORMAL))))


def test_coverage_recovers_after_variance_doubles() -> None:
    forecasts, outcomes = shifted()
    adjusted = adjust(forecasts, outcomes)
    for low, high, nominal, slack in (("q10", "q90", 0.8, 0.04), ("q025", "q975", 0.95, 0.025)):
        raw, ours = (inside(frame, outcomes, low, high) for frame in (forecasts, adjusted))
        assert raw[900:].mean() < nominal - 0.15
        assert ours[900:].mean() == pytest.approx(nominal, abs=slack)
        assert ours[700:800].mean() > raw[700:800].mean() + 0.05
        assert ours[:700].mean() == pytest.approx(nominal, abs=slack)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_intervals_that_are_too_narrow_or_too_wide_are_put_right(factor: float) -> None:
    noise = np.random.default_rng(1).standard_normal(1500)
    forecasts, outcomes = history(
        -8 + 0.6 * noise, np.broadcast_to(-8 + 0.6 * factor * NORMAL, (1500, len(NORMAL)))
    )
    adjusted = adjust(forecasts, outcomes)
    assert inside(adjusted, outcomes, "q10", "q90")[300:].mean() == pytest.approx(0.8, abs=0.04)
    below = np.sqrt(365 * outcomes["realized_variance"]) <= adjusted["q50"]
    assert below[300:].mean() == pytest.approx(0.5, abs=0.04)


def test_intervals_that_are_right_stay_about_as_wide() -> None:
    noise = np.random.default_rng(2).standard_normal(1200)
    forecasts, outcomes = history(
        -8 + 0.6 * noise, np.broadcast_to(-8 + 0.6 * NORMAL, (1200, len(NORMAL)))
    )
    adjusted = adjust(forecasts, outcomes)
    width = np.log(adjusted["q90"] / adjusted["q10"]) / np.log(forecasts["q90"] / forecasts["q10"])
    assert width[200:].mean() == pytest.approx(1.0, abs=0.05)
    assert width[200:].std() < 0.1


def test_nothing_known_after_the_decision_changes_a_quantile() -> None:
    forecasts, outcomes = shifted(400, 200)
    day = START + pd.Timedelta(days=250)
    expected = adjust(forecasts, outcomes)
    poisoned = outcomes.copy()
    poisoned.loc[poisoned["known_on"] > day, "realized_variance"] = 1e3
    later = forecasts.copy()
    later.loc[later["as_of"] > day, list(QUANTILE_COLUMNS)] *= 7.0
    found = adjust(later, poisoned)
    past = forecasts["as_of"] <= day
    pd.testing.assert_frame_equal(found[past], expected[past])
    assert not found[~past].equals(expected[~past])


def messy(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three series of two horizons and models: late starts, gaps, outcomes that are late, missing or NaN."""
    generator = np.random.default_rng(seed)
    parts = []
    for number, (asset, horizon) in enumerate((("BTC", 1), ("BTC", 5), ("NEW", 1))):
        days = 160
        center = -8 + 0.4 * np.sin(np.arange(days) / 9)
        quantiles = np.sort(
            center[:, None] + generator.standard_normal((days, len(NORMAL))), axis=1
        )
        made, known = history(
            center + generator.standard_normal(days), quantiles, asset, horizon
        )  # fmt: skip
        made = made[(np.arange(days) >= 50 * (number == 2)) & (generator.random(days) > 0.15)]
        known["known_on"] += pd.to_timedelta(generator.choice([0, 0, 0, 4], days), unit="D")
        known.loc[generator.random(days) < 0.1, "realized_variance"] = np.nan
        parts.append((made, known[generator.random(days) > 0.1]))
    forecasts = pd.concat([made for made, _ in parts], ignore_index=True)
    forecasts = pd.concat([forecasts, forecasts.assign(model="other")], ignore_index=True)
    forecasts.loc[generator.random(len(forecasts)) < 0.05, "q05"] = np.nan
    return forecasts, pd.concat([known for _, known in parts], ignore_index=True)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 159))
def test_quantiles_rise_and_daily_runs_equal_a_backfill(seed: int, last: int) -> None:
    forecasts, outcomes = messy(seed)
    whole = adjust(forecasts, outcomes)
    values = whole[list(QUANTILE_COLUMNS)].to_numpy()
    complete = np.isfinite(values).all(axis=1)
    assert (np.diff(values[complete], axis=1) >= 0).all()
    assert (complete == forecasts[list(QUANTILE_COLUMNS)].notna().all(axis=1)).all()
    assert not whole.loc[~complete, "calibrated"].any()
    now = START + pd.Timedelta(days=last)
    past, known = forecasts["as_of"] <= now, outcomes["known_on"] <= now
    shuffled = adjust(
        forecasts[past].sample(frac=1, random_state=1),
        outcomes[known].sample(frac=1, random_state=2),
    )
    pd.testing.assert_frame_equal(shuffled.sort_index(), whole[past])


def test_other_models_and_coins_change_nothing() -> None:
    forecasts, outcomes = messy(3)
    whole = adjust(forecasts, outcomes)
    alone = (forecasts["model"] == "m") & (forecasts["asset"] == "NEW")
    pd.testing.assert_frame_equal(adjust(forecasts[alone], outcomes), whole[alone])
    pd.testing.assert_frame_equal(adjust(whole.assign(**forecasts), outcomes), whole)


def test_a_row_tells_how_many_outcomes_stand_behind_it_and_how_they_were_covered() -> None:
    forecasts, outcomes = shifted(500, 300)
    forecasts["calibrated"] = True  # whatever the model said
    adjusted = adjust(forecasts, outcomes)
    assert set(ADDED_COLUMNS) <= set(adjusted.columns)
    assert adjusted["outcomes"].tolist() == list(range(500))
    assert adjusted["calibrated"].tolist() == [False] * 60 + [True] * 440
    covered = inside(adjusted, outcomes, "q10", "q90")
    assert np.isnan(adjusted["coverage_80"].iloc[0])
    assert adjusted["coverage_80"].iloc[200] == pytest.approx(covered[:200].mean())
    assert adjusted["coverage_80"].iloc[450] == pytest.approx(covered[200:450].mean())
    longer = adjust(*history(np.zeros(50), np.tile(NORMAL, (50, 1)), horizon=22))
    assert longer["outcomes"].tolist() == [0] * 22 + list(range(1, 29))


def test_wrong_input_is_quoted() -> None:
    forecasts, outcomes = shifted(40, 20)
    with pytest.raises(ValueError, match="forecasts have no column 'q50'"):
        adjust(forecasts.drop(columns="q50"), outcomes)
    with pytest.raises(ValueError, match="outcomes have no column 'known_on'"):
        adjust(forecasts, outcomes.drop(columns="known_on"))
    with pytest.raises(ValueError, match=r"two forecasts for \('m', 'BTC'"):
        adjust(pd.concat([forecasts, forecasts.iloc[:1]]), outcomes)
    early = outcomes.assign(known_on=outcomes["as_of"])
    with pytest.raises(ValueError, match="is before the horizon was over"):
        adjust(forecasts, early)
    with pytest.raises(ValueError, match=r"step_sizes \(-0.1,\): expected"):
        ConformalSettings(step_sizes=(-0.1,))
    with pytest.raises(ValueError, match="memory 0: expected a positive"):
        ConformalSettings(memory=0)
    assert adjust(forecasts.iloc[:0], outcomes).empty
    assert not adjust(forecasts, outcomes.iloc[:0])["calibrated"].any()
