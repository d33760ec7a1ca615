"""The anchor: HARX-cal as it is by itself, and a pooled one that also forecasts coins that it never saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from ml.attention.anchors import (
    ANCHORS,
    BORROWED,
    LEVEL_DAYS,
    HarxCalAnchor,
    PanelHarAnchor,
    PooledAnchor,
    anchor_class,
    gives_anchor,
)
from ml.attention.config import AttentionConfig
from ml.attention.model import AttentionModel
from ml.baselines.har import HarxCal, cross_fitted_variance
from ml.panel import Panel, RealizedVersions
from tests.ml.attention.markets import SMALL, planted_market

TRAINED = date(2022, 1, 20)
DAYS = [TRAINED + timedelta(days=k) for k in range(1, 6)]


@pytest.fixture(scope="module")
def market() -> Panel:
    return planted_market(days=420, coins=6, seed=4)


def without(panel: Panel, *coins: str) -> Panel:
    """The panel as if these coins did not exist."""
    kept = [column for column, asset in enumerate(panel.assets) if asset not in coins]
    place = np.full(len(panel.assets), -1)
    place[kept] = np.arange(len(kept))
    versions = panel.realized.select(np.isin(panel.realized.asset, kept))
    moved: RealizedVersions = replace(versions, asset=place[versions.asset])
    return replace(
        panel,
        assets=tuple(panel.assets[column] for column in kept),
        features={name: values[:, kept] for name, values in panel.features.items()},
        hourly=panel.hourly[:, :, kept],
        realized=moved,
    )


@pytest.fixture(scope="module")
def pooled(market: Panel) -> PooledAnchor:
    """Fitted on all coins but one."""
    anchor = PooledAnchor()
    anchor.fit(without(market, "TRX"), TRAINED, 360, 0)
    return anchor


def test_harx_cal_as_an_anchor_is_harx_cal(market: Panel) -> None:
    anchor, model = HarxCalAnchor(), HarxCal()
    anchor.fit(market, TRAINED, 360, 0)
    model.fit(market, TRAINED, {"window_days": 360}, 0)
    log_variance, status = anchor.forecast(market, DAYS)
    np.testing.assert_array_equal(log_variance, np.log(model.forecast(market, DAYS).variance))
    assert (status == "ok").all()
    days, variance = anchor.cross_fitted(market, TRAINED, 360)
    own_days, own = cross_fitted_variance(market, TRAINED, {"window_days": 360})
    np.testing.assert_array_equal(days, own_days)
    np.testing.assert_array_equal(variance, own)


@pytest.mark.parametrize("name", ANCHORS)
def test_a_stored_anchor_gives_the_same_numbers(market: Panel, name: str) -> None:
    anchor = anchor_class(name)()
    anchor.fit(without(market, "TRX"), TRAINED, 360, 0)
    again = anchor_class(name).from_state(anchor.state())
    for one, other in zip(anchor.forecast(market, DAYS), again.forecast(market, DAYS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ANCHORS)
def test_a_day_stands_for_itself_and_later_rows_change_nothing(market: Panel, name: str) -> None:
    anchor = anchor_class(name)()
    anchor.fit(without(market, "TRX"), TRAINED, 360, 0)
    block, _ = anchor.forecast(market, DAYS)
    for position, day in enumerate(DAYS):
        poisoned = {key: values.copy() for key, values in market.features.items()}
        for values in poisoned.values():
            values[market.row(day) + 1 :] = 7.0
        late = market.realized.known_on > np.datetime64(day)
        versions = replace(market.realized, variance=np.where(late, 7.0, market.realized.variance))
        alone, _ = anchor.forecast(replace(market, features=poisoned, realized=versions), [day])
        np.testing.assert_array_equal(alone[0], block[position])


def test_harx_cal_refuses_a_coin_it_was_not_fitted_on(market: Panel) -> None:
    anchor = HarxCalAnchor()
    anchor.fit(without(market, "TRX"), TRAINED, 360, 0)
    log_variance, status = anchor.forecast(market, DAYS)
    unseen = market.assets.index("TRX")
    assert np.isnan(log_variance[:, unseen]).all()
    assert not gives_anchor(status)[:, unseen].any()
    assert gives_anchor(status).sum() == 5 * 5


def test_the_pooled_anchor_forecasts_an_unseen_coin_nearly_as_well_as_its_own_fit(
    market: Panel, pooled: PooledAnchor
) -> None:
    days = [TRAINED + timedelta(days=k) for k in range(1, 30)]
    unseen = market.assets.index("TRX")
    log_variance, status = pooled.forecast(market, days)
    assert (status[:, unseen] == BORROWED).all()
    assert gives_anchor(status).all()
    everyone = PooledAnchor()
    everyone.fit(market, TRAINED, 360, 0)
    own, _ = everyone.forecast(market, days)
    assert np.abs(log_variance[:, unseen] - own[:, unseen]).mean() < 0.12


def test_the_level_of_an_unseen_coin_is_its_own(market: Panel, pooled: PooledAnchor) -> None:
    """A coin with all of another's columns but twice its later variance moves up from the panel's line."""
    unseen = market.assets.index("TRX")
    raised = replace(
        market.realized,
        variance=np.where(
            market.realized.asset == unseen,
            2.0 * market.realized.variance,
            market.realized.variance,
        ),
    )
    before, _ = pooled.forecast(market, DAYS)
    after, _ = pooled.forecast(replace(market, realized=raised), DAYS)
    moved = after[:, unseen] - before[:, unseen]
    assert (moved > 0).all()
    assert (moved < np.log(2.0)).all()  # drawn to the panel's level
    assert (moved[:, 0] > moved[:, 2]).all()  # 250 days say more about one day ahead than about 22
    others = np.arange(len(market.assets)) != unseen
    np.testing.assert_array_equal(after[:, others], before[:, others])


def test_only_the_declared_lookback_is_read(market: Panel, pooled: PooledAnchor) -> None:
    whole, _ = pooled.forecast(market, DAYS[-1:])
    cut = market.until(DAYS[-1]).window(pooled.lookback_days)
    assert pooled.lookback_days == LEVEL_DAYS
    short, _ = pooled.forecast(cut, DAYS[-1:])
    np.testing.assert_array_equal(whole, short)


def test_an_unseen_coin_with_too_short_a_past_is_refused_with_the_reason(
    market: Panel, pooled: PooledAnchor
) -> None:
    unseen = market.assets.index("TRX")
    young = {name: values.copy() for name, values in market.features.items()}
    listed = market.row(TRAINED) - 20
    young["rv_66d"][:listed, unseen] = np.nan
    log_variance, status = pooled.forecast(replace(market, features=young), DAYS[:1])
    assert np.isnan(log_variance[0, unseen]).all()
    assert "needs 22 days with every regressor" in status[0, unseen]
    young["rv_66d"][:, unseen] = np.nan
    _, status = pooled.forecast(replace(market, features=young), DAYS[:1])
    assert status[0, unseen] == "rv_66d is missing or 0"


def test_a_coin_too_young_for_training_is_forecast_by_the_panel(market: Panel) -> None:
    column = market.assets.index("TRX")
    young = {name: values.copy() for name, values in market.features.items()}
    young["rv_66d"][: market.row(TRAINED) - 50, column] = np.nan
    panel = replace(market, features=young)
    anchor = PooledAnchor()
    anchor.fit(panel, TRAINED, 360, 0)
    assert anchor.state().meta["status"][market.assets[column]] == BORROWED
    for fitted in (anchor, PooledAnchor.from_state(anchor.state())):
        log_variance, status = fitted.forecast(panel, DAYS)
        assert (status[:, column] == BORROWED).all()
        assert np.isfinite(log_variance[:, column]).all()


def test_the_attention_model_forecasts_a_coin_that_training_never_saw(market: Panel) -> None:
    model = AttentionModel()
    config = {**SMALL, "anchor": "har_pooled", "epochs": 4}
    model.fit(without(market, "TRX"), TRAINED, config, seed=3)
    forecasts = model.forecast(market, DAYS)
    unseen = market.assets.index("TRX")
    assert np.isfinite(forecasts.variance).all()
    assert (forecasts.status[:, unseen] == BORROWED).all()
    assert not forecasts.calibrated[unseen].any()
    assert set(forecasts.to_frame()["asset"]) == set(market.assets)
    again = AttentionModel.from_state(model.state()).forecast(market, DAYS)
    np.testing.assert_array_equal(again.log_quantiles, forecasts.log_quantiles)
    assert np.isfinite(model.attention(market, DAYS).weights[:, unseen]).all()


def test_with_harx_cal_as_the_anchor_an_unseen_coin_is_refused_with_the_reason(
    market: Panel,
) -> None:
    model = AttentionModel()
    config = {**SMALL, "anchor": "harx_cal", "epochs": 1}
    model.fit(without(market, "TRX"), TRAINED, config, seed=3)
    forecasts = model.forecast(market, DAYS)
    unseen = market.assets.index("TRX")
    assert np.isnan(forecasts.variance[:, unseen]).all()
    assert (forecasts.status[:, unseen] == "TRX was not in the training data").all()


def test_an_unknown_anchor_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="anchor 'garch': expected one of harx_cal, har_pooled"):
        AttentionConfig.from_mapping({"anchor": "garch"})


def test_the_panel_har_without_hours_refuses_and_says_so() -> None:
    market = planted_market()
    daily_only = replace(market, hourly=market.hourly[..., :0], hourly_fields=())
    anchor = PanelHarAnchor()
    anchor.fit(daily_only, TRAINED, 360, 0)
    log_variance, status = anchor.forecast(daily_only, DAYS[:1])
    assert np.isnan(log_variance).all()
    assert "needs features.hourly" in status[0, 0]
