"""OKX v5: ``/api/v5/public/instruments``, ``/api/v5/market/candles`` and ``/api/v5/market/history-candles``.

Built from the market-data section of okx.com/docs-v5: newest first, ``before`` and ``after`` exclusive and named the other way round
(``after`` asks for older), at most 300 (history: 100 in older documentation), 9 texts a candle with the last 0 for
a bar that goes on; code 51001 for an instrument that it does not know. ``cap`` is the largest page.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.live.providers.candles import LENGTH, Book
from tests.live.server import Reply, Request

BARS = {"1m": "1m", "5m": "5m", "1H": "1h", "1Dutc": "1d"}


@dataclass
class OkxSpot(Book):
    """Register as ``okx``."""

    cap: int = 300

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/v5/public/instruments":
            data = self._instruments() if request.query.get("instType") == "SPOT" else []
            return Reply({"code": "0", "msg": "", "data": data})
        if request.path in ("/api/v5/market/candles", "/api/v5/market/history-candles"):
            return self._candles(request)
        return Reply({"code": "404", "msg": "not found", "data": []}, 404)

    def _instruments(self) -> list[object]:
        return [
            {
                "alias": "", "baseCcy": coin, "category": "1", "ctMult": "", "ctType": "", "ctVal": "", "ctValCcy": "", "expTime": "",
                "instFamily": "", "instId": f"{coin}-USDT", "instType": "SPOT", "lever": "10", "listTime": "1548133413000", "lotSz": "0.00000001",
                "maxLmtSz": "9999999999", "maxMktSz": "1000000", "minSz": "0.00001", "optType": "", "quoteCcy": "USDT", "settleCcy": "",
                "state": "suspend" if coin in self.delisted else "live", "stk": "", "tickSz": "0.1", "uly": "",
            }
            for coin in self.coins
        ]  # fmt: skip

    def _candles(self, request: Request) -> Reply:
        asked = request.query
        coin = asked["instId"].removesuffix("-USDT")
        if coin not in self.coins:
            return Reply({"code": "51001", "msg": "Instrument ID doesn't exist.", "data": []})
        interval = BARS[asked["bar"]]
        newer, older = int(asked.get("before", 0)), int(asked.get("after", 2**53))
        bars = [b for b in self.offered(coin, interval) if newer < b.ms < older]
        limit = min(int(asked.get("limit", 100)), self.cap)
        now = self.clock()
        rows = [
            [
                str(b.ms), *(str(v) for v in (b.open, b.high, b.low, b.close, b.volume)), str(b.quote_volume), str(b.quote_volume),
                "1" if b.ts + LENGTH[interval] <= now else "0",
            ]
            for b in reversed(bars[-limit:])
        ]  # fmt: skip
        return Reply({"code": "0", "msg": "", "data": self.served(rows)})
