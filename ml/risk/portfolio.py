r"""VaR and ES of a portfolio, by two methods, and each coin's part of them.

In: weights w (fractions of capital), one model's variances and volatility quantiles for its coins, a correlation matrix, and past
portfolio returns standardised by past forecasts for the same weights. Out: figures in fractions of the capital.
Never: a coin that was left out, a matrix that was mended, a loss below its VaR in an ES.

The linear return of the portfolio is :math:`y = \sum_i w_i r_i` with forecast variance :math:`h\, w'\Sigma w`. Two laws for y:

- filtered historical simulation (`ml.risk.tails`): past :math:`z_t = y_t / \sqrt{h\, w'\Sigma_t w}`, all with the weights of today,
  times today's volatility;
- the model's own distribution (`ml.risk.mixture`): y given the variances is normal, and the variances of all coins stand at the
  same quantile at a time: :math:`V_p(q) = w' D(q) R D(q) w`. Volatilities of coins rise together; independent ones would
  make the tail thinner.

The loss follows from y by the expected simple return of each coin given y,

.. math:: L(y) = -\sum_i w_i \left(e^{\beta_i y + \frac h2 (\Sigma_{ii} - \beta_i^2 w'\Sigma w)} - 1\right), \quad
    \beta_i = (\Sigma w)_i / w'\Sigma w,

so that one coin has exactly the loss of `ml.risk.var_es`, and a short position is not understated by taking e^x - 1 for x. Parts by coin
are those of Euler for the volatility, :math:`w_i (\Sigma w)_i / w'\Sigma w`, exact for VaR and ES where y is elliptical (McNeil, Frey and
Embrechts 2015, Quantitative Risk Management, section 8.5); they add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.risk.covariance import covariance
from ml.risk.holdings import Portfolio, PortfolioError
from ml.risk.mixture import (
    PREFIX,
    tail_exponential,
    tail_point,
    variance_nodes,
)
from ml.risk.tails import LEVELS, MIN_OBSERVATIONS, fit_tail
from ml.risk.var_es import SUFFIXES

Floats = NDArray[np.float64]

MEASURES: tuple[str, ...] = tuple(
    f"{measure}_{suffix}" for measure in ("var", "es") for suffix in SUFFIXES.values()
)
PORTFOLIO_COLUMNS: tuple[str, ...] = (*MEASURES, *(PREFIX + name for name in MEASURES))
"""var_95 .. es_99 by filtered historical simulation, then mixture_var_95 .. mixture_es_99."""
LEAST_VARIANCE = 1e-30
"""Daily; a volatility of 1e-15 of the capital, a cent on ten thousand billions, is no position, and its square soon underflows to 0."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PortfolioRisk:
    """Figures of one portfolio, day and horizon."""

    variance: float
    """Mean daily variance of the linear return."""
    diversification_ratio: float
    """Weighted mean volatility of the coins over that of the portfolio; 1 for one coin (Choueifaty and Coignard 2008)."""
    measures: dict[str, float]
    """`PORTFOLIO_COLUMNS`; NaN for filtered historical simulation when too few past forecasts are known."""
    shares: dict[str, float]
    """Each coin's part of the volatility, and of every measure; they sum to 1, a hedge has a negative one."""
    observations: int
    """Past portfolio returns behind filtered historical simulation."""


def portfolio_risk(
    portfolio: Portfolio,
    variance: Floats,
    volatility_quantiles: Floats,
    correlation: Floats,
    horizon: int,
    past: Floats,
) -> PortfolioRisk:
    """Risk over `horizon` days of the coins in the order of `portfolio.weights`.

    variance (n,): mean daily; volatility_quantiles (n, 11): annualised q01 .. q99; correlation (n, n); past (t,): standardised
    portfolio returns, NaN = not known. Raises ValueError for inputs that cannot be and `NotPositiveDefinite` for the
    covariance; `PortfolioError` for a variance below `LEAST_VARIANCE` or not finite, and where the loss does not rise as y falls,
    which takes hedges many times the net position.
    """
    names, weights = list(portfolio.weights), np.array(list(portfolio.weights.values()))
    matrix = covariance(variance, correlation, names)
    toward = (matrix * weights).sum(axis=1)  # (n,) covariance of each coin with the portfolio
    total = float((weights * toward).sum())
    if not LEAST_VARIANCE <= total < np.inf:
        raise PortfolioError(
            f"{portfolio.name}: daily variance {total:g}: expected a finite number of at least {LEAST_VARIANCE:g}; its weights are too "
            f"small or cancel out, the largest is {np.abs(weights).max():g} of the capital"
        )
    loss = _Loss(weights, toward / total, np.diagonal(matrix), total, horizon)
    known = past[np.isfinite(past)]
    measures = dict.fromkeys(PORTFOLIO_COLUMNS, float("nan"))
    if len(known) >= MIN_OBSERVATIONS:
        measures |= loss.by_history(known)
    measures |= loss.by_mixture(_nodes(volatility_quantiles, correlation, weights))
    for name in (f"{prefix}{{}}_{suffix}" for prefix in ("", PREFIX) for suffix in SUFFIXES.values()):  # fmt: skip
        risk, shortfall = measures[name.format("var")], measures[name.format("es")]
        if shortfall < risk - _ROUNDING:
            raise PortfolioError(
                f"{portfolio.name}: {name.format('es')} of {shortfall:.4f} below VaR of {risk:.4f}: its hedges are so large against "
                "the net position that the loss does not rise as the linear return falls; expected a portfolio with less gross weight"
            )
    single = np.sqrt(np.diagonal(matrix))
    return PortfolioRisk(
        variance=total,
        diversification_ratio=float((np.abs(weights) * single).sum() / np.sqrt(total)),
        measures={name: max(0.0, value) if value == value else value for name, value in measures.items()},
        shares=dict(zip(names, (weights * toward / total).tolist(), strict=True)),
        observations=len(known),
    )  # fmt: skip


def portfolio_variance(weights: Floats, variance: Floats, correlation: Floats) -> Floats:
    """w' D R D w: (n,) weights, (..., n) variances, (..., n, n) correlations -> (...,); NaN where any of them is.

    Summed pair by pair, elementwise: a day gives the same bits alone and in a block.
    """
    scaled = weights * np.sqrt(variance)  # (..., n)
    total = np.zeros(np.broadcast_shapes(scaled.shape[:-1], correlation.shape[:-2]))
    for row in range(len(weights)):
        for column in range(len(weights)):
            total += scaled[..., row] * scaled[..., column] * correlation[..., row, column]
    return np.asarray(total)


def linear_returns(weights: Floats, log_returns: Floats) -> Floats:
    """(n,), (T, n) -> (T,) y; NaN where a coin's return is missing."""
    total = np.zeros(len(log_returns))
    for column, weight in enumerate(weights.tolist()):
        total += weight * log_returns[:, column]
    return total


def simple_returns(weights: Floats, log_returns: Floats) -> Floats:
    """(n,), (T, n) -> (T,) what the portfolio earned, a fraction of the capital, positions held to the end."""
    return linear_returns(weights, np.expm1(log_returns))


def _nodes(volatility_quantiles: Floats, correlation: Floats, weights: Floats) -> Floats:
    """(K,) variances of the portfolio at the nodes of the mixture."""
    coins = variance_nodes(volatility_quantiles)  # (n, K)
    return portfolio_variance(weights, coins.T, np.asarray(correlation, dtype=np.float64))


@dataclass(frozen=True)
class _Loss:
    """L(y) and its tails."""

    weights: Floats  # (n,)
    slopes: Floats  # (n,) beta
    variances: Floats  # (n,) diagonal of Sigma
    total: float  # w' Sigma w
    horizon: int

    @property
    def levels(self) -> Floats:
        """(n,) e to the half variance of each coin that y leaves open."""
        rest = self.variances - self.slopes**2 * self.total
        return np.asarray(np.exp(0.5 * self.horizon * np.maximum(rest, 0.0)))

    def at(self, y: Floats) -> Floats:
        """(k,) linear returns -> (k,) losses."""
        simple = self.levels[:, None] * np.exp(self.slopes[:, None] * y) - 1.0
        return np.asarray(-(self.weights[:, None] * simple).sum(axis=0))

    def by_history(self, past: Floats) -> dict[str, float]:
        """VaR and ES of L over past z times today's volatility."""
        tail = fit_tail(past)
        losses = self.at(-np.array(tail.long) * np.sqrt(self.horizon * self.total))
        bounded = np.maximum(losses, 0.0)
        found = {}
        for level, suffix in SUFFIXES.items():
            found[f"var_{suffix}"] = float(bounded[tail.rank(level)])
            found[f"es_{suffix}"] = float((bounded * tail.weights(level)).sum())
        return found

    def by_mixture(self, variances: Floats) -> dict[str, float]:
        """VaR and ES of L with y a normal of random variance, (K,) per day at the nodes."""
        scales = np.sqrt(self.horizon * variances)[None, :]  # (1, K)
        found = {}
        for level in LEVELS:
            point = tail_point(scales, level)
            means = [
                float(tail_exponential(scales, point, slope)[0]) / (1.0 - level)
                for slope in self.slopes.tolist()
            ]
            simple = self.levels * np.array(means) - 1.0
            found[f"{PREFIX}var_{SUFFIXES[level]}"] = float(self.at(-point)[0])
            found[f"{PREFIX}es_{SUFFIXES[level]}"] = float(-(self.weights * simple).sum())
        return found
