"""Intervals grow where a modality is missing that matters and that the coin is used to, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml.attention.model import AttentionModel
from ml.attention.tokens import CONTEXT_FIELDS
from ml.attention.widening import Widening, reach, usual_groups, widen, widening_factor
from ml.forecasts import QUANTILE_LEVELS, Forecasts
from ml.model import ModelState
from ml.panel import Panel
from tests.ml.attention.markets import SMALL, planted_market

LEVELS = np.array(QUANTILE_LEVELS)
MIDDLE = len(LEVELS) // 2
NORMAL = np.array([-2.326, -1.960, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 1.960, 2.326])


# ---- the factor -------------------------------------------------------------------------------------------------------


def _block(days: int = 300, coins: int = 4, seed: int = 0) -> tuple[np.ndarray, ...]:
    """(signal that a modality carries, target, day): without the signal the error is sqrt(2) times as large."""
    random = np.random.default_rng(seed)
    signal, noise = random.standard_normal((2, days * coins))
    return signal, signal + noise, np.repeat(np.arange(days), coins)


def _factor(masked_median: np.ndarray, masked_width: float = 1.0, **block: int) -> float:
    signal, target, day = _block(**block)
    with_it = signal[:, None] + NORMAL
    masked = masked_median[:, None] + masked_width * NORMAL
    return widening_factor(target, with_it, masked, day, 1, LEVELS, 0.5)


def test_quantiles_of_the_right_shape_grow_by_the_ratio_of_the_errors() -> None:
    signal, _, _ = _block()
    assert _factor(0 * signal) == pytest.approx(np.sqrt(2), rel=0.06)
    assert _factor(0 * signal, masked_width=np.sqrt(2)) == pytest.approx(1.0, abs=0.02)


def test_after_widening_the_outer_intervals_cover_as_often_as_with_the_modality() -> None:
    signal, target, _ = _block()
    masked = np.zeros_like(target)[:, None] + NORMAL
    wider = widen(masked, np.full(len(target), _factor(0 * signal)))
    with_it = signal[:, None] + NORMAL
    for low, high in ((0, -1), (1, -2), (2, -3), (3, -4)):
        shares = [((target >= q[:, low]) & (target <= q[:, high])).mean() for q in (with_it, wider)]
        assert shares[1] == pytest.approx(shares[0], abs=0.02)
        assert ((target >= masked[:, low]) & (target <= masked[:, high])).mean() < shares[0] - 0.03


def test_a_modality_that_changes_nothing_or_does_harm_costs_nothing() -> None:
    signal, target, day = _block()
    assert _factor(signal) == 1.0
    worse_with_it = widening_factor(
        target, NORMAL + 0 * target[:, None], signal[:, None] + NORMAL, day, 1, LEVELS, 0.5
    )
    assert worse_with_it == 1.0
    assert _factor(signal, masked_width=1.5) == 1.0  # wide enough already


def test_noise_widens_next_to_nothing() -> None:
    factors = []
    for seed in range(20):
        signal, _, _ = _block(days=60, seed=seed)
        jitter = 0.05 * np.random.default_rng(100 + seed).standard_normal(len(signal))
        factors.append(_factor(signal + jitter, days=60, seed=seed))
    assert np.median(factors) == 1.0
    assert max(factors) < 1.05


_QUANTILES = arrays(np.float64, (3, len(LEVELS)), elements=st.floats(-5, 5)).map(
    lambda values: np.sort(values, axis=1)
)


@given(
    quantiles=_QUANTILES, target=arrays(np.float64, 3, elements=st.floats(-9, 9)), f=st.floats(1, 4)
)
def test_reach_is_the_factor_from_which_on_an_interval_covers(
    quantiles: np.ndarray, target: np.ndarray, f: float
) -> None:
    needed = reach(target, quantiles)
    wider = widen(quantiles, np.full(3, f))
    assert (np.diff(wider, axis=1) >= 0).all()
    np.testing.assert_array_equal(wider[:, MIDDLE], quantiles[:, MIDDLE])
    if f == 1:
        assert wider is not quantiles
        np.testing.assert_array_equal(wider, quantiles)
    clear = np.abs(needed - f) > 1e-6
    away = np.abs(target - quantiles[:, MIDDLE])
    for k in range(4):
        covers = (target >= wider[:, k] - 1e-9) & (target <= wider[:, -1 - k] + 1e-9)
        judged = clear[:, k] & (away > 1e-6)
        np.testing.assert_array_equal(covers[judged], (needed[:, k] <= f)[judged])


# ---- whom it concerns -------------------------------------------------------------------------------------------------


WIDENING = Widening(
    factor=np.array([[1.5, 1.0], [1.2, 1.1], [1.0, 1.0], [2.0, 1.3]]),
    usual=np.array([[True, True, True], [True, False, False], [False, False, False]]),
)


@pytest.mark.parametrize(
    ("coin", "present", "expected"),
    [
        (0, [True, True, True], [1.0, 1.0]),
        (0, [False, True, True], [1.5, 1.0]),
        (0, [False, False, True], [1.5, 1.1]),
        (0, [True, True, False], [1.0, 1.0]),
        (0, [False, False, False], [2.0, 1.3]),
        (1, [False, False, False], [1.5, 1.0]),  # used to one group alone
        (1, [True, False, False], [1.0, 1.0]),
        (2, [False, False, False], [1.0, 1.0]),  # used to none
        (2, [True, True, True], [1.0, 1.0]),
    ],
)
def test_the_largest_factor_of_what_the_coin_misses_counts(
    coin: int, present: list[bool], expected: list[float]
) -> None:
    found = WIDENING.of(np.array([present, present]), np.array([coin, coin]))
    assert found.tolist() == [expected, expected]


def test_a_coin_is_used_to_what_over_half_of_its_samples_have() -> None:
    asset = np.array([0, 0, 0, 1, 1])
    present = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [0, 0]], dtype=bool)
    assert usual_groups(present, asset, 3).tolist() == [
        [True, False],
        [False, False],
        [False, False],
    ]


# ---- a fitted model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Panel:
    """Tomorrow's variance follows today's on-chain value; sentiment leads nothing."""
    return planted_market(days=460, coins=6, seed=2)


@pytest.fixture(scope="module")
def trained(market: Panel) -> date:
    day: date = market.days[-110].item()
    return day


@pytest.fixture(scope="module")
def model(market: Panel, trained: date) -> AttentionModel:
    """Trained without modality dropout: such a network does not widen by itself."""
    found = AttentionModel()
    found.fit(market, trained, {**SMALL, "modality_dropout": 0.0}, seed=3)
    return found


@pytest.fixture(scope="module")
def days(trained: date) -> list[date]:
    return [trained + timedelta(days=k) for k in range(1, 109)]


def _without(panel: Panel, columns: Sequence[str], rows: slice = slice(None)) -> Panel:
    features = {name: values.copy() for name, values in panel.features.items()}
    for name in columns:
        features[name][rows] = np.nan
    return replace(panel, features=features)


def _coverage(forecasts: Forecasts, panel: Panel, days: list[date], low: int) -> float:
    """Of the central interval from level `low` on, one day ahead."""
    target = np.log(panel.target(1)[panel.rows(days)])
    quantiles = forecasts.log_quantiles[:, :, 0]
    known = np.isfinite(target)
    inside = (target >= quantiles[..., low]) & (target <= quantiles[..., -1 - low])
    return float(inside[known].mean())


def _as_before(model: AttentionModel) -> AttentionModel:
    """The same model from an artefact that knows no widening."""
    state = model.state()
    tensors = {k: v for k, v in state.tensors.items() if k not in ("widening", "usual_groups")}
    return AttentionModel.from_state(ModelState(tensors, state.meta))


def test_meta_records_a_factor_for_the_modality_that_matters_and_one_for_the_others(
    model: AttentionModel,
) -> None:
    found = model.state().meta["fit"]["widening"]["1"]
    assert set(found) == {*CONTEXT_FIELDS, "all"}
    assert found["onchain"] > 1.2
    assert found["all"] >= found["onchain"]
    assert found["sentiment"] - 1 < 0.3 * (found["onchain"] - 1)
    assert found["funding"] == found["stablecoin"] == 1.0  # the panel has none
    np.testing.assert_array_equal(
        model.state().tensors["widening"][:, 0], [found[name] for name in (*CONTEXT_FIELDS, "all")]
    )


def test_with_everything_there_the_numbers_are_those_of_a_model_without_widening(
    model: AttentionModel, market: Panel, days: list[date]
) -> None:
    one, other = (m.forecast(market, days) for m in (model, _as_before(model)))
    np.testing.assert_array_equal(one.log_quantiles, other.log_quantiles)
    np.testing.assert_array_equal(one.variance, other.variance)


def test_without_the_modality_that_matters_intervals_are_wider_and_cover_as_they_say(
    model: AttentionModel, market: Panel, days: list[date]
) -> None:
    bare = _without(market, ["mvrv"])
    wide, narrow = (m.forecast(bare, days) for m in (model, _as_before(model)))
    np.testing.assert_array_equal(wide.variance, narrow.variance)
    np.testing.assert_array_equal(
        wide.log_quantiles[..., MIDDLE], narrow.log_quantiles[..., MIDDLE]
    )
    assert (np.diff(wide.log_quantiles, axis=-1) >= 0).all()
    spread = [np.diff(f.log_quantiles[..., 0, [3, -4]], axis=-1)[..., 0] for f in (wide, narrow)]
    factor = model.state().meta["fit"]["widening"]["1"]["onchain"]
    np.testing.assert_allclose(spread[0] / spread[1], factor)
    whole = model.forecast(market, days)
    for low, nominal in enumerate((0.98, 0.95, 0.9, 0.8)):
        covered = _coverage(wide, market, days, low)
        assert covered == pytest.approx(nominal, abs=0.08)
        assert covered == pytest.approx(_coverage(whole, market, days, low), abs=0.08)
        assert _coverage(narrow, market, days, low) < nominal - 0.08


def test_a_coin_that_never_has_the_modality_does_not_miss_it(
    market: Panel, trained: date, days: list[date]
) -> None:
    never = market.assets.index("TRX")
    panel = _without(market, [])
    panel.features["mvrv"][:, never] = np.nan
    model = AttentionModel()
    model.fit(panel, trained, {**SMALL, "epochs": 2}, seed=3)
    factors = np.full((len(CONTEXT_FIELDS) + 1, 3), 2.0)
    usual = model.state().tensors["usual_groups"]
    onchain = list(CONTEXT_FIELDS).index("onchain")
    assert usual[:, onchain].tolist() == [asset != "TRX" for asset in market.assets]
    state = model.state()
    twice = AttentionModel.from_state(
        ModelState({**state.tensors, "widening": factors}, state.meta)
    )
    bare = _without(panel, ["mvrv"])
    plain = _as_before(model).forecast(bare, days).log_quantiles
    found = twice.forecast(bare, days).log_quantiles
    np.testing.assert_array_equal(found[:, never], plain[:, never])
    np.testing.assert_allclose(np.ptp(found[:, 0], axis=-1), 2 * np.ptp(plain[:, 0], axis=-1))


def test_a_modality_that_leads_nothing_may_be_missing_at_hardly_any_cost(
    model: AttentionModel, market: Panel, days: list[date]
) -> None:
    bare = _without(market, ["fear_greed"])
    wide, narrow = (
        m.forecast(bare, days).log_quantiles[:, :, 0] for m in (model, _as_before(model))
    )
    factor = model.state().meta["fit"]["widening"]["1"]["sentiment"]
    np.testing.assert_allclose(np.ptp(wide, axis=-1), factor * np.ptp(narrow, axis=-1))
    assert factor < 1.1


def test_days_with_and_without_a_modality_stand_for_themselves(
    model: AttentionModel, market: Panel, days: list[date]
) -> None:
    some = days[:6]
    rows = market.rows(some)
    holes = _without(market, ["mvrv", "fear_greed"], slice(rows[0], rows[-1], 2))
    block = model.forecast(holes, some)
    whole = model.forecast(market, some)
    for position, day in enumerate(some):
        alone = model.forecast(holes, [day]).log_quantiles[0]
        np.testing.assert_array_equal(alone, block.log_quantiles[position])
        same = np.array_equal(alone, whole.log_quantiles[position])
        assert same == (position % 2 == 1 or position == 5)


def test_a_stored_model_widens_the_same(
    model: AttentionModel, market: Panel, days: list[date]
) -> None:
    bare = _without(market, ["mvrv", "fear_greed"])
    loaded = AttentionModel.from_state(model.state())
    np.testing.assert_array_equal(
        loaded.forecast(bare, days).log_quantiles, model.forecast(bare, days).log_quantiles
    )


def test_a_network_that_was_never_trained_widens_nothing(market: Panel) -> None:
    found = AttentionModel()
    found.fit(market, date(2021, 8, 1), {**SMALL, "min_training_days": 300}, 0)
    assert (found.state().tensors["widening"] == 1).all()
