"""What the validation block decides: shrinkage, conformal shifts, and who is calibrated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ml.attention.selection import (
    Selection,
    SelectionConfig,
    choose_shrinkage,
    conformal_shift,
    mean_t_statistic,
    qlike,
    select,
    trust,
)
from ml.forecasts import QUANTILE_LEVELS

LEVELS = np.array(QUANTILE_LEVELS)
CONFIG = SelectionConfig()


def block(
    days: int = 300, coins: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(missed signal, log target, day, asset): the anchor is 0 and misses the signal."""
    random = np.random.default_rng(seed)
    signal = 0.4 * random.standard_normal((days, coins))
    target = signal + 0.3 * random.standard_normal((days, coins))
    day, asset = (index.ravel() for index in np.indices((days, coins)))
    return signal.ravel(), target.ravel(), day, asset


def test_a_residual_that_is_right_is_used_nearly_in_full() -> None:
    signal, target, day, _ = block()
    factor, t = choose_shrinkage(target, np.zeros_like(target), signal, day, 1, CONFIG)
    assert factor > 0.85
    few_days = day < 30
    few = choose_shrinkage(
        target[few_days], 0 * target[few_days], signal[few_days], day[few_days], 1, CONFIG
    )
    assert few[0] < 0.6 * factor
    assert t > 5


def test_a_residual_that_hurts_is_not_used_at_all() -> None:
    signal, target, day, _ = block()
    assert choose_shrinkage(target, np.zeros_like(target), -signal, day, 1, CONFIG) == (0.0, 0.0)


def test_a_gain_that_may_be_noise_is_used_in_part_or_not_at_all() -> None:
    random = np.random.default_rng(5)
    factors, ts = [], []
    for seed in range(20):
        _, target, day, _ = block(days=60, seed=seed)
        noise = 0.1 * random.standard_normal(len(target))
        factor, t = choose_shrinkage(target, np.zeros_like(target), noise, day, 1, CONFIG)
        factors.append(factor)
        ts.append(t)
        assert factor <= t**2 / (1 + t**2)
        assert factor == 0 or t >= CONFIG.min_gain_t
    assert np.mean(np.array(factors) == 0) > 0.5


def test_the_standard_error_grows_with_the_overlap_of_targets() -> None:
    random = np.random.default_rng(0)
    overlapping = np.convolve(random.standard_normal(400) + 0.1, np.ones(22) / 22, mode="valid")
    as_if_independent = overlapping.mean() / overlapping.std() * np.sqrt(len(overlapping))
    assert mean_t_statistic(overlapping, 22) < 0.5 * as_if_independent
    independent = random.standard_normal(4000) + 1.0
    assert mean_t_statistic(independent, 1) == pytest.approx(np.sqrt(4000), rel=0.1)


def test_a_block_is_believed_by_its_number_of_targets_that_do_not_overlap() -> None:
    assert trust(225, 1, CONFIG) == pytest.approx(225 / 255)
    assert trust(220, 22, CONFIG) == pytest.approx(10 / 40)


def test_conformal_shifts_give_the_stated_coverage_on_new_data() -> None:
    random = np.random.default_rng(1)
    wrong = np.tile(np.linspace(-0.3, 0.3, len(LEVELS)), (4000, 1))
    target = 1.0 + random.standard_normal(4000)
    shift = conformal_shift(target[:2000], wrong[:2000], LEVELS)
    covered = (target[2000:, None] <= wrong[2000:] + shift).mean(axis=0)
    np.testing.assert_allclose(covered, LEVELS, atol=0.03)


def decide(days: int, horizons: tuple[int, ...] = (1, 22), offsets_scale: float = 1.0) -> Selection:
    signal, target, day, asset = block(days)
    both = np.column_stack([target, target])
    both[asset == 4, :] = np.nan
    base = np.tile(0.5 * np.linspace(-2, 2, len(LEVELS)), (2, 1))
    offsets = offsets_scale * np.broadcast_to(base, (len(target), *base.shape))
    residual = np.column_stack([signal, -signal])
    base_tails = np.tile([0.0, math.log(0.3), 50.0, 0.0], (2, 1))
    tails = np.broadcast_to(base_tails, (len(target), *base_tails.shape))
    return select(
        both,
        np.zeros_like(both),
        residual,
        offsets,
        base,
        tails,
        base_tails,
        day,
        asset,
        5,
        horizons,
        LEVELS,
        CONFIG,
    )


def test_horizons_are_decided_one_by_one() -> None:
    found = decide(300)
    assert found.shrinkage[0] > 0.8
    assert found.shrinkage[1] == 0


def test_only_coins_and_horizons_with_enough_validation_points_are_calibrated() -> None:
    found = decide(150)
    assert found.calibrated.tolist() == [[True, False]] * 4 + [[False, False]]  # 150 / 22 < 8
    assert np.abs(found.shift[0]).max() > 0
    assert np.abs(found.shift[1]).max() == 0
    assert not decide(40).calibrated.any()


def test_with_hardly_any_validation_days_the_forecast_is_the_anchor() -> None:
    found = decide(20)
    assert not found.shrinkage.any()
    assert not found.quantile_shrinkage.any()
    assert not found.shift.any()


def test_quantile_offsets_that_do_not_help_are_not_used() -> None:
    assert decide(300, offsets_scale=3.0).quantile_shrinkage[0] == 0


def test_the_outermost_quantiles_come_from_the_tails_where_their_pinball_is_no_worse() -> None:
    # The tails are normal with sd 0.3: right at the first horizon, whose residual is used; at the second the error's sd is 0.5.
    assert decide(300).tail_use.tolist() == [1.0, 0.0]
    assert decide(20).tail_use.tolist() == [0.0, 0.0]  # hardly any validation day


def test_qlike_is_zero_for_a_perfect_forecast_and_positive_otherwise() -> None:
    assert qlike(np.array([1.0]), np.array([1.0])) == 0
    assert (qlike(np.array([1.0, 1.0]), np.array([0.5, 1.5])) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_share": 0.9}, r"validation_share 0.9: expected a share in \(0, 0.5\]"),
        ({"shrinkage_steps": 0}, "shrinkage_steps 0: expected a positive integer"),
        ({"min_gain_t": -1.0}, "min_gain_t -1.0: expected a number >= 0"),
    ],
)
def test_a_bad_setting_is_an_error_that_quotes_it(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectionConfig(**change)  # type: ignore[arg-type]
