"""The market as one series: the mean over coins of log variance, each coin less its own mean.

In: log variance by day and coin. Out: the coins that make the market of a fit, and the series. Never: a level that moves because a coin
was listed or failed to report: a coin counts by its distance from its own mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ml.regimes.model import Floats

MARKET = "MARKET"
"""Stands for the market where a coin's ticker would be."""
MEMBER_SHARE = 0.8
"""Share of the window's days that a coin must be known on to be of the market."""


def market_members(assets: tuple[str, ...], log_variance: Floats) -> dict[str, float]:
    """Coin -> mean log variance, of those known on 80 % of the days of log_variance (T, N) since any coin was."""
    known = np.isfinite(log_variance)
    if not known.any():
        return {}
    since = int(np.flatnonzero(known.any(axis=1))[0])
    enough = known[since:].mean(axis=0) >= MEMBER_SHARE
    return {
        asset: float(np.nanmean(log_variance[since:, column]))
        for column, asset in enumerate(assets)
        if enough[column]
    }


def market_series(
    assets: tuple[str, ...], log_variance: Floats, members: Mapping[str, float]
) -> Floats:
    """(T,) mean over the members of their log variance less their mean, plus the mean of these means.

    NaN on days on which fewer than half of the members are known.
    """
    total, count = np.zeros(len(log_variance)), np.zeros(len(log_variance))
    for asset, mean in members.items():  # added in order: a day alone gives the same digits
        if asset in assets:
            values = log_variance[:, assets.index(asset)]
            total += np.where(np.isfinite(values), values - mean, 0.0)
            count += np.isfinite(values)
    level = sum(members.values()) / max(len(members), 1)
    return np.where(
        (count > 0) & (2 * count >= len(members)), level + total / np.maximum(count, 1.0), np.nan
    )
