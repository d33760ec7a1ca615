"""Averages of losses, and nothing else.

In: the frame of `ml.evaluation.scores`. Out: means over days, then over coins; losses by day.
Never: a loss formula (they are in `losses`) or a test (they are in `comparison` and `tails`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

PAIR = ["asset", "as_of"]


@dataclass(frozen=True)
class LogErrorParts:
    """Mean squared error of log variance and the two parts that it is the sum of."""

    mean_squared_error: float
    squared_bias: float
    """(mean of log y - log f)^2: what a constant factor on the forecasts would take away."""
    variance: float
    """Variance of log y - log f (divisor n): what is left after that."""


def log_error_parts(realized: ArrayLike, forecast: ArrayLike) -> LogErrorParts:
    """MSE of log RV = bias^2 + variance, over positive values of any equal shape; pairs with a NaN are left out.

    A forecast of the mean variance has a bias on the log scale by Jensen's inequality: the log of a mean lies above the
    mean of the log. It is no fault, which is why the parts are reported beside their sum.
    """
    error = np.log(np.asarray(realized, np.float64)) - np.log(np.asarray(forecast, np.float64))
    error = error[np.isfinite(error)]
    if error.size == 0:
        return LogErrorParts(np.nan, np.nan, np.nan)
    squared_bias = float(error.mean() ** 2)
    variance = float(error.var())
    return LogErrorParts(squared_bias + variance, squared_bias, variance)


def r_squared(realized: ArrayLike, forecast: ArrayLike) -> float:
    r"""Share of the variation of y that the forecast itself explains: no line is fitted.

    .. math:: R^2 = 1 - \sum (y - f)^2 / \sum (y - \bar y)^2

    1 is perfect, 0 is no better than the mean of y (known only afterwards), negative is worse. Pairs with a NaN are left
    out; NaN when y does not vary. On the variance scale a few wild days decide it: read it on logs too.
    """
    y, f = np.asarray(realized, np.float64).ravel(), np.asarray(forecast, np.float64).ravel()
    kept = np.isfinite(y) & np.isfinite(f)
    y, f = y[kept], f[kept]
    total = float(((y - y.mean()) ** 2).sum()) if y.size else 0.0
    return float(1.0 - ((y - f) ** 2).sum() / total) if total > 0 else float("nan")


def mean_by_model(scores: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Index (horizon, model): the mean over each coin's days, then over coins, so that each coin weighs the same."""
    by_coin = scores.groupby(["horizon", "model", "asset"], observed=True)[column].mean()
    return by_coin.groupby(level=["horizon", "model"]).mean()


def losses_by_day(scores: pd.DataFrame, column: str = "qlike") -> pd.DataFrame:
    """One horizon's scores -> as_of down, models across: the mean loss over coins of each day.

    Averaging over coins first makes a day one observation: coins move together, and a test that took them for
    independent would find differences where there are none. Only (coin, day) pairs that every model forecast count.
    """
    wide = scores.pivot(index=PAIR, columns="model", values=column).dropna()
    return wide.groupby(level="as_of").mean().sort_index()


def shared_with(scores: pd.DataFrame, model: str, benchmark: str) -> pd.DataFrame:
    """The scores of `model` and `benchmark` on the coins and days that both forecast, for one horizon."""
    pair = scores[scores["model"].isin([model, benchmark])]
    count = pair.groupby(PAIR, observed=True)["model"].transform("nunique")
    return pair[count == len({model, benchmark})]
