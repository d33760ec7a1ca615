r"""Which model leads from tomorrow on: the champion, or a challenger that out-of-sample evidence puts above it?

In: losses of forecasts with the day on which each outcome was first known, the audit records of models that explain
themselves, the champion. Out: one verdict on the champion, 'promote' or 'keep', and one 'refuse' for every challenger
that did not pass. Never: an outcome that was not known on the decision day (a target of h days that ends later is
purged by that), a model's in-sample fit, or a look at which model it is.

A challenger is promoted when, against the champion on the coins and days that both forecast,

1. there is enough evidence at every horizon: days, and targets that do not overlap;
2. at no horizon is it worse: the one-sided Diebold-Mariano test of 'its loss is higher' does not reject, and its mean
   QLIKE is not above the champion's by more than a tolerance;
3. it is in the 90 % model confidence set of all models at every horizon;
4. its QLIKE over the champion's, averaged over horizons, lies below 1 by a least gain;
5. its explanations pass their audit, where it gives any and uses what they explain;
6. the champion has led for some time already, so that two equal models do not take turns.

Of several that pass, the one with the least ratio of 4 is promoted.
Sources: Diebold and Mariano (1995); Hansen, Lunde and Nason (2011); computed by `ml.evaluation.comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from ml.evaluation.aggregation import shared_with
from ml.evaluation.comparison import fewest_days
from ml.evaluation.leaderboard import MCS_SIZE, compare, confidence_set, qlike_ratio

PROMOTE, KEEP, REFUSE = "promote", "keep", "refuse"
ALL_HORIZONS = 0
COLUMNS: tuple[str, ...] = ("asset", "as_of", "horizon", "model", "qlike", "known_on")


@dataclass(frozen=True)
class PromotionPolicy:
    """What a challenger must show."""

    window_days: int = 365  # as_of days up to the decision day that count
    min_days: int = 90  # days at every horizon
    min_targets: int = 4  # targets at every horizon that do not overlap
    worse_level: float = 0.05  # of the one-sided Diebold-Mariano test
    tolerance: float = 0.01  # share by which the mean QLIKE of one horizon may be higher
    min_gain: float = 0.005  # share by which the mean over horizons must be lower
    min_audit_share: float = 0.8  # of audited forecasts, valid or weak
    min_reign_days: int = 60  # days between two promotions
    weights: Mapping[int, float] | None = None  # of horizons; None: equal

    def weight(self, horizon: int) -> float:
        return 1.0 if self.weights is None else float(self.weights.get(horizon, 0.0))


@dataclass(frozen=True)
class AuditRecord:
    """Explanations of one model in the window: forecasts that use what is explained, and those of them that pass."""

    used: int
    passed: int  # verdict 'valid' or 'weak'
    audited: int  # with any verdict, used or not

    @classmethod
    def of(cls, verdicts: pd.DataFrame) -> AuditRecord:
        """From one row a forecast: verdict, and residual_used (whether anything but its anchor made the forecast)."""
        used = verdicts[verdicts["residual_used"].astype(bool)]
        return cls(len(used), int(used["verdict"].isin(["valid", "weak"]).sum()), len(verdicts))


@dataclass(frozen=True)
class Verdict:
    """One row of the decision: what was decided of a model, on which figures."""

    kind: str  # PROMOTE | KEEP | REFUSE
    model: str
    horizon: int  # ALL_HORIZONS, or the one that decided
    statistic: float
    threshold: float
    reason: str
    evidence_from: date | None = None
    evidence_to: date | None = None


def decide(
    scores: pd.DataFrame,
    champion: str,
    decision_day: date,
    *,
    reigning_since: date | None = None,
    audits: Mapping[str, AuditRecord] | None = None,
    policy: PromotionPolicy | None = None,
) -> list[Verdict]:
    """The verdict on the champion first, then the refused challengers by name.

    `scores`: columns `COLUMNS`, one row a model, coin, day and horizon; rows known later than the decision day are left
    out here. `audits` names every model that explains itself: one with no audited forecast does not pass. A model that is
    not in it has no audit to pass. `reigning_since`: day of the last promotion, None where there was none.
    """
    policy, audits = policy or PromotionPolicy(), audits or {}
    known = evidence(scores, decision_day, policy)
    span = _span(known)
    led = (decision_day - reigning_since).days if reigning_since is not None else None
    if led is not None and led < policy.min_reign_days:
        why = f"{champion} was promoted {led} days ago: at least {policy.min_reign_days} days lie between promotions"
        return [Verdict(KEEP, champion, ALL_HORIZONS, led, policy.min_reign_days, why, *span)]
    if champion not in set(known["model"]):
        why = f"no outcome of a forecast of {champion} is known yet"
        return [Verdict(KEEP, champion, ALL_HORIZONS, 0.0, policy.min_days, why, *span)]
    challengers = sorted(set(known["model"]) - {champion})
    passed: dict[str, Verdict] = {}
    refused = []
    for name in challengers:
        verdict = _challenge(known, name, champion, audits.get(name), policy)
        if verdict.kind == PROMOTE:
            passed[name] = verdict
        else:
            refused.append(verdict)
    if not passed:
        few = f"{len(challengers)} challengers, none passed" if challengers else "no challenger"
        days = known.loc[known["model"] == champion, "as_of"].nunique()
        kept = Verdict(KEEP, champion, ALL_HORIZONS, days, policy.min_days, few, *span)
        return [kept, *refused]
    best = min(passed.values(), key=lambda verdict: (verdict.statistic, verdict.model))
    behind = [_second(v, best) for v in passed.values() if v is not best]
    return [best, *sorted([*refused, *behind], key=lambda verdict: verdict.model)]


def _second(verdict: Verdict, best: Verdict) -> Verdict:
    """The refusal of one that passes, but not as well as the best."""
    why = f"passes, but {best.model} is better: QLIKE ratio {best.statistic:.4f} against {verdict.statistic:.4f}"
    return replace(verdict, kind=REFUSE, threshold=best.statistic, reason=why)


def evidence(scores: pd.DataFrame, decision_day: date, policy: PromotionPolicy) -> pd.DataFrame:
    """The rows that count on the decision day. Raises ValueError on a missing column."""
    missing = [name for name in COLUMNS if name not in scores]
    if missing:
        raise ValueError(f"scores have no column {missing[0]!r}: expected {', '.join(COLUMNS)}")
    day = pd.Timestamp(decision_day)
    as_of, known_on = (pd.to_datetime(scores[name]) for name in ("as_of", "known_on"))
    ended = as_of + pd.to_timedelta(scores["horizon"], unit="D") <= day
    recent = as_of > day - timedelta(days=policy.window_days)
    kept = scores[(known_on <= day) & ended & recent & np.isfinite(scores["qlike"])]
    order = ["horizon", "model", "as_of", "asset"]
    return pd.DataFrame(kept.sort_values(order, ignore_index=True))


def _challenge(
    known: pd.DataFrame,
    name: str,
    champion: str,
    audit: AuditRecord | None,
    policy: PromotionPolicy,
) -> Verdict:
    """PROMOTE with the QLIKE ratio as its statistic, or REFUSE with the figure that decided."""
    horizons = sorted(int(h) for h in known.loc[known["model"] == champion, "horizon"].unique())
    own = {h: known[known["horizon"] == h] for h in horizons}
    pairs = {h: shared_with(own[h], name, champion) for h in horizons}
    both = pd.concat(list(pairs.values()))
    span = _span(both)

    def refuse(horizon: int, statistic: float, threshold: float, why: str) -> Verdict:
        at = f"{horizon} days: " if horizon else ""
        return Verdict(REFUSE, name, horizon, statistic, threshold, at + why, *span)

    for h in horizons:
        days = int(pairs[h].loc[pairs[h]["model"] == name, "as_of"].nunique())
        needed = max(policy.min_days, policy.min_targets * h, fewest_days(h))
        if days < needed:
            return refuse(h, days, needed, f"{days} days of evidence beside {champion}: at least {needed}")  # fmt: skip
    ratios = {h: qlike_ratio(pairs[h], name, champion) for h in horizons}
    tests = []
    for h in horizons:
        worse = _p_of_worse(pairs[h], name, champion, h)
        tests.append(f"{h}d {ratios[h]:.4f} (p of worse {worse:.3f})")
        if not worse >= policy.worse_level:
            return refuse(h, worse, policy.worse_level,
                f"worse than {champion}: QLIKE ratio {ratios[h]:.4f}, one-sided Diebold-Mariano p {worse:.3f}")  # fmt: skip
        if not ratios[h] <= 1 + policy.tolerance:
            return refuse(h, ratios[h], 1 + policy.tolerance,
                f"QLIKE {ratios[h]:.4f} of {champion}'s: at most {1 + policy.tolerance:g}")  # fmt: skip
    weights = np.array([policy.weight(h) for h in horizons])
    ratio = float(np.average([ratios[h] for h in horizons], weights=weights))
    least = 1 - policy.min_gain
    if not ratio <= least:
        return refuse(ALL_HORIZONS, ratio, least,
            f"not better enough: mean QLIKE ratio {ratio:.4f} to {champion}, at most {least:g}")  # fmt: skip
    audited = _audit(audit, policy)
    if audited.refused:
        return refuse(ALL_HORIZONS, audited.share, policy.min_audit_share, audited.text)
    first = pairs[horizons[0]]["as_of"].min()
    for h in horizons:
        p_value = confidence_set(own[h][own[h]["as_of"] >= first], h).get(name, np.nan)
        if not p_value >= MCS_SIZE:
            return refuse(h, p_value, MCS_SIZE,
                f"not in the {1 - MCS_SIZE:.0%} model confidence set (p {p_value:.3f})")  # fmt: skip
    return Verdict(PROMOTE, name, ALL_HORIZONS, ratio, least,
        f"mean QLIKE ratio {ratio:.4f} to {champion}: {', '.join(tests)}; in the {1 - MCS_SIZE:.0%} model confidence set at "
        f"every horizon; {audited.text}", *span)  # fmt: skip


def _p_of_worse(pair: pd.DataFrame, name: str, champion: str, horizon: int) -> float:
    """One-sided p-value of 'the challenger's loss is not higher'; small = it is."""
    test = compare(pair, name, champion, horizon)
    return test.p_value / 2 if test.statistic > 0 else 1 - test.p_value / 2


@dataclass(frozen=True)
class _Audited:
    refused: bool
    share: float
    text: str


def _audit(record: AuditRecord | None, policy: PromotionPolicy) -> _Audited:
    if record is None:
        return _Audited(False, float("nan"), "explanation audit: not applicable, it gives none")
    if record.audited == 0:
        return _Audited(True, 0.0, "explanation audit: no forecast was audited")
    if record.used == 0:
        return _Audited(
            False,
            float("nan"),
            f"explanation audit: not applicable, all {record.audited} forecasts are their anchor",
        )
    share = record.passed / record.used
    text = (
        f"explanation audit: {record.passed} of {record.used} forecasts valid or weak ({share:.0%})"
    )
    if share < policy.min_audit_share:
        return _Audited(True, share, f"{text}, at least {policy.min_audit_share:.0%}")
    return _Audited(False, share, text)


def _span(rows: pd.DataFrame) -> tuple[date | None, date | None]:
    """First and last as_of of the evidence."""
    if rows.empty:
        return None, None
    days: pd.Series[Any] = pd.to_datetime(rows["as_of"])
    return days.min().date(), days.max().date()
