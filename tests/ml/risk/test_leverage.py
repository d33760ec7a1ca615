"""Target leverage, and the path that the advice takes to it."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.risk.leverage import LeveragePolicy, LeverageTarget, target_leverage
from ml.risk.leverage_path import LastAdvice, LeverageAdvice, follow

DAY = date(2024, 6, 30)
RULES = LeveragePolicy(target_volatility=0.4, max_leverage=3.0, es_budget=0.10, band=0.1, max_change=0.2)  # fmt: skip


def aim(leverage: float, limit: float = 3.0) -> LeverageTarget:
    return LeverageTarget(min(leverage, limit), limit, "es_budget", "volatility_target", "because")


def after(leverage: float, days: int = 1) -> LastAdvice:
    return LastAdvice(DAY - timedelta(days=days), leverage)


# -- the target ----------------------------------------------------------------------------------------------------


def test_the_reason_names_the_limit_that_binds() -> None:
    found = target_leverage(0.8, 0.25, 0.08, RULES)
    assert (found.binding, found.leverage) == ("volatility_target", pytest.approx(0.375))
    assert found.reason == "volatility target 40% / forecast 80.0% × (1 - uncertainty 0.25) = 0.38"
    calm = target_leverage(0.05, 0.0, 0.01, RULES)
    assert (calm.binding, calm.leverage, calm.limit) == ("max_leverage", 3.0, 3.0)
    assert calm.reason.startswith("maximum leverage 3.00 (volatility target 40% / forecast 5.0%")
    tail = target_leverage(0.4, 0.0, 0.20, RULES)
    assert (tail.binding, tail.leverage) == ("es_budget", pytest.approx(0.5))
    assert tail.reason.startswith(
        "expected shortfall budget 10% / ES 97.5 % of 20.0% = 0.50 (volatility target"
    )


def test_uncertainty_binds_where_it_alone_keeps_the_target_below_a_limit() -> None:
    found = target_leverage(0.4, 0.6, 0.20, RULES)  # 1.0 by volatility, 0.5 by shortfall, 0.4 cut
    assert (found.binding, found.leverage) == ("uncertainty", pytest.approx(0.4))
    assert "(without the uncertainty: expected shortfall budget 10%" in found.reason
    assert target_leverage(0.4, 0.6, 0.05, RULES).binding == "volatility_target"


@given(st.floats(0.01, 5), st.floats(0, 1), st.floats(0.001, 1))
def test_no_limit_of_the_policy_is_ever_passed(vol: float, doubt: float, shortfall: float) -> None:
    policy = LeveragePolicy()
    found = target_leverage(vol, doubt, shortfall, policy)
    assert 0 <= found.leverage <= found.limit <= policy.max_leverage
    assert found.leverage * shortfall <= policy.es_budget * (1 + 1e-9)
    assert found.leverage * vol <= policy.target_volatility * (1 - doubt) * (1 + 1e-9)
    assert found.reason


def test_wrong_inputs_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"volatility 0.0: expected a positive fraction"):
        target_leverage(0.0, 0.1, 0.1)
    with pytest.raises(ValueError, match="expected_shortfall nan"):
        target_leverage(0.5, 0.1, float("nan"))
    with pytest.raises(ValueError, match=r"uncertainty 1.5: expected a number from 0 to 1"):
        target_leverage(0.5, 1.5, 0.1)
    with pytest.raises(ValueError, match=r"max_leverage -1: expected a positive number"):
        LeveragePolicy(max_leverage=-1)
    with pytest.raises(ValueError, match=r"max_change inf: expected a positive number"):
        LeveragePolicy(max_change=float("inf"))
    for band in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"band {band}: expected a fraction"):
            LeveragePolicy(band=band)
    with pytest.raises(ValueError, match=r"leverage -0.1 of 2024-06-29: expected"):
        after(-0.1)
    with pytest.raises(ValueError, match="last advice of 2024-06-30: expected one before"):
        follow(aim(1.0), DAY, after(1.0, days=0))


# -- the path ------------------------------------------------------------------------------------------------------


def test_the_first_advice_is_the_target_and_says_so() -> None:
    for last in (None, after(2.0, days=8)):
        found = follow(aim(0.5), DAY, last, RULES)
        assert (found.leverage, found.binding, found.previous) == (0.5, "volatility_target", None)
        assert found.reason == "0.50: because; no advice in the 7 days before to follow on from"
    assert follow(aim(0.5), DAY, after(2.0, days=7), RULES).previous is not None


@pytest.mark.parametrize(
    ("last", "target", "leverage", "binding", "why"),
    [
        (1.0, 1.05, 1.0, "band", "the 1.00 on 2024-06-29 stays, as it lies within 10%"),
        (1.0, 0.95, 1.0, "band", "the 1.00 on 2024-06-29 stays, as it lies within 10%"),
        (1.0, 1.15, 1.15, "volatility_target", "it was 1.00 on 2024-06-29"),
        (1.0, 0.70, 0.70, "volatility_target", "it was 1.00 on 2024-06-29"),
        (1.0, 1.00, 1.00, "volatility_target", "as the 1.00 on 2024-06-29"),
        (1.0, 1.50, 1.20, "max_change", "from 1.00 on 2024-06-29 it rises by at most 0.20 a day"),
        (1.0, 0.50, 0.60, "max_change", "from 1.00 on 2024-06-29 it falls by at most 0.40 a day"),
        (0.0, 0.15, 0.15, "volatility_target", "it was 0.00 on 2024-06-29"),
    ],
)
def test_band_and_largest_change(
    last: float, target: float, leverage: float, binding: str, why: str
) -> None:
    found = follow(aim(target), DAY, after(last), RULES)
    assert (found.leverage, found.binding) == (pytest.approx(leverage), binding)
    assert found.reason == f"{leverage:.2f}: because; {why}"


def test_a_hard_limit_binds_at_once_whatever_band_and_change_say() -> None:
    held = follow(aim(0.95, limit=0.96), DAY, after(1.0), RULES)  # inside the band of 1.0
    assert (held.leverage, held.binding) == (0.96, "es_budget")
    fallen = follow(aim(0.1, limit=0.1), DAY, after(2.0), RULES)  # a day's fall is 0.4
    assert (fallen.leverage, fallen.binding) == (0.1, "es_budget")
    assert (
        "cut at once from 2.00 on 2024-06-29 to what the shortfall budget allows" in fallen.reason
    )
    capped = LeverageTarget(1.5, 1.5, "max_leverage", "max_leverage", "because")
    assert follow(capped, DAY, after(2.5), RULES).reason.endswith(
        "what the maximum leverage allows"
    )


TARGETS = st.lists(
    st.tuples(st.floats(0, 4), st.floats(0.01, 3), st.integers(1, 9)), min_size=1, max_size=30
)


@given(TARGETS, st.floats(0, 0.5), st.floats(0.01, 1))
def test_no_path_passes_a_limit_or_rises_faster_than_allowed(
    steps: list[tuple[float, float, int]], band: float, change: float
) -> None:
    rules = LeveragePolicy(band=band, max_change=change)
    day, last = DAY, None
    for leverage, limit, gap in steps:
        day += timedelta(days=gap)
        target = aim(leverage, limit)
        found: LeverageAdvice = follow(target, day, last, rules)
        assert 0 <= found.leverage <= limit
        if found.previous is not None:
            before = found.previous.leverage
            assert found.leverage <= before + change + 1e-12
            free = min(before - 2 * change, limit)
            assert found.leverage >= free - 1e-12
            if (
                found.leverage != before
            ):  # it only ever moves towards the target or down to the limit
                between = sorted((before, target.leverage))
                assert between[0] - 1e-12 <= found.leverage <= between[1] + 1e-12
        last = LastAdvice(day, found.leverage)


def test_a_target_that_stays_is_reached_and_the_band_keeps_noise_out() -> None:
    day, last, path = DAY, after(0.2), []
    for _ in range(8):
        found = follow(aim(1.0), day, last, RULES)
        last, day = LastAdvice(day, found.leverage), day + timedelta(days=1)
        path.append(found.leverage)
    assert path == pytest.approx([0.4, 0.6, 0.8, *[1.0] * 5])
    noise = 1 + 0.09 * np.sin(np.arange(50))
    for wanted in noise:
        found = follow(aim(float(wanted)), day, last, RULES)
        last, day = LastAdvice(day, found.leverage), day + timedelta(days=1)
        assert found.leverage == pytest.approx(1.0)
