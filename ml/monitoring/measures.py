"""What every measure of drift gives, and the limits that they share.

In: nothing. Out: `DriftPolicy`, `Drift`. Never: a verdict without the statistic and the threshold that it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass

DRIFT, STEADY, NOT_JUDGED = "drift", "steady", "not judged"


@dataclass(frozen=True)
class DriftPolicy:
    """Error rates, and the least evidence. A level is the share of tests that fire where nothing has changed."""

    feature_level: float = 0.05
    """Over all features at once. Lower is not to be had: a window of 1,500 days holds some 70 independent fortnights."""
    error_level: float = 0.01
    attention_level: float = 0.01
    bootstrap_repetitions: int = 499
    seed: int = 20240101
    least_feature_days: int = 14
    most_feature_days: int = 60
    reference_blocks: int = 10
    """Least length of the reference, in samples that do not overlap: from fewer, no quantile of 5 % can be read."""
    least_error_days: int = 10
    most_error_days: int = 28
    error_reference_days: int = 365
    least_error_reference: int = 60
    allowance: float = 0.25
    """Page-Hinkley's: a rise of the mean by fewer standard deviations than this is not looked for."""
    attention_reference_days: int = 240
    least_attention_days: int = 14
    least_divergence: float = 0.02
    """Bits of Jensen-Shannon divergence below which attention counts as unmoved, whatever the bootstrap says."""

    def __post_init__(self) -> None:
        for name in ("feature_level", "error_level", "attention_level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number between 0 and 1")
        if self.bootstrap_repetitions < 1 / min(self.error_level, self.attention_level):
            raise ValueError(
                f"bootstrap_repetitions {self.bootstrap_repetitions}: too few for a level of "
                f"{min(self.error_level, self.attention_level):g}"
            )


@dataclass(frozen=True)
class Drift:
    """One measure of one subject."""

    measure: str  # psi | kolmogorov_smirnov | page_hinkley | log_bias | jensen_shannon
    subject: str  # a feature, or what the series is
    statistic: float  # NaN where it is not judged
    threshold: float
    verdict: str  # DRIFT | STEADY | NOT_JUDGED
    reference_days: int
    monitored_days: int
    reason: str


def judged(
    measure: str, subject: str, statistic: float, threshold: float, reference: int, monitored: int
) -> Drift:
    """DRIFT where the statistic lies above its threshold."""
    moved = statistic > threshold
    return Drift(
        measure,
        subject,
        float(statistic),
        float(threshold),
        DRIFT if moved else STEADY,
        reference,
        monitored,
        f"{measure} of {subject} {statistic:.3g} {'above' if moved else 'within'} {threshold:.3g}: "
        f"newest {monitored} days against {reference}",
    )


def not_judged(measure: str, subject: str, reference: int, monitored: int, reason: str) -> Drift:
    """A measure that there is too little evidence for; the reason says what is missing."""
    nan = float("nan")
    return Drift(measure, subject, nan, nan, NOT_JUDGED, reference, monitored, reason)
