"""Which as_of is due, and whether a home is kept up to it.

In: settings, the time, the newest as_of. Out: a day; whether its absence is worth an alert. Never: reads anything.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from orchestration.settings import Settings

KEPT_CURRENT_DAYS = 7
"""A home of the past (archive, simulated) is expected to have yesterday's forecasts while its newest are no older than this; a live one always."""


def due_day(settings: Settings, now: datetime, grace: timedelta = timedelta()) -> date:
    """The newest as_of whose decision time, and ``grace`` after it, has passed."""
    offset = timedelta(minutes=settings.decision_offset_minutes) + grace
    return (now - offset).date() - timedelta(days=1)


def is_kept_current(settings: Settings, newest: date | None, due: date) -> bool:
    """Whether forecasts of ``due`` are expected of a home whose newest are of ``newest``."""
    if settings.source == "live":
        return True
    return newest is not None and (due - newest).days <= KEPT_CURRENT_DAYS
