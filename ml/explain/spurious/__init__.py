"""The spurious-correlation report: could what a model attends to be chance, the calendar or a leak?

In: stored explanations with outcomes, the panel as known on the decision day, counts of revisions. Out: `Check` rows, a verdict
each. Never: knowledge of which model made the forecasts, or anything known after the decision day.
"""

from ml.explain.spurious.checks import CLEAR, FLAGGED, NOT_JUDGED, Check, SpuriousPolicy
from ml.explain.spurious.effects import Effects
from ml.explain.spurious.leaks import Releases
from ml.explain.spurious.report import spurious_checks

__all__ = [
    "CLEAR", "FLAGGED", "NOT_JUDGED", "Check", "Effects", "Releases", "SpuriousPolicy", "spurious_checks",
]  # fmt: skip
