"""Ways in which a provider's list of rows goes wrong, for handlers to apply before they answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Quirks:
    """``without``: a field that is gone; ``extra``: fields that nobody announced; ``twice``: every row is there twice; ``shuffled``: in any order."""

    without: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    twice: bool = False
    shuffled: bool = False

    def rows(self, rows: Sequence[Any]) -> list[Any]:
        changed = [self._row(row) for row in rows] * (2 if self.twice else 1)
        if self.shuffled:
            random.Random(len(changed)).shuffle(changed)
        return changed

    def _row(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        return {
            name: value for name, value in {**row, **self.extra}.items() if name != self.without
        }


def ms(value: datetime) -> int:
    """Milliseconds since 1970."""
    return round(value.timestamp() * 1000)


def whole(query: Mapping[str, str], name: str, otherwise: int) -> int:
    """A whole number of a query."""
    return int(query[name]) if name in query else otherwise
