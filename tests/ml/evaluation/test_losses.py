"""Losses against hand-computed numbers and their invariants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml.evaluation import losses

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


def test_values_without_meaning_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"forecast variance -0.5: expected a positive finite"):
        losses.qlike([1.0, 1.0], [1.0, -0.5])
    with pytest.raises(ValueError, match=r"realised variance 0.0: expected"):
        losses.log_error(0.0, 1.0)
    with pytest.raises(ValueError, match=r"quantile level 1.0: expected"):
        losses.pinball(0.0, [1.0], [1.0])
