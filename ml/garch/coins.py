"""A coin's days as the members of the family take them: gaps left out, exogenous terms scaled, windows cut.

In: columns of a panel. Out: series without gaps for `ml.garch.verdicts` and `ml.garch.forecasting`.
Never: a value invented for a missing return; a missing exogenous term counts as its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.garch.specification import Specification
from ml.garch.windows import Windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CoinData:
    """A coin's days of the window and after, gaps kept: returns in percent, realised variance in percent squared."""

    returns: Floats  # (T,)
    measure: Floats  # (T,), NaN where not needed
    terms: Floats  # (T, X) raw columns

    def known(self, specification: Specification) -> NDArray[np.bool_]:
        """(T,): days that this member can use."""
        known = np.isfinite(self.returns)
        if specification.variance == "realized":
            known &= np.isfinite(self.measure) & (self.measure > 0)
        return known


def joined(stored: CoinData, later: CoinData, days: int) -> CoinData:
    """The window and the first `days` days after it."""
    return CoinData(
        np.concatenate([stored.returns, later.returns[:days]]),
        np.concatenate([stored.measure, later.measure[:days]]),
        np.concatenate([stored.terms, later.terms[:days]]),
    )


def term_scales(coin: CoinData, columns: tuple[str, ...]) -> Floats:
    """(X,) mean of each term on days with a return; 1 where there is none."""
    terms = coin.terms[np.isfinite(coin.returns)]
    known = np.isfinite(terms)
    total = np.where(known, terms, 0.0).sum(axis=0)
    return np.where(total > 0, total / np.maximum(known.sum(axis=0), 1), 1.0)


def own_terms(
    member: Specification,
    columns: tuple[str, ...],
    coin: CoinData,
    scale: Floats,
    known: NDArray[np.bool_],
) -> Floats | None:
    """(n, x) scaled terms of a member on its days; a missing value counts as the mean, 1."""
    if not member.terms:
        return None
    places = [columns.index(name) for name in member.terms]
    terms = coin.terms[known][:, places] / scale[places]
    return np.where(np.isfinite(terms), terms, 1.0)


def windows_of(
    member: Specification,
    columns: tuple[str, ...],
    coins: list[CoinData],
    tensors: Mapping[str, NDArray[Any]],
    places: list[int],
) -> Windows:
    series, terms, measure = [], [], []
    for index in places:
        coin = coins[index]
        known = coin.known(member)
        series.append(coin.returns[known])
        own = own_terms(member, columns, coin, tensors["term_scale"][index], known)
        if own is not None:
            terms.append(own)
        if member.variance == "realized":
            measure.append(coin.measure[known])
    return Windows.separate(series, terms or None, measure or None)
