"""Order books of Binance spot and OKX spot over REST.

Built from developers.binance.com/docs/binance-spot-api-docs/rest-api: Exchange information, Order book; and from www.okx.com/docs-v5/en:
Get instruments, Get order book. Binance gives no time with a book, OKX does; Binance takes at most 5000 levels, OKX 400.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.live.providers.quirks import ms
from tests.live.server import Reply, Request

Levels = Sequence[tuple[str, str]]


@dataclass
class BinanceBooks:
    """``books``: bids and asks by the venue's symbol."""

    books: dict[str, tuple[Levels, Levels]]
    delisted: set[str] = field(default_factory=set)
    without: str | None = None

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/v3/exchangeInfo":
            return Reply(
                {"timezone": "UTC", "symbols": [self._symbol(name) for name in self.books]}
            )
        if request.path != "/api/v3/depth":
            return Reply({"code": -1, "msg": f"no path {request.path}"}, 404)
        levels = int(request.query["limit"])
        if not 1 <= levels <= 5000:
            return Reply(
                {"code": -1100, "msg": "Illegal characters found in parameter 'limit'"}, 400
            )
        bids, asks = self.books[request.query["symbol"]]
        book = {"lastUpdateId": 1027024, "bids": list(bids)[:levels], "asks": list(asks)[:levels]}
        return Reply({name: value for name, value in book.items() if name != self.without})

    def _symbol(self, name: str) -> dict[str, Any]:
        return {
            "symbol": name,
            "status": "BREAK" if name in self.delisted else "TRADING",
            "baseAsset": name.removesuffix("USDT"),
            "quoteAsset": "USDT",
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "filters": [],
        }


@dataclass
class OkxBooks:
    """``books``: bids and asks by the venue's instrument; ``stamp``: when they were so."""

    books: dict[str, tuple[Levels, Levels]]
    stamp: datetime

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/v5/public/instruments":
            names = self.books if request.query["instType"] == "SPOT" else ()
            return self._reply([self._instrument(name) for name in names])
        if request.path != "/api/v5/market/books":
            return Reply({"code": "404", "msg": f"no path {request.path}", "data": []}, 404)
        levels = int(request.query["sz"])
        bids, asks = self.books[request.query["instId"]]
        return self._reply(
            [
                {
                    "bids": [[*level, "0", "2"] for level in bids[:levels]],
                    "asks": [[*level, "0", "1"] for level in asks[:levels]],
                    "ts": str(ms(self.stamp)),
                }
            ]
        )

    def _reply(self, data: list[Any]) -> Reply:
        return Reply({"code": "0", "msg": "", "data": data})

    def _instrument(self, name: str) -> dict[str, Any]:
        return {
            "instType": "SPOT",
            "instId": name,
            "baseCcy": name.split("-")[0],
            "quoteCcy": name.split("-")[1],
            "settleCcy": "",
            "uly": "",
            "lever": "10",
            "listTime": "1548133413000",
            "tickSz": "0.1",
            "lotSz": "0.00000001",
            "minSz": "0.00001",
            "state": "live",
        }
