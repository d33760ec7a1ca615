"""Tails of standardised returns, VaR and ES."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from ml.risk.tails import LEVELS, TailFit, fit_tail
from ml.risk.var_es import RISK_COLUMNS, var_es


def test_order_statistics_by_hand() -> None:
    tail = fit_tail(np.arange(-100.0, 100.0))  # 200 returns; losses 100, 99, ...
    assert tail.observations == 200
    assert tail.value_at_risk(0.95) == 90.0  # 10 of 200 are larger
    assert tail.expected_shortfall(0.95) == np.mean(np.arange(91, 101))
    assert tail.value_at_risk(0.99, "short") == 97.0
    assert tail.expected_shortfall(0.99, "short") == 98.5


def test_a_broken_share_of_an_observation_is_weighted() -> None:
    tail = fit_tail(-np.arange(1.0, 91.0))  # 90 losses: 2.25 of them beyond 97.5 %
    assert tail.value_at_risk(0.975) == 88.0
    assert tail.expected_shortfall(0.975) == pytest.approx((90 + 89 + 0.25 * 88) / 2.25)


def test_a_normal_sample_gives_the_closed_form() -> None:
    z = np.random.default_rng(0).standard_normal(200_000)
    tail = fit_tail(z)
    for level in LEVELS:
        quantile = norm.ppf(level)
        for side in ("long", "short"):
            assert tail.value_at_risk(level, side) == pytest.approx(quantile, abs=0.03)
            assert tail.expected_shortfall(level, side) == pytest.approx(
                norm.pdf(quantile) / (1 - level), abs=0.04
            )


@given(hnp.arrays(np.float64, st.integers(60, 400), elements=st.floats(-20, 20)))
def test_risk_rises_with_the_level_and_shortfall_is_never_below_var(z: Any) -> None:
    tail = fit_tail(z)
    for side in ("long", "short"):
        values = [tail.value_at_risk(level, side) for level in LEVELS]
        shortfalls = [tail.expected_shortfall(level, side) for level in LEVELS]
        assert values == sorted(values)
        assert np.all(np.diff(shortfalls) >= -1e-9)
        assert all(es >= var - 1e-9 for es, var in zip(shortfalls, values, strict=True))
    restored = TailFit.from_dict(tail.to_dict())
    assert restored == tail


@given(
    hnp.arrays(np.float64, st.integers(60, 300), elements=st.floats(-8, 8)),
    hnp.arrays(np.float64, (3, 2), elements=st.floats(1e-7, 0.02)),
    st.sampled_from([1, 5, 22]),
)
def test_var_and_es_are_ordered_fractions(z: Any, variance: Any, horizon: int) -> None:
    found = var_es(variance, horizon, fit_tail(z))
    assert tuple(found) == RISK_COLUMNS
    for side in ("", "short_"):
        var = np.stack([found[f"{side}var_{suffix}"] for suffix in ("95", "975", "99")])
        es = np.stack([found[f"{side}es_{suffix}"] for suffix in ("95", "975", "99")])
        assert var.shape == (3, 3, 2)
        assert (np.diff(var, axis=0) >= 0).all()
        assert (np.diff(es, axis=0) >= -1e-12).all()
        assert (es >= var - 1e-12).all()
        assert (var >= 0).all()
    assert (found["es_99"] <= 1).all()


def test_losses_are_simple_returns_and_shortfall_is_averaged_after_the_exponential() -> None:
    tail = fit_tail(np.concatenate([np.zeros(96), [-3.0, -2.0, 3.0, 2.0]]))
    found = var_es(0.01, 4, tail)  # sd over the horizon: 0.2
    assert found["var_975"] == pytest.approx(0.0)  # 2.5 of 100: the third largest loss
    assert found["es_99"] == pytest.approx(1 - np.exp(-0.6))
    assert found["var_99"] == pytest.approx(1 - np.exp(-0.4))
    assert found["es_975"] == pytest.approx((1 - np.exp(-0.6) + 1 - np.exp(-0.4)) / 2.5)
    assert found["short_es_99"] == pytest.approx(np.exp(0.6) - 1)


def test_wrong_inputs_are_quoted() -> None:
    tail = fit_tail(np.linspace(-2, 2, 100))
    with pytest.raises(ValueError, match=r"variance -0.1: expected a positive"):
        var_es([0.1, -0.1], 1, tail)
    with pytest.raises(ValueError, match="horizon 0: expected"):
        var_es(0.1, 0, tail)
    with pytest.raises(ValueError, match="59 standardised returns: expected at least 60"):
        fit_tail(np.append(np.zeros(59), np.nan))
    with pytest.raises(ValueError, match="standardised return inf"):
        fit_tail(np.append(np.zeros(60), np.inf))
    with pytest.raises(ValueError, match=r"level 0.9: expected 0.95 to below 1"):
        tail.value_at_risk(0.9)
