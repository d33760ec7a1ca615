"""Tokens: what they hold, what they leave out, and that they never read ahead."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml.attention.maps import context_ages, token_providers, token_table
from ml.attention.scaling import Scaler, encode, fit_scaler, numbers_per_sample
from ml.attention.tokens import (
    ASSET_FIELDS,
    CONTEXT_FIELDS,
    CONTEXT_GROUPS,
    DAILY_FIELDS,
    GROUPS,
    HOURLY_FIELDS,
    WEEKLY_FIELDS,
    TokenConfig,
    Tokens,
    TokenSlots,
    fit_slots,
    make_tokens,
    price_share,
    unread_venues,
)
from ml.panel import FUNDING_FIELDS, Labels, Panel, VenueFunding
from tests.ml.attention.markets import planted_market

CONFIG = TokenConfig(
    daily_tokens=8, hourly_hours=24, weekly_tokens=2, asset_tokens=3, min_group_samples=50
)
SLOTS = TokenSlots(("binance", "okx"), ("BTC", "ETH", "XRP"))


def samples(panel: Panel, first: int = 70, last: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rows, assets = np.meshgrid(np.arange(first, last), np.arange(len(panel.assets)), indexing="ij")
    return rows.ravel(), assets.ravel()


def tokens_of(panel: Panel, first: int = 70, last: int = 400) -> Tokens:
    return make_tokens(panel, *samples(panel, first, last), CONFIG, SLOTS)


def one(panel: Panel, row: int, column: int, config: TokenConfig = CONFIG) -> Tokens:
    return make_tokens(panel, np.array([row]), np.array([column]), config, SLOTS)


def changed(panel: Panel, **features: np.ndarray) -> Panel:
    return replace(panel, features={**panel.features, **features})


@pytest.fixture(scope="module")
def venues(planted: Panel) -> Panel:
    """The planted market with the funding of three venues: rate 1, 2, 3 in units of 1e-4, moved by the row and the coin."""
    random = np.random.default_rng(5)
    shape = (len(planted.days), len(planted.assets), 3, len(FUNDING_FIELDS))
    values = 1e-5 * random.standard_normal(shape) + 1e-4 * np.arange(1, 4)[:, None]
    values[..., -1] = random.uniform(0, 1, shape[:-1])
    values[::3, :, 0] = np.nan  # the least covered
    funding = VenueFunding(("binance", "dydx", "okx"), values.astype(np.float32))
    return replace(planted, funding=funding)


# ---- price ------------------------------------------------------------------------------------------------------------


def test_daily_tokens_hold_the_last_days_oldest_first_relative_to_their_own_level(
    planted: Panel,
) -> None:
    found = one(planted, 100, 2)
    rv = planted.features["rv_d"][93:101, 2]
    expected = np.log(rv) - np.log(rv.mean())
    np.testing.assert_allclose(found.values["price_daily"][0, :, 0], expected, rtol=1e-5)
    assert found.values["price_daily"].shape == (1, 8, len(DAILY_FIELDS))


def test_a_daily_patch_holds_its_days_side_by_side(planted: Panel) -> None:
    patched = one(planted, 100, 2, replace(CONFIG, daily_tokens=4, daily_patch=2))
    plain = one(planted, 100, 2)
    np.testing.assert_array_equal(
        patched.values["price_daily"].reshape(8, len(DAILY_FIELDS)),
        plain.values["price_daily"][0],
    )


def test_hourly_tokens_hold_patches_of_hours_up_to_the_end_of_the_day(planted: Panel) -> None:
    patches = one(planted, 100, 1).values["price_hourly"]
    assert patches.shape == (1, 6, 4 * len(HOURLY_FIELDS))
    hours = patches.reshape(24, len(HOURLY_FIELDS))
    level = planted.features["rv_d"][93:101, 1].mean() / 24
    np.testing.assert_allclose(
        hours[:, 0], planted.hourly[100, :, 1, 0] / np.sqrt(level), rtol=1e-4
    )
    expected = np.log(planted.hourly[100, :, 1, 1] / level + 1e-3)
    np.testing.assert_allclose(hours[:, 1], expected, rtol=1e-3, atol=1e-4)
    signed = planted.hourly_fields.index("signed_volume_share")
    np.testing.assert_array_equal(hours[:, 4], planted.hourly[100, :, 1, signed])


def test_hours_without_taker_volume_lack_that_channel_alone(planted: Panel) -> None:
    kept = [n for n, name in enumerate(planted.hourly_fields) if name != "signed_volume_share"]
    fields = tuple(planted.hourly_fields[n] for n in kept)
    older = replace(planted, hourly=planted.hourly[..., kept], hourly_fields=fields)
    found = tokens_of(older)
    hours = found.values["price_hourly"].reshape(-1, len(HOURLY_FIELDS))
    assert np.isnan(hours[:, 4]).all()
    assert np.isfinite(hours[:, :4]).all()
    assert found.present["price_hourly"].all()


def test_weekly_tokens_aggregate_the_weeks_before_the_daily_ones(planted: Panel) -> None:
    found = one(planted, 100, 3)
    weeks = found.values["price_weekly"][0]
    assert weeks.shape == (2, len(WEEKLY_FIELDS))
    features = planted.features
    level = np.log(features["rv_d"][93:101, 3].mean())
    for position, stop in enumerate((86, 93)):  # rows 79..85 and 86..92
        week = slice(stop - 7, stop)
        log_rv = np.log(features["rv_d"][week, 3])
        ranges = 2 * np.log(features["high_low_range_d"][week, 3]) - log_rv
        total = features["return_d"][week, 3].sum() / np.sqrt(7 * np.exp(level))
        expected = [log_rv.mean() - level, log_rv.std(), total, ranges.mean(), 1.0]
        np.testing.assert_allclose(weeks[position], expected, rtol=1e-4)


def test_a_week_says_how_many_of_its_days_are_known_and_is_gone_without_any(planted: Panel) -> None:
    age = planted.features["price_age_days"].copy()
    age[80:84, 3] = [1, 2, 3, 4]
    age[86:93, 3] = np.arange(1, 8)
    weeks = one(changed(planted, price_age_days=age), 100, 3)
    assert weeks.present["price_weekly"].tolist() == [[True, False]]
    found = weeks.values["price_weekly"][0]
    assert found[0, WEEKLY_FIELDS.index("share_known")] == pytest.approx(3 / 7)
    kept = np.log(planted.features["rv_d"][[79, 84, 85], 3])
    level = np.log(planted.features["rv_d"][93:101, 3].mean())
    assert found[0, 0] == pytest.approx(kept.mean() - level, rel=1e-4)
    assert np.isnan(found[1]).all()


def test_a_stale_price_day_is_masked_and_lowers_the_share_of_prices(planted: Panel) -> None:
    age = planted.features["price_age_days"].copy()
    age[98:100, 1] = [1, 2]
    stale = changed(planted, price_age_days=age)
    found = make_tokens(stale, np.array([100, 100]), np.array([0, 1]), CONFIG, SLOTS)
    assert found.present["price_daily"].sum(axis=1).tolist() == [8, 6]
    assert np.isnan(found.values["price_daily"][1, 5:7]).all()
    assert price_share(stale, CONFIG)[100].tolist() == [1.0, 0.75, 1.0, 1.0]


def test_other_coins_are_tokens_and_the_own_coin_is_none(planted: Panel) -> None:
    found = tokens_of(planted, 100, 101)
    present = found.present["asset"]  # coins BTC, ETH, LTC, XRP; slots BTC, ETH, XRP
    assert present.tolist() == [
        [False, True, True],
        [True, False, True],
        [True, True, True],
        [True, True, False],
    ]
    values = found.values["asset"]
    assert values.shape == (4, 3, len(ASSET_FIELDS))
    np.testing.assert_array_equal(values[0, 1], values[2, 1])  # ETH is the same for every coin
    rv = planted.features["rv_d"][:, 1]
    level = rv[93:101].mean()
    expected = [
        np.log(rv[100] / level),
        planted.features["return_d"][100, 1] / np.sqrt(level),
        2 * np.log(planted.features["high_low_range_d"][100, 1]) - np.log(rv[100]),
        planted.features["log_volume_ratio_22d"][100, 1],
        np.log(rv[100] / rv[95]),
    ]
    np.testing.assert_allclose(values[2, 1], expected, rtol=1e-4)


def test_a_coin_that_the_panel_lacks_or_has_no_price_for_is_masked(planted: Panel) -> None:
    age = planted.features["price_age_days"].copy()
    age[100, 1] = 1.0
    slots = TokenSlots((), ("BTC", "ETH", "GONE"))
    stale = changed(planted, price_age_days=age)
    found = make_tokens(stale, np.array([100]), np.array([2]), CONFIG, slots)
    assert found.present["asset"].tolist() == [[True, False, False]]


def test_a_panel_without_hours_has_no_hourly_tokens(planted: Panel) -> None:
    bare = replace(planted, hourly=planted.hourly[..., :0], hourly_fields=())
    assert not tokens_of(bare).present["price_hourly"].any()


# ---- context ----------------------------------------------------------------------------------------------------------


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


def test_a_modality_without_any_value_is_masked_and_an_age_alone_is_no_value(
    planted: Panel,
) -> None:
    tokens = tokens_of(planted)
    assert not tokens.present["funding"].any()
    assert not tokens.present["order_book"].any()
    assert tokens.present["onchain"].all()
    gone = changed(planted, mvrv=np.full_like(planted.features["mvrv"], np.nan))
    assert not tokens_of(gone).present["onchain"].any()


def test_each_venue_has_a_token_of_its_own_and_one_without_a_slot_is_not_read(
    venues: Panel,
) -> None:
    found = one(venues, 100, 2)
    values = found.values["funding"][0]  # binance, okx and two slots without a name
    assert venues.funding is not None
    for slot, venue in ((0, 0), (1, 2)):
        expected = venues.funding.values[100, 2, venue].copy()
        expected[-1] = np.log1p(expected[-1])
        np.testing.assert_allclose(values[slot], expected, rtol=1e-6)
    assert found.present["funding"].tolist() == [[True, True, False, False]]
    assert one(venues, 102, 2).present["funding"].tolist() == [[False, True, False, False]]
    assert unread_venues(venues, SLOTS) == ("dydx",)
    other = venues.funding.values.copy()
    other[:, :, 1] = 9.0
    moved = replace(venues, funding=replace(venues.funding, values=other))
    np.testing.assert_array_equal(
        tokens_of(moved).values["funding"], tokens_of(venues).values["funding"]
    )


def test_order_books_enter_by_their_imbalance_and_the_logarithms_of_spread_and_depth(
    planted: Panel,
) -> None:
    everywhere = np.ones_like(planted.features["mvrv"])
    books = changed(
        planted,
        book_imbalance_10_d=0.25 * everywhere,
        book_imbalance_50bp_d=-0.5 * everywhere,
        book_microprice_offset_bps_d=0.1 * everywhere,
        book_spread_bps_d=2.0 * everywhere,
        book_depth_50bp_usd_d=1e6 * everywhere,
        order_book_age_days=0.01 * everywhere,
    )
    found = one(books, 100, 0)
    assert found.present["order_book"].all()
    expected = [0.25, -0.5, 0.1, np.log(2.0), np.log(1e6), np.log1p(0.01)]
    np.testing.assert_allclose(found.values["order_book"][0, 0], expected, rtol=1e-5)


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
    asked = make_tokens(flows, *samples(flows), replace(CONFIG, use_revised_flows=True), SLOTS)
    assert (asked.values["onchain"][:, 0, column] == 1).all()


# ---- point in time ----------------------------------------------------------------------------------------------------


def test_tokens_of_a_day_do_not_change_when_later_rows_do(venues: Panel) -> None:
    poisoned = {name: values.copy() for name, values in venues.features.items()}
    for values in poisoned.values():
        values[200:] = 1e9
    hourly, funding = venues.hourly.copy(), venues.funding
    assert funding is not None
    hourly[200:] = 1e9
    rates = funding.values.copy()
    rates[200:] = 1e9
    before = tokens_of(venues, last=200)
    later = replace(
        venues, features=poisoned, hourly=hourly, funding=replace(funding, values=rates)
    )
    after = tokens_of(later, last=200)
    assert tuple(before.values) == GROUPS
    for group in GROUPS:
        np.testing.assert_array_equal(before.values[group], after.values[group])
        np.testing.assert_array_equal(before.present[group], after.present[group])


def test_tokens_read_no_further_back_than_the_declared_lookback(venues: Panel) -> None:
    config = replace(CONFIG, daily_tokens=6, daily_patch=3, hourly_hours=72, weekly_tokens=3)
    assert config.lookback_days == 18 + 21
    rows, assets = samples(venues, 150, 160)
    whole = make_tokens(venues, rows, assets, config, SLOTS)
    known = venues.until(venues.days[159].item()).window(config.lookback_days + 9)
    offset = len(known.days) - 160
    cut = make_tokens(known, rows + offset, assets, config, SLOTS)
    for group in GROUPS:
        np.testing.assert_array_equal(whole.values[group], cut.values[group])


def test_a_day_gives_the_same_tokens_alone_and_in_a_block_and_in_chunks(venues: Panel) -> None:
    scaler = Scaler.fit(tokens_of(venues), CONFIG)
    rows, assets = samples(venues, 300, 330)
    block, mask = encode(venues, rows, assets, CONFIG, SLOTS, scaler)
    chunks, chunk_mask = encode(venues, rows, assets, CONFIG, SLOTS, scaler, chunk=7)
    np.testing.assert_array_equal(mask, chunk_mask)
    day = rows == 317
    alone, alone_mask = encode(venues, rows[day], assets[day], CONFIG, SLOTS, scaler)
    np.testing.assert_array_equal(mask[day], alone_mask)
    for group, values in block.items():
        np.testing.assert_array_equal(values, chunks[group])
        np.testing.assert_array_equal(values[day], alone[group])


# ---- slots ------------------------------------------------------------------------------------------------------------


def test_slots_go_to_the_best_covered_venues_and_coins_of_training_in_a_fixed_order(
    venues: Panel,
) -> None:
    assert fit_slots(venues, 70, 300, CONFIG).assets == ("BTC", "ETH", "LTC")
    two = replace(CONFIG, funding_venues=2)
    assert fit_slots(venues, 70, 300, two).venues == ("dydx", "okx")
    assert fit_slots(venues, 70, 300, CONFIG).venues == ("binance", "dydx", "okx")
    volume = np.ones_like(venues.features["rv_d"]) * [1.0, 1.0, 1.0, 5.0]
    assert fit_slots(changed(venues, quote_volume_d=volume), 70, 300, CONFIG).assets == (
        "BTC", "ETH", "XRP",
    )  # fmt: skip
    young = venues.features["price_age_days"].copy()
    young[:100, 2] = 1.0  # LTC has fewer days
    assert fit_slots(changed(venues, price_age_days=young), 70, 300, CONFIG).assets[2] == "XRP"
    late = volume.copy()
    late[300:] = [1.0, 1.0, 99.0, 1.0]  # after training: of no interest
    assert fit_slots(changed(venues, quote_volume_d=late), 70, 300, CONFIG).assets[2] == "XRP"


def test_slots_survive_their_mapping() -> None:
    assert TokenSlots.from_mapping(SLOTS.as_mapping()) == SLOTS


# ---- scaling ----------------------------------------------------------------------------------------------------------


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
    assert not mask[:, CONFIG.tokens_of("funding")].any()
    assert mask[:, CONFIG.tokens_of("onchain")].all()


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


def test_a_modality_that_training_never_saw_stays_masked_when_it_appears(
    planted: Panel, venues: Panel
) -> None:
    scaler = Scaler.fit(tokens_of(planted), CONFIG)
    tokens = tokens_of(venues)
    assert tokens.present["funding"][:, :2].any()
    inputs, mask = scaler.apply(tokens)
    assert not mask[:, CONFIG.tokens_of("funding")].any()
    assert (inputs["funding"] == 0).all()


def test_values_far_outside_training_are_clipped(planted: Panel) -> None:
    scaler = Scaler.fit(tokens_of(planted), CONFIG)
    extreme = changed(planted, mvrv=np.full_like(planted.features["mvrv"], 1e12))
    inputs, _ = scaler.apply(tokens_of(extreme))
    assert inputs["onchain"].max() < 5


def test_a_scaler_of_many_values_is_fitted_on_every_kth_sample(
    planted: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, assets = samples(planted)
    whole = fit_scaler(planted, rows, assets, CONFIG, SLOTS)
    np.testing.assert_array_equal(
        whole.statistics["price_daily"],
        Scaler.fit(tokens_of(planted), CONFIG).statistics["price_daily"],
    )
    limit = len(rows) * numbers_per_sample(CONFIG) // 2
    monkeypatch.setattr("ml.attention.scaling.FIT_NUMBERS", limit)
    part = fit_scaler(planted, rows, assets, CONFIG, SLOTS)
    expected = Scaler.fit(make_tokens(planted, rows[::3], assets[::3], CONFIG, SLOTS), CONFIG)
    assert part.statistics["onchain"][4].max() < 0.6 * whole.statistics["onchain"][4].max()
    assert set(part.statistics) == set(expected.statistics)


# ---- sizes ------------------------------------------------------------------------------------------------------------


def test_the_default_makes_61_tokens() -> None:
    counts = TokenConfig().token_counts()
    assert counts == {
        "calendar": 1, "price_daily": 22, "price_hourly": 12, "price_weekly": 8,
        "funding": 4, **dict.fromkeys(CONTEXT_GROUPS[1:], 1), "asset": 8,
    }  # fmt: skip
    assert sum(counts.values()) == 61
    assert TokenConfig().lookback_days == 22 + 56


def test_a_scale_set_to_nothing_has_no_token_and_the_others_stand_where_they_say(
    planted: Panel,
) -> None:
    config = replace(CONFIG, hourly_hours=0, weekly_tokens=0, funding_venues=0, asset_tokens=0)
    rows, assets = samples(planted, 70, 300)
    scaler = fit_scaler(planted, rows, assets, config, SLOTS)
    inputs, mask = encode(planted, rows, assets, config, SLOTS, scaler)
    assert tuple(inputs) == ("calendar", "price_daily", *CONTEXT_GROUPS[1:])
    assert mask.shape[1] == 1 + 8 + 6 == len(config.token_groups())
    presence = config.context_presence(mask)
    assert presence.shape == (len(rows), len(CONTEXT_GROUPS))
    assert presence.all(axis=0).tolist() == [g in ("onchain", "sentiment") for g in CONTEXT_GROUPS]


@pytest.mark.parametrize("group", GROUPS)
def test_shapes_say_what_is_made(venues: Panel, group: str) -> None:
    tokens = tokens_of(venues)
    scaler = Scaler.fit(tokens, CONFIG)
    shape = scaler.shapes(CONFIG)[group]
    assert tokens.values[group].shape[1:] == (shape.tokens, CONFIG.widths()[group])
    assert scaler.apply(tokens)[0][group].shape[1:] == (shape.tokens, shape.width)


def test_a_year_of_hours_is_made_in_chunks_and_not_all_at_once() -> None:
    panel = planted_market(days=380, coins=2)
    config = TokenConfig(hourly_hours=8640, hourly_patch=1, weekly_tokens=0)
    assert sum(config.token_counts().values()) > 8640
    rows, assets = samples(panel, 360, 380)
    part = slice(0, len(rows), 8)
    scaler = Scaler.fit(make_tokens(panel, rows[part], assets[part], config, SLOTS), config)
    tracemalloc.start()
    inputs, _ = encode(panel, rows, assets, config, SLOTS, scaler, chunk=4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = sum(values.nbytes for values in inputs.values())
    assert inputs["price_hourly"].shape == (40, 8640, 2 * len(HOURLY_FIELDS))
    newest = inputs["price_hourly"][-1, -24:, 3]
    scale = scaler.statistics["price_hourly"]
    expected = (panel.hourly[379, :, 1, 3].clip(*scale[:2, 3]) - scale[2, 3]) / scale[3, 3]
    np.testing.assert_allclose(newest, expected, rtol=1e-4)
    assert peak < 2 * result


# ---- maps -------------------------------------------------------------------------------------------------------------


def test_the_table_names_the_venue_or_coin_of_a_slot_and_the_provider_of_a_modality(
    venues: Panel,
) -> None:
    codes = np.zeros((len(venues.days), len(venues.assets)), dtype=np.int32)
    codes[100:, 1] = 1
    panel = replace(venues, providers={"onchain": Labels(("", "coinmetrics"), codes)})
    table = token_table(CONFIG, SLOTS)
    names, found = token_providers(panel, np.array([99, 100]), table)
    texts = np.array(names, dtype=object)[found]  # (day, coin, token)
    onchain = table.modality.index("onchain")
    assert texts[:, 1, onchain].tolist() == ["", "coinmetrics"]
    assert (texts[:, 0, onchain] == "").all()
    assert texts[0, 0, CONFIG.tokens_of("asset")].tolist() == ["BTC", "ETH", "XRP"]
    assert texts[0, 0, CONFIG.tokens_of("funding")].tolist() == ["binance", "okx", "", ""]
    price = np.isin(table.modality, ("price", "calendar"))
    assert (texts[..., price] == "").all()
    ages = context_ages(panel, np.array([100]), table)
    assert ages.shape == (1, 4, CONFIG.tokens_of(*CONTEXT_GROUPS).stop - table.context.start)
    assert panel.funding is not None
    np.testing.assert_allclose(ages[0, :, 1], panel.funding.values[100, :, 2, -1])
    assert np.isnan(ages[0, :, 2]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hourly_patch": 5}, "hourly_patch 5: must divide hourly_hours 48"),
        ({"daily_tokens": 0}, "daily_tokens 0: expected a positive integer"),
        ({"daily_patch": 0}, "daily_patch 0: expected a positive integer"),
        ({"weekly_tokens": -1}, "weekly_tokens -1: expected 0 or a positive integer"),
        ({"daily_tokens": 365, "weekly_tokens": 60}, "read 785 days: expected at most 750"),
        ({"min_price_share": 1.5}, r"min_price_share 1.5: expected a share"),
        ({"clip_quantile": 0.5}, r"clip_quantile 0.5: expected a share"),
    ],
)
def test_a_bad_setting_is_an_error_that_quotes_it(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenConfig(**change)  # type: ignore[arg-type]
