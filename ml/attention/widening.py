r"""How much wider the quantiles must be where a modality is missing.

A network that is trained with modality dropout forecasts without any modality, but not as well, and its quantiles were calibrated
with the modalities there. On the validation block each context group is masked in turn, and all of them at once:

    f_h = the least factor with  #{|y - m| within f (q - m)} masked  >=  #{y within q} as it was,

m the median, both sides of the four widest central intervals counted together, every sample with the group in it. Then

    factor_h = 1 + max(0, f_h - 1) t^2 / (1 + t^2),   t of the daily pinball cost of masking; 1 where t is below `min_gain_t`

so that noise widens nothing, as with the shrinkage of the residual. A coin that never has a group does not miss it: what such a coin
costs is in its own calibration already.

In: arrays of the validation block. Out: factors >= 1 and what each coin is used to. Never: anything after the validation block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.attention.selection import SelectionConfig, daily_mean, mean_t_statistic, pinball
from ml.attention.tokens import CONTEXT_GROUPS

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ALL_GROUPS = "all"
MASKED = (*CONTEXT_GROUPS, ALL_GROUPS)
"""What is masked in turn."""
OUTER_INTERVALS = 4
"""Central intervals that must cover as often as before: those between the 4 lowest and the 4 highest levels, 80 to 98 %."""
USUAL_SHARE = 0.5
"""A coin with a group in more than this share of its validation samples is used to it; a coin that training never saw is used
to what more than this share of the coins are used to."""
NEW_COIN = -1
"""The position of a coin that training never saw."""


@dataclass(frozen=True)
class Widening:
    """What the quantiles' distances from their median are multiplied by; G context groups."""

    factor: FloatArray  # (G + 1, H) by `MASKED`, >= 1; the last row is no less than any other
    usual: BoolArray  # (N, G): the coin is used to the group

    @classmethod
    def none(cls, n_assets: int, n_horizons: int) -> Widening:
        """Nothing is widened."""
        usual = np.zeros((n_assets, len(CONTEXT_GROUPS)), dtype=bool)
        return cls(np.ones((len(MASKED), n_horizons)), usual)

    def of(self, present: BoolArray, asset: NDArray[np.int64]) -> FloatArray:
        """(B, H) factors of forecasts whose groups are `present` (B, G), for coins by their fitted position (B,),
        `NEW_COIN` for one that training never saw.

        The largest over the groups that the coin is used to and that are missing; where all of several are, that of all.
        """
        shared = (
            self.usual.mean(axis=0) > USUAL_SHARE if len(self.usual) else self.usual.any(axis=0)
        )
        usual = np.where((asset == NEW_COIN)[:, None], shared, self.usual[asset])
        missing = usual & ~present
        alone = np.where(missing[..., None], self.factor[:-1], 1.0).max(axis=1, initial=1.0)
        all_gone = (missing == usual).all(axis=1) & (missing.sum(axis=1) > 1)
        factors: FloatArray = np.where(all_gone[:, None], self.factor[-1], alone)
        return factors


def widen(log_quantiles: FloatArray, factor: FloatArray) -> FloatArray:
    """(B, H, Q) with every distance from the median multiplied by `factor` (B, H); bit for bit the same where it is 1."""
    median = log_quantiles[..., log_quantiles.shape[-1] // 2, None]
    wider: FloatArray = np.where(
        factor[..., None] > 1, median + factor[..., None] * (log_quantiles - median), log_quantiles
    )
    return wider


def find_widening(
    target: FloatArray,
    quantiles: FloatArray,
    masked: Mapping[str, FloatArray],
    present: BoolArray,
    day: NDArray[np.int64],
    asset: NDArray[np.int64],
    n_assets: int,
    horizons: tuple[int, ...],
    levels: FloatArray,
    config: SelectionConfig,
) -> Widening:
    """From validation samples: target (S, H), NaN = unknown; log quantiles (S, H, Q) with everything, and without each of
    `MASKED` that there is; groups present (S, G). Each group is judged on the samples that have it.
    """
    factor = np.ones((len(MASKED), len(horizons)))
    for name, without in masked.items():
        row = MASKED.index(name)
        here = present.any(axis=1) if name == ALL_GROUPS else present[:, row]
        for column, horizon in enumerate(horizons):
            known = here & np.isfinite(target[:, column])
            if len(np.unique(day[known])) >= config.min_validation_days:
                factor[row, column] = widening_factor(
                    target[known, column],
                    quantiles[known, column],
                    without[known, column],
                    day[known],
                    horizon,
                    levels,
                    config.min_gain_t,
                )
    factor[-1] = factor.max(axis=0)  # all of them missing is no better than any one
    return Widening(factor, usual_groups(present, asset, n_assets))


def usual_groups(present: BoolArray, asset: NDArray[np.int64], n_assets: int) -> BoolArray:
    """(N, G) from the validation samples' presence (S, G) and coins (S,)."""
    samples = np.bincount(asset, minlength=n_assets)[:, None]
    there = np.stack([np.bincount(asset, column, n_assets) for column in present.T], axis=1)
    usual: BoolArray = there > USUAL_SHARE * samples
    return usual


def widening_factor(
    target: FloatArray,
    quantiles: FloatArray,
    masked: FloatArray,
    day: NDArray[np.int64],
    horizon: int,
    levels: FloatArray,
    min_gain_t: float,
) -> float:
    """The factor of one horizon and group: target (S,), quantiles with and without the group (S, Q)."""
    cost = pinball(target, masked, levels) - pinball(target, quantiles, levels)
    t = mean_t_statistic(daily_mean(cost, day), horizon)
    if t <= 0 or t < min_gain_t:
        return 1.0
    covered = int((reach(target, quantiles) <= 1).sum())
    needed = np.sort(reach(target, masked), axis=None)[max(covered, 1) - 1]
    return float(1 + max(0.0, needed - 1) * t**2 / (1 + t**2))


def reach(target: FloatArray, quantiles: FloatArray) -> FloatArray:
    """(S, K): by what factor each outer interval must be stretched about the median to cover the target; at most 1 where it does."""
    middle = quantiles.shape[1] // 2
    median = quantiles[:, middle, None]
    lower, upper = median - quantiles[:, :OUTER_INTERVALS], quantiles[:, -OUTER_INTERVALS:] - median
    upper = upper[:, ::-1]  # (S, K), the widest first, as below the median
    away = target[:, None] - median
    width = np.maximum(np.where(away > 0, upper, lower), 1e-12)
    stretch: FloatArray = np.abs(away) / width
    return stretch
