r"""Has the distribution of a feature moved since training?

In: features of the training window (T, N) and of the newest days (n, N), NaN = missing. Out: two measures a feature.
Never: a threshold for independent days. Volatility comes in clusters, so a fortnight is never a fair sample of years:
what counts as far is read from how far the fortnights of the training window lie from the rest of it.

Each coin's values are replaced by their mid-rank among its own in the window, so that coins can be pooled, and counted
in 20 equal bins. With F the shares up to a bin and p, q the shares of its ten deciles, sample against window,

.. math:: KS = \max_k |F_k - F^0_k|, \quad PSI = \sum_k (p_k - q_k) \log(p_k / q_k).

Threshold by subsampling (Politis, Romano and Wolf 1999, ch. 3): the same statistic of every run of n days of the window
against the others; features are taken together by the largest ratio to their own quantile (max-T, Westfall and Young
1993), so that the chance that any of them fires is the level. A feature has moved when both measures say so.
Sources: two-sample Kolmogorov-Smirnov (Smirnov 1939); PSI (Siddiqi, *Credit Risk Scorecards*, 2006).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ml.monitoring.measures import DRIFT, Drift, DriftPolicy, judged, not_judged

BINS = 20
LEAST_SHARE = 0.5
"""Share of a sample's values that must be there; of the window's too. What goes dark is a matter of the gates."""
MEASURES = ("kolmogorov_smirnov", "psi")
Floats = NDArray[np.float64]


def feature_drift(
    window: Mapping[str, Floats],
    newest: Mapping[str, Floats],
    policy: DriftPolicy | None = None,
) -> list[Drift]:
    """Two measures of every feature of both, or one that says why none is judged. Raises ValueError on unequal coins."""
    policy = policy or DriftPolicy()
    names = sorted(set(window) & set(newest))
    days, sample = (len(next(iter(side.values()), np.empty(0))) for side in (window, newest))
    if sample < policy.least_feature_days:
        return [not_judged("kolmogorov_smirnov", "all features", days, sample,
                f"{sample} days since training: at least {policy.least_feature_days} are compared")]  # fmt: skip
    if days < policy.reference_blocks * sample:
        return [not_judged("kolmogorov_smirnov", "all features", days, sample,
                f"{days} days of training: at least {policy.reference_blocks} times the {sample} compared")]  # fmt: skip
    kept, found, usual = [], [], []
    for name in names:
        if window[name].shape[1] != newest[name].shape[1]:
            raise ValueError(
                f"feature {name!r}: {newest[name].shape[1]} coins, the window has {window[name].shape[1]}"
            )
        counts = _counts(window[name], newest[name])
        if counts is None:
            continue
        within, new = counts
        kept.append(name)
        found.append(_distances(new[None], within.sum(axis=0)[None])[0])
        runs = _runs(within, sample)
        usual.append(_distances(runs, within.sum(axis=0) - runs))
    if not kept:
        return [not_judged("kolmogorov_smirnov", "all features", days, sample,
                "no feature has half of its values in both")]  # fmt: skip
    statistics, everyday = np.stack(found), np.stack(usual)  # (F, 2), (F, runs, 2)
    thresholds = _family_thresholds(everyday, policy.feature_level)
    return [
        judged(measure, name, statistics[f, m], thresholds[f, m], days, sample)
        for f, name in enumerate(kept)
        for m, measure in enumerate(MEASURES)
    ]


def drifted_features(measures: list[Drift]) -> list[str]:
    """Features that every one of their measures calls drifted."""
    verdicts: dict[str, list[bool]] = {}
    for item in measures:
        verdicts.setdefault(item.subject, []).append(item.verdict == DRIFT)
    return sorted(name for name, fired in verdicts.items() if all(fired))


def _counts(window: Floats, newest: Floats) -> tuple[Floats, Floats] | None:
    """Counts by bin: (T, BINS) of each day of the window, (BINS,) of the newest days; None where too much is missing."""
    there = np.isfinite(window).any(axis=0)  # a coin listed since has nothing to be held against
    window, newest = window[:, there], newest[:, there]
    if not there.any() or min(np.isfinite(side).mean() for side in (window, newest)) < LEAST_SHARE:
        return None
    within = np.zeros((len(window), BINS))
    new = np.zeros(BINS)
    for coin in range(window.shape[1]):
        known = np.isfinite(window[:, coin])
        ordered = np.sort(window[known, coin])
        if len(ordered) < BINS:
            continue
        np.add.at(within, (np.flatnonzero(known), _bins(window[known, coin], ordered)), 1.0)
        values = newest[np.isfinite(newest[:, coin]), coin]
        new += np.bincount(_bins(values, ordered), minlength=BINS)
    return (within, new) if within.any() and new.any() else None


def _bins(values: Floats, ordered: Floats) -> NDArray[np.int64]:
    """Bin of each value's mid-rank among the ordered ones."""
    rank = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(np.minimum(rank * BINS // (2 * len(ordered)), BINS - 1), dtype=np.int64)


def _runs(within: Floats, length: int) -> Floats:
    """(T-n+1, BINS) counts of every run of n days."""
    total = np.vstack([np.zeros(BINS), np.cumsum(within, axis=0)])
    return np.asarray(total[length:] - total[:-length])


def _distances(sample: Floats, rest: Floats) -> Floats:
    """(S, BINS), (S, BINS) or (1, BINS) -> (S, 2) KS and PSI; NaN for a sample without values."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.cumsum(side, axis=1) / side.sum(axis=1, keepdims=True) for side in (sample, rest)]  # fmt: skip
    distance = np.abs(shares[0] - shares[1]).max(axis=1)
    deciles = [side.reshape(len(side), BINS // 2, 2).sum(axis=2) + 0.5 for side in (sample, rest)]
    p, q = (side / side.sum(axis=1, keepdims=True) for side in deciles)
    index = np.where(np.isfinite(distance), ((p - q) * np.log(p / q)).sum(axis=1), np.nan)
    return np.stack([distance, index], axis=1)


def _family_thresholds(everyday: Floats, level: float) -> Floats:
    """(F, S, 2) statistics of the window's own runs -> (F, 2) thresholds that all F hold together at the level."""
    own = np.nanquantile(everyday, 1.0 - level, axis=1)  # (F, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = everyday / own[:, None, :]
    worst = np.nanmax(np.where(np.isfinite(ratio), ratio, 0.0), axis=0)  # (S, 2)
    return np.asarray(own * np.quantile(worst, 1.0 - level, axis=0))
