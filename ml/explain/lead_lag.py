r"""When does a feature tell of volatility: before it happens, or after?

In: a panel of the days up to a decision day, the features of each modality. Out: a profile for each feature: correlation of
what is new in it with the variance surprise, at each lag. Never: a correlation of levels, which any two persistent series have.

With e the surprise of day t+1 and f~ the innovation of the feature as it was known on day t (`ml.explain.surprises`),

.. math:: r_l = \frac{\sum_t u_t(l)}{\sqrt{\sum e^2 \sum \tilde f^2}}, \quad u_t(l) = \sum_i e_{it} \tilde f_{i,t-l},
    \quad t_l = \bar u(l) / \mathrm{se}_{EWC}

clustered by date. Lags 0 .. 10 are honest: the value was known when the forecast was made. At negative lags the value came
after the forecast; there only its own past is taken out, as its price part is what shows that it follows.
A slow series may tell more by its level than by its news: `level` is the statistic of the value less its price part alone, at lag 0,
one more test of the same family. The surprise has no memory, so that the persistence of the level inflates nothing.
The lead in days is from the end of what the value describes to the day of the surprise: age + lag + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml.explain.dependence import holm, t_statistics, two_sided
from ml.explain.surprises import Prices, innovation, prices_of, residual, standardised
from ml.panel import Panel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeadLagPolicy:
    """Which lags are looked at, and what counts as evidence."""

    window_days: int = 1500
    lags: int = 10
    """Days by which an honest value may be older than the newest."""
    follows: int = 5
    """Days after the forecast at which a series that follows volatility is looked for."""
    level: float = 0.01
    """Family-wise: over all features and honest lags (Holm), and over all features and negative lags."""
    fewest_days: int = 250

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level {self.level}: expected a number between 0 and 1")
        for name in ("window_days", "lags", "follows", "fewest_days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")


@dataclass(frozen=True)
class LeadLag:
    """Profile of one feature over all coins, and of each coin; L lags, negative ones first."""

    modality: str
    feature: str
    lags: NDArray[np.int64]  # (L,)
    correlation: Floats  # (L,)
    statistic: Floats  # (L,)
    adjusted_p: (
        Floats  # (L,) Holm over the features of all modalities and the lags of the same side
    )
    age_days: float  # of the value, median over coin-days; NaN where the panel does not say
    days: int  # with a surprise and a value at lag 0; of fewer than the policy asks for nothing is said
    by_coin: Floats  # (N, L) statistic of each coin; 0 where it has no value
    level: float = float("nan")  # statistic of the level at lag 0
    level_p: float = float("nan")  # adjusted with the honest lags
    degrees: int = 0  # of freedom of each of `statistic` and `by_coin`; 0 where nothing is said

    @property
    def best(self) -> int:
        """Position of the honest lag with the largest statistic."""
        honest = np.where(self.lags >= 0, np.abs(self.statistic), -1.0)
        return int(honest.argmax())

    @property
    def follows_at(self) -> int:
        """Position of the negative lag with the largest statistic."""
        after = np.where(self.lags < 0, np.abs(self.statistic), -1.0)
        return int(after.argmax())

    def lead_days(self, position: int) -> float:
        """Days from the end of what the value describes to the surprise; NaN where its age is not known."""
        return float(np.floor(self.age_days) + self.lags[position] + 1.0)


def lead_lag(
    panel: Panel,
    fields: Mapping[str, Sequence[str]],
    policy: LeadLagPolicy | None = None,
    prices: Prices | None = None,
) -> list[LeadLag]:
    """Profiles of the features of `fields` (modality -> names) that the panel has, in that order.

    The panel ends with the decision day; its last `window_days` rows are read. A feature with too few days has a profile of
    NaN. `prices`: of the same rows, where they are at hand.
    """
    policy = policy or LeadLagPolicy()
    panel = panel.window(policy.window_days)
    prices = prices or prices_of(panel)
    found = [
        _profile(panel, prices, modality, name, policy)
        for modality, names in fields.items()
        for name in names
        if name in panel.features
    ]
    if not found:
        return []
    p_values = np.stack([[*item.adjusted_p, item.level_p] for item in found])  # not adjusted yet
    adjusted = np.full_like(p_values, np.nan)
    after = np.append(found[0].lags < 0, False)
    for side in (after, ~after):
        adjusted[:, side] = holm(p_values[:, side]).reshape(len(found), -1)
    return [
        replace(item, adjusted_p=own[:-1], level_p=float(own[-1]))
        for item, own in zip(found, adjusted, strict=True)
    ]


def _profile(
    panel: Panel, prices: Prices, modality: str, name: str, policy: LeadLagPolicy
) -> LeadLag:
    values = panel.feature(name)
    honest = innovation(values, prices.controls)
    reacting = innovation(values, prices.weekdays)
    level = prices.surprise * standardised(residual(values, prices.controls))
    lags = np.arange(-policy.follows, policy.lags + 1)
    shape = (len(lags), len(panel.assets))
    days = int((np.isfinite(honest) & np.isfinite(prices.surprise)).any(axis=1).sum())
    nothing = np.full(len(lags), np.nan)
    if days < policy.fewest_days:
        return LeadLag(modality, name, lags, nothing, nothing, nothing,
            _age(panel, modality, values), days, np.zeros(shape[::-1]))  # fmt: skip
    products = np.stack(
        [_products(prices.surprise, honest if lag >= 0 else reacting, int(lag)) for lag in lags],
        axis=-1,
    )  # (T, N, L), NaN where there is none
    there = np.flatnonzero(np.isfinite(products).any(axis=(1, 2)))
    products = products[there[0] : there[-1] + 1]
    cells = np.isfinite(products)
    products = np.where(cells, products, 0.0)
    # Both sides have unit variance by coin, so that the mean product is the correlation.
    correlation = products.sum(axis=(0, 1)) / np.maximum(cells.sum(axis=(0, 1)), 1)
    statistic, degrees = t_statistics(products.sum(axis=1))
    by_coin, _ = t_statistics(products.reshape(len(products), -1))  # of as many days
    slow, slow_degrees = t_statistics(_known(level).sum(axis=1)[there[0] : there[-1] + 1, None])
    return LeadLag(
        modality,
        name,
        lags,
        correlation,
        statistic,
        two_sided(statistic, degrees),
        _age(panel, modality, values),
        days,
        by_coin.reshape(shape[::-1]),
        float(slow[0]),
        float(two_sided(slow, slow_degrees)[0]),
        degrees,
    )


def _known(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)


def _products(surprise: Floats, feature: Floats, lag: int) -> Floats:
    """(T, N): e_t * f_{t-lag}."""
    moved = np.full_like(feature, np.nan)
    if lag >= 0:
        moved[lag:] = feature[: len(feature) - lag]
    else:
        moved[:lag] = feature[-lag:]
    return surprise * moved


def _age(panel: Panel, modality: str, values: Floats) -> float:
    ages = panel.features.get(f"{modality}_age_days")
    if ages is None:
        return float("nan")
    known = ages[np.isfinite(values) & np.isfinite(ages)]
    return float(np.median(known)) if len(known) else float("nan")
