"""What a gate says: one result an expectation, one verdict a suite.

In: nothing. Out: ``Result`` and ``Verdict``, plain frozen data that a caller stores or shows.
Never: decides what to do about a failure; that is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["critical", "warning"]
CRITICAL: Severity = "critical"
WARNING: Severity = "warning"

NOT_CHECKED = "not checked: "
"""``Result.observed`` starts with this where an expectation could not be asked; the rest says why."""


@dataclass(frozen=True)
class Result:
    """One expectation's answer.

    ``observed`` says in words what was seen, ``message`` what was expected and what to do. ``failing_rows`` are
    positions in the validated frame (0 is its first row, whatever its index), empty where the expectation is about
    the frame as a whole: a missing coin has no row to point at.
    """

    suite: str
    expectation: str
    column: str | None
    severity: Severity
    success: bool
    observed: str
    message: str
    failing_rows: list[int] = field(default_factory=list)

    @property
    def checked(self) -> bool:
        """False where the expectation could not be asked, for want of a column, a reference or a decision time."""
        return not self.observed.startswith(NOT_CHECKED)


@dataclass(frozen=True)
class Verdict:
    """All results of one suite on one frame; ``passed`` means that nothing critical failed."""

    suite: str
    passed: bool
    results: list[Result]

    @classmethod
    def of(cls, suite: str, results: list[Result]) -> Verdict:
        """Judge: warnings never fail a suite."""
        passed = not any(r.severity == CRITICAL and not r.success for r in results)
        return cls(suite, passed, results)

    @property
    def failures(self) -> list[Result]:
        """Failed results, critical ones first."""
        failed = [r for r in self.results if not r.success]
        return sorted(failed, key=lambda r: r.severity != CRITICAL)

    def rows_to_quarantine(self) -> dict[int, list[str]]:
        """Position -> the critical expectations that the row fails, in ascending order of position."""
        reasons: dict[int, list[str]] = {}
        for result in self.results:
            if result.severity == CRITICAL and not result.success:
                for position in result.failing_rows:
                    reasons.setdefault(position, []).append(result.expectation)
        return dict(sorted(reasons.items()))

    @property
    def only_rows_failed(self) -> bool:
        """True when quarantining ``rows_to_quarantine`` removes every critical failure that was seen."""
        return all(
            r.success or r.severity != CRITICAL or bool(r.failing_rows) for r in self.results
        )
