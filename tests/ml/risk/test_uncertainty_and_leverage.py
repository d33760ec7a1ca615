"""The uncertainty score and the leverage advice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.risk.leverage import LeveragePolicy, advise
from ml.risk.uncertainty import UncertaintyScales, disagreement, interval_width, uncertainty

CAUSES = st.tuples(*[st.floats(0, 1e3)] * 4)


def test_each_cause_alone_gives_a_half_at_its_scale() -> None:
    scales = UncertaintyScales()
    for place, scale in enumerate(vars(scales).values()):
        causes = [0.0] * 4
        causes[place] = scale
        assert uncertainty(*causes).score == pytest.approx(0.5)
    assert uncertainty(0, 0, 0, 0).score == 0.0
    assert uncertainty(0.25, 2.3, 0, 0).score == pytest.approx(0.247, abs=1e-3)


@given(CAUSES, st.integers(0, 3), st.floats(0, 10))
def test_more_doubt_never_lowers_the_score(
    causes: tuple[float, ...], place: int, more: float
) -> None:
    raised = list(causes)
    raised[place] += more
    before, after = uncertainty(*causes).score, uncertainty(*raised).score
    assert 0 <= before <= 1
    assert after >= before - 1e-12


def test_causes_broadcast_over_coins_and_horizons() -> None:
    found = uncertainty(np.zeros((10, 3)), np.full((10, 3), 2.0), np.zeros((10, 1)), 1)
    assert found.score.shape == found.data_age.shape == (10, 3)


def test_disagreement_is_the_spread_of_log_variances() -> None:
    variances = np.array(
        [[1.0, np.e**2, np.nan], [np.e, np.nan, np.nan], [np.e**2, np.nan, np.nan]]
    )
    found = disagreement(variances)
    assert found[0] == pytest.approx(np.std([0, 1, 2]))
    assert found[1] == 0.0
    assert np.isnan(found[2])
    assert interval_width(-9.0, -7.5) == 1.5


def test_wrong_causes_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"interval_width -1.0: expected a number of at least 0"):
        uncertainty(0, -1, 0, 0)
    with pytest.raises(ValueError, match="data_age_days nan"):
        uncertainty(0, 1, np.nan, 0)
    with pytest.raises(ValueError, match="scale warnings 0: expected a positive"):
        UncertaintyScales(warnings=0)


def test_the_reason_names_the_limit_that_binds() -> None:
    policy = LeveragePolicy(target_volatility=0.4, max_leverage=3.0, es_budget=0.10)
    target = advise(0.8, 0.25, 0.08, policy)
    assert (target.binding, target.leverage) == ("volatility_target", pytest.approx(0.375))
    assert target.reason == "volatility target 40% / forecast 80.0% × (1 - uncertainty 0.25) = 0.38"
    calm = advise(0.05, 0.0, 0.01, policy)
    assert (calm.binding, calm.leverage) == ("max_leverage", 3.0)
    assert calm.reason.startswith(
        "maximum leverage 3.00; the volatility target alone would allow 8.00"
    )
    tail = advise(0.4, 0.0, 0.20, policy)
    assert (tail.binding, tail.leverage) == ("es_budget", pytest.approx(0.5))
    assert "expected shortfall budget 10% / ES 97.5 % of 20.0% = 0.50" in tail.reason


@given(st.floats(0.01, 5), st.floats(0, 1), st.floats(0.001, 1))
def test_no_limit_of_the_policy_is_ever_passed(vol: float, doubt: float, shortfall: float) -> None:
    policy = LeveragePolicy()
    advice = advise(vol, doubt, shortfall, policy)
    assert 0 <= advice.leverage <= policy.max_leverage
    assert advice.leverage * shortfall <= policy.es_budget * (1 + 1e-9)
    assert advice.leverage * vol <= policy.target_volatility * (1 - doubt) * (1 + 1e-9)
    assert advice.reason


def test_wrong_inputs_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"volatility 0.0: expected a positive fraction"):
        advise(0.0, 0.1, 0.1)
    with pytest.raises(ValueError, match="expected_shortfall nan"):
        advise(0.5, 0.1, float("nan"))
    with pytest.raises(ValueError, match=r"uncertainty 1.5: expected a number from 0 to 1"):
        advise(0.5, 1.5, 0.1)
    with pytest.raises(ValueError, match=r"max_leverage -1: expected a positive number"):
        LeveragePolicy(max_leverage=-1)
