"""dYdX v4's indexer: perpetual markets and historical funding.

Built from docs.dydx.xyz/indexer-client/http: Get Perpetual Markets, Get Historical Funding. Funding is hourly, newest first up to
effectiveBeforeOrAt, 100 rows unless ``limit`` says otherwise; stamps are the time of a block, some milliseconds after the hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.live.server import Reply, Request


@dataclass
class Dydx:
    """``funding``: settlement time -> rate, by the venue's market."""

    now: datetime
    funding: dict[str, dict[datetime, str]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        if request.path == "/v4/perpetualMarkets":
            return Reply({"markets": {name: self._market(name) for name in self.funding}})
        market = request.path.removeprefix("/v4/historicalFunding/")
        before = request.query.get("effectiveBeforeOrAt", self.now.isoformat())
        until = datetime.fromisoformat(before.replace("Z", "+00:00")).astimezone(UTC)
        rows = [
            {
                "ticker": market,
                "rate": rate,
                "price": "62690.1",
                "effectiveAtHeight": "44865196",
                "effectiveAt": (ts + LATE)
                .isoformat(timespec="milliseconds")
                .replace("+00:00", "Z"),
            }
            for ts, rate in sorted(self.funding[market].items(), reverse=True)
            if ts <= self.now and ts + LATE <= until
        ]
        return Reply({"historicalFunding": rows[: int(request.query.get("limit", 100))]})

    def _market(self, name: str) -> dict[str, object]:
        return {
            "clobPairId": "0",
            "ticker": name,
            "status": "ACTIVE",
            "oraclePrice": "62690.1",
            "nextFundingRate": "0.00001",
            "initialMarginFraction": "0.02",
            "maintenanceMarginFraction": "0.012",
            "atomicResolution": -10,
            "quantumConversionExponent": -9,
            "tickSize": "1",
            "stepSize": "0.0001",
            "stepBaseQuantums": 1000000,
            "subticksPerTick": 100000,
            "marketType": "CROSS",
        }


LATE = timedelta(milliseconds=13)
