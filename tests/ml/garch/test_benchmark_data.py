"""The Deutschmark/pound benchmark of Bollerslev and Ghysels (1996) to the digits of Fiorentini, Calzolari and Panattoni (1996).

Figures: Journal of Applied Econometrics 11, 399-417, as McCullough and Renfro (1999, Journal of Economic and Social Measurement
25, 59-71) made them the benchmark; standard errors of the Hessian, of outer products, and of the sandwich. The series lies in
data/deutschmark_pound.csv, its source in the first lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.garch.estimation import Fits, fit
from ml.garch.inference import standard_errors
from ml.garch.specification import Specification
from ml.garch.verdicts import CONVERGED, judge
from ml.garch.windows import Windows

DATA = Path(__file__).parent / "data" / "deutschmark_pound.csv"
PARAMETERS = (-0.00619041, 0.0107613, 0.153134, 0.805974)
HESSIAN = (0.00846212, 0.00285271, 0.0265228, 0.0335527)
OUTER_PRODUCT = (0.00843359, 0.00132298, 0.0139737, 0.0165604)
ROBUST = (0.00918935, 0.00649319, 0.0535317, 0.0724614)
UNIT_IN_SIXTH_DIGIT = 1.2e-5


@pytest.fixture(scope="module")
def fitted() -> tuple[Fits, Windows]:
    returns = np.loadtxt(DATA, skiprows=3)
    assert len(returns) == 1974
    windows = Windows.separate([returns])
    return fit(
        Specification("garch", "normal"), windows, tolerance=1e-12, initial="sample"
    ), windows


def test_parameters_and_likelihood_are_the_published_ones(fitted: tuple[Fits, Windows]) -> None:
    np.testing.assert_allclose(fitted[0].parameters[0], PARAMETERS, rtol=UNIT_IN_SIXTH_DIGIT)
    assert fitted[0].log_likelihood[0] == pytest.approx(-1106.60788, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "published"), [("hessian", HESSIAN), ("outer", OUTER_PRODUCT), ("robust", ROBUST)]
)
def test_standard_errors_are_the_published_ones(
    fitted: tuple[Fits, Windows], name: str, published: Any
) -> None:
    found = getattr(standard_errors(*fitted, initial="sample"), name)[0]
    np.testing.assert_allclose(found, published, rtol=UNIT_IN_SIXTH_DIGIT)


def test_the_fit_is_judged_converged(fitted: tuple[Fits, Windows]) -> None:
    windows = fitted[1]
    ours = fit(Specification("garch", "normal"), windows, tolerance=1e-9)
    assert judge(ours, windows).verdicts[0] == CONVERGED
