"""Tokens: what they hold, what they leave out, and that they never read ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml.attention.scaling import Scaler
from ml.attention.tokens import (
    CONTEXT_FIELDS,
    DAILY_FIELDS,
    GROUPS,
    TokenConfig,
    Tokens,
    make_tokens,
    price_share,
)
from ml.panel import Panel

CONFIG = TokenConfig(daily_tokens=8, hourly_hours=24, min_group_samples=50)


def samples(panel: Panel, first: int = 70, last: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rows, assets = np.meshgrid(np.arange(first, last), np.arange(len(panel.assets)), indexing="ij")
    return rows.ravel(), assets.ravel()


def tokens_of(panel: Panel, first: int = 70, last: int = 400) -> Tokens:
    return make_tokens(panel, *samples(panel, first, last), CONFIG)


def changed(panel: Panel, **features: np.ndarray) -> Panel:
    return replace(panel, features={**panel.features, **features})


def test_daily_tokens_hold_the_last_days_oldest_first_relative_to_their_own_level(
    planted: Panel,
) -> None:
    found = make_tokens(planted, np.array([100]), np.array([2]), CONFIG)
    rv = planted.features["rv_d"][93:101, 2]
    expected = np.log(rv) - np.log(rv.mean())
    np.testing.assert_allclose(found.values["price_daily"][0, :, 0], expected, rtol=1e-5)
    assert found.values["price_daily"].shape == (1, 8, len(DAILY_FIELDS))


def test_hourly_tokens_hold_patches_of_hours_up_to_the_end_of_the_day(planted: Panel) -> None:
    found = make_tokens(planted, np.array([100]), np.array([1]), CONFIG)
    patches = found.values["price_hourly"]
    assert patches.shape == (1, 6, 16)
    level = np.sqrt(planted.features["rv_d"][93:101, 1].mean() / 24)
    returns = planted.hourly[100, :, 1, 0] / level
    np.testing.assert_allclose(patches.reshape(24, 4)[:, 0], returns, rtol=1e-4)


def test_the_calendar_is_that_of_the_target_days_and_the_same_for_every_coin(
    planted: Panel,
) -> None:
    calendar = tokens_of(planted).values["calendar"][:, 0]
    rows, _ = samples(planted)
    for index in (0, 5, 101, 400):
        ahead = pd.date_range(planted.days[rows[index]], periods=23)[1:]
        assert calendar[index, :7].argmax() == ahead[0].dayofweek
        assert calendar[index, 7] == pytest.approx((ahead[:5].dayofweek >= 5).mean())
        assert calendar[index, 8] == pytest.approx((ahead.dayofweek >= 5).mean())
    assert (calendar.reshape(330, 4, 9) == calendar.reshape(330, 4, 9)[:, :1]).all()


def test_tokens_of_a_day_do_not_change_when_later_rows_do(planted: Panel) -> None:
    poisoned = {name: values.copy() for name, values in planted.features.items()}
    for values in poisoned.values():
        values[200:] = 1e9
    hourly = planted.hourly.copy()
    hourly[200:] = 1e9
    before = tokens_of(planted, last=200)
    after = tokens_of(replace(planted, features=poisoned, hourly=hourly), last=200)
    for group in GROUPS:
        np.testing.assert_array_equal(before.values[group], after.values[group])
        np.testing.assert_array_equal(before.present[group], after.present[group])


def test_a_modality_without_any_value_is_masked_and_an_age_alone_is_no_value(
    planted: Panel,
) -> None:
    tokens = tokens_of(planted)
    assert not tokens.present["funding"].any()
    assert tokens.present["onchain"].all()
    gone = changed(planted, mvrv=np.full_like(planted.features["mvrv"], np.nan))
    assert not tokens_of(gone).present["onchain"].any()


def test_missing_values_enter_as_zero_with_their_flag(planted: Panel) -> None:
    scaler = Scaler.fit(tokens_of(planted), CONFIG)
    inputs, mask = scaler.apply(tokens_of(planted))
    onchain = inputs["onchain"][:, 0]
    n_fields = len(CONTEXT_FIELDS["onchain"]) + 1
    position = CONTEXT_FIELDS["onchain"].index("mvrv")
    flags = onchain[:, n_fields:]
    assert (flags[:, position] == 0).all()
    assert (flags[:, -1] == 0).all()  # the age
    assert flags.sum(axis=1) == pytest.approx(n_fields - 2)
    assert (onchain[:, :n_fields][flags == 1] == 0).all()
    assert (inputs["funding"] == 0).all()
    assert not mask[:, 15].any()


def test_a_stale_price_day_is_masked_and_lowers_the_share_of_prices(planted: Panel) -> None:
    age = planted.features["price_age_days"].copy()
    age[98:100, 1] = [1, 2]
    stale = changed(planted, price_age_days=age)
    found = make_tokens(stale, np.array([100, 100]), np.array([0, 1]), CONFIG)
    assert found.present["price_daily"].sum(axis=1).tolist() == [8, 6]
    assert np.isnan(found.values["price_daily"][1, 5:7]).all()
    assert price_share(stale, CONFIG)[100].tolist() == [1.0, 0.75, 1.0, 1.0]


def test_exchange_flows_that_are_revised_later_are_not_read_unless_asked_for(
    planted: Panel,
) -> None:
    flows = changed(
        planted,
        exchange_netflow_ratio=np.ones_like(planted.features["mvrv"]),
        onchain_flows_revised=np.ones_like(planted.features["mvrv"]),
    )
    column = CONTEXT_FIELDS["onchain"].index("exchange_netflow_ratio")
    assert np.isnan(tokens_of(flows).values["onchain"][:, 0, column]).all()
    asked = make_tokens(flows, *samples(flows), replace(CONFIG, use_revised_flows=True))
    assert (asked.values["onchain"][:, 0, column] == 1).all()


def test_scaling_knows_the_training_samples_alone(planted: Panel) -> None:
    scaler = Scaler.fit(tokens_of(planted, last=200), CONFIG)
    poisoned = {name: values.copy() for name, values in planted.features.items()}
    for values in poisoned.values():
        values[200:] *= 7
    again = Scaler.fit(tokens_of(replace(planted, features=poisoned), last=200), CONFIG)
    for group in GROUPS:
        np.testing.assert_array_equal(scaler.statistics[group], again.statistics[group])
    inputs, _ = scaler.apply(tokens_of(planted, last=200))
    assert abs(inputs["price_daily"][..., 0].mean()) < 0.01
    assert inputs["price_daily"][..., 0].std() == pytest.approx(1, abs=0.01)


def test_a_modality_that_training_never_saw_stays_masked_when_it_appears(planted: Panel) -> None:
    scaler = Scaler.fit(tokens_of(planted), CONFIG)
    later = changed(planted, funding_rate_d=np.full_like(planted.features["mvrv"], 1e-4))
    tokens = tokens_of(later)
    assert tokens.present["funding"].all()
    inputs, mask = scaler.apply(tokens)
    assert not mask[:, 15].any()
    assert (inputs["funding"] == 0).all()


def test_values_far_outside_training_are_clipped(planted: Panel) -> None:
    scaler = Scaler.fit(tokens_of(planted), CONFIG)
    extreme = changed(planted, mvrv=np.full_like(planted.features["mvrv"], 1e12))
    inputs, _ = scaler.apply(tokens_of(extreme))
    assert inputs["onchain"].max() < 5


def test_a_panel_without_hours_has_no_hourly_tokens(planted: Panel) -> None:
    bare = replace(planted, hourly=planted.hourly[..., :0], hourly_fields=())
    assert not tokens_of(bare).present["price_hourly"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hourly_patch": 5}, "hourly_patch 5: must divide hourly_hours 48"),
        ({"daily_tokens": 0}, "daily_tokens 0: expected a positive integer"),
        ({"min_price_share": 1.5}, r"min_price_share 1.5: expected a share"),
        ({"clip_quantile": 0.5}, r"clip_quantile 0.5: expected a share"),
    ],
)
def test_a_bad_setting_is_an_error_that_quotes_it(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenConfig(**change)  # type: ignore[arg-type]
