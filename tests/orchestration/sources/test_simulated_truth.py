"""The simulated market keeps its word: every stated lead, lag and shape is in the data."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from orchestration.sources.market.coins import DEFAULT_ASSETS, coin
from orchestration.sources.market.latent import LatentMarket, day_number
from orchestration.sources.market.truth import TRUTH
from orchestration.sources.protocol import SourceError
from orchestration.sources.simulated import SimulatedSource

START = date(2022, 1, 1)
DAYS = [START + timedelta(days=at) for at in range(1460)]
UNTIL = datetime(2024, 12, 31, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource(7)


@pytest.fixture(scope="module")
def latent(source: SimulatedSource) -> pd.DataFrame:
    return source.latent_variance(DAYS)


@pytest.fixture(scope="module")
def onchain(source: SimulatedSource, read) -> pd.DataFrame:
    return read(source, "onchain_metrics", None, UNTIL)


def wide(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.pivot(index="day", columns="asset", values=column)


def r_squared(explained: pd.DataFrame, by: pd.DataFrame) -> float:
    """Of one pooled regression; both (day, coin)."""
    joined = pd.DataFrame({"y": explained.stack(), "x": by.stack()}).dropna()
    return float(joined.corr().loc["y", "x"] ** 2)


def test_the_components_add_up_to_the_latent_variance(latent: pd.DataFrame) -> None:
    parts = [name for name in latent if name.startswith("log_")]
    parts = [name for name in parts if name not in ("log_innovation", "log_return")]
    assert np.allclose(latent[parts].sum(axis=1), np.log(latent["latent_variance"]))
    total = latent["latent_variance"] + latent["jump_variance"]
    assert np.allclose(latent["quadratic_variance"], total)


def test_latent_variance_is_given_by_coin_and_day_and_can_be_parquet(
    source: SimulatedSource, latent: pd.DataFrame, tmp_path
) -> None:
    assert list(latent["asset"].unique()) == list(DEFAULT_ASSETS)
    assert len(latent) == len(DEFAULT_ASSETS) * len(DAYS)
    latent.to_parquet(tmp_path / "latent.parquet")
    picked = source.latent_variance([DAYS[30], DAYS[10]])
    assert list(picked["day"].dt.date[:2]) == [DAYS[30], DAYS[10]]
    expected = wide(latent, "latent_variance")["BTC"].iloc[[30, 10]].to_numpy()
    assert np.array_equal(picked["latent_variance"][:2].to_numpy(), expected)
    with pytest.raises(SourceError, match="the market starts on 2022-01-01"):
        source.latent_variance([date(2021, 12, 31)])
    with pytest.raises(SourceError, match="at least one day"):
        source.latent_variance([])


@pytest.mark.parametrize(
    ("driver", "lead"),
    [("flow_driver", TRUTH.planted_lead), ("funding_driver", TRUTH.funding_lead)],
)
def test_a_planted_driver_explains_its_share_at_its_lag_and_none_at_others(
    latent: pd.DataFrame, driver: str, lead
) -> None:
    innovation, drivers = wide(latent, "log_innovation"), wide(latent, driver)
    found = {lag: r_squared(innovation, drivers.shift(lag)) for lag in range(5)}
    assert abs(found.pop(lead.lead_days) - lead.innovation_share) < 0.03
    assert max(found.values()) < 0.01


def test_the_planted_lead_is_in_the_published_flows_first_release_and_revised(
    latent: pd.DataFrame, onchain: pd.DataFrame
) -> None:
    innovation = wide(latent, "log_innovation")
    flows = onchain[onchain["metric"].str.startswith("Flow")].sort_values("known_at")
    shares = {}
    for version in ("first", "last"):
        value = flows.groupby(["metric", "ts", "asset"])["value"].agg(version).unstack("asset")
        ratio = np.log(value.loc["FlowInExUSD"] / value.loc["FlowOutExUSD"])
        ratio.index = ratio.index.tz_localize(None).astype(innovation.index.dtype)
        shifted = ratio.reindex(innovation.index).shift(TRUTH.planted_lead.lead_days)
        shares[version] = r_squared(innovation, shifted)
    assert 0.11 < shares["first"] < shares["last"] < 0.20


def test_the_newest_known_flow_at_the_decision_is_the_one_that_moves_tomorrow(
    onchain: pd.DataFrame,
) -> None:
    decision = pd.Timestamp("2023-05-11 00:30", tz="UTC")  # as_of 2023-05-10
    flows = onchain[(onchain["metric"] == "FlowInExUSD") & (onchain["asset"] == "BTC")]
    newest = flows[flows["known_at"] <= decision]["ts"].max()
    target = pd.Timestamp("2023-05-11", tz="UTC")
    assert target - newest == pd.Timedelta(days=TRUTH.planted_lead.lead_days)


def test_published_funding_leads_variance_by_a_day(
    source: SimulatedSource, latent: pd.DataFrame, read
) -> None:
    rates = read(source, "funding_rates", None, UNTIL)
    scaled = rates.assign(
        day=rates["ts"].dt.floor("D").dt.tz_localize(None),
        eight_hours=rates["rate"] * 8.0 / rates["interval_hours"],
    )
    level = scaled.groupby(["day", "asset"])["eight_hours"].mean().unstack("asset")
    innovation = wide(latent, "log_innovation")
    level.index = level.index.astype(innovation.index.dtype)
    level = level.reindex(innovation.index)
    shares = {lag: r_squared(innovation, level.shift(lag)) for lag in (1, 4, 6)}
    assert shares[1] > 0.02
    assert shares[1] > 2 * max(shares[4], shares[6])


def test_the_spurious_metric_is_persistent_and_means_nothing(
    source: SimulatedSource, latent: pd.DataFrame, read
) -> None:
    moods = read(source, "sentiment_metrics", None, UNTIL)
    chatter = moods[moods["metric"] == TRUTH.spurious_metric].set_index("ts")["value"]
    assert chatter.autocorr(1) > 0.9
    innovation = wide(latent, "log_innovation").mean(axis=1)
    chatter.index = chatter.index.tz_localize(None).astype(innovation.index.dtype)
    for lag in range(4):
        assert abs(innovation.corr(np.log(chatter).reindex(innovation.index).shift(lag))) < 0.1


def test_log_variance_has_long_memory() -> None:
    market = LatentMarket(11, [coin(asset) for asset in DEFAULT_ASSETS], START)
    states = market.through(day_number(START) + 6000)
    log_variance = states.log_variance - market.weekday_factor(states.day)[:, None]
    deviation = log_variance - log_variance.mean(axis=0)

    def memory(lag: int) -> float:
        return float((deviation[lag:] * deviation[:-lag]).mean() / (deviation**2).mean())

    assert memory(1) > 0.8
    assert memory(22) > 0.3
    assert memory(100) > 0.12
    # hyperbolic rather than geometric: far slower than the first weeks' decay would continue
    assert memory(66) > 2.0 * memory(22) ** 3


def test_falls_raise_variance_and_rises_lower_it(latent: pd.DataFrame) -> None:
    innovation, shock = wide(latent, "log_innovation"), wide(latent, "shock")
    for asset in DEFAULT_ASSETS:
        tomorrow = innovation[asset].corr(shock[asset].shift(TRUTH.leverage_lag_days))
        assert tomorrow < -0.12
        assert abs(innovation[asset].corr(shock[asset])) < 0.08


def test_weekends_are_calmer(latent: pd.DataFrame) -> None:
    by_weekday = np.log(latent["latent_variance"]).groupby(latent["day"].dt.weekday).mean()
    assert by_weekday[[5, 6]].max() < by_weekday[[0, 1, 2, 3, 4]].min()


def test_turbulence_comes_in_spells_and_raises_variance(latent: pd.DataFrame) -> None:
    bitcoin = latent[latent["asset"] == "BTC"]
    switches = (bitcoin["turbulent"] != bitcoin["turbulent"].shift()).sum()
    assert 0.05 < bitcoin["turbulent"].mean() < 0.5
    assert switches < 0.06 * len(bitcoin)
    mean = bitcoin.groupby("turbulent")["latent_variance"].mean()
    assert mean[True] > 1.3 * mean[False]


def test_jumps_are_rare_and_large(latent: pd.DataFrame) -> None:
    jumped = latent["jump_variance"] > 0
    assert 0.01 < jumped.mean() < 0.08
    size = np.sqrt(latent["jump_variance"] / latent["latent_variance"])[jumped]
    assert size.min() > 0.9
    assert size.median() > 1.8


def test_coins_move_together(latent: pd.DataFrame) -> None:
    returns = wide(latent, "log_return").corr().to_numpy()
    variances = np.log(wide(latent, "latent_variance")).corr().to_numpy()
    off = ~np.eye(len(DEFAULT_ASSETS), dtype=bool)
    assert 0.4 < returns[off].min() < returns[off].max() < 0.95
    assert variances[off].min() > 0.35


def test_levels_look_like_a_crypto_market() -> None:
    market = LatentMarket(3, [coin(asset) for asset in DEFAULT_ASSETS], START)
    states = market.through(day_number(START) + 9000)
    volatility = np.sqrt(365.0 * (states.log_return**2).mean(axis=0))
    stated = np.asarray([made.volatility for made in market.coins])
    assert np.all(np.abs(volatility / stated - 1.0) < 0.35)
    prices = np.exp(states.log_price_open - market.law.log_price)
    assert prices.min() > 1e-3
    assert prices.max() < 1e3


def test_implied_volatility_is_forward_looking_and_dear(
    source: SimulatedSource, latent: pd.DataFrame, read
) -> None:
    frame = read(source, "implied_volatility", None, UNTIL)
    daily = frame[(frame["resolution"] == "1d") & (frame["asset"] == "BTC")].set_index("ts")
    quadratic = wide(latent, "quadratic_variance")["BTC"]
    ahead = quadratic.rolling(30).mean().shift(-30)
    index = daily.index.tz_localize(None).astype(quadratic.index.dtype)
    realised = 100.0 * np.sqrt(365.0 * ahead.reindex(index))
    implied = pd.Series(daily["close"].to_numpy(), index=index)
    assert np.log(implied).corr(np.log(realised)) > 0.4
    assert 1.0 < implied.mean() / realised.mean() < 1.35
    hourly = frame[frame["resolution"] == "1h"]
    assert hourly["ts"].min() == pd.Timestamp("2024-03-01", tz="UTC")
    ohlc = frame[["open", "high", "low", "close"]]
    assert (frame["high"] == ohlc.max(axis=1)).all()
    assert (frame["low"] == ohlc.min(axis=1)).all()


def test_fear_and_greed_follows_returns_of_the_day_before(
    source: SimulatedSource, latent: pd.DataFrame, read
) -> None:
    moods = read(source, "sentiment_metrics", None, UNTIL)
    fear = moods[moods["metric"] == "fear_greed"].set_index("ts")["value"]
    returns = wide(latent, "shock")["BTC"]
    fear.index = fear.index.tz_localize(None).astype(returns.index.dtype)
    change = fear.reindex(returns.index).diff()
    assert change.corr(returns.shift(TRUTH.fear_greed_lag_days)) > 0.4
    assert abs(change.corr(returns)) < 0.1
    assert fear.between(0, 100).all()
    assert set(moods[moods["metric"] == "fear_greed"]["label"]) <= {
        "Extreme Fear",
        "Fear",
        "Neutral",
        "Greed",
        "Extreme Greed",
    }


def test_the_truth_is_plain_data(source: SimulatedSource) -> None:
    described = source.describe()
    assert described["source"] == "simulated"
    assert described["truth"]["planted_lead"]["lead_days"] == 2
    assert described["truth"]["spurious_metric"] == "moon_phase_chatter"
    assert source.truth() is TRUTH
