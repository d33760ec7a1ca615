r"""Is a modality a proxy of the calendar?

In: the days of a series, its values. Out: the share of its variance that weekdays, months and a trend explain, against the same of
surrogates that know no calendar. Never: a share on its own; any persistent series follows a trend for a while.

R^2 of the regression on six weekdays, a linear trend and, from two years on, eleven months. The surrogates are first-order
autoregressions with the series' own coefficient and its own innovations, shuffled: as persistent, on no calendar. Flagged where
R^2 is above their quantile (5 % within a modality, Bonferroni) and above `calendar_share`.
Sources: Theiler et al. (1992), Physica D 58 (surrogates of a linear null); Kendall (1954), Biometrika 41 (bias of the coefficient).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ml.explain.spurious.checks import ALL, CLEAR, FLAGGED, Check, SpuriousPolicy, not_judged
from ml.explain.spurious.effects import Effects, mean_of_known
from ml.explain.surprises import standardised
from ml.panel import Panel

CHECK = "calendar_proxy"
TWO_YEARS = 730
Floats = NDArray[np.float64]


def calendar_of_features(
    panel: Panel, fields: Mapping[str, Sequence[str]], policy: SpuriousPolicy
) -> list[Check]:
    """A row a feature: of the mean over coins of what each reads, in its own standard deviations."""
    found = []
    for modality, names in fields.items():
        there = [name for name in names if name in panel.features]
        for name in there:
            series = mean_of_known(standardised(panel.feature(name)), 1)
            found.append(_judged(modality, ALL, name, 0, panel.days, series, len(there), policy))
    return found


def calendar_of_effects(
    effects: Effects, modalities: tuple[str, ...], policy: SpuriousPolicy
) -> list[Check]:
    """Rows of the ablation effect, with its sign: over all coins by horizon, and by coin at the first horizon that is used."""
    effects = effects.newest(policy.evidence_days)
    used = [h for h in range(len(effects.horizons)) if effects.used(h)]
    found = []
    for modality in modalities:
        if modality not in effects.groups or not used:
            continue
        group = effects.groups.index(modality)
        for h in used:
            series = mean_of_known(effects.effect[:, :, group, h], 1)
            found.append(_judged(modality, ALL, "effect", effects.horizons[h], effects.days, series, len(used), policy))  # fmt: skip
        for column, asset in enumerate(effects.assets):
            series = effects.effect[:, column, group, used[0]]
            found.append(_judged(modality, asset, "effect", effects.horizons[used[0]], effects.days, series, len(effects.assets), policy))  # fmt: skip
    return found


def _judged(
    modality: str, asset: str, segment: str, horizon: int,
    days: NDArray[np.datetime64], series: Floats, family: int, policy: SpuriousPolicy,
) -> Check:  # fmt: skip
    known = np.isfinite(series)
    n = int(known.sum())
    if n < policy.calendar_days or np.ptp(series[known]) == 0:
        why = f"{n} days with different values: at least {policy.calendar_days} are compared"
        return not_judged(modality, CHECK, why, asset=asset, segment=segment, horizon=horizon, observations=n)  # fmt: skip
    seed = zlib.crc32(f"{modality} {asset} {segment} {horizon} {days[-1]}".encode())
    share, usual = calendar_share(days[known], series[known], policy.surrogates, seed)
    threshold = max(float(np.quantile(usual, 1 - policy.level / family)), policy.calendar_share)
    flagged = share > threshold
    reason = (
        f"weekday, month and trend explain {share:.0%} of {segment} over {n} days, "
        f"{np.median(usual):.0%} of as persistent series without a calendar{': a proxy of the calendar' if flagged else ''}"
    )
    return Check(modality, asset, CHECK, segment, horizon, share, float("nan"), threshold, n, FLAGGED if flagged else CLEAR, reason)  # fmt: skip


def calendar_share(
    days: NDArray[np.datetime64], values: Floats, surrogates: int, seed: int
) -> tuple[float, Floats]:
    """R^2 of the calendar for values (n,) that vary, and of the surrogates (surrogates,)."""
    basis = _calendar(days)
    n = len(values)
    centred = values - values.mean()
    scale = float((centred**2).sum())
    share = float(((basis.T @ centred) ** 2).sum() / scale)
    coefficient = float(centred[1:] @ centred[:-1] / scale)
    coefficient = float(np.clip(coefficient + (1 + 3 * coefficient) / n, -0.99, 0.999))
    innovations = centred[1:] - coefficient * centred[:-1]
    chance = np.random.default_rng(seed)
    # 100 days to forget the start; drawn with replacement, as a path is longer than the series.
    drawn = innovations[chance.integers(0, n - 1, (surrogates, n + 100))]
    paths = lfilter([1.0], [1.0, -coefficient], drawn, axis=1)[:, 100:]
    paths -= paths.mean(axis=1, keepdims=True)
    usual = ((paths @ basis) ** 2).sum(axis=1) / (paths**2).sum(axis=1)
    return share, np.asarray(usual)


def _calendar(days: NDArray[np.datetime64]) -> Floats:
    """(n, K) orthonormal columns without a mean: weekdays, trend and, from two years on, months."""
    number = days.astype("datetime64[D]").astype(np.int64)
    columns = [(number[:, None] + 3) % 7 == np.arange(6), number[:, None] - number.mean()]
    if number[-1] - number[0] >= TWO_YEARS:
        month = days.astype("datetime64[M]").astype(np.int64) % 12
        columns.append(month[:, None] == np.arange(11))
    design = np.concatenate([np.asarray(part, np.float64) for part in columns], axis=1)
    design -= design.mean(axis=0)
    left, size, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(left[:, size > 1e-9 * size[0]])
