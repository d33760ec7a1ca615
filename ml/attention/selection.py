"""What the validation block decides: how much of the residual to use, and how far to move the quantiles.

In: log targets, anchor, residuals, quantile offsets and tails of validation samples (arrays). Out: a shrinkage factor in [0, 1] per
horizon (0 = exactly the anchor), one for the quantiles, whether the outermost quantiles come from the skewed t, split-conformal shifts
per quantile, and which coins are calibrated.
Never: a training sample, or anything after the validation block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ml.attention.tails import OUTER, outer_quantiles, splice

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SelectionConfig:
    """What is decided on the validation block, and when there is enough of it."""

    validation_share: float = 0.15  # newest part of the window, kept from training
    min_training_days: int = 180  # with fewer training days the forecast is the anchor alone
    min_validation_days: int = 30  # likewise
    shrinkage_steps: int = 10  # the grid of shrinkage factors is 0, 1/steps, ..., 1
    prior_blocks: float = 30.0  # non-overlapping targets that speak for the anchor beforehand
    min_gain_t: float = 0.5  # t of the validation QLIKE gain, below which the anchor is used
    calibration_min_points: int = 60  # validation forecasts that a calibrated coin has at least
    calibration_min_blocks: int = 8  # non-overlapping validation targets, likewise

    def __post_init__(self) -> None:
        if not 0 < self.validation_share <= 0.5:
            raise ValueError(
                f"validation_share {self.validation_share}: expected a share in (0, 0.5]"
            )
        for name in (
            "min_training_days",
            "min_validation_days",
            "shrinkage_steps",
            "calibration_min_points",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive integer")
        for name in ("min_gain_t", "calibration_min_blocks", "prior_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number >= 0")

    @property
    def grid(self) -> FloatArray:
        return np.arange(self.shrinkage_steps + 1) / self.shrinkage_steps


@dataclass(frozen=True)
class Selection:
    """What was decided; arrays over horizons (and quantile levels)."""

    shrinkage: FloatArray  # (H,) factor on the residual
    quantile_shrinkage: FloatArray  # (H,) factor on the offsets' departure from the base quantiles
    shift: FloatArray  # (H, Q) added to the log quantiles
    gain_t: FloatArray  # (H,) t statistic of the best factor's QLIKE gain over the anchor
    calibrated: NDArray[np.bool_]  # (N, H)
    tail_use: FloatArray  # (H,) 1 where the outermost quantiles come from the tails, else 0


def qlike(log_target: FloatArray, log_forecast: FloatArray) -> FloatArray:
    """exp(e) - e - 1 with e = log target - log forecast; 0 = perfect."""
    error = log_target - log_forecast
    loss: FloatArray = np.exp(error) - error - 1
    return loss


def pinball(log_target: FloatArray, log_quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """Mean over levels: (S,), (S, Q) -> (S,)."""
    under = log_target[:, None] - log_quantiles
    loss: FloatArray = np.maximum(levels * under, (levels - 1) * under)
    return np.asarray(loss.mean(axis=1), dtype=np.float64)


def daily_mean(values: FloatArray, day: NDArray[np.int64]) -> FloatArray:
    """Mean over coins on each day that has any, in order of days."""
    _, index = np.unique(day, return_inverse=True)
    means: FloatArray = np.divide(np.bincount(index, values), np.bincount(index))
    return means


def mean_t_statistic(series: FloatArray, horizon: int) -> float:
    """Mean over its Newey-West standard error with max(h - 1, n^(1/3)) Bartlett lags; 0 for a constant series of zeros."""
    n = len(series)
    centred = series - series.mean()
    lags = min(n - 1, max(horizon - 1, math.ceil(n ** (1 / 3))))
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0:
        return 0.0
    return float(series.mean() / math.sqrt(variance / n))


def choose_shrinkage(
    target: FloatArray,
    anchor: FloatArray,
    residual: FloatArray,
    day: NDArray[np.int64],
    horizon: int,
    config: SelectionConfig,
) -> tuple[float, float]:
    """(factor, t): how much of the residual to use, and the t statistic of its gain over the anchor on the block.

    The factor with the least QLIKE is shrunk by t^2 / (1 + t^2), the share of the gain that is not noise (James and Stein,
    1961, for one mean), and by `trust` in the block; it is 0 below `min_gain_t`.
    """
    base = qlike(target, anchor)
    losses = [float(qlike(target, anchor + factor * residual).mean()) for factor in config.grid]
    factor = float(config.grid[int(np.argmin(losses))])
    if factor == 0:
        return 0.0, 0.0
    gain = daily_mean(base - qlike(target, anchor + factor * residual), day)
    t = mean_t_statistic(gain, horizon)
    if t < config.min_gain_t:
        return 0.0, t
    return factor * t**2 / (1 + t**2) * trust(len(gain), horizon, config), t


def trust(days: int, horizon: int, config: SelectionConfig) -> float:
    """Share in [0, 1) to which a block of that many days is believed: n / (n + `prior_blocks`), n = days / horizon.

    n is the number of targets that do not overlap: 200 days say much about one day ahead and little about 22.
    """
    return days / (days + horizon * config.prior_blocks)


def conformal_shift(target: FloatArray, quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """(Q,) split-conformal shifts: the p-quantile of target - quantile(p), at rank p (n + 1), away from the middle.

    Source: one-sided conformalised quantile regression (Romano, Patterson, Candes 2019), applied to every level.
    """
    scores = np.sort(target[:, None] - quantiles, axis=0)  # (S, Q)
    n = len(scores)
    rank = np.where(levels > 0.5, np.ceil((n + 1) * levels), np.floor((n + 1) * levels))
    rank = np.where(levels == 0.5, np.round((n + 1) * levels), rank)
    index = np.clip(rank.astype(np.int64) - 1, 0, n - 1)
    return scores[index, np.arange(len(levels))]


def select(
    target: FloatArray,
    anchor: FloatArray,
    residual: FloatArray,
    offsets: FloatArray,
    base: FloatArray,
    tails: FloatArray,
    base_tails: FloatArray,
    day: NDArray[np.int64],
    asset: NDArray[np.int64],
    n_assets: int,
    horizons: tuple[int, ...],
    levels: FloatArray,
    config: SelectionConfig,
) -> Selection:
    """All decisions. target, anchor, residual (S, H), NaN targets are left out; offsets (S, H, Q); base (H, Q); tails
    (S, H, 4); base_tails (H, 4).
    """
    n_horizons, n_levels = base.shape
    shrinkage, quantile_shrinkage = np.zeros(n_horizons), np.zeros(n_horizons)
    gain_t, shift = np.zeros(n_horizons), np.zeros((n_horizons, n_levels))
    calibrated = np.zeros((n_assets, n_horizons), dtype=bool)
    tail_use = np.zeros(n_horizons)
    for h, horizon in enumerate(horizons):
        known = np.isfinite(target[:, h])
        days_known = len(np.unique(day[known]))
        if days_known < config.min_validation_days:
            continue
        y, a, r = target[known, h], anchor[known, h], residual[known, h]
        shrinkage[h], gain_t[h] = choose_shrinkage(y, a, r, day[known], horizon, config)
        centre = (a + shrinkage[h] * r)[:, None]
        mixes = [base[h] + factor * (offsets[known, h] - base[h]) for factor in config.grid]
        losses = [float(pinball(y, centre + mix, levels).mean()) for mix in mixes]
        best = int(np.argmin(losses))
        quantile_shrinkage[h] = config.grid[best]
        moved = base_tails[h] + quantile_shrinkage[h] * (tails[known, h] - base_tails[h])
        spliced = with_tails(mixes[best], moved)
        if outer_pinball(y, centre + spliced, levels) <= outer_pinball(
            y, centre + mixes[best], levels
        ):
            tail_use[h] = 1.0
            mixes[best] = spliced
        if days_known / horizon >= config.calibration_min_blocks:
            believed = trust(days_known, horizon, config)
            shift[h] = believed * conformal_shift(y, centre + mixes[best], levels)
            points = np.bincount(asset[known], minlength=n_assets)
            calibrated[:, h] = points >= config.calibration_min_points
    return Selection(shrinkage, quantile_shrinkage, shift, gain_t, calibrated, tail_use)


def with_tails(offsets: FloatArray, tails: FloatArray) -> FloatArray:
    """(S, Q) quantile offsets with the outermost levels from tails (S, 4), never inside the others."""
    outer = outer_quantiles(torch.from_numpy(tails))
    spliced: FloatArray = splice(torch.from_numpy(offsets), outer).numpy()
    return spliced


def outer_pinball(target: FloatArray, quantiles: FloatArray, levels: FloatArray) -> float:
    """Mean pinball loss at the levels that the tails may give: (S,), (S, Q)."""
    outer = [*range(OUTER), *range(len(levels) - OUTER, len(levels))]
    return float(pinball(target, quantiles[:, outer], levels[outer]).mean())
