"""Bybit v5 linear perpetuals over REST: instruments, funding, tickers, open interest, mark prices.

Built from bybit-exchange.github.io/docs/v5/market: instrument, history-fund-rate, tickers, open-interest, mark-kline; and from what
ccxt pull request 30016 measured of open-interest.

Everything is given newest first. Funding: startTime alone is an error; of more rows than ``limit`` (at most 200) the newest. Open
interest: ends at endTime, a startTime alone counts for nothing; the value is the sum of both sides in coins, stamped with its moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.live.providers.quirks import Quirks, ms, whole
from tests.live.server import Reply, Request


@dataclass
class BybitLinear:
    """``funding``: settlement time -> rate, by the venue's symbol. ``open_interest``: moment -> coins. ``marks``: day -> closing mark price."""

    now: datetime
    funding: dict[str, dict[datetime, str]] = field(default_factory=dict)
    open_interest: dict[str, dict[datetime, str]] = field(default_factory=dict)
    marks: dict[str, dict[datetime, str]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    hours: int = 8
    delisted: set[str] = field(default_factory=set)
    quirks: Quirks = field(default_factory=Quirks)
    without_list: bool = False

    def __call__(self, request: Request) -> Reply:
        answers = {
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/funding/history": self._funding,
            "/v5/market/tickers": self._tickers,
            "/v5/market/open-interest": self._open_interest,
            "/v5/market/mark-price-kline": self._mark_prices,
        }
        if request.path not in answers:
            return Reply({"retCode": 404, "retMsg": f"no path {request.path}"}, 404)
        return answers[request.path](request.query)

    def _result(self, query: dict[str, str], rows: list[Any], **more: Any) -> Reply:
        result = {"category": query["category"], "list": rows, **more}
        if self.without_list:
            result["rows"] = result.pop("list")
        return Reply(
            {
                "retCode": 0,
                "retMsg": "OK",
                "result": result,
                "retExtInfo": {},
                "time": ms(self.now),
            }
        )

    def _error(self, code: int, text: str) -> Reply:
        return Reply(
            {
                "retCode": code,
                "retMsg": text,
                "result": {},
                "retExtInfo": {},
                "time": ms(self.now),
            }
        )

    def _instruments(self, query: dict[str, str]) -> Reply:
        names = sorted({*self.funding, *self.open_interest, *self.running})
        linear = query["category"] == "linear" and "status" not in query
        rows = [
            {
                "symbol": name,
                "contractType": "LinearPerpetual",
                "status": "Closed" if name in self.delisted else "Trading",
                "baseCoin": name.removesuffix("USDT"),
                "quoteCoin": "USDT",
                "settleCoin": "USDT",
                "launchTime": "1585526400000",
                "deliveryTime": "0",
                "fundingInterval": 60 * self.hours,
                "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
                "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
                "lotSizeFilter": {"maxOrderQty": "1190", "minOrderQty": "0.001", "qtyStep": "0.001"},
            }
            for name in (names if linear else [])
        ]  # fmt: skip
        listed = self.without_list
        self.without_list = False
        reply = self._result(query, rows, nextPageCursor="")
        self.without_list = listed
        return reply

    def _funding(self, query: dict[str, str]) -> Reply:
        if "startTime" in query and "endTime" not in query:
            return self._error(10001, "endTime is required with startTime")
        start, end = whole(query, "startTime", 0), whole(query, "endTime", ms(self.now))
        limit = min(whole(query, "limit", 200), 200)
        rows = [
            {"symbol": query["symbol"], "fundingRate": rate, "fundingRateTimestamp": str(ms(ts))}
            for ts, rate in sorted(self.funding.get(query["symbol"], {}).items(), reverse=True)
            if ts <= self.now and start <= ms(ts) <= end
        ]
        return self._result(query, self.quirks.rows(rows[:limit]))

    def _tickers(self, query: dict[str, str]) -> Reply:
        rows = [
            {
                "symbol": name,
                "markPrice": "62690.10",
                "indexPrice": "62711.55",
                "openInterest": "54000.1",
                "fundingRate": rate,
                "nextFundingTime": str(ms(self.now.replace(hour=8, minute=0))),
            }
            for name, rate in sorted(self.running.items())
            if query.get("symbol", name) == name
        ]
        return self._result(query, self.quirks.rows(rows))

    def _open_interest(self, query: dict[str, str]) -> Reply:
        end = whole(query, "endTime", ms(self.now))
        start = whole(query, "startTime", 0) if "endTime" in query else 0
        limit = min(whole(query, "limit", 50), 200)
        if query["intervalTime"] != "1d":
            return self._error(10001, "only days are held here")
        rows = [
            {"openInterest": coins, "timestamp": str(ms(moment))}
            for moment, coins in sorted(
                self.open_interest.get(query["symbol"], {}).items(), reverse=True
            )
            if moment <= self.now and start <= ms(moment) <= end
        ]
        return self._result(
            query, self.quirks.rows(rows[:limit]), symbol=query["symbol"], nextPageCursor=""
        )

    def _mark_prices(self, query: dict[str, str]) -> Reply:
        start, end = whole(query, "start", 0), whole(query, "end", ms(self.now))
        limit = min(whole(query, "limit", 200), 1000)
        rows = [
            [str(ms(day)), "60000", "70000", "50000", close]
            for day, close in sorted(self.marks.get(query["symbol"], {}).items(), reverse=True)
            if start <= ms(day) <= end
        ]
        return self._result(query, rows[:limit], symbol=query["symbol"])
