"""Does a feature lead volatility, or could its persistence alone pass for a lead?

In: the lead-lag profiles of the features. Out: check `lead_lag`, a row a feature, and a row a coin for the strongest of a modality.

A feature that leads (Holm over all features and honest lags) is clear, and the row says by how many days; so is one whose level does. One that does not is
flagged where it is so persistent that a test for independent days would call unrelated series of its kind related more often
than `spurious_size` (Granger and Newbold 1974, "Spurious regressions in econometrics", Journal of Econometrics 2): what
correlation it shows, and what a model attends to in it, cannot be told from chance. One without memory and without a lead is
clear: there is nothing to mistake. A lead that explains more than `plausible_share` of the surprise is flagged as too good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.explain.dependence import naive_size, two_sided, variance_inflation
from ml.explain.lead_lag import LeadLag
from ml.explain.spurious.checks import (
    ALL,
    CLEAR,
    FLAGGED,
    NAN,
    Check,
    SpuriousPolicy,
    judged_by_p,
    not_judged,
)
from ml.explain.surprises import Prices
from ml.panel import Panel

CHECK = "lead_lag"
Floats = NDArray[np.float64]


def leading_features(
    panel: Panel, prices: Prices, profiles: Sequence[LeadLag], policy: SpuriousPolicy
) -> list[Check]:
    """A row a profile; `statistic` is t at the honest lag where it is largest, `lead_days` its event-time lead."""
    found = []
    for item in profiles:
        if not np.isfinite(item.adjusted_p).any():
            why = f"{item.days} days with a value and an outcome: at least {policy.leads.fewest_days} are compared"
            found.append(not_judged(item.modality, CHECK, why, segment=item.feature, observations=item.days))  # fmt: skip
            continue
        found.append(_of_feature(panel, prices, item, policy))
    return found


def _of_feature(panel: Panel, prices: Prices, item: LeadLag, policy: SpuriousPolicy) -> Check:
    best = item.best
    p, share = float(item.adjusted_p[best]), float(item.correlation[best] ** 2)
    text = f"correlation {item.correlation[best]:.2f} with the variance surprise at lag {item.lags[best]}, t {item.statistic[best]:.1f}"
    statistic, lead = float(item.statistic[best]), NAN
    if p < policy.leads.level and share > policy.plausible_share:
        verdict, reason = FLAGGED, f"{text}: {share:.0%} of the surprise, more than a lead explains; its stamps are to be checked"  # fmt: skip
    elif p < policy.leads.level:
        lead = item.lead_days(best)
        verdict, reason = CLEAR, f"{text}: leads by {lead:.0f} days"
    elif item.level_p < policy.leads.level:
        statistic, p = item.level, item.level_p
        lead = item.lead_days(int(np.flatnonzero(item.lags == 0)[0]))
        verdict, reason = (
            CLEAR,
            f"its level tells of the variance {lead:.0f} days on, t {item.level:.1f}; none of its news alone does ({text})",
        )
    else:
        size = naive_size(variance_inflation(panel.feature(item.feature), prices.log_variance))
        persistent = size > policy.spurious_size
        verdict = FLAGGED if persistent else CLEAR
        reason = f"no lead ({text}); a test for independent days would call {size:.0%} of unrelated series as persistent as this related"
        if persistent:
            reason += ": any correlation of it with volatility may be spurious"
    return Check(item.modality, ALL, CHECK, item.feature, 0, statistic, p,
        policy.leads.level, item.days, verdict, reason, lead)  # fmt: skip


def leads_by_coin(panel: Panel, profiles: Sequence[LeadLag], policy: SpuriousPolicy) -> list[Check]:
    """A row a modality and coin: does the modality's strongest lead have the same sign for the coin? Flagged where it has the other."""
    found: list[Check] = []
    for modality in dict.fromkeys(item.modality for item in profiles):
        own = [item for item in profiles if item.modality == modality and item.adjusted_p[item.best] < policy.leads.level]  # fmt: skip
        if not own:
            continue
        strongest = max(own, key=lambda item: abs(item.statistic[item.best]))
        best = strongest.best
        sign = float(np.sign(strongest.statistic[best]))
        for column, asset in enumerate(panel.assets):
            t = float(strongest.by_coin[column, best])
            if t == 0:
                continue
            one_sided = float(two_sided(np.array([t]), strongest.degrees)[0]) / 2
            p = one_sided if t * sign < 0 else 1.0 - one_sided
            text = f"{strongest.feature} at lag {strongest.lags[best]}: t {t:.1f}, {strongest.statistic[best]:.1f} over all coins"
            found.append(
                Check(
                    modality,
                    asset,
                    CHECK,
                    strongest.feature,
                    0,
                    t,
                    p,
                    policy.level,
                    strongest.days,
                    "",
                    f"{text}: the other sign|{text}",
                    strongest.lead_days(best),
                )
            )
    return judged_by_p(found, policy.level, lambda row: row.modality)
