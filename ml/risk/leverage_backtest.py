r"""What following a leverage from day to day would have given.

In: exposures as they stand right after each trade, simple returns from one trade to the next, a cost per unit of turnover.
Out: capital, turnover, and the figures that a desk compares. Never: a return that began before its trade, a weight that
looks ahead (row t of the weights meets row t of the returns, which starts when the trade is done), funding, interest on
cash, or a fill of a missing number.

With weights w, returns r, cost c, capital V that starts at 1, and the exposures before the trade w',

.. math:: \tau_t = \sum_i |w_{it} - w'_{it}|, \quad V_{t+1} = V_t (1 - c \tau_t)(1 + w_t \cdot r_t), \quad
    w'_{i,t+1} = \frac{w_{it}(1 + r_{it})}{1 + w_t \cdot r_t}, \quad w'_0 = 0

so that a leverage that stays the same trades too: it buys back what the market has moved. One that loses all of its
capital stays at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.forecasts import DAYS_PER_YEAR

DEFAULT_COST = 0.001
"""Of what is traded: 10 basis points, a taker's fee on a large venue and half a spread."""
EWMA_DECAY = 0.94
"""RiskMetrics (1996) for daily data."""
LEAST_FIT_DAYS = 60
"""Realised variances that a constant leverage is fitted on, at the least."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeveragePath:
    """T days of a strategy, or of several side by side: then each array has their axes after the days."""

    net_return: Floats  # (T, ...) simple, of the capital, after costs
    capital: Floats  # (T + 1, ...), from 1
    turnover: Floats  # (T, ...) traded at the start of each day, a fraction of the capital
    leverage: Floats  # (T, ...) gross exposure after the trade

    def part(self, first: int, last: int, *strategy: int) -> LeveragePath:
        """Days first .. last of one strategy, by its indices; nothing may have been held before."""

        def cut(values: Floats, stop: int) -> Floats:
            for index in strategy:
                values = np.asarray(values[:, index])
            return values[first:stop]

        return LeveragePath(
            cut(self.net_return, last + 1),
            cut(self.capital, last + 2),
            cut(self.turnover, last + 1),
            cut(self.leverage, last + 1),
        )


@dataclass(frozen=True)
class Performance:
    """One strategy in figures."""

    days: int
    realised_volatility: float
    """sqrt(365 * mean squared net return): no mean is taken off, as in realised variance."""
    worst_drawdown: float
    """Largest loss from a peak of the capital, a fraction of the peak, the first day's start included."""
    turnover_per_year: float
    """Multiples of the capital traded in 365 days, the entry on the first day left out (its cost is paid)."""
    mean_leverage: float
    growth_per_year: float
    """Log growth of the capital; -inf when it is lost."""
    sharpe: float
    """Mean over standard deviation of net returns, annualised; NaN where they do not vary. For information only."""


def follow_weights(
    weights: ArrayLike, returns: ArrayLike, cost: float = DEFAULT_COST
) -> LeveragePath:
    """Hold `weights` (T, ..., N), exposures after each trade as fractions of the capital, through `returns`, as large.

    Each index of the axes between days and coins is a strategy with a capital of its own. Raises ValueError on unequal
    shapes, no day, a weight that is not a number from 0 up, a return that is not a number of at least -1, or a cost
    outside [0, 1).
    """
    exposure, moves = (np.asarray(values, dtype=np.float64) for values in (weights, returns))
    if exposure.ndim < 2 or exposure.shape != moves.shape or len(exposure) == 0:
        raise ValueError(
            f"weights of shape {exposure.shape}, returns of {moves.shape}: expected one (days, ..., coins)"
        )
    for name, values, least in (("weight", exposure, 0.0), ("return", moves, -1.0)):
        wrong = ~(np.isfinite(values) & (values >= least))
        if wrong.any():
            first = tuple(int(index) for index in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name} {values[first]} on day {first[0]} of column {first[-1]}: expected a number from {least:g} up"
            )
    if not 0.0 <= cost < 1.0:
        raise ValueError(f"cost {cost}: expected a fraction from 0 to below 1")
    days, *strategies, _ = exposure.shape
    capital = np.ones((days + 1, *strategies))
    turnover = np.zeros((days, *strategies))
    alive = np.ones((days + 1, *strategies), dtype=bool)  # at the start of each day
    before = np.zeros(exposure.shape[1:])
    for day in range(days):
        turnover[day] = np.abs(exposure[day] - before).sum(axis=-1)
        growth = 1.0 + (exposure[day] * moves[day]).sum(axis=-1)  # (...,)
        paid = 1.0 - cost * turnover[day]
        alive[day + 1] = alive[day] & (growth > 0) & (paid > 0)
        capital[day + 1] = np.where(alive[day + 1], capital[day] * paid * growth, 0.0)
        before = exposure[day] * (1.0 + moves[day]) / np.where(growth > 0, growth, 1.0)[..., None]
    held_on = alive[:-1]
    net = np.divide(capital[1:], capital[:-1], out=np.ones(held_on.shape), where=held_on) - 1.0
    return LeveragePath(
        net,
        capital,
        np.where(held_on, turnover, 0.0),
        np.where(held_on, exposure.sum(axis=-1), 0.0),
    )


def performance(path: LeveragePath) -> Performance:
    """The figures of the path of one strategy."""
    net, days = path.net_return, len(path.net_return)
    spread = float(net.std())
    peak = np.maximum.accumulate(path.capital)
    end = float(path.capital[-1])
    return Performance(
        days=days,
        realised_volatility=float(np.sqrt(DAYS_PER_YEAR * np.square(net).mean())),
        worst_drawdown=float((1.0 - path.capital / peak).max()),
        turnover_per_year=float(DAYS_PER_YEAR * path.turnover[1:].mean()) if days > 1 else 0.0,
        mean_leverage=float(path.leverage.mean()),
        growth_per_year=math.log(end) * DAYS_PER_YEAR / days if end > 0 else -math.inf,
        sharpe=float(np.sqrt(DAYS_PER_YEAR) * net.mean() / spread) if spread > 0 else math.nan,
    )


def equal_weights(leverage: ArrayLike) -> Floats:
    """(..., N) leverage of each coin, NaN = none -> (..., N) weights: the capital in equal parts on the coins there are."""
    values = np.asarray(leverage, dtype=np.float64)
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    return np.asarray(np.where(np.isfinite(values), values, 0.0) / np.maximum(count, 1))


def held(leverage: ArrayLike, longest: int) -> Floats:
    """(T, N) -> (T, N): where there is none, the last one for up to `longest` days, as who is given no advice holds on."""
    values = np.array(leverage, dtype=np.float64)
    row = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(values), row, -1), axis=0)
    kept = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where((last >= 0) & (row - last <= longest), kept, np.nan)


def carried(leverage: ArrayLike, priced: ArrayLike, longest: int) -> Floats:
    """(T, N) leverage, (T, N) bool whether the coin has a price at the trade -> (T, N): where it has none, nothing is traded.

    The leverage, or that there is none, stays as at the last price for up to `longest` days; then, and before the first price, it is NaN.
    Without this a trade would be made at the last price seen, and its return would begin before it. Raises ValueError on unequal shapes.
    """
    values, known = np.asarray(leverage, dtype=np.float64), np.asarray(priced, dtype=bool)
    if values.shape != known.shape:
        raise ValueError(f"leverage of shape {values.shape}, prices of {known.shape}: expected one")
    row = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(known, row, -1), axis=0)
    kept = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where((last >= 0) & (row - last <= longest), kept, np.nan)


def returns_of(prices: ArrayLike) -> Floats:
    """(T + 1, N) prices at the trades, NaN = not seen -> (T, N) simple returns: a price not seen is the last one seen.

    So what the market did in a hole falls on the day that ends it, and before a coin's first price nothing moves.
    Raises ValueError on a price that is not positive.
    """
    values = np.asarray(prices, dtype=np.float64)
    wrong = np.isfinite(values) & (values <= 0)
    if wrong.any():
        raise ValueError(f"price {values[wrong][0]}: expected a positive number")
    seen = held(values, len(values))
    moves = seen[1:] / seen[:-1] - 1.0
    return np.asarray(np.where(np.isfinite(moves), moves, 0.0))


def constant_leverage(
    past_variance: ArrayLike, target_volatility: float, max_leverage: float
) -> float:
    """Target over the volatility of the past days (T,), NaN left out: fitted once, before the first trade, and kept.

    Raises ValueError with fewer than 60 of them, or on one that is not positive.
    """
    past = np.asarray(past_variance, dtype=np.float64)
    past = past[np.isfinite(past)]
    if len(past) < LEAST_FIT_DAYS:
        raise ValueError(f"{len(past)} realised variances: expected at least {LEAST_FIT_DAYS}")
    if (past <= 0).any():
        raise ValueError(f"realised variance {past[past <= 0][0]}: expected a positive number")
    volatility = math.sqrt(DAYS_PER_YEAR * float(past.mean()))
    return min(max_leverage, target_volatility / volatility)


def ewma_leverage(
    realized_variance: ArrayLike,
    target_volatility: float,
    max_leverage: float,
    decay: float = EWMA_DECAY,
) -> Floats:
    """(T, N) realised variances, NaN = not known that day -> (T, N) target over EWMA volatility up to and including each day.

    Missing days have no weight and the others' weights sum to 1; NaN before a coin's first value.
    """
    values = np.asarray(realized_variance, dtype=np.float64)
    weighted, total = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    leverage = np.full(values.shape, np.nan)
    for day, today in enumerate(values):
        known = np.isfinite(today)
        weighted = decay * weighted + np.where(known, today, 0.0)
        total = decay * total + known
        there = total > 0
        variance = np.divide(weighted, total, out=np.full(total.shape, np.nan), where=there)
        leverage[day] = np.minimum(
            max_leverage, target_volatility / np.sqrt(DAYS_PER_YEAR * variance)
        )
    return leverage
