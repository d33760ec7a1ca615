"""The regressors of the HAR family, each a line: its name, the columns it reads, its formula.

In: columns of features.daily. Out: the design matrix. Never: filling; a regressor that cannot be computed is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.panel import Panel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Regressor:
    """A named function of some columns of features.daily, elementwise."""

    name: str
    columns: tuple[str, ...]
    formula: Callable[..., Floats]


def _identity(value: Floats) -> Floats:
    return value


def _negative_part_in_sd(log_return: Floats, variance: Floats) -> Floats:
    return np.asarray(np.minimum(log_return, 0.0) / np.sqrt(variance))


def _weekday(day: int) -> Callable[[Floats], Floats]:
    return lambda weekday: np.where(np.isnan(weekday), np.nan, (weekday == day).astype(float))


REGRESSORS: tuple[Regressor, ...] = (
    Regressor("d", ("rv_d",), np.log),
    Regressor("w", ("rv_5d",), np.log),
    Regressor("m", ("rv_22d",), np.log),
    Regressor("q", ("rv_66d",), np.log),
    Regressor("d2", ("rv_2d",), np.log),
    Regressor("lev", ("return_d", "rv_d"), _negative_part_in_sd),
    Regressor("levw", ("return_5d", "rv_5d"), lambda r, rv: _negative_part_in_sd(r, 5.0 * rv)),
    Regressor("abs", ("return_d", "rv_d"), lambda r, rv: np.abs(r) / np.sqrt(rv)),
    Regressor("pk", ("high_low_range_d",), lambda x: np.log(np.maximum(x**2, 1e-8))),
    Regressor("mk", ("market_log_rv_d",), _identity),
    Regressor("mkw", ("market_log_rv_5d",), _identity),
    Regressor("btc", ("btc_rv_d",), np.log),
    Regressor("btcw", ("btc_rv_5d",), np.log),
    Regressor("blev", ("btc_return_d", "btc_rv_d"), _negative_part_in_sd),
    Regressor("vol", ("log_volume_ratio_22d",), _identity),
    *(
        Regressor(f"l{hours}", (f"rv_last_{hours}h",), lambda rv: np.log(rv + 1e-9))
        for hours in (1, 4, 8, 12)
    ),
    *(Regressor(f"dow{day}", ("target_weekday",), _weekday(day)) for day in range(6)),
)
"""Log-HAR's three first; weekday 6 (Sunday) is the base of the dummies."""


def design(
    panel: Panel, regressors: tuple[Regressor, ...], rows: NDArray[np.int64] | None = None
) -> Floats:
    """(D, N, 1 + P): an intercept and the regressors, for some rows or all; NaN where one cannot be computed."""
    wanted = np.arange(len(panel.days)) if rows is None else rows
    columns = [np.ones((len(wanted), len(panel.assets)))]
    with np.errstate(divide="ignore", invalid="ignore"):
        for regressor in regressors:
            values = regressor.formula(*(panel.feature(name)[wanted] for name in regressor.columns))
            columns.append(np.where(np.isfinite(values), values, np.nan))
    return np.ascontiguousarray(np.stack(columns, axis=-1))
