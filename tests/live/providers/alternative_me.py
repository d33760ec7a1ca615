"""alternative.me's Fear & Greed API as its page "Crypto Fear & Greed Index API" tells it: newest first, everything in quotes, ``limit=0`` for
all, ``time_until_update`` with the newest reading alone, errors in ``metadata.error`` of an answer with status 200.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.live.server import Reply, Request


@dataclass
class FearGreedApi:
    """``readings``: day -> value and classification."""

    readings: dict[datetime, tuple[int, str]] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    repeat: bool = False
    shuffle: bool = False

    def __call__(self, request: Request) -> Reply:
        if request.path != "/fng/":
            return Reply({"message": "not found"}, 404)
        limit = int(request.query.get("limit", 1))
        days = sorted(self.readings, reverse=True)[: limit or None]
        data = [self._reading(day, newest=number == 0) for number, day in enumerate(days)]
        if self.repeat:
            data += data
        if self.shuffle:
            data = data[1::2] + data[0::2]
        return Reply(
            {
                "name": "Fear and Greed Index",
                "data": None if self.error else data,
                "metadata": {"error": self.error},
            }
        )

    def _reading(self, day: datetime, newest: bool) -> dict[str, Any]:
        value, label = self.readings[day]
        reading = {
            "value": str(value),
            "value_classification": label,
            "timestamp": f"{day.timestamp():.0f}",
        }
        if newest:
            reading["time_until_update"] = "83700"
        return {self.rename.get(name, name): text for name, text in reading.items()} | self.extra
