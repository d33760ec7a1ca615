"""Binance spot REST: ``/api/v3/exchangeInfo`` and ``/api/v3/klines``.

Built from rest-api.md and errors.md of github.com/binance/binance-spot-api-docs: 12 values a candle, numbers as text, the oldest ``limit``
(500 if not given, at most 1000) from ``startTime`` on; -1121 for a symbol that it does not know; a halted pair has status BREAK.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.live.providers.candles import LENGTH, Book, Candle
from tests.live.server import Reply, Request


@dataclass
class BinanceSpot(Book):
    """Register as ``binance``."""

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/v3/exchangeInfo":
            return Reply(self._markets())
        if request.path == "/api/v3/klines":
            return self._klines(request)
        return Reply(b"not found", 404)

    def _markets(self) -> dict[str, object]:
        return {
            "timezone": "UTC",
            "serverTime": int(self.clock().timestamp() * 1000),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [
                {
                    "symbol": f"{coin}USDT",
                    "status": "BREAK" if coin in self.delisted else "TRADING",
                    "baseAsset": coin,
                    "baseAssetPrecision": 8,
                    "quoteAsset": "USDT",
                    "quotePrecision": 8,
                    "quoteAssetPrecision": 8,
                    "orderTypes": ["LIMIT", "MARKET"],
                    "isSpotTradingAllowed": True,
                    "isMarginTradingAllowed": True,
                    "filters": [
                        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": "0.01"}
                    ],
                    "permissions": [],
                    "permissionSets": [["SPOT", "MARGIN"]],
                }
                for coin in self.coins
            ],
        }

    def _klines(self, request: Request) -> Reply:
        asked = request.query
        coin = asked["symbol"].removesuffix("USDT")
        if coin not in self.coins:
            return Reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        limit = min(int(asked.get("limit", 500)), 1000)
        since, until = int(asked.get("startTime", 0)), int(asked.get("endTime", 2**53))
        bars = [b for b in self.offered(coin, asked["interval"]) if since <= b.ms <= until]
        return Reply(self.served(kline(bar, asked["interval"]) for bar in bars[:limit]))


def kline(bar: Candle, interval: str, per_ms: int = 1) -> list[object]:
    """The 12 values of a candle; ``per_ms`` 1000 for microseconds."""
    end = bar.ms * per_ms + int(LENGTH[interval].total_seconds() * 1000) * per_ms - 1
    texts = [f"{v:.8f}" for v in (bar.open, bar.high, bar.low, bar.close, bar.volume)]
    quote, taken = f"{bar.quote_volume:.8f}", f"{bar.taker_buy_volume:.8f}"
    return [bar.ms * per_ms, *texts, end, quote, bar.trades, taken, "1.00000000", "0"]
