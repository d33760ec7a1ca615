r"""Does a score, known beforehand, rank the errors that followed?

In: scores and errors of a panel (T, N) of days and coins. Out: Spearman's rank correlation with a p-value clustered by
date, and mean errors by tenth of the score. Never: an assumption that coins of one day, or overlapping horizons, are
separate evidence.

With a, b the centred ranks of score and error over all coin-days (or within each coin),

.. math:: \rho = \frac{\sum_{it} a_{it} b_{it}}{\sqrt{\sum a^2 \sum b^2}}, \quad
    z = \frac{\sum_t g_t}{\sqrt{T \hat\Omega(g)}}, \quad g_t = \sum_i a_{it} b_{it}

with Omega the Bartlett long-run variance of g over max(2(h-1), T^(1/3)) lags: scores and errors are both persistent,
and errors of horizon h overlap.
Sources: Spearman (1904); Newey and West (1987), Econometrica 55; Driscoll and Kraay (1998), Review of Economics and
Statistics 80 (sums by date).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

from ml.evaluation.comparison import bartlett_variance

FEWEST_DAYS = 30
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankAssociation:
    """Spearman's rho of scores and errors; NaN where one side does not vary or there are fewer than 30 days."""

    rho: float
    p_value: float  # two-sided, clustered by date
    days: int
    forecasts: int


def rank_association(
    score: ArrayLike, error: ArrayLike, horizon: int = 1, *, within_coins: bool = False
) -> RankAssociation:
    """Rank correlation of (T, N) scores with (T, N) errors, NaN = none; `within_coins` ranks each column by itself.

    Raises ValueError on unequal shapes or a horizon that is not positive.
    """
    left, right = (np.asarray(values, dtype=np.float64) for values in (score, error))
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(
            f"scores of shape {left.shape}, errors of {right.shape}: expected one (days, coins)"
        )
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    both = np.isfinite(left) & np.isfinite(right)
    days, count = int(both.any(axis=1).sum()), int(both.sum())
    a, b = (_centred_ranks(values, both, within_coins) for values in (left, right))
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    if days < FEWEST_DAYS or scale == 0:
        return RankAssociation(math.nan, math.nan, days, count)
    daily = (a * b).sum(axis=1)[both.any(axis=1)]  # (days,)
    lags = min(max(2 * (horizon - 1), math.ceil(days ** (1 / 3))), days - 1)
    spread = math.sqrt(days * bartlett_variance(daily, lags))
    p_value = float(2 * student.sf(abs(daily.sum()) / spread, days - 1)) if spread > 0 else math.nan
    return RankAssociation(float(daily.sum()) / scale, p_value, days, count)


def means_by_tenth(score: ArrayLike, error: ArrayLike, parts: int = 10) -> Floats:
    """(parts,) mean error of the forecasts in each equal part of the score, least score first; ties share their mean rank.

    Raises ValueError with fewer forecasts than parts.
    """
    left, right = (np.asarray(values, dtype=np.float64).ravel() for values in (score, error))
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < parts:
        raise ValueError(f"{int(both.sum())} forecasts: expected at least {parts}")
    rank = rankdata(left[both])
    part = np.minimum(((rank - 0.5) / len(rank) * parts).astype(int), parts - 1)
    total = np.bincount(part, weights=right[both], minlength=parts)
    return np.asarray(total / np.maximum(np.bincount(part, minlength=parts), 1))


def _centred_ranks(values: Floats, valid: NDArray[np.bool_], within_coins: bool) -> Floats:
    """(T, N) ranks less their mean, as fractions of the number ranked; 0 where not valid."""
    ranks = np.zeros(values.shape)
    columns = [slice(index, index + 1) for index in range(values.shape[1])]
    for block in columns if within_coins else [slice(None)]:
        mask = valid[:, block]
        own = rankdata(values[:, block][mask])
        part = np.zeros(mask.shape)
        part[mask] = (own - own.mean()) / len(own) if len(own) else own
        ranks[:, block] = part
    return ranks
