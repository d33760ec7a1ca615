"""Tests of means of dependent days keep their size; p-values of many tests are adjusted as Holm says."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from ml.explain.dependence import (
    dependent_mean,
    holm,
    naive_size,
    t_statistics,
    two_sided,
    variance_inflation,
)
from tests.ml.explain.explained_days import autoregression


def test_holm_is_statsmodels_and_leaves_out_what_is_no_test() -> None:
    p = np.array([0.001, 0.2, 0.04, 0.004, 0.9])
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])
    with_gap = np.insert(p, 2, np.nan)
    assert np.allclose(np.delete(holm(with_gap), 2), holm(p))
    assert np.isnan(holm(with_gap)[2])


def test_the_standard_error_is_that_of_an_autoregression() -> None:
    chance = np.random.default_rng(1)
    series = autoregression(chance, 4000, 0.6, 200)
    _, error, degrees = dependent_mean(series)
    truth = np.sqrt((1 + 0.6) / (1 - 0.6) / 4000)  # long-run variance of a unit-variance AR(1)
    assert degrees == int(0.4 * 4000 ** (2 / 3))
    assert np.median(error) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.8])
def test_a_zero_mean_is_rejected_about_as_often_as_the_level_says(coefficient: float) -> None:
    chance = np.random.default_rng(2)
    statistic, degrees = t_statistics(autoregression(chance, 300, coefficient, 2000))
    assert (two_sided(statistic, degrees) < 0.05).mean() < 0.085


def test_few_days_are_refused() -> None:
    with pytest.raises(ValueError, match="5 days: expected at least 8"):
        dependent_mean(np.zeros((5, 1)))


def test_the_naive_size_is_what_unrelated_persistent_series_do() -> None:
    """Bartlett's inflation against the rejections of the test for independent days."""
    chance = np.random.default_rng(3)
    x, y = autoregression(chance, 600, 0.9, 1500), autoregression(chance, 600, 0.9, 1500)
    x, y = (side - side.mean(axis=0) for side in (x, y))
    r = (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    rejected = (np.abs(r) * np.sqrt(600) > 1.96).mean()
    predicted = np.median(
        [naive_size(variance_inflation(x[:, [n]], y[:, [n]])) for n in range(200)]
    )
    assert rejected == pytest.approx(predicted, abs=0.06)
    noise = chance.standard_normal((600, 1))
    assert naive_size(variance_inflation(noise, y[:, [0]])) == pytest.approx(0.05, abs=0.03)
