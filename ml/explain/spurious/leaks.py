"""Could a revised or a late series be leaking?

In: how many of the values that were read had been revised, what first and newest releases differ by, ages of the values.
Out: checks `leak_revised` and `leak_late`. Never: which version is right.

`leak_revised`, a signal: the share of values read that were not the first release any more (a training history then holds what
nobody could have read at the time); and, under 'revisions', whether the revision itself tells of the outcome after the first
release: log(newest / first) against the variance surprise of the day after, clustered by date. A provider whose revisions do
knows the future in its history.
`leak_late`, a modality: the share of the newest coin-days whose value is older, or younger, than the middle 99 % of the days before
(younger than ever is how a wrong stamp shows); and, under a feature, a series that follows volatility far more than it leads, and
leads all the same: what follows and is stamped too early looks like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.explain.dependence import t_statistics, two_sided
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
from ml.explain.surprises import Prices, standardised
from ml.panel import Panel

REVISED, LATE = "leak_revised", "leak_late"
QUANTILES = (0.005, 0.995)
MARKET = "MARKET"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Releases:
    """What orchestration counts in the raw and intermediate tables, as known on the decision day."""

    read: pd.DataFrame  # modality, signal, asset, values, revised: values of features that were read, and how many were not first releases
    changed: (
        pd.DataFrame
    )  # modality, signal, asset, first_known_on, first, newest: facts whose value changed
    guarded: frozenset[str] = frozenset()  # signals whose revised values the model does not read

    @classmethod
    def none(cls) -> Releases:
        return cls(
            pd.DataFrame(columns=["modality", "signal", "asset", "values", "revised"]),
            pd.DataFrame(columns=["modality", "signal", "asset", "first_known_on", "first", "newest"]),
        )  # fmt: skip


def revised_values(
    releases: Releases, modalities: Sequence[str], policy: SpuriousPolicy
) -> list[Check]:
    """A row a signal over all coins, and a row a coin over all signals."""
    found: list[Check] = []
    for modality in modalities:
        own = releases.read[releases.read["modality"] == modality]
        if own.empty:
            found.append(not_judged(modality, REVISED, "no versions are kept of its values"))
            continue
        for signal, rows in own.groupby("signal"):
            found.append(_revised(modality, ALL, str(signal), rows, releases, policy))
        coins = own[own["asset"] != MARKET]
        for asset, rows in coins.groupby("asset"):
            found.append(_revised(modality, str(asset), "all", rows, releases, policy))
    return found


def _revised(
    modality: str, asset: str, segment: str, rows: pd.DataFrame, releases: Releases, policy: SpuriousPolicy
) -> Check:  # fmt: skip
    counted = rows[~rows["signal"].isin(releases.guarded)] if asset != ALL else rows
    values, revised = (int(counted[name].sum()) for name in ("values", "revised"))
    if values == 0:
        return not_judged(modality, REVISED, "no value was read", asset=asset, segment=segment)
    share = revised / values
    guarded = segment in releases.guarded
    moves = share > policy.revised_share
    reason = f"{share:.1%} of {values} values read were not first releases, or came with a later download"
    if moves:
        reason += ": the model does not read them" if guarded else ": the history moves"
    verdict = FLAGGED if moves and not guarded else CLEAR
    return Check(modality, asset, REVISED, segment, 0, share, NAN, policy.revised_share, values, verdict, reason)  # fmt: skip


def informed_revisions(
    panel: Panel, prices: Prices, releases: Releases, policy: SpuriousPolicy
) -> list[Check]:
    """A row a signal that was revised often enough: does the revision know what came after the first release?"""
    found: list[Check] = []
    for key, rows in releases.changed.groupby(["modality", "signal"]):
        modality, signal = (str(part) for part in key)
        change = standardised(_revision_by_day(panel, rows))
        products = change * prices.surprise
        cells = np.isfinite(products)
        days = int(cells.any(axis=1).sum())
        segment = f"{signal}, revisions"
        if days < policy.least_revisions:
            why = f"{days} days with a revision and an outcome: at least {policy.least_revisions} are compared"
            found.append(not_judged(modality, REVISED, why, segment=segment, observations=days))
            continue
        daily = np.where(cells, products, 0.0).sum(axis=1)[cells.any(axis=1)]
        statistic, degrees = t_statistics(daily[:, None])
        correlation = float(products[cells].mean())
        text = f"correlation of the revision with the surprise after the first release {correlation:.2f}, t {statistic[0]:.1f}"
        p = float(two_sided(statistic, degrees)[0])
        found.append(
            Check(
                modality,
                ALL,
                REVISED,
                segment,
                0,
                float(statistic[0]),
                p,
                policy.level,
                days,
                "",
                f"{text}: the revised history knows the outcome|{text}",
            )
        )
    return judged_by_p(found, policy.level, lambda row: row.modality)


def _revision_by_day(panel: Panel, rows: pd.DataFrame) -> Floats:
    """(T, N) log(newest / first), or their difference where a value is not positive, at the day of the first release."""
    first, newest = (rows[name].to_numpy(np.float64) for name in ("first", "newest"))
    positive = bool((first > 0).all() and (newest > 0).all())
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.log(newest / first) if positive else newest - first
    day = ((np.asarray(rows["first_known_on"], dtype="datetime64[D]") - panel.days[0]).astype(np.int64))  # fmt: skip
    asset = pd.Index(panel.assets).get_indexer(pd.Index(rows["asset"].astype(str)))
    table = np.full((len(panel.days), len(panel.assets)), np.nan)
    inside = (day >= 0) & (day < len(panel.days))
    own = inside & (asset >= 0)
    table[day[own], asset[own]] = change[own]
    market = inside & (rows["asset"].astype(str) == MARKET).to_numpy()
    table[day[market]] = change[market, None]
    return table


def late_values(panel: Panel, modalities: Sequence[str], policy: SpuriousPolicy) -> list[Check]:
    """A row a modality over all coins, and a row a coin: ages of the newest days against those of the days before."""
    found: list[Check] = []
    for modality in modalities:
        ages = panel.features.get(f"{modality}_age_days")
        if ages is None:
            found.append(not_judged(modality, LATE, "the features do not say how old its values are"))  # fmt: skip
            continue
        for asset in (ALL, *panel.assets):
            own = ages if asset == ALL else ages[:, [panel.assets.index(asset)]]
            before, newest = own[: -policy.late_days], own[-policy.late_days :]
            before, newest = before[np.isfinite(before)], newest[np.isfinite(newest)]
            if len(before) < 90 or len(newest) < policy.late_days // 2:
                why = f"{len(newest)} newest ages against {len(before)}: at least {policy.late_days // 2} and 90 are compared"
                found.append(not_judged(modality, LATE, why, asset=asset, observations=len(newest)))
                continue
            low, high = np.quantile(before, QUANTILES)
            young = float((newest < low - policy.age_tolerance_days).mean())
            old = float((newest > high + policy.age_tolerance_days).mean())
            flagged = young + old > policy.late_share
            reason = f"usual age {low:.2f} to {high:.2f} days; of the newest {len(newest)} values {old:.0%} older, {young:.0%} younger"
            found.append(
                Check(
                    modality,
                    asset,
                    LATE,
                    "age",
                    0,
                    young + old,
                    NAN,
                    policy.late_share,
                    len(newest),
                    FLAGGED if flagged else CLEAR,
                    reason,
                )
            )
    return found


def follows_and_leads(profiles: Sequence[LeadLag], policy: SpuriousPolicy) -> list[Check]:
    """A row a feature that leads, by its profile: is it better correlated with what came before it?"""
    found = []
    for item in profiles:
        if not np.isfinite(item.adjusted_p).any():
            continue
        lead, after = item.best, item.follows_at
        if not item.adjusted_p[lead] < policy.leads.level:
            continue
        leads, follows = abs(item.statistic[lead]), abs(item.statistic[after])
        flagged = bool(
            item.adjusted_p[after] < policy.leads.level and follows > policy.follow_ratio * leads
        )
        text = (
            f"t {item.statistic[lead]:.1f} with the surprise {item.lead_days(lead):.0f} days after it, "
            f"{item.statistic[after]:.1f} with one {-item.lags[after]} days before it was known"
        )
        reason = f"{text}: it follows rather than leads, its stamps are to be checked" if flagged else text  # fmt: skip
        found.append(
            Check(
                item.modality,
                ALL,
                LATE,
                item.feature,
                0,
                follows / leads,
                NAN,
                policy.follow_ratio,
                item.days,
                FLAGGED if flagged else CLEAR,
                reason,
                item.lead_days(lead),
            )
        )
    return found
