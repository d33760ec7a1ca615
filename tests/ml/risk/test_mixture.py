"""VaR and ES of the scale mixture, against closed forms and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import invgamma, norm
from scipy.stats import t as student

from ml.forecasts import QUANTILE_LEVELS
from ml.risk.mixture import (
    MIXTURE_COLUMNS,
    OUTERMOST,
    PROBABILITIES,
    mixture_var_es,
    variance_nodes,
)
from ml.risk.var_es import SUFFIXES

LEVELS = np.array(QUANTILE_LEVELS)


def quantiles_of(variance: Any) -> np.ndarray:
    return np.sqrt(365.0 * np.asarray(variance, dtype=np.float64))


def test_the_nodes_carry_all_probability() -> None:
    assert PROBABILITIES.sum() == pytest.approx(1.0, abs=1e-14)
    assert (PROBABILITIES > 0).all()


@pytest.mark.parametrize("horizon", [1, 5, 22])
def test_a_variance_that_is_certain_gives_the_normal_closed_forms(horizon: int) -> None:
    variance = 0.0016
    found = mixture_var_es(quantiles_of(np.full(11, variance)), horizon)
    s = np.sqrt(horizon * variance)
    for level, suffix in SUFFIXES.items():
        z = norm.ppf(level)
        assert found[f"mixture_var_{suffix}"][0] == pytest.approx(1 - np.exp(-s * z), rel=1e-9)
        assert found[f"mixture_short_var_{suffix}"][0] == pytest.approx(np.exp(s * z) - 1, rel=1e-9)
        mean_down = np.exp(s * s / 2) * norm.cdf(-z - s) / (1 - level)
        mean_up = np.exp(s * s / 2) * norm.cdf(s - z) / (1 - level)
        assert found[f"mixture_es_{suffix}"][0] == pytest.approx(1 - mean_down, rel=1e-8)
        assert found[f"mixture_short_es_{suffix}"][0] == pytest.approx(mean_up - 1, rel=1e-8)


def test_an_inverse_gamma_variance_gives_student_t() -> None:
    """V ~ inverse gamma(nu/2, nu/2) makes r Student t of nu; small scale, so that simple returns are linear."""
    nu, scale = 6.0, 1e-3
    variance = scale**2 * invgamma.ppf(LEVELS, nu / 2, scale=nu / 2)
    found = mixture_var_es(quantiles_of(variance), 1)
    for level, suffix in SUFFIXES.items():
        quantile = student.ppf(level, nu)
        shortfall = student.pdf(quantile, nu) / (1 - level) * (nu + quantile**2) / (nu - 1)
        assert found[f"mixture_var_{suffix}"][0] / scale == pytest.approx(quantile, rel=0.01)
        assert found[f"mixture_es_{suffix}"][0] / scale == pytest.approx(shortfall, rel=0.015)


def test_simulation_agrees_tails_of_the_variance_included() -> None:
    variance = 0.0012 * np.exp(0.9 * norm.ppf(LEVELS) + 0.1 * norm.ppf(LEVELS) ** 2)
    found = mixture_var_es(quantiles_of(variance), 5)
    generator = np.random.default_rng(3)
    score = norm.ppf(LEVELS)
    low = np.log(variance[0]) + (np.log(variance[0]) - np.log(variance[2])) / (
        score[0] - score[2]
    ) * (norm.ppf(OUTERMOST) - score[0])
    high = np.log(variance[-1]) + (np.log(variance[-1]) - np.log(variance[-3])) / (
        score[-1] - score[-3]
    ) * (-norm.ppf(OUTERMOST) - score[-1])
    points = np.concatenate([[norm.ppf(OUTERMOST)], score, [-norm.ppf(OUTERMOST)]])
    logs = np.concatenate([[low], np.log(variance), [high]])
    drawn = np.exp(np.interp(generator.standard_normal(2_000_000), points, logs))
    r = np.sqrt(5 * drawn) * generator.standard_normal(2_000_000)
    for side, loss in (("", -np.expm1(-np.abs(r))), ("short_", np.expm1(np.abs(r)))):
        # symmetric in r: |r| has both tails, so the level is that of 2 (1 - level)
        ordered = np.sort(loss)
        for level, suffix in SUFFIXES.items():
            cut = int(len(r) * (1 - 2 * (1 - level)))
            assert found[f"mixture_{side}var_{suffix}"][0] == pytest.approx(ordered[cut], rel=0.006)
            assert found[f"mixture_{side}es_{suffix}"][0] == pytest.approx(
                ordered[cut:].mean(), rel=0.008
            )


@given(hnp.arrays(np.float64, 11, elements=st.floats(0.02, 4.0)), st.sampled_from([1, 5, 22]))
def test_risk_rises_with_the_level_and_shortfall_is_never_below_var(
    volatility: Any, horizon: int
) -> None:
    found = mixture_var_es(np.sort(volatility), horizon)
    assert tuple(found) == MIXTURE_COLUMNS
    for side in ("", "short_"):
        var, es = (
            np.array([found[f"mixture_{side}{name}_{suffix}"][0] for suffix in SUFFIXES.values()])
            for name in ("var", "es")
        )
        assert (var > 0).all()
        assert (np.diff(var) > 0).all()
        assert (np.diff(es) > 0).all()
        assert (es > var).all()
        assert np.isfinite(es).all()
    assert found["mixture_es_99"][0] < 1.0
    nodes = variance_nodes(np.sort(volatility))
    assert (np.diff(nodes) >= -1e-12 * nodes[1:]).all()


def test_a_row_has_the_same_bits_alone_and_in_a_block() -> None:
    generator = np.random.default_rng(4)
    volatility = np.sort(generator.uniform(0.2, 2.0, (50, 11)), axis=1)
    horizons = generator.choice([1, 5, 22], 50)
    block = mixture_var_es(volatility, horizons)
    for row in (0, 17, 49):
        alone = mixture_var_es(volatility[row], horizons[row])
        assert all(alone[name][0] == block[name][row] for name in MIXTURE_COLUMNS)


def test_wrong_inputs_are_quoted() -> None:
    good = np.linspace(0.3, 0.9, 11)
    with pytest.raises(ValueError, match=r"volatility quantile -0\.3: expected a positive"):
        mixture_var_es(np.concatenate([[-0.3], good[1:]]), 1)
    with pytest.raises(ValueError, match="expected rising ones"):
        mixture_var_es(good[::-1], 1)
    with pytest.raises(ValueError, match="horizon 0: expected a positive"):
        mixture_var_es(good, 0)
    with pytest.raises(ValueError, match="expected 11 on the last axis"):
        variance_nodes(good[:5])
