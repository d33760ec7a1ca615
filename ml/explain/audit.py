"""The audit: may these attention weights be called an explanation of this forecast?

In: rollout, integrated gradients and ablation effects per feature group. Out: a verdict and its reason per forecast.

'invalid': the forecast does not use the attention residual, or the attribution does not add up, or attention ranks the groups
against what moves the forecast. 'weak': it ranks them no better than loosely. 'valid': it ranks them alike.
Thresholds are named, and the reason quotes the figure that decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AuditThresholds:
    """Limits of the audit."""

    completeness_error: float = 0.05  # relative; above it the attribution does not add up
    valid_agreement: float = 0.5  # least mean rank agreement of rollout with |IG| and |ablation|
    weak_agreement: float = 0.0  # below it 'invalid', between the two 'weak'
    min_groups: int = 4  # with fewer groups a rank agreement means nothing: at best 'weak'

    def __post_init__(self) -> None:
        if not self.completeness_error > 0:
            raise ValueError(
                f"completeness_error {self.completeness_error}: expected a positive number"
            )
        if not -1 <= self.weak_agreement <= self.valid_agreement <= 1:
            raise ValueError(
                f"weak_agreement {self.weak_agreement}, valid_agreement {self.valid_agreement}:"
                " expected -1 <= weak <= valid <= 1"
            )


@dataclass(frozen=True)
class Audit:
    """Verdicts of B forecasts."""

    verdict: NDArray[np.object_]  # (B,) 'valid' | 'weak' | 'invalid'
    reason: NDArray[np.object_]  # (B,)
    agreement: (
        FloatArray  # (B, 2) Spearman of rollout with |IG|, and with |ablation|; NaN = undefined
    )


def spearman(left: FloatArray, right: FloatArray) -> FloatArray:
    """(B, G), (B, G) -> (B,): rank correlation over the groups that both have; ties share their mean rank.

    NaN where one side has no two different values.
    """
    both = np.isfinite(left) & np.isfinite(right)
    ranks = [_centred_ranks(side, both) for side in (left, right)]
    product = (ranks[0] * ranks[1]).sum(axis=1)
    scale = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, product / scale, np.nan)


def _centred_ranks(values: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """(B, G) mean ranks among the valid values less their mean; 0 where not valid."""
    safe = np.where(valid, values, 0.0)
    other = valid[:, None, :]
    below = ((safe[:, None, :] < safe[:, :, None]) & other).sum(axis=2)
    equal = ((safe[:, None, :] == safe[:, :, None]) & other).sum(axis=2)
    rank = np.where(valid, below + (equal + 1) / 2, 0.0)
    count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    return np.where(valid, rank - rank.sum(axis=1, keepdims=True) / count, 0.0)


def audit(
    rollout: FloatArray,
    attribution: FloatArray,
    ablation: FloatArray,
    completeness_error: FloatArray,
    residual_weight: float,
    thresholds: AuditThresholds,
) -> Audit:
    """rollout, attribution, ablation (B, G), NaN = the forecast has no such group; completeness_error (B,)."""
    with_gradients = spearman(rollout, np.abs(attribution))
    with_ablation = spearman(rollout, np.abs(ablation))
    agreement = np.stack([with_gradients, with_ablation], axis=1)
    mean = agreement.mean(axis=1)
    groups = np.isfinite(rollout).sum(axis=1)
    verdict = np.full(len(rollout), "valid", dtype=object)
    reason = np.full(len(rollout), "", dtype=object)
    ranks = [
        f"rank agreement of attention with gradients {g:.2f}, with ablation {a:.2f}"
        for g, a in agreement
    ]
    for row in range(len(rollout)):
        if residual_weight == 0:
            found = "invalid", "attention residual is zero: the forecast is its anchor"
        elif not completeness_error[row] <= thresholds.completeness_error:
            found = (
                "invalid",
                f"completeness error {completeness_error[row]:.3g} above {thresholds.completeness_error:g}",
            )
        elif np.isnan(mean[row]):
            found = "invalid", "no group moves the forecast: rank agreement is undefined"
        elif mean[row] < thresholds.weak_agreement:
            found = "invalid", f"{ranks[row]}: mean below {thresholds.weak_agreement:g}"
        elif groups[row] < thresholds.min_groups:
            found = "weak", f"{groups[row]} feature groups: fewer than {thresholds.min_groups}"
        elif mean[row] < thresholds.valid_agreement:
            found = "weak", f"{ranks[row]}: mean below {thresholds.valid_agreement:g}"
        else:
            found = "valid", ranks[row]
        verdict[row], reason[row] = found
    return Audit(verdict, reason, agreement)
