"""The audit: may these attention weights be called an explanation of this forecast?

In: the figures of a forecast (agreement, curves, infidelity, sensitivity) and the checks of its version (checks.py). Out: a verdict
and its reason per forecast. Never: a figure of its own, or a threshold that is not in `AuditThresholds`.

'invalid': there is nothing to explain, the attribution does not add up, attention orders the groups no better than chance or against what
moves the forecast, or it does not depend on what the network learnt. 'weak': nothing of that, but some figure is short of what 'valid' asks,
or a check was not made. 'valid': every figure and every check holds. The reason quotes the figures that decided, each with its threshold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ml.explain.checks import (
    DATA_RANDOMISATION,
    FAIL,
    NOT_JUDGED,
    PASS,
    SEED_STABILITY,
    SUBJECTS,
    WEIGHT_RANDOMISATION,
    Check,
)

FloatArray = NDArray[np.float64]
VALID, WEAK, INVALID = "valid", "weak", "invalid"
VERSION_CHECKS = (WEIGHT_RANDOMISATION, DATA_RANDOMISATION, SEED_STABILITY)


@dataclass(frozen=True)
class AuditThresholds:
    """Limits of the audit of a forecast; why each: docs/explanations.md."""

    completeness_error: float = 0.05  # relative; above it the attribution does not add up: invalid
    valid_agreement: float = 0.5  # least mean rank agreement of attention with |IG| and |ablation|
    weak_agreement: float = 0.0  # below it invalid, between the two weak
    valid_order_p: float = 0.1  # largest p of attention's order against random orders
    weak_order_p: float = 0.5  # above it invalid (a random order is as good), between the two weak
    infidelity_share: float = 0.5  # of squared change that the attribution misses; above it weak
    sensitivity: float = 0.5  # relative change of an explanation near the forecast; above it weak
    min_effect: float = 1e-3  # largest |ablation effect| on log variance; below it weak
    min_groups: int = 4  # with fewer groups the best order has no small p: at best weak

    def __post_init__(self) -> None:
        for name in ("completeness_error", "infidelity_share", "sensitivity", "min_effect"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")
        if not -1 <= self.weak_agreement <= self.valid_agreement <= 1:
            raise ValueError(
                f"weak_agreement {self.weak_agreement}, valid_agreement {self.valid_agreement}:"
                " expected -1 <= weak <= valid <= 1"
            )
        if not 0 < self.valid_order_p <= self.weak_order_p <= 1:
            raise ValueError(
                f"valid_order_p {self.valid_order_p}, weak_order_p {self.weak_order_p}:"
                " expected 0 < valid <= weak <= 1"
            )

    def as_json(self) -> str:
        """For storage beside the figures."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Figures:
    """What is judged of B forecasts at one horizon; NaN = undefined."""

    groups: NDArray[np.int64]  # (B,) groups that attention ranks
    completeness_error: FloatArray  # (B,) of integrated gradients, relative
    gradient_agreement: FloatArray  # (B,) Spearman of attention with |integrated gradients|
    ablation_agreement: FloatArray  # (B,) with |ablation effects|
    largest_effect: FloatArray  # (B,) |ablation effect|, log variance
    order_p: FloatArray  # (B,) p of the gap between deletion and insertion area (curves.py)
    infidelity_share: FloatArray  # (B,) of integrated gradients (fidelity.py)
    attention_sensitivity: FloatArray  # (B,)
    gradient_sensitivity: FloatArray  # (B,)

    def of(self, row: int) -> dict[str, float]:
        return {item.name: float(getattr(self, item.name)[row]) for item in fields(self)}


@dataclass(frozen=True)
class Audit:
    """Verdicts of B forecasts."""

    verdict: NDArray[np.object_]  # (B,) 'valid' | 'weak' | 'invalid'
    reason: NDArray[np.object_]  # (B,)


def audit(
    figures: Figures,
    residual_weight: float,
    checks: Sequence[Check],
    thresholds: AuditThresholds,
    not_numbers: Sequence[str] = (),
) -> Audit:
    """Judge B forecasts of one version and horizon.

    residual_weight: 0 where the forecast is its anchor. checks: of the version; one that is missing counts as not judged. not_numbers (B,):
    what of a forecast's input is no number, '' where all is (default: all is).
    """
    of_version = _of_version(checks)
    found = []
    for row in range(len(figures.groups)):
        broken = not_numbers[row] if len(not_numbers) else ""
        found.append(_judge(figures.of(row), residual_weight, broken, of_version, thresholds))
    return Audit(
        np.array([verdict for verdict, _ in found], dtype=object),
        np.array([reason for _, reason in found], dtype=object),
    )


def check_verdict(checks: Sequence[Check], name: str) -> str:
    """'fail' if any subject of the check failed, 'pass' if every one of `SUBJECTS` passed, else 'not judged'."""
    own = [check for check in checks if check.check == name and not check.stage]
    if any(check.verdict == FAIL for check in own):
        return FAIL
    complete = {check.subject for check in own} >= set(SUBJECTS)
    return PASS if complete and all(check.verdict == PASS for check in own) else NOT_JUDGED


def _of_version(checks: Sequence[Check]) -> dict[str, list[str]]:
    """Reasons by the verdict that they force: what the version's checks say of each of its forecasts."""
    found: dict[str, list[str]] = {INVALID: [], WEAK: []}
    for name in VERSION_CHECKS:
        verdict = check_verdict(checks, name)
        own = [c for c in checks if c.check == name and not c.stage and c.verdict != PASS]
        reasons = [f"{name.replace('_', ' ')}: {check.reason}" for check in own]
        if verdict == FAIL:
            failed = [r for r, check in zip(reasons, own, strict=True) if check.verdict == FAIL]
            found[WEAK if name == SEED_STABILITY else INVALID] += failed
        elif verdict != PASS:
            judged = {check.subject for check in checks if check.check == name and not check.stage}
            if absent := [s.replace("_", " ") for s in SUBJECTS if s not in judged]:
                reasons.append(f"{name.replace('_', ' ')}: not judged for {', '.join(absent)}")
            found[WEAK] += reasons
    return found


def _judge(
    figure: dict[str, float],
    residual_weight: float,
    broken: str,
    of_version: dict[str, list[str]],
    limits: AuditThresholds,
) -> tuple[str, str]:
    if broken:
        return INVALID, f"input that is no number: {broken}"
    if residual_weight == 0:
        return (
            INVALID,
            "attention residual is zero: the forecast is its anchor, there is nothing to explain",
        )
    gradients, ablation = figure["gradient_agreement"], figure["ablation_agreement"]
    agreement, order_p = (gradients + ablation) / 2, figure["order_p"]
    ranks = (
        f"rank agreement of attention with gradients {gradients:.2f}, with ablation {ablation:.2f}"
    )
    order = f"attention's order against random orders p {order_p:.2f}"
    invalid, weak = [], []
    if not figure["completeness_error"] <= limits.completeness_error:
        invalid.append(
            f"completeness error {figure['completeness_error']:.3g} above {limits.completeness_error:g}"
        )
    if np.isnan(agreement):
        invalid.append("rank agreement is undefined: no group moves the forecast, or all alike")
    elif agreement < limits.weak_agreement:
        invalid.append(f"{ranks}: mean below {limits.weak_agreement:g}")
    elif agreement < limits.valid_agreement:
        weak.append(f"{ranks}: mean below {limits.valid_agreement:g}")
    if order_p > limits.weak_order_p:
        invalid.append(f"{order}: above {limits.weak_order_p:g}")
    elif not order_p <= limits.valid_order_p:
        weak.append(f"{order}: above {limits.valid_order_p:g}")
    if not figure["groups"] >= limits.min_groups:
        weak.append(f"{figure['groups']:.0f} feature groups: fewer than {limits.min_groups}")
    if not figure["largest_effect"] >= limits.min_effect:
        weak.append(
            f"no group moves log variance by more than {figure['largest_effect']:.2g}: below {limits.min_effect:g}"
        )
    for name, said in (
        ("infidelity_share", "share of change that gradients miss"),
        ("attention_sensitivity", "sensitivity of attention"),
        ("gradient_sensitivity", "sensitivity of gradients"),
    ):
        limit = limits.infidelity_share if name == "infidelity_share" else limits.sensitivity
        if not figure[name] <= limit:  # NaN too: not measured does not hold
            weak.append(f"{said} {figure[name]:.2f}: above {limit:g}")
    invalid += of_version[INVALID]
    weak += of_version[WEAK]
    if invalid:
        return INVALID, "; ".join(invalid)
    if weak:
        return WEAK, "; ".join(weak)
    return VALID, f"{ranks}; {order}; randomisation and seed checks pass"
