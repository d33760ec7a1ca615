"""How numbers, days and hashes look on the page. In: values from SQL, None for nothing. Out: text. Never rounds a value for use."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

NOTHING = "–"


def _or_nothing(show: Callable[..., str]) -> Callable[..., str]:
    def shown(value: Any, *arguments: Any) -> str:
        return NOTHING if value is None else show(value, *arguments)

    return shown


def percent(value: float, digits: int = 1) -> str:
    """0.653 -> 65.3 %."""
    return f"{100 * value:.{digits}f} %"


def points(value: float, digits: int = 1) -> str:
    """A difference of two percentages, signed: 0.021 -> +2.1."""
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def signed_percent(value: float, digits: int = 1) -> str:
    return points(value, digits) + " %"


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """Any size in four digits."""
    return f"{value:.4g}".replace("-", "−")


def leverage(value: float) -> str:
    return f"{value:.2f}×"


def p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def day(value: date) -> str:
    return f"{value:%Y-%m-%d}"


def instant(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def digest(value: str, length: int = 10) -> str:
    return str(value)[:length]


def words(value: str) -> str:
    """funding_rate_7d -> funding rate 7d."""
    return str(value).replace("_", " ")


def scores(value: str) -> str:
    """{"net_inflow": 1.04, "thin_book": null} -> net inflow +1.0; what is missing is left out, a flag shows as its name."""
    shown = []
    for name, score in json.loads(value).items():
        if score is True:
            shown.append(words(name))
        elif isinstance(score, float | int) and score is not False:
            shown.append(f"{words(name)} {signed(score, 1)}")
    return ", ".join(shown) or NOTHING


def age(value: float) -> str:
    """Days, or hours where it is under two days."""
    return f"{24 * value:.0f} h" if value < 2 else f"{value:.1f} d"


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: _or_nothing(function)
    for function in (
        percent,
        points,
        signed_percent,
        number,
        signed,
        short,
        leverage,
        p_value,
        count,
        day,
        instant,
        digest,
        words,
        scores,
        age,
    )
}
