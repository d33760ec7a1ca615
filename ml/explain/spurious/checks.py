"""What every check of the spurious-correlation report gives, and the limits that they share.

In: nothing. Out: `SpuriousPolicy`, `Check`. Never: a verdict without the statistic and the threshold that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ml.explain.dependence import holm
from ml.explain.lead_lag import LeadLagPolicy

CLEAR, FLAGGED, NOT_JUDGED = "clear", "flagged", "not judged"
ALL = "ALL"
NAN = float("nan")


@dataclass(frozen=True)
class SpuriousPolicy:
    """Error rates, sizes that matter, and the least evidence."""

    level: float = 0.05
    """Family-wise within a modality and check (Holm): over horizons, and again over coins or segments and horizons."""
    leads: LeadLagPolicy = field(default_factory=LeadLagPolicy)
    attention_days: int = 180
    """Newest days of attention and effects that are compared."""
    least_attention_days: int = 30
    agreement: float = 0.25
    """Rank correlation over days below which attention is said not to follow the effect: 6 % of the variance of ranks."""
    least_effect: float = 0.005
    """Change of log variance that matters: 0.5 % of the variance, a fifth of a percent of a volatility of 80 %."""
    evidence_days: int = 1100
    """Newest days of forecasts whose losses are compared: three years, so that years can be told apart."""
    calendar_share: float = 0.25
    """Share of variance below which a calendar pattern does not matter."""
    calendar_days: int = 60
    surrogates: int = 299
    spurious_size: float = 0.35
    """Share of unrelated series that a 5 % test for independent days would call related: above it, seven times
    the nominal rate, persistence passes for a lead. (0.35: an autocorrelation of 0.8 of both.)"""
    plausible_share: float = 0.30
    """Share of the surprise's variance; more than anything honest explains, so the stamps are doubted."""
    follow_ratio: float = 2.0
    """Statistic with what came before over that with what came after, above which a leading series is taken for a following one:
    implied volatility does both about as much."""
    revised_share: float = 0.05
    """Of the values that were read; as `volcast revisions` calls a history moving."""
    least_revisions: int = 60
    late_share: float = 0.20
    """Of the newest coin-days whose age lies outside the middle 99 % of the days before."""
    late_days: int = 28
    age_tolerance_days: float = 0.25

    def __post_init__(self) -> None:
        for name in ("level", "agreement", "calendar_share", "spurious_size", "plausible_share", "revised_share", "late_share"):  # fmt: skip
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number between 0 and 1")
        if not self.least_effect > 0:
            raise ValueError(f"least_effect {self.least_effect}: expected a positive number")
        if self.surrogates < 100:
            raise ValueError(
                f"surrogates {self.surrogates}: expected at least 100, for a level of 1 %"
            )


@dataclass(frozen=True)
class Check:
    """One row of the report."""

    modality: str
    asset: str  # a coin, or ALL
    check: str
    segment: str  # what of it: a feature, a year, a regime, ...
    horizon: int  # days; 0 where the check has none
    statistic: float  # NaN where it is not judged
    p_value: float  # adjusted for the family; NaN where the statistic itself is held against the threshold
    threshold: float  # what p_value is held against, else the statistic
    observations: int  # days
    verdict: str  # CLEAR | FLAGGED | NOT_JUDGED
    reason: str
    lead_days: float = NAN


def not_judged(
    modality: str,
    check: str,
    reason: str,
    *,
    asset: str = ALL,
    segment: str = "all",
    horizon: int = 0,
    observations: int = 0,
) -> Check:
    """A check that there is too little evidence for; the reason says what is missing."""
    return Check(modality, asset, check, segment, horizon, NAN, NAN, NAN, observations, NOT_JUDGED, reason)  # fmt: skip


def judged_by_p(
    checks: Iterable[Check], level: float, family: Callable[[Check], object]
) -> list[Check]:
    """Adjust p-values within each family and flag what lies below the level; rows without a p-value stay as they are.

    A reason in the form 'flagged text|clear text' becomes one of the two.
    """
    rows = list(checks)
    families: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        if np.isfinite(row.p_value) and row.verdict != NOT_JUDGED:
            families.setdefault(family(row), []).append(place)
    for places in families.values():
        adjusted = holm([rows[place].p_value for place in places])
        for place, p in zip(places, adjusted.tolist(), strict=True):
            row = rows[place]
            flagged, _, clear = row.reason.partition("|")
            rows[place] = replace(
                row, p_value=p, threshold=level,
                verdict=FLAGGED if p < level else CLEAR, reason=flagged if p < level else clear,
            )  # fmt: skip
    return rows
