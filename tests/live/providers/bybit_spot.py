"""Bybit v5: ``/v5/market/instruments-info`` and ``/v5/market/kline``.

Built from bybit-exchange.github.io/docs/v5/market/kline: 7 texts a candle, the last the turnover in the quote coin; newest first; at most
1000, 200 if not given; retCode 10001 for a symbol that it does not know. With ``start`` alone the page begins there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.live.providers.candles import Book
from tests.live.server import Reply, Request

INTERVALS = {"1": "1m", "5": "5m", "60": "1h", "D": "1d"}


@dataclass
class BybitSpot(Book):
    """Register as ``bybit``."""

    def __call__(self, request: Request) -> Reply:
        if request.path == "/v5/market/instruments-info":
            return self._reply({"category": "spot", "list": self._instruments()})
        if request.path == "/v5/market/kline":
            return self._klines(request)
        return Reply(b"404", 404)

    def _reply(self, result: object, code: int = 0, message: str = "OK") -> Reply:
        now = int(self.clock().timestamp() * 1000)
        return Reply(
            {
                "retCode": code,
                "retMsg": message,
                "result": result,
                "retExtInfo": {},
                "time": now,
            }
        )

    def _instruments(self) -> list[object]:
        return [
            {
                "symbol": f"{coin}USDT", "baseCoin": coin, "quoteCoin": "USDT", "innovation": "0",
                "status": "Closed" if coin in self.delisted else "Trading", "marginTrading": "both",
                "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.00000001", "minOrderQty": "0.00004"},
                "priceFilter": {"tickSize": "0.01"},
            }
            for coin in self.coins
        ]  # fmt: skip

    def _klines(self, request: Request) -> Reply:
        asked = request.query
        coin = asked["symbol"].removesuffix("USDT")
        if asked["category"] != "spot" or coin not in self.coins:
            return self._reply({}, 10001, "params error: Symbol Is Invalid")
        since, until = int(asked.get("start", 0)), int(asked.get("end", 2**53))
        limit = min(int(asked.get("limit", 200)), 1000)
        bars = [
            b for b in self.offered(coin, INTERVALS[asked["interval"]]) if since <= b.ms <= until
        ]
        page = bars[:limit] if "start" in asked else bars[-limit:]
        rows = [
            [str(v) for v in (b.ms, b.open, b.high, b.low, b.close, b.volume, b.quote_volume)]
            for b in reversed(page)
        ]
        result = {"symbol": asked["symbol"], "category": "spot", "list": self.served(rows)}
        return self._reply(result)
