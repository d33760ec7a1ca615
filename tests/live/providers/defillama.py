"""DefiLlama's stablecoin API as its API documentation ("stablecoins", openapi) and its users' notes tell it: the whole history in one answer,
dates as seconds in quotes, dollars by peg, and a newest point that is the live value of the running day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.live.server import Reply, Request

TOTAL = ""


@dataclass
class DefiLlamaApi:
    """``history``: stablecoin id ("" for all) -> day -> dollars by peg; ``coins``: what the list tells, largest last."""

    history: dict[str, dict[datetime, dict[str, float | None]]] = field(default_factory=dict)
    coins: list[tuple[str, str, float]] = field(default_factory=list)
    """Id, symbol, units in circulation."""
    rename: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    repeat: bool = False
    backwards: bool = False

    def offer(self, coin: str, day: datetime, **pegs: float | None) -> None:
        self.history.setdefault(coin, {})[day] = pegs

    def __call__(self, request: Request) -> Reply:
        if request.path == "/stablecoins":
            assets = [
                {
                    "id": number, "name": symbol.title(), "symbol": symbol, "gecko_id": None, "pegType": "peggedUSD",
                    "pegMechanism": "fiat-backed", "circulating": {"peggedUSD": units}, "chains": ["Ethereum"], "price": None,
                }
                for number, symbol, units in self.coins
            ]  # fmt: skip
            return Reply({"peggedAssets": assets, "chains": []})
        if request.path != "/stablecoincharts/all":
            return Reply({"message": "Not found"}, 404)
        history = self.history.get(request.query.get("stablecoin", TOTAL), {})
        points = [self._point(day, pegs) for day, pegs in sorted(history.items())]
        if self.repeat:
            points = [point for point in points for _ in range(2)]
        return Reply(points[::-1] if self.backwards else points)

    def _point(self, day: datetime, pegs: dict[str, float | None]) -> dict[str, Any]:
        point = {
            "date": f"{day.timestamp():.0f}",
            "totalCirculating": pegs,
            "totalUnreleased": {"peggedUSD": 0},
            "totalCirculatingUSD": pegs,
            "totalMintedUSD": {"peggedUSD": 0},
            "totalBridgedToUSD": {"peggedUSD": 0},
        }
        return {self.rename.get(name, name): value for name, value in point.items()} | self.extra
