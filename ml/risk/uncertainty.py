"""How far a forecast is to be trusted: one number between 0 (fully) and 1 (not at all).

In: the spread between models, the width of the interval, the age of the data, what has drifted, the audit's verdict.
Out: a score and its five parts, from which it can be computed again. Never: a fitted weight; the scales are stated, can
be set, and are held against forecast errors by `python -m benchmarks leverage` (docs/leverage.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PARTS: tuple[str, ...] = ("disagreement", "interval_width", "data_age", "drift", "audit")
AUDIT_DOUBT: dict[str, float] = {"valid": 0.0, "weak": 1.0, "invalid": 2.0}
"""What a verdict of the faithfulness audit counts; a forecast that claims no explanation counts as 'valid'."""


@dataclass(frozen=True)
class UncertaintyScales:
    """The value of each cause of doubt that, alone, makes the score 0.5."""

    disagreement: float = 1.0
    """Standard deviation across models of the log variance forecast: a factor e^0.5 = 1.6 in volatility."""
    interval_width: float = 4.6
    """log q95 - log q05 of variance: the 90 % interval spans a factor 100 in variance, 10 in volatility."""
    data_age_days: float = 2.0
    """Days since the newest complete price day; features are given up after 3."""
    drift: float = 3.0
    """Kinds of drift (features, errors, attention) found on the last Sunday: one gives 0.1, all three 0.5."""
    audit: float = 4.0
    """`AUDIT_DOUBT` of the verdict: weak gives 0.06, invalid 0.2. A rule of model risk, not a measured loss."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"scale {name} {value}: expected a positive number")


@dataclass(frozen=True)
class Uncertainty:
    """A score with its parts (named as in `PARTS`), all between 0 and 1 and of one shape."""

    score: Floats
    disagreement: Floats
    interval_width: Floats
    data_age: Floats
    drift: Floats
    audit: Floats


def uncertainty(
    disagreement: ArrayLike,
    interval_width: ArrayLike,
    data_age_days: ArrayLike,
    drift: ArrayLike,
    audit: ArrayLike,
    scales: UncertaintyScales | None = None,
) -> Uncertainty:
    r"""Combine five causes of doubt, each a non-negative array that broadcasts with the others.

    .. math:: u = 1 - \prod_i (1 - s_i), \quad s_i = \frac{x_i^2}{x_i^2 + c_i^2}

    Each part is near 0 for small x, 0.5 at its scale c and near 1 far beyond it; the product lets any one of them alone
    withdraw trust, and two add up. It is a convention of this project, not an estimate: typical one-day forecasts
    (width 2.3, disagreement 0.25) score 0.25. Raises ValueError on a negative or missing input.
    """
    used = scales or UncertaintyScales()
    parts = np.broadcast_arrays(
        *(
            _share(name, values, getattr(used, name))
            for name, values in (
                ("disagreement", disagreement),
                ("interval_width", interval_width),
                ("data_age_days", data_age_days),
                ("drift", drift),
                ("audit", audit),
            )
        )
    )
    return Uncertainty(combine(*parts), *(np.array(part) for part in parts))


def combine(*parts: ArrayLike) -> Floats:
    """1 - (1 - s_1)(1 - s_2)...: the score of given parts, each between 0 and 1, multiplied in the order given."""
    trust = np.array(1.0)
    for part in parts:
        trust = trust * (1.0 - np.asarray(part, dtype=np.float64))
    return np.asarray(1.0 - trust)


def disagreement(variances: Floats) -> Floats:
    """(M, ...) variances of M models, NaN where one has none -> (...,) standard deviation of their logs; 0 for one.

    Population standard deviation over the models that have a forecast; NaN where none has.
    """
    logs = np.log(np.asarray(variances, dtype=np.float64))
    known = np.isfinite(logs)
    count = known.sum(axis=0)
    filled = np.where(known, logs, 0.0)
    mean = _in_order(filled) / np.maximum(count, 1)
    squares = _in_order(np.where(known, np.square(logs - mean), 0.0))
    return np.where(count > 0, np.sqrt(squares / np.maximum(count, 1)), np.nan)


def _in_order(values: Floats) -> Floats:
    """(M, ...) -> (...,) sum over the first axis, first to last: a forecast's sum is the same alone and among others."""
    total = np.zeros(values.shape[1:])
    for row in values:
        total = total + row
    return total


def interval_width(log_quantile_05: ArrayLike, log_quantile_95: ArrayLike) -> Floats:
    """log q95 - log q05 of the mean daily variance; for annualised volatility quantiles, twice their log ratio."""
    return np.asarray(np.subtract(log_quantile_95, log_quantile_05), dtype=np.float64)


def _share(name: str, values: ArrayLike, scale: float) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        raise ValueError(f"{name} {array[wrong].flat[0]}: expected a number of at least 0")
    return np.asarray(np.square(array) / (np.square(array) + scale**2))
