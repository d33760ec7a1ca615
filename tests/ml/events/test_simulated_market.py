"""On the simulated market exchange flows lead volatility by two days: the event that reads them has an effect, another has none; its regimes are seen."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from ml.events.detector import detect
from ml.events.effects import event_effect
from ml.events.large_transfers import LARGE_TRANSFERS
from ml.events.liquidity_dry_up import LIQUIDITY_DRY_UP
from ml.regimes.fitting import fit_regimes
from ml.regimes.market import market_members, market_series
from orchestration.sources.market.truth import TRUTH
from orchestration.sources.simulated import SimulatedSource

DAYS = [date(2022, 1, 1) + timedelta(days=at) for at in range(1100)]


@pytest.fixture(scope="module")
def latent() -> pd.DataFrame:
    return SimulatedSource(7).latent_variance(DAYS)


@pytest.fixture(scope="module")
def broad() -> pd.DataFrame:
    """Sixteen coins: an event is rare on one."""
    coins = ("BTC", "ETH", *(f"C{n:02}" for n in range(14)))
    return SimulatedSource(7, coins).latent_variance(DAYS)


def wide(latent: pd.DataFrame, name: str) -> np.ndarray:
    return latent.pivot(index="day", columns="asset", values=name).to_numpy(float)


def test_the_planted_lead_of_exchange_flows_shows_as_the_effect_of_its_event(broad) -> None:
    chance = np.random.default_rng(1)
    driver = wide(broad, "flow_driver")
    shape = driver.shape
    released = np.full(shape, np.nan)
    noise = np.hypot(TRUTH.flow_noise, TRUTH.flow_first_release_noise)
    signal = TRUTH.flow_signal * driver + noise * chance.standard_normal(shape)
    released[1:] = np.tanh(
        0.5 * signal[:-1]
    )  # day D-1 is the newest that is known on the evening of D
    columns = {
        "exchange_netflow_ratio": released,
        "exchange_flow_change_7d": 0.3 * chance.standard_normal(shape),
        "fees_change_7d": 0.3 * chance.standard_normal(shape),
        "amihud_22d": np.exp(0.3 * chance.standard_normal(shape)),
        "corwin_schultz_d": np.abs(chance.standard_normal(shape)),
        "log_volume_ratio_22d": chance.standard_normal(shape),
        "book_depth_50bp_usd_d": np.exp(chance.standard_normal(shape)),
        "book_spread_bps_d": np.exp(chance.standard_normal(shape)),
    }
    new = np.full(shape, np.nan)
    new[:-1] = wide(broad, "log_innovation")[1:]  # what the day after brings
    effects = {}
    for detector in (LARGE_TRANSFERS, LIQUIDITY_DRY_UP):
        found = detect(detector, columns, np.arange(200, len(DAYS)))
        active = np.where(np.isfinite(found.score), found.active, np.nan)
        effects[detector.name] = event_effect(new[200:], active, 1)
    assert effects["large_transfers"].episodes >= 10
    assert effects["large_transfers"].low_95 > 0
    quiet = effects["liquidity_dry_up"]
    assert not quiet.judged or quiet.low_95 < 0 < quiet.high_95


def test_the_markets_turbulent_days_are_told_from_calm_ones(latent) -> None:
    """Long memory moves variance too, so the regime is not all of it: the area under the curve is that of a good but not a perfect classifier."""
    variance = wide(latent, "latent_variance")
    chance = np.random.default_rng(0)
    table = np.log(variance) + 0.25 * chance.standard_normal(variance.shape)
    coins = tuple(sorted(set(latent["asset"])))
    series = market_series(coins, table, market_members(coins, table))
    days = np.array(DAYS, dtype="datetime64[D]")
    fit = fit_regimes(days, series)
    assert fit.reason == ""
    turbulent = wide(latent, "turbulent")[:, 0] > 0
    probability = fit.model.filtered(days, series)[:, 2]
    ranks, count = rankdata(probability), turbulent.sum()
    area = (ranks[turbulent].sum() - count * (count + 1) / 2) / (count * (~turbulent).sum())
    assert area > 0.7
    assert int(np.argmin(fit.model.weekday)) == int(np.argmin(TRUTH.weekday_log_factors))
