"""How far a forecast is to be trusted: one number between 0 (fully) and 1 (not at all).

In: the spread between models, the width of the interval, the age of the data, gate warnings.
Out: a score and its four parts. Never: a fitted weight; the scales are stated and can be set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UncertaintyScales:
    """The value of each cause of doubt that, alone, makes the score 0.5."""

    disagreement: float = 1.0
    """Standard deviation across models of the log variance forecast: a factor e^0.5 = 1.6 in volatility."""
    interval_width: float = 4.6
    """log q95 - log q05 of variance: the 90 % interval spans a factor 100 in variance, 10 in volatility."""
    data_age_days: float = 2.0
    """Days since the newest complete price day; features are given up after 3."""
    warnings: float = 3.0
    """Gate expectations of severity 'warning' that failed for the day."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"scale {name} {value}: expected a positive number")


@dataclass(frozen=True)
class Uncertainty:
    """A score with its parts, all between 0 and 1 and of one shape."""

    score: Floats
    disagreement: Floats
    interval_width: Floats
    data_age: Floats
    warnings: Floats


def uncertainty(
    disagreement: ArrayLike,
    interval_width: ArrayLike,
    data_age_days: ArrayLike,
    warnings: ArrayLike,
    scales: UncertaintyScales | None = None,
) -> Uncertainty:
    r"""Combine four causes of doubt, each a non-negative array that broadcasts with the others.

    .. math:: u = 1 - \prod_i (1 - s_i), \quad s_i = \frac{x_i^2}{x_i^2 + c_i^2}

    Each part is near 0 for small x, 0.5 at its scale c and near 1 far beyond it; the product lets any one of them alone
    withdraw trust, and two add up. It is a convention of this project, not an estimate: typical one-day forecasts
    (width 2.3, disagreement 0.25) score 0.25. Raises ValueError on a negative or missing input.
    """
    used = scales or UncertaintyScales()
    parts = [
        _share(name, values, getattr(used, name))
        for name, values in (
            ("disagreement", disagreement),
            ("interval_width", interval_width),
            ("data_age_days", data_age_days),
            ("warnings", warnings),
        )
    ]
    spread, width, age, warned = np.broadcast_arrays(*parts)
    score = 1.0 - (1.0 - spread) * (1.0 - width) * (1.0 - age) * (1.0 - warned)
    return Uncertainty(np.asarray(score), spread, width, age, warned)


def disagreement(variances: Floats) -> Floats:
    """(M, ...) variances of M models, NaN where one has none -> (...,) standard deviation of their logs; 0 for one.

    Population standard deviation over the models that have a forecast; NaN where none has.
    """
    logs = np.log(np.asarray(variances, dtype=np.float64))
    known = np.isfinite(logs)
    count = known.sum(axis=0)
    filled = np.where(known, logs, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    squares = np.where(known, np.square(logs - mean), 0.0).sum(axis=0)
    return np.where(count > 0, np.sqrt(squares / np.maximum(count, 1)), np.nan)


def interval_width(log_quantile_05: ArrayLike, log_quantile_95: ArrayLike) -> Floats:
    """log q95 - log q05 of the mean daily variance; for annualised volatility quantiles, twice their log ratio."""
    return np.asarray(np.subtract(log_quantile_95, log_quantile_05), dtype=np.float64)


def _share(name: str, values: ArrayLike, scale: float) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        raise ValueError(f"{name} {array[wrong].flat[0]}: expected a number of at least 0")
    return np.asarray(np.square(array) / (np.square(array) + scale**2))
