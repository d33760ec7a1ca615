"""On the simulated market the default config finds the planted lead, and leaves the spurious metric alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from ml.attention.model import AttentionModel
from ml.attention.tokens import CONTEXT_FIELDS
from ml.explain.attribution import ablation_effects
from ml.explain.explanations import explain
from ml.panel import Panel
from orchestration.sources.simulated import SimulatedSource
from tests.ml.archive_frames import frames_from_bars

COINS = ("BTC", "ETH", "LTC", "XRP", "ADA", "SOL")
START, END = date(2022, 1, 1), date(2024, 6, 9)
TRAINED = END - timedelta(days=60)
DECISION = pd.Timedelta(minutes=30)


def table(source: SimulatedSource, name: str) -> pd.DataFrame:
    until = datetime(END.year, END.month, END.day, tzinfo=UTC) + timedelta(days=1)
    return pd.concat([part.to_pandas() for part in source.batches(name, None, until)])


def as_first_known(rows: pd.DataFrame) -> pd.DataFrame:
    """(as_of, asset) values: the newest day whose first release was known at the decision time."""
    first = rows.sort_values("known_at").drop_duplicates(["asset", "ts"])
    known = pd.to_datetime(first["known_at"], utc=True) - DECISION - pd.Timedelta(microseconds=1)
    first = first.assign(as_of=known.dt.tz_localize(None).dt.floor("D"))
    newest = first.sort_values("ts").drop_duplicates(["asset", "as_of"], keep="last")
    return newest.pivot(index="as_of", columns="asset", values="value")


@pytest.fixture(scope="module")
def market() -> Panel:
    """Prices, exchange flows as the on-chain modality, the spurious metric as the sentiment modality."""
    source = SimulatedSource(7, COINS, START, END, fine_from=END + timedelta(days=1))
    bars = table(source, "ohlcv")
    bars = bars.assign(asset=bars["symbol"].str.split("/").str[0]).drop_duplicates(["asset", "ts"])
    daily, realized = frames_from_bars(bars, "simulated")
    truth, chain = source.truth(), table(source, "onchain_metrics")
    inflow, outflow = (
        as_first_known(chain[chain["metric"] == name]) for name in truth.planted_lead.metrics
    )
    flows = ((inflow - outflow) / (inflow + outflow)).stack().rename("exchange_netflow_ratio")
    metrics = table(source, "sentiment_metrics")
    spurious = as_first_known(metrics[metrics["metric"] == truth.spurious_metric]).iloc[:, 0]
    daily = daily.merge(flows.reset_index(), on=["as_of", "asset"], how="left")
    daily = daily.merge(
        np.log(spurious).rename("social_volume_change_7d").reset_index(), on="as_of", how="left"
    )
    return Panel.from_frames(daily.assign(onchain_age_days=1.0, sentiment_age_days=1.0), realized)


@pytest.fixture(scope="module")
def model(market: Panel) -> AttentionModel:
    found = AttentionModel()
    found.fit(market, TRAINED, {"anchor": "harx_cal"}, seed=7)  # this panel has no hours
    return found


def test_the_planted_lead_lowers_the_loss_of_the_anchor(model: AttentionModel) -> None:
    found = model.state().meta["fit"]["validation"]["1"]
    assert found["qlike_full_residual"] < 0.99 * found["qlike_anchor"]
    assert found["shrinkage"] > 0.3


def test_masking_the_planted_modality_moves_the_forecast_most_and_the_spurious_one_little(
    model: AttentionModel, market: Panel
) -> None:
    made = model.encode(market, [TRAINED + timedelta(days=k) for k in range(1, 61)])
    effects = np.abs(ablation_effects(model, made)[:, :, 0])
    present = ~np.isnan(effects).all(axis=0)
    mean = {
        group: float(np.nanmean(effects[:, index]))
        for index, group in enumerate(made.inputs)
        if group in CONTEXT_FIELDS and present[index]
    }
    assert set(mean) == {"onchain", "sentiment"}
    assert max(mean, key=lambda group: mean[group]) == "onchain"
    assert mean["sentiment"] < 0.5 * mean["onchain"]


def test_gradients_and_ablation_rank_the_planted_modality_first_among_context_groups(
    model: AttentionModel, market: Panel
) -> None:
    days = [TRAINED + timedelta(days=k) for k in range(1, 31)]
    found = explain(model, market, days)
    one = found.explanations[found.explanations["horizon"] == 1]
    size = one.assign(
        gradients=one["integrated_gradients"].abs(), ablation=one["ablation_effect"].abs()
    )
    context = size[size["feature_group"].isin(["onchain", "sentiment"])]
    mean = context.groupby("feature_group")[["gradients", "ablation"]].mean()
    assert (mean.loc["onchain"] > 2 * mean.loc["sentiment"]).all()
    # Without checks of the version, attention is not called an explanation of anything.
    used = found.audits[found.audits["residual_weight"] > 0]
    assert "valid" not in set(used["verdict"])
