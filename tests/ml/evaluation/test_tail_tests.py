"""Tests of VaR and ES against published and hand-computed numbers, and under their nulls."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import chi2, norm
from scipy.stats import t as student

from ml.evaluation.tails import (
    acerbi_szekely,
    christoffersen,
    dynamic_quantile,
    independence,
    kupiec,
)


def breaches(n: int, x: int) -> np.ndarray:
    """x breaches spread evenly over n periods."""
    hits = np.zeros(n, dtype=bool)
    hits[np.linspace(0, n - 1, x).astype(int)] = True
    return hits


def test_kupiec_equals_the_published_example_of_jp_morgan_1998() -> None:
    """Jorion, Value at Risk, 3rd ed., chapter 6: 20 exceptions in 252 days at 95 % give LR = 3.91."""
    result = kupiec(breaches(252, 20), 0.95)
    assert result.statistic == pytest.approx(3.91, abs=0.005)
    assert result.p_value == pytest.approx(chi2.sf(3.91, 1), abs=1e-3)


def test_christoffersen_equals_the_published_example_of_jp_morgan_1998() -> None:
    """Jorion, Value at Risk, 3rd ed., chapter 6: of the 20 exceptions 6 followed another (14 of 232 and 6 of 20):
    LR of independence 9.53, of conditional coverage 13.44."""
    hits = np.zeros(253, dtype=bool)  # 252 steps from one day to the next
    starts = 5 + 16 * np.arange(14)
    hits[starts] = True
    hits[starts[:6] + 1] = True
    assert independence(hits) == pytest.approx(9.53, abs=0.005)
    assert kupiec(hits[1:], 0.95).statistic + independence(hits) == pytest.approx(13.44, abs=0.005)
    assert christoffersen(hits[1:], 0.95).statistic == pytest.approx(13.44, abs=0.05)


def test_kupiec_is_zero_at_the_promised_share_and_defined_without_breaches() -> None:
    assert kupiec(breaches(400, 20), 0.95).statistic == pytest.approx(0.0, abs=1e-9)
    none = kupiec(np.zeros(250), 0.99)
    assert none.statistic == pytest.approx(-2 * 250 * np.log(0.99))
    assert np.isnan(kupiec(np.zeros(29), 0.95).p_value)


def test_independence_by_hand() -> None:
    # 100 periods with the 10 breaches in one run: of 99 steps 1 of 90 calm ones and 9 of 9... counted below
    hits = np.zeros(100, dtype=int)
    hits[50:60] = 1
    # after calm: 89 steps, 1 breach; after a breach: 10 steps, 9 breaches
    chain = 1 * np.log(1 / 89) + 88 * np.log(88 / 89) + 9 * np.log(0.9) + 1 * np.log(0.1)
    free = 10 * np.log(10 / 99) + 89 * np.log(89 / 99)
    assert independence(hits) == pytest.approx(2 * (chain - free))
    result = christoffersen(hits, 0.9)
    assert result.statistic == pytest.approx(kupiec(hits, 0.9).statistic + 2 * (chain - free))
    assert result.p_value < 1e-8
    assert christoffersen(breaches(200, 10), 0.95).p_value > 0.3


def test_dynamic_quantile_equals_the_regression_of_statsmodels() -> None:
    generator = np.random.default_rng(5)
    hits, risk = generator.random(400) < 0.05, np.exp(generator.standard_normal(400))
    centred = hits - 0.05
    x = np.column_stack([np.ones(396), *[centred[4 - k : 400 - k] for k in range(1, 5)], risk[4:]])
    beta = sm.OLS(centred[4:], x).fit().params
    expected = beta @ x.T @ x @ beta / (0.05 * 0.95)
    result = dynamic_quantile(hits, risk, 0.95)
    assert result.statistic == pytest.approx(expected, rel=1e-8)
    assert result.p_value == pytest.approx(chi2.sf(expected, 6), rel=1e-6)
    with pytest.raises(ValueError, match=r"VaR of shape \(3,\): expected \(400,\)"):
        dynamic_quantile(hits, risk[:3], 0.95)


def test_coverage_tests_seldom_reject_independent_breaches() -> None:
    generator = np.random.default_rng(6)
    rejected = np.zeros(3)
    for _ in range(300):
        hits, risk = generator.random(500) < 0.05, np.exp(generator.standard_normal(500))
        results = (
            kupiec(hits, 0.95),
            christoffersen(hits, 0.95),
            dynamic_quantile(hits, risk, 0.95),
        )
        rejected += [result.p_value < 0.05 for result in results]
    assert (rejected / 300 < 0.12).all()


def student_risk(n: int, nu: float = 5.0) -> tuple[float, float]:
    """VaR and ES at 97.5 % of a Student t."""
    quantile = student.ppf(0.025, nu)
    shortfall = student.pdf(quantile, nu) / 0.025 * (nu + quantile**2) / (nu - 1)
    return -quantile, shortfall


def test_acerbi_szekely_is_zero_on_average_and_seldom_rejects_the_truth() -> None:
    generator = np.random.default_rng(9)
    risk, shortfall = student_risk(500)
    results = [
        acerbi_szekely(
            0.02 * generator.standard_t(5, 500),
            np.full(500, 0.02 * risk),
            np.full(500, 0.02 * shortfall),
        )
        for _ in range(120)
    ]
    assert np.mean([result.statistic for result in results]) == pytest.approx(0.0, abs=0.06)
    assert np.mean([result.p_value < 0.05 for result in results]) < 0.12


def test_acerbi_szekely_sees_understated_shortfall() -> None:
    returns = 0.02 * np.random.default_rng(10).standard_t(5, 500)
    risk, shortfall = student_risk(500)
    halved = acerbi_szekely(returns, np.full(500, 0.01 * risk), np.full(500, 0.01 * shortfall))
    assert halved.statistic < -1
    assert halved.p_value < 0.01


def test_acerbi_szekely_by_hand() -> None:
    returns = np.array([-0.10] + [0.01] * 39)
    result = acerbi_szekely(returns, np.full(40, 0.05), np.full(40, 0.08), 0.95)
    assert result.statistic == pytest.approx(1 - 0.10 / 0.08 / (40 * 0.05))
    with pytest.raises(ValueError, match=r"VaR 0.05 with ES 0.04: expected 0 < VaR <= ES"):
        acerbi_szekely(returns, np.full(40, 0.05), np.full(40, 0.04))
    assert np.isnan(acerbi_szekely(returns[:10], np.full(10, 0.05), np.full(10, 0.08)).p_value)


def test_wrong_breaches_and_levels_are_quoted() -> None:
    with pytest.raises(ValueError, match=r"breach 2.0: expected True or False"):
        kupiec([0.0, 2.0], 0.95)
    with pytest.raises(ValueError, match=r"level 0.05: expected above 0.5"):
        kupiec(np.zeros(50), 0.05)


def test_acerbi_szekely_thresholds_are_the_published_ones() -> None:
    """Acerbi and Szekely (2014), table 3: over 250 days at 2.5 % a Z2 of -0.70 has a significance of 5 % under normal
    returns, -0.74 under Student t of 5; the authors propose -0.7 for all."""
    alpha, day = 0.025, np.full(250, 1.0)
    normal = (-norm.ppf(alpha), norm.pdf(norm.ppf(alpha)) / alpha)
    for risk, shortfall in (normal, student_risk(250)):
        breach = 0.70 + 1.0  # -Z2 + 1 in units of n alpha ES
        returns = np.zeros(250)
        # six breaches of one size that add up to that statistic
        returns[:6] = -breach * 250 * alpha * shortfall / 6
        result = acerbi_szekely(returns, risk * day, shortfall * day)
        assert result.statistic == pytest.approx(-0.70)
        assert 0.035 < result.p_value < 0.065


def test_coverage_tests_find_risk_that_is_understated_or_clustered() -> None:
    generator = np.random.default_rng(12)
    short, chained, foretold = [], [], []
    for _ in range(60):
        short.append(kupiec(generator.random(500) < 0.10, 0.95).p_value < 0.05)
        state, hits = False, []
        for draw in generator.random(500):
            state = bool(draw < (0.4 if state else 0.03))
            hits.append(state)
        chained.append(christoffersen(hits, 0.95).p_value < 0.05)
        foretold.append(dynamic_quantile(hits, np.ones(500), 0.95).p_value < 0.05)
    assert min(np.mean(short), np.mean(chained), np.mean(foretold)) > 0.85
