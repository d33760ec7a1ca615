"""Binance USD-M futures over REST: exchange information, funding, open interest.

Built from developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api: Exchange-Information, Mark-Price,
Get-Funding-Rate-History, Get-Funding-Rate-Info, Open-Interest-Statistics; error codes from the page error-code.

Funding is given oldest first: of more rows than ``limit`` (100, at most 1000) those after startTime; without both times the newest 200.
Open interest has the latest 30 days; a start before that is error -1130.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.live.providers.quirks import Quirks, ms, whole
from tests.live.server import Reply, Request

FOREVER = 4133404800000
MONTH = timedelta(days=30)


@dataclass
class BinanceFutures:
    """``funding``: settlement time -> rate, by the venue's symbol. ``open_interest``: moment -> (coins, USD)."""

    now: datetime
    funding: dict[str, dict[datetime, str]] = field(default_factory=dict)
    open_interest: dict[str, dict[datetime, tuple[str, str]]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    hours: dict[str, int] = field(default_factory=dict)  # what fundingInfo lists
    delisted: set[str] = field(default_factory=set)
    quirks: Quirks = field(default_factory=Quirks)
    late: int = 4  # ms by which stamps of settlements are late
    page: int = 1000  # the venue's own limit

    def __call__(self, request: Request) -> Reply:
        answers = {
            "/fapi/v1/exchangeInfo": self._exchange_info,
            "/fapi/v1/fundingRate": self._funding_rate,
            "/fapi/v1/premiumIndex": self._premium_index,
            "/fapi/v1/fundingInfo": self._funding_info,
            "/futures/data/openInterestHist": self._open_interest,
        }
        if request.path not in answers:
            return Reply({"code": -1, "msg": f"no path {request.path}"}, 404)
        return answers[request.path](request.query)

    def _exchange_info(self, _: dict[str, str]) -> Reply:
        names = sorted({*self.funding, *self.open_interest, *self.running})
        return Reply(
            {
                "timezone": "UTC",
                "serverTime": ms(self.now),
                "symbols": [
                    {
                        "symbol": name,
                        "pair": name,
                        "contractType": "PERPETUAL",
                        "deliveryDate": FOREVER,
                        "onboardDate": 1569398400000,
                        "status": "SETTLING" if name in self.delisted else "TRADING",
                        "baseAsset": name.removesuffix("USDT"),
                        "quoteAsset": "USDT",
                        "marginAsset": "USDT",
                        "pricePrecision": 2,
                        "quantityPrecision": 3,
                        "filters": [
                            {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "9999999", "tickSize": "0.1"},
                            {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
                        ],
                    }
                    for name in names
                ],
            }
        )  # fmt: skip

    def _funding_rate(self, query: dict[str, str]) -> Reply:
        symbol = query["symbol"]
        rows = [
            {
                "symbol": symbol,
                "fundingTime": ms(ts) + self.late,
                "fundingRate": rate,
                "markPrice": "" if ts.year < 2024 else "62000.10000000",
            }
            for ts, rate in sorted(self.funding.get(symbol, {}).items())
            if ts <= self.now
        ]
        if "startTime" not in query and "endTime" not in query:
            return Reply(self.quirks.rows(rows[-200:]))
        start, end = whole(query, "startTime", 0), whole(query, "endTime", ms(self.now))
        limit = min(whole(query, "limit", 100), self.page)
        chosen = [row for row in rows if start <= int(str(row["fundingTime"])) <= end]
        return Reply(self.quirks.rows(chosen[:limit]))

    def _premium_index(self, query: dict[str, str]) -> Reply:
        rows = [self._premium(name, rate) for name, rate in sorted(self.running.items())]
        if "symbol" in query:
            return Reply(next(row for row in rows if row["symbol"] == query["symbol"]))
        return Reply(self.quirks.rows(rows))

    def _premium(self, name: str, rate: str) -> dict[str, Any]:
        return {
            "symbol": name,
            "markPrice": "62690.10000000",
            "indexPrice": "62711.55000000",
            "estimatedSettlePrice": "62700.00000000",
            "lastFundingRate": rate,
            "interestRate": "0.00010000",
            "nextFundingTime": ms(self.now.replace(hour=8, minute=0)),
            "time": ms(self.now),
        }

    def _funding_info(self, _: dict[str, str]) -> Reply:
        return Reply(
            [
                {
                    "symbol": name,
                    "adjustedFundingRateCap": "0.02000000",
                    "adjustedFundingRateFloor": "-0.02000000",
                    "fundingIntervalHours": hours,
                    "disclaimer": False,
                }
                for name, hours in self.hours.items()
            ]
        )

    def _open_interest(self, query: dict[str, str]) -> Reply:
        start = whole(query, "startTime", ms(self.now - MONTH))
        if start < ms(self.now - MONTH):
            return Reply({"code": -1130, "msg": "parameter 'startTime' is invalid."}, 400)
        end, limit = whole(query, "endTime", ms(self.now)), min(whole(query, "limit", 30), 500)
        symbol = query["symbol"]
        rows = [
            {
                "symbol": symbol,
                "sumOpenInterest": coins,
                "sumOpenInterestValue": usd,
                "timestamp": ms(moment),
            }
            for moment, (coins, usd) in sorted(self.open_interest.get(symbol, {}).items())
            if moment <= self.now and start <= ms(moment) <= end
        ]
        return Reply(self.quirks.rows(rows[:limit]))
