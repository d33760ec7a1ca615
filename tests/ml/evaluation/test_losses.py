"""Losses against hand-computed numbers and their invariants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scoringrules as sr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from ml.evaluation import losses
from ml.evaluation.aggregation import log_error_parts, r_squared

POSITIVE = st.floats(1e-8, 1e2)
PAIRS = hnp.arrays(np.float64, (2, 20), elements=POSITIVE)


def test_known_values() -> None:
    assert losses.qlike(2.0, 1.0) == pytest.approx(1.0 - np.log(2.0))
    assert losses.squared_error([1.0, 3.0], [2.0, 5.0]).tolist() == [1.0, 4.0]
    assert losses.absolute_error(1.0, 3.5) == 2.5
    assert losses.log_error(np.e, 1.0) == pytest.approx(1.0)
    # y = 3: level 0.1 at 1 costs 0.1 * 2, level 0.9 at 5 costs 0.1 * 2
    assert losses.pinball(3.0, [1.0, 5.0], [0.1, 0.9]) == pytest.approx(0.2)
    # CRPS of the ensemble {0, 1} at 0: E|X - y| - E|X - X'| / 2 = 0.5 - 0.25
    assert losses.crps(0.0, [0.0, 1.0]) == pytest.approx(0.25)
    assert losses.covered([1.0, 2.0, 4.0], 1.0, 3.0).tolist() == [True, True, False]


def test_qlike_is_least_for_the_mean_and_the_log_error_below_it() -> None:
    y = np.random.default_rng(0).lognormal(0.0, 1.0, 20_000)
    forecasts = np.linspace(0.5, 3.0, 251)
    best = forecasts[np.argmin([losses.qlike(y, np.full_like(y, f)).mean() for f in forecasts])]
    assert best == pytest.approx(y.mean(), abs=0.02)
    logs = forecasts[np.argmin([losses.log_error(y, np.full_like(y, f)).mean() for f in forecasts])]
    assert logs == pytest.approx(np.exp(np.log(y).mean()), abs=0.02)


@given(PAIRS)
def test_losses_are_not_negative_and_zero_when_the_forecast_is_right(pair: Any) -> None:
    y, f = pair
    for loss in (losses.qlike, losses.squared_error, losses.absolute_error, losses.log_error):
        assert (loss(y, f) >= -1e-12).all()
        assert np.abs(loss(y, y)).max() < 1e-12


@given(PAIRS, st.floats(1e-3, 1e3))
def test_qlike_and_log_error_do_not_depend_on_the_unit(pair: Any, scale: float) -> None:
    y, f = pair
    np.testing.assert_allclose(
        losses.qlike(scale * y, scale * f), losses.qlike(y, f), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        losses.log_error(scale * y, scale * f), losses.log_error(y, f), rtol=1e-6, atol=1e-9
    )


@given(
    hnp.arrays(np.float64, 11, elements=st.floats(-5, 5)),
    st.floats(-5, 5),
    st.floats(0.01, 0.99),
)
def test_pinball_is_not_negative_and_zero_at_the_value(
    quantiles: Any, y: float, level: float
) -> None:
    assert losses.pinball(y, [quantiles[0]], [level]) >= 0
    assert losses.pinball(y, [y], [level]) == 0


def test_pinball_is_the_quantile_score_of_scoringrules() -> None:
    generator = np.random.default_rng(5)
    y, quantiles = generator.standard_normal(50), generator.standard_normal((50, 3))
    levels = np.array([0.1, 0.5, 0.9])
    expected = sr.quantile_score(y[:, None], quantiles, levels).mean(axis=-1)
    np.testing.assert_allclose(losses.pinball(y, quantiles, levels), expected)


def test_values_without_meaning_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"forecast variance -0.5: expected a positive finite"):
        losses.qlike([1.0, 1.0], [1.0, -0.5])
    with pytest.raises(ValueError, match=r"realised variance 0.0: expected"):
        losses.log_error(0.0, 1.0)
    with pytest.raises(ValueError, match=r"quantile level 1.0: expected"):
        losses.pinball(0.0, [1.0], [1.0])


def test_least_noisy_proxy_losses_are_those_of_patton_2011() -> None:
    """Patton (2011), Journal of Econometrics 160, section 2: with squared normal returns as the proxy of a variance of
    1, the absolute error is least at 0.45 (the median of a chi squared of 1) and the squared log error at 0.28; QLIKE and
    the squared error at 1."""
    proxy = np.random.default_rng(0).standard_normal(40_000) ** 2
    forecasts = np.linspace(0.15, 1.6, 291)

    def least(loss: Any) -> float:
        means = [loss(proxy, np.full_like(proxy, f)).mean() for f in forecasts]
        return float(forecasts[int(np.argmin(means))])

    found = {name: least(getattr(losses, name)) for name in losses.ROBUST_TO_NOISY_PROXY}
    assert found["absolute_error"] == pytest.approx(0.45, abs=0.02)
    assert found["log_error"] == pytest.approx(0.28, abs=0.02)
    for name, robust in losses.ROBUST_TO_NOISY_PROXY.items():
        assert (abs(found[name] - 1.0) < 0.03) == robust


def test_crps_of_quantiles_is_that_of_the_normal_law() -> None:
    """Against the closed form of scoringrules."""
    from ml.forecasts import QUANTILE_LEVELS

    y = np.random.default_rng(1).standard_normal(4000)
    dense = np.arange(1, 400) / 400
    for levels, tolerance in ((dense, 0.003), (np.array(QUANTILE_LEVELS), 0.03)):
        quantiles = np.broadcast_to(norm.ppf(levels), (len(y), len(levels)))
        found = losses.crps_of_quantiles(y, quantiles, levels).mean()
        assert found == pytest.approx(sr.crps_normal(y, 0.0, 1.0).mean(), rel=tolerance)
    assert losses.crps_of_quantiles(2.0, [2.0, 2.0], [0.1, 0.9]) == 0


def test_interval_score_is_that_of_scoringrules() -> None:
    y = np.random.default_rng(2).normal(0, 2, 50)
    expected = sr.interval_score(y, np.full(50, -1.3), np.full(50, 1.1), 0.2)
    np.testing.assert_allclose(losses.interval_score(y, -1.3, 1.1, 0.8), expected)
    assert losses.interval_width([-1.0, 0.0], [2.0, 0.5]).tolist() == [3.0, 0.5]
    with pytest.raises(ValueError, match=r"coverage 80: expected a number between"):
        losses.interval_score(y, -1.3, 1.1, 80)


def test_pit_by_hand_and_uniform_when_the_distribution_is_right() -> None:
    levels = [0.1, 0.5, 0.9]
    values = losses.pit(
        np.array([-5.0, 0.0, 0.5, 1.0, 9.0]), np.tile([-1.0, 0.0, 1.0], (5, 1)), levels
    )
    np.testing.assert_allclose(values, [0.05, 0.5, 0.7, 0.9, 0.95])
    dense = np.arange(1, 200) / 200
    y = np.random.default_rng(3).standard_normal(5000)
    found = losses.pit(y, np.broadcast_to(norm.ppf(dense), (5000, 199)), dense)
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    assert ((counts - 250) ** 2 / 250).sum() < 36  # 99 % of chi squared of 19 is 36.2
    assert losses.pit(0.0, [0.0, 0.0], [0.3, 0.6]) == pytest.approx(0.15)


def test_fissler_ziegel_is_least_at_the_true_pair_where_it_is_the_log_of_es() -> None:
    """With a normal return ES = sd * pdf(z) / alpha, and the expected FZ0 at the true pair is log(ES)."""
    alpha, sd = 0.025, 0.03
    risk, shortfall = -sd * norm.ppf(alpha), sd * norm.pdf(norm.ppf(alpha)) / alpha
    x = sd * np.random.default_rng(4).standard_normal(400_000)
    right = losses.fissler_ziegel(x, risk, shortfall, 0.975).mean()
    assert right == pytest.approx(np.log(shortfall), abs=0.01)
    for scale in (0.85, 1.15):
        assert losses.fissler_ziegel(x, scale * risk, shortfall, 0.975).mean() > right
        assert losses.fissler_ziegel(x, risk, scale * shortfall, 0.975).mean() > right
    by_hand = losses.fissler_ziegel(-0.10, 0.05, 0.08, 0.975)
    assert by_hand == pytest.approx(0.05 / (0.025 * 0.08) + 0.05 / 0.08 + np.log(0.08) - 1)
    with pytest.raises(ValueError, match=r"VaR 0\.05 with ES 0\.04: expected 0 < VaR <= ES"):
        losses.fissler_ziegel([0.0, 0.0], [0.05, 0.05], [0.06, 0.04], 0.975)
    with pytest.raises(ValueError, match=r"level 0\.025: expected above 0\.5"):
        losses.fissler_ziegel(0.0, 0.05, 0.06, 0.025)


@given(PAIRS)
def test_log_mse_is_the_sum_of_squared_bias_and_variance(pair: Any) -> None:
    y, f = pair
    parts = log_error_parts(y, f)
    assert parts.squared_bias + parts.variance == pytest.approx(parts.mean_squared_error)
    assert parts.mean_squared_error == pytest.approx(losses.log_error(y, f).mean(), abs=1e-12)
    doubled = log_error_parts(y, 2.0 * f)
    assert doubled.variance == pytest.approx(parts.variance, abs=1e-9)


def test_r_squared_knows_no_fitted_line() -> None:
    y = np.array([1.0, 2.0, 3.0, np.nan])
    assert r_squared(y, y) == 1.0
    assert r_squared(y, np.full(4, 2.0)) == 0.0
    assert r_squared(y, y + 10.0) < 0
    assert np.isnan(r_squared([1.0, 1.0], [1.0, 2.0]))
    assert np.isnan(log_error_parts([np.nan], [1.0]).variance)
