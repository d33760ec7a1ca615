r"""Forecasts of covariance: HAR-DRD, the variances of any model joined by a HAR of realised correlation matrices.

In: hourly log returns up to a day, and for a covariance the variance forecasts of a model. Out: correlation matrices over
1, 5 and 22 days and covariance matrices. Never: an eigenvalue lifted or an entry shrunk to make a matrix usable.

.. math:: \Sigma = D R D, \quad R_{t+1:t+h} = w_u \bar R + w_d R_t + w_w R_{t-4:t} + w_m R_{t-21:t}

with D the diagonal of forecast standard deviations, R over several days the mean of daily realised correlation matrices, R bar
its mean over the training window, all w at least 0, :math:`w_u \ge 0.05` and :math:`w_u + w_d + w_w + w_m = 1`.

R is positive definite by construction. Each of the four matrices is positive semi-definite with a diagonal of 1 (see
`ml.risk.correlations`), and R bar is positive definite, or the fit refuses a coin. So for every x other than 0

.. math:: x' R x \ge w_u\, x' \bar R x \ge 0.05\, \lambda_{min}(\bar R)\, x'x > 0,

the diagonal of R is 1, and D R D is positive definite because D has no zero.

Source: Oh and Patton (2016), "High-dimensional copula-based distributions with mixed frequency data", Journal of
Econometrics 193; Bollerslev, Patton and Quaedvlieg (2018), "Modeling and forecasting (un)reliable realized covariances for
more reliable financial decisions", Journal of Econometrics 207. One set of weights for all pairs, as there, by least
squares on the elements below the diagonal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.forecasts import HORIZONS
from ml.panel import TARGET_COVERAGE
from ml.risk.correlations import choose_coins, mean_over_days, realized_correlations

Floats = NDArray[np.float64]

COMPONENTS: tuple[int, ...] = (1, 5, 22)
"""Days of the daily, weekly and monthly mean."""
WINDOW_DAYS = 500
FEWEST_DAYS = 250
"""Days with a matrix that a fit needs."""
FEWEST_ROWS = 60
LEAST_UNCONDITIONAL = 0.05
"""w_u at least: what keeps R away from singular days."""
SINGULAR = 1e-8
"""An eigenvalue of a correlation matrix up to this is 0 in the precision of hourly prices: two coins move as one."""
UNIT_TOLERANCE = 1e-9
"""Rounding of a diagonal of 1."""


class NotPositiveDefinite(ValueError):
    """A matrix that is no covariance; the message names the coins and the eigenvalue."""


@dataclass(frozen=True)
class CorrelationFit:
    """R bar and the weights, as fitted on one day."""

    fitted_as_of: str
    columns: tuple[int, ...]  # coins that were fitted: columns of the returns
    unconditional: Floats  # (n, n), n = len(columns)
    weights: dict[int, tuple[float, ...]]  # horizon -> daily, weekly, monthly
    days: int  # with a matrix
    refused: dict[int, str]  # column -> why it was not fitted


@dataclass(frozen=True)
class CorrelationForecast:
    """Correlation matrices of one day."""

    columns: tuple[int, ...]
    matrices: dict[int, Floats]  # horizon -> (n, n)
    refused: dict[int, str]


def fit_correlations(returns: Floats, assets: Sequence[str], day: str) -> CorrelationFit:
    """Fit on the last 500 of the days of returns (T, 24, N); `day` names the last, `assets` (N,) the coins.

    A coin without enough hours, or whose returns are those of others, is refused with a reason. With fewer than 250 shared
    days or 60 rows for a horizon all are. Raises ValueError on returns of another shape.
    """
    if returns.ndim != 3 or returns.shape[2] != len(assets):
        raise ValueError(
            f"returns of shape {returns.shape}: expected (days, 24, {len(assets)}), one column for each coin"
        )
    window = returns[-WINDOW_DAYS:]
    choice = choose_coins(window, range(len(assets)), len(window), FEWEST_DAYS, day)
    kept, refused = list(choice.kept), dict(choice.refused)
    daily, unconditional = _daily_and_mean(window, kept)
    while kept and (found := _singular_coin(unconditional, [assets[c] for c in kept])) is not None:
        place, reason = found
        refused[kept.pop(place)] = reason
        daily, unconditional = _daily_and_mean(window, kept)
    if not kept:
        return CorrelationFit(day, (), np.empty((0, 0)), {}, 0, refused)
    days = int(np.isfinite(daily[:, 0, 0]).sum())
    weights: dict[int, tuple[float, ...]] = {}
    past = _component_means(daily)
    for horizon in HORIZONS:
        explained, regressors = _rows(daily, past, horizon)
        if len(explained) < FEWEST_ROWS:
            reason = (
                f"{len(explained)} days with a daily, weekly and monthly matrix and one over {horizon} days after them in the "
                f"window to {day}: expected at least {FEWEST_ROWS}"
            )
            refused |= dict.fromkeys(kept, reason)
            return CorrelationFit(day, (), np.empty((0, 0)), {}, days, refused)
        weights[horizon] = _weights(explained, regressors, unconditional)
    return CorrelationFit(day, tuple(kept), unconditional, weights, days, refused)


def forecast_correlations(fit: CorrelationFit, returns: Floats, day: str) -> CorrelationForecast:
    """R over each horizon from the last 22 days of returns (T, 24, N), of which `day` names the last.

    A coin that was not fitted, or lacks hours on the day itself, on 2 of the last 5 or 5 of the last 22, is refused; the others
    get the matrix without it, which is positive definite as every principal submatrix is.
    """
    kept, refused = fit.columns, dict(fit.refused)
    if len(returns) < COMPONENTS[-1]:
        reason = f"{len(returns)} days of hours up to {day}: expected at least {COMPONENTS[-1]}"
        return CorrelationForecast((), {}, refused | dict.fromkeys(kept, reason))
    for length in COMPONENTS:
        choice = choose_coins(returns, kept, length, _enough(length), day)
        kept, refused = choice.kept, refused | choice.refused
    if not kept:
        return CorrelationForecast((), {}, refused)
    daily = realized_correlations(returns[-COMPONENTS[-1] :][:, :, list(kept)])
    means = [component[-1] for component in _component_means(daily)]
    places = [fit.columns.index(column) for column in kept]
    unconditional = fit.unconditional[np.ix_(places, places)]
    matrices = {}
    for horizon, weights in fit.weights.items():
        matrix = (1.0 - sum(weights)) * unconditional
        for weight, mean in zip(weights, means, strict=True):
            matrix = matrix + weight * mean
        np.fill_diagonal(matrix, 1.0)  # it is, up to the rounding of four weights that sum to 1
        matrices[horizon] = matrix
    return CorrelationForecast(kept, matrices, refused)


def covariance(variance: ArrayLike, correlation: Floats, names: Sequence[str]) -> Floats:
    """D R D: (n,) mean daily variances and (n, n) correlations -> (n, n) mean daily covariances.

    Raises ValueError for a variance that is not positive or a correlation of a coin with itself that is not 1, `NotPositiveDefinite` for
    a matrix that is none.
    """
    variances = np.asarray(variance, dtype=np.float64)
    for name, value in zip(names, variances, strict=True):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"variance {value} of {name}: expected a positive number")
    correlations = np.asarray(correlation, dtype=np.float64)
    if correlations.shape != (len(names), len(names)):
        raise NotPositiveDefinite(
            f"correlation of shape {correlations.shape}: expected {(len(names), len(names))}, a row for each coin"
        )
    for name, value in zip(names, np.diagonal(correlations).tolist(), strict=True):
        if not abs(value - 1.0) <= UNIT_TOLERANCE:
            raise ValueError(f"correlation of {name} with itself is {value}: expected 1")
    deviation = np.sqrt(variances)
    matrix = correlations * deviation[:, None] * deviation[None, :]
    require_positive_definite(matrix, names)
    return matrix


def require_positive_definite(matrix: Floats, names: Sequence[str]) -> None:
    """Raise `NotPositiveDefinite` that names the coins unless (n, n) `matrix` is a covariance of the coins `names`.

    It must be finite and symmetric, and Cholesky's factorisation must exist. Nothing is changed.
    """
    if matrix.shape != (len(names), len(names)):
        raise NotPositiveDefinite(
            f"covariance of shape {matrix.shape}: expected {(len(names), len(names))}, a row for each coin"
        )
    for row, column in itertools.combinations_with_replacement(range(len(names)), 2):
        pair = f"covariance of {names[row]} and {names[column]}"
        here, there = float(matrix[row, column]), float(matrix[column, row])
        if not (math.isfinite(here) and math.isfinite(there)):
            raise NotPositiveDefinite(f"{pair} is {here}: expected a finite number")
        if abs(here - there) > 1e-9 * math.sqrt(abs(matrix[row, row] * matrix[column, column])):
            raise NotPositiveDefinite(
                f"{pair} is {here} one way and {there} the other: expected a symmetric matrix"
            )
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        coins = _heaviest(vectors[:, 0], names)
        raise NotPositiveDefinite(
            f"covariance of {', '.join(names)} is not positive definite: eigenvalue {values[0]:.3g} along {coins}"
        ) from None


def _daily_and_mean(window: Floats, kept: Sequence[int]) -> tuple[Floats, Floats]:
    """Daily matrices (T, n, n) of some coins, and the mean of those there are."""
    daily = realized_correlations(window[:, :, list(kept)])
    known = daily[np.isfinite(daily).all(axis=(1, 2))]
    return daily, known.sum(axis=0) / max(len(known), 1)


def _component_means(daily: Floats) -> list[Floats]:
    """The daily, weekly and monthly mean of each day, (T, n, n) each."""
    return [mean_over_days(daily, length, _enough(length)) for length in COMPONENTS]


def _rows(daily: Floats, past: Sequence[Floats], horizon: int) -> tuple[Floats, Floats]:
    """Targets (M, P) and regressors (M, 3, P), P = pairs, of the days on which all of them are known."""
    pairs = np.triu_indices(daily.shape[1], 1)
    ahead = mean_over_days(daily, horizon, _enough(horizon))[horizon:]  # row t: t+1 .. t+h
    made = [component[: len(ahead)] for component in past]
    usable = np.logical_and.reduce([np.isfinite(m[:, 0, 0]) for m in (*made, ahead)])
    regressors = np.stack([component[usable][:, *pairs] for component in made], axis=1)
    return ahead[usable][:, *pairs], regressors


def _weights(explained: Floats, regressors: Floats, unconditional: Floats) -> tuple[float, ...]:
    """Least squares of target - R bar on component - R bar under the bounds on the weights."""
    level = unconditional[np.triu_indices(len(unconditional), 1)]
    moved = regressors - level  # (M, 3, P)
    target = explained - level  # (M, P)
    gram = np.array(
        [[float((moved[:, i] * moved[:, j]).sum()) for j in range(len(COMPONENTS))]
         for i in range(len(COMPONENTS))]
    )  # fmt: skip
    cross = np.array([float((moved[:, i] * target).sum()) for i in range(len(COMPONENTS))])
    return tuple(bounded_least_squares(gram, cross, 1.0 - LEAST_UNCONDITIONAL).tolist())


def bounded_least_squares(gram: Floats, cross: Floats, most: float) -> Floats:
    """The w that minimises w'Gw/2 - c'w with w >= 0 and sum(w) <= most; G (k, k) positive semi-definite, c (k,).

    Every set of active bounds is solved and the best feasible solution taken: exact, and quick for the three weights here.
    A solution of a singular G is that of least norm.
    """
    best, least = np.zeros(len(cross)), 0.0
    for size in range(1, len(cross) + 1):
        for free in itertools.combinations(range(len(cross)), size):
            sub, right = gram[np.ix_(free, free)], cross[list(free)]
            edge = np.ones((size, 1))
            system = np.block([[sub, edge], [edge.T, np.zeros((1, 1))]])
            inside = np.linalg.pinv(sub, hermitian=True) @ right
            at_bound = (np.linalg.pinv(system, hermitian=True) @ np.append(right, most))[:-1]
            for found in (inside, at_bound):
                if (found < -1e-12).any() or found.sum() > most + 1e-12:
                    continue
                weights = np.zeros(len(cross))
                weights[list(free)] = np.maximum(found, 0.0)
                value = float(0.5 * weights @ gram @ weights - cross @ weights)
                if value < least:
                    best, least = weights, value
    return best


def _singular_coin(matrix: Floats, names: Sequence[str]) -> tuple[int, str] | None:
    """The coin that makes a correlation matrix singular, and why; None where it is positive definite."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] > SINGULAR:
        return None
    loading = np.abs(vectors[:, 0]).round(6)
    place = int(len(loading) - 1 - np.argmax(loading[::-1]))  # of equal ones the last
    others = _heaviest(np.delete(vectors[:, 0], place), [n for i, n in enumerate(names) if i != place], 1)  # fmt: skip
    return place, (
        f"its returns are a combination of those of {others}: the mean correlation matrix has eigenvalue {values[0]:.2g}, expected "
        f"above {SINGULAR:g}"
    )


def _heaviest(loading: Floats, names: Sequence[str], count: int = 2) -> str:
    order = np.argsort(-np.abs(loading).round(6), kind="stable")[:count]
    return " and ".join(names[place] for place in order.tolist())


def _enough(days: int) -> int:
    return math.ceil(TARGET_COVERAGE * days)
