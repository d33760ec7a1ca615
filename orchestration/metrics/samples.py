"""One measured value, and times as Prometheus counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time


@dataclass(frozen=True)
class Sample:
    """A value of the metric ``name`` of definitions.METRICS."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def stamp(instant: datetime) -> float:
    """Seconds since 1970; a time without a zone is UTC."""
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def day_stamp(day: date) -> float:
    return datetime.combine(day, time(), tzinfo=UTC).timestamp()
