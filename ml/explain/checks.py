"""A check of a version's explanations, as it is judged and stored.

In: figures. Out: `Check` rows. Never: a network; how checks are made is in sanity_checks.py, which network they need in the model's own package.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_RANDOMISATION, DATA_RANDOMISATION = "weight_randomisation", "data_randomisation"
SEED_STABILITY = "seed_stability"
CHECKS = (WEIGHT_RANDOMISATION, DATA_RANDOMISATION, SEED_STABILITY)
SUBJECTS = ("attention", "integrated_gradients", "ablation")
PASS, FAIL, NOT_JUDGED = "pass", "fail", "not judged"


@dataclass(frozen=True)
class CheckThresholds:
    """Limits of the checks; why each: docs/explanations.md."""

    similarity: float = 0.5  # largest mean rank correlation with maps of a randomised network
    stability: float = 0.5  # least with maps of a network from another seed
    gradient_steps: int = 8  # nodes of integrated gradients: ranks need fewer than completeness

    def __post_init__(self) -> None:
        for name in ("similarity", "stability"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a correlation in [-1, 1]")
        if self.gradient_steps < 1:
            raise ValueError(f"gradient_steps {self.gradient_steps}: expected a positive integer")


@dataclass(frozen=True)
class Check:
    """One check of one subject; a row of models.explanation_checks."""

    check: str  # one of CHECKS
    subject: str  # one of SUBJECTS
    stage: str  # '' for what is judged; else up to which layer weights were random
    statistic: (
        float | None
    )  # mean rank correlation with the other network's maps; None: not measured
    threshold: float | None
    verdict: str  # 'pass' | 'fail' | 'not judged'
    reason: str


def not_judged(reason: str, *checks: str) -> list[Check]:
    """Rows that say why these checks (default: all) were not made."""
    return [
        Check(check, subject, "", None, None, NOT_JUDGED, reason)
        for check in checks or CHECKS
        for subject in SUBJECTS
    ]


def unlike(check: str, subject: str, value: float, of: str, limits: CheckThresholds) -> Check:
    """Judge how much a map resembles that of a network which cannot know."""
    good = value <= limits.similarity
    said = f"{subject.replace('_', ' ')} resembles that of a network with {of} by {value:.2f}"
    return Check(
        check,
        subject,
        "",
        value,
        limits.similarity,
        PASS if good else FAIL,
        f"{said}: {'at most' if good else 'above'} {limits.similarity:g}",
    )


def alike(subject: str, value: float, limits: CheckThresholds) -> Check:
    """Judge how much a map resembles that of a network which learnt the same."""
    good = value >= limits.stability
    said = (
        f"{subject.replace('_', ' ')} resembles that of a network from another seed by {value:.2f}"
    )
    return Check(
        SEED_STABILITY,
        subject,
        "",
        value,
        limits.stability,
        PASS if good else FAIL,
        f"{said}: {'at least' if good else 'below'} {limits.stability:g}",
    )
