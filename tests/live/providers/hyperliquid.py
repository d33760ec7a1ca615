"""Hyperliquid's info endpoint: perpetuals with their running funding, funding history.

Built from hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint: Perpetuals (Retrieve perpetuals asset contexts,
Retrieve historical funding rates) and Pagination; everything is a POST to /info.

A history gives the first 500 rows from startTime on, oldest first; rates are of one hour, stamped some milliseconds late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.live.providers.quirks import Quirks, ms
from tests.live.server import Reply, Request

ROWS = 500


@dataclass
class Hyperliquid:
    """``funding``: settlement time -> rate, by coin. ``running``: coin -> rate."""

    now: datetime
    funding: dict[str, dict[datetime, str]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    delisted: set[str] = field(default_factory=set)
    quirks: Quirks = field(default_factory=Quirks)
    page: int = ROWS

    def __call__(self, request: Request) -> Reply:
        if request.path != "/info" or request.method != "POST":
            return Reply({"error": f"no path {request.path}"}, 404)
        asked = request.json
        if asked["type"] == "metaAndAssetCtxs":
            return Reply(self._contexts())
        if asked["type"] == "fundingHistory":
            return Reply(self._funding(asked))
        return Reply("Failed to deserialize the JSON body into the target type", 422)

    def _contexts(self) -> list[Any]:
        names = sorted({*self.funding, *self.running})
        universe = [
            {
                "name": name,
                "szDecimals": 5,
                "maxLeverage": 50,
                **({"isDelisted": True} if name in self.delisted else {}),
            }
            for name in names
        ]
        contexts = [
            {
                "funding": self.running.get(name, "0.0000125"),
                "openInterest": "34000.1",
                "prevDayPx": "62000.0",
                "dayNtlVlm": "1169046.29406",
                "premium": "0.00031774",
                "oraclePx": "62690.0",
                "markPx": "62691.0",
                "midPx": "62691.5",
                "impactPxs": ["62691.0", "62692.0"],
            }
            for name in names
        ]
        return [{"universe": universe}, self.quirks.rows(contexts)]

    def _funding(self, asked: dict[str, Any]) -> list[Any]:
        end = asked.get("endTime", ms(self.now))
        rows = [
            {"coin": asked["coin"], "fundingRate": rate, "premium": "0.0001", "time": ms(ts) + 31}
            for ts, rate in sorted(self.funding.get(asked["coin"], {}).items())
            if ts <= self.now and asked["startTime"] <= ms(ts) + 31 <= end
        ]
        return self.quirks.rows(rows[: self.page])
