"""Kraken REST: ``/0/public/AssetPairs`` and ``/0/public/OHLC``.

Built from docs.kraken.com/api-reference/market-data/get-ohlc-data: at most the newest 720 bars whatever ``since`` says, times in seconds, 8
values a candle (vwap before volume, a count last), the last one goes on; Bitcoin is XBT, pairs carry X and Z; errors come with status 200.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.live.providers.candles import Book
from tests.live.server import Reply, Request

INTERVALS = {"1": "1m", "5": "5m", "60": "1h", "1440": "1d"}
NAMES = {"BTC": "XBT", "DOGE": "XDG"}


@dataclass
class KrakenSpot(Book):
    """Register as ``kraken``. ``result_key`` replaces the pair's name in the answer."""

    result_key: str | None = None

    def __call__(self, request: Request) -> Reply:
        if request.path == "/0/public/AssetPairs":
            return Reply({"error": [], "result": self._pairs()})
        if request.path == "/0/public/OHLC":
            return self._ohlc(request)
        return Reply({"error": ["EGeneral:Unknown method"]}, 404)

    def _pairs(self) -> dict[str, object]:
        return {
            f"{NAMES.get(coin, coin)}USDT": {
                "altname": f"{NAMES.get(coin, coin)}USDT", "wsname": f"{NAMES.get(coin, coin)}/USDT", "aclass_base": "currency",
                "base": f"X{NAMES[coin]}" if coin in NAMES else coin, "aclass_quote": "currency", "quote": "USDT", "lot": "unit",
                "pair_decimals": 1, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [2, 3], "leverage_sell": [2, 3],
                "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]], "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40,
                "ordermin": "0.00005", "costmin": "0.5", "tick_size": "0.1",
                "status": "cancel_only" if coin in self.delisted else "online",
            }
            for coin in self.coins
        }  # fmt: skip

    def _ohlc(self, request: Request) -> Reply:
        asked = request.query
        pair = asked["pair"]
        names = {NAMES.get(coin, coin): coin for coin in self.coins}
        coin = names.get(pair.removesuffix("USDT"))
        if coin is None:
            return Reply({"error": ["EQuery:Unknown asset pair"]})
        bars = self.offered(coin, INTERVALS[asked["interval"]])[-720:]
        since = int(asked.get("since", 0))
        rows = [
            [
                b.ms // 1000, *(str(v) for v in (b.open, b.high, b.low, b.close)), str(b.quote_volume / b.volume), str(b.volume), b.trades,
            ]
            for b in bars
            if b.ms // 1000 > since or b is bars[-1]
        ]  # fmt: skip
        last = bars[-1].ms // 1000 if bars else 0
        return Reply(
            {"error": [], "result": {self.result_key or pair: self.served(rows), "last": last}}
        )
