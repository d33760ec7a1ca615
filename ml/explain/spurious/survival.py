r"""Does the effect of a modality on the losses survive by year, by volatility regime and by coin?

In: forecasts, their ablation effects and outcomes. Out: a check for all of it, and one for each segment. Never: a segment by what
followed the forecast (`ml.evaluation.segments`).

The forecast F against the forecast without the modality, F exp(a), with a the ablation effect:

.. math:: d = QLIKE(RV, F) - QLIKE(RV, F e^{a})

below 0 where the modality helps; Diebold-Mariano clustered by date (`ml.evaluation.comparison.panel_diebold_mariano`).
Flagged: it hurts, chance apart; or it helps on the whole, but no longer when its best year, regime or coin is left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.evaluation.comparison import fewest_days, panel_diebold_mariano
from ml.evaluation.losses import qlike
from ml.evaluation.segments import segments
from ml.explain.spurious.checks import (
    ALL,
    FLAGGED,
    Check,
    SpuriousPolicy,
    judged_by_p,
    not_judged,
)
from ml.explain.spurious.effects import Effects

CHECK = "effect_survival"
WHOLE = "all"
KINDS = ("year", "regime")
Floats = NDArray[np.float64]
Masks = dict[tuple[str, str], NDArray[np.bool_]]


def effect_survival(
    effects: Effects,
    modalities: tuple[str, ...],
    features: pd.DataFrame | None,
    policy: SpuriousPolicy,
) -> list[Check]:
    """Rows of each modality and horizon: ALL ('all', years, regimes) and coins. `features`: asset, as_of, rv_22d, for the regimes."""
    effects = effects.newest(policy.evidence_days)
    found: list[Check] = []
    narrow: dict[tuple[str, int], str] = {}
    for h, horizon in enumerate(effects.horizons):
        masks = _masks(effects, horizon, features)
        for modality in modalities:
            if modality not in effects.groups:
                if h == 0:
                    found.append(not_judged(modality, CHECK, "no forecast was explained with this group"))  # fmt: skip
                continue
            if not effects.used(h):
                found.append(not_judged(modality, CHECK, "the forecast does not use its attention: it is the anchor", horizon=horizon))  # fmt: skip
                continue
            rows, narrow[modality, horizon] = _of_one(effects, modality, h, masks, policy)
            found += rows
    judged = judged_by_p(found, policy.level, _family)
    return [_with_narrow(row, narrow.get((row.modality, row.horizon), "")) for row in judged]


def _family(row: Check) -> tuple[str, str]:
    part = "coin" if row.asset != ALL else "whole" if row.segment == WHOLE else "segment"
    return row.modality, part


def _with_narrow(row: Check, narrow: str) -> Check:
    if not narrow or row.asset != ALL or row.segment != WHOLE:
        return row
    return replace(row, verdict=FLAGGED, reason=f"{row.reason} {narrow}")


def _of_one(
    effects: Effects, modality: str, h: int, masks: Masks, policy: SpuriousPolicy
) -> tuple[list[Check], str]:
    """Rows that are not judged yet, and why the help is narrow ('' where it is not)."""
    horizon, group = effects.horizons[h], effects.groups.index(modality)
    difference = loss_difference(
        effects.realized[:, :, h], effects.variance[:, :, h], effects.effect[:, :, group, h]
    )
    whole = _compared(modality, ALL, WHOLE, horizon, difference)
    if not np.isfinite(whole.p_value):
        return [whole], ""
    pieces = {
        key: (_compared(modality, ALL, key[1], horizon, np.where(mask, difference, np.nan)), mask)
        for key, mask in masks.items()
    }
    coins = {}
    for column, asset in enumerate(effects.assets):
        mask = np.zeros(difference.shape, dtype=bool)
        mask[:, column] = True
        coins["coin", asset] = (
            _compared(modality, asset, WHOLE, horizon, np.where(mask, difference, np.nan)),
            mask,
        )
    rows = [whole, *(row for row, _ in pieces.values()), *(row for row, _ in coins.values())]
    return rows, _narrow(difference, whole, {**pieces, **coins}, policy)


def loss_difference(realized: Floats, variance: Floats, effect: Floats) -> Floats:
    """QLIKE with the modality less QLIKE without it; below 0 where it helps, NaN where one is not known."""
    known = np.isfinite(realized) & np.isfinite(variance) & np.isfinite(effect) & (realized > 0)
    y, f = np.where(known, realized, 1.0), np.where(known, variance, 1.0)
    without = f * np.exp(np.where(known, effect, 0.0))
    return np.where(known, qlike(y, f) - qlike(y, without), np.nan)


def _compared(modality: str, asset: str, segment: str, horizon: int, difference: Floats) -> Check:
    """One-sided: a small p-value says that the modality hurts."""
    days = int(np.isfinite(difference).any(axis=1).sum())
    needed = fewest_days(horizon)
    if days < needed:
        return not_judged(modality, CHECK, f"{days} days with outcomes: at least {needed} are compared",
            asset=asset, segment=segment, horizon=horizon, observations=days)  # fmt: skip
    test = panel_diebold_mariano(difference, np.zeros_like(difference), horizon)
    p = test.p_value / 2 if test.statistic > 0 else 1 - test.p_value / 2
    mean = float(difference[np.isfinite(difference)].mean())
    text = (
        f"QLIKE with the modality less without it {mean:+.2g}, t {test.statistic:.1f}, {days} days"
    )
    clear = f"{text}: {'it helps' if _helps(test.statistic, test.p_value) else 'no harm that could be told from chance'}"
    return Check(modality, asset, CHECK, segment, horizon, test.statistic, p, 0.0, days, "", f"{text}: it hurts|{clear}")  # fmt: skip


def _helps(statistic: float, p_value: float) -> bool:
    """One-sided at 5 %."""
    return statistic < 0 and p_value / 2 < 0.05


def _narrow(
    difference: Floats,
    whole: Check,
    pieces: dict[tuple[str, str], tuple[Check, NDArray[np.bool_]]],
    policy: SpuriousPolicy,
) -> str:
    """Why the help is narrow: it is gone without the segment of a kind that has most of it; '' where it is not, or there is none."""
    if not 1 - whole.p_value < policy.level:
        return ""
    texts = []
    for kind in dict.fromkeys(key[0] for key in pieces):
        own = {key[1]: mask for key, (row, mask) in pieces.items() if key[0] == kind and np.isfinite(row.p_value)}  # fmt: skip
        if len(own) < 2:
            continue
        gains = {name: np.nansum(np.where(mask, difference, np.nan)) for name, mask in own.items()}
        best = min(gains, key=lambda name: gains[name])
        rest = difference[np.isfinite(difference) & ~own[best]]
        if len(rest) and rest.mean() >= 0:
            texts.append(f"only in {best} ({kind})")
    return ", ".join(texts)


def _masks(effects: Effects, horizon: int, features: pd.DataFrame | None) -> Masks:
    """(kind, segment) -> (D, N)."""
    days = effects.days.astype("datetime64[s]")
    keys = pd.DataFrame(
        {
            "asset": np.tile(np.asarray(effects.assets, dtype=object), len(days)),
            "as_of": np.repeat(days, len(effects.assets)),
            "horizon": horizon,
        }
    )
    labels = segments(keys, features)
    labels = labels[labels["segment_kind"].isin(KINDS)]
    day = np.searchsorted(days, np.asarray(labels["as_of"], dtype="datetime64[s]"))
    asset = pd.Index(effects.assets).get_indexer(pd.Index(labels["asset"]))
    found: Masks = {}
    pairs = labels[["segment_kind", "segment"]].drop_duplicates().sort_values(["segment_kind", "segment"])  # fmt: skip
    for kind, segment in pairs.itertuples(index=False):
        own = ((labels["segment_kind"] == kind) & (labels["segment"] == segment)).to_numpy()
        mask = np.zeros((len(days), len(effects.assets)), dtype=bool)
        mask[day[own], asset[own]] = True
        found[str(kind), str(segment)] = mask
    return found
