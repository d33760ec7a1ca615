"""OKX v5 perpetual swaps over REST: instruments, funding, open interest.

Built from www.okx.com/docs-v5/en: Get instruments, Get funding rate, Get funding rate history, Get contract open interest history; the
periods of the last one from the tests of github.com/okxapi/python-okx.

Funding history: the last three months, newest first, at most 100; ``after`` gives rows earlier than it, ``before`` newer ones. Open
interest: newest first, at most 100; ``begin`` and ``end`` do not belong to the stretch; the value of a period is its last one, of the
running period the present one; days begin at 16:00 UTC, with the period 1Dutc at 00:00 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.live.providers.quirks import Quirks, ms, whole
from tests.live.server import Reply, Request

QUARTER = timedelta(days=92)
DAYS = timedelta(days=100)


@dataclass
class OkxSwap:
    """``funding``: settlement time -> rate, by the venue's instrument. ``open_interest``: day -> (contracts, coins, USD)."""

    now: datetime
    funding: dict[str, dict[datetime, str]] = field(default_factory=dict)
    open_interest: dict[str, dict[datetime, tuple[str, str, str]]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    hours: int = 8
    delisted: set[str] = field(default_factory=set)
    quirks: Quirks = field(default_factory=Quirks)

    def __call__(self, request: Request) -> Reply:
        answers = {
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/public/funding-rate-history": self._funding,
            "/api/v5/public/funding-rate": self._running,
            "/api/v5/rubik/stat/contracts/open-interest-history": self._open_interest,
        }
        if request.path not in answers:
            return Reply({"code": "404", "msg": f"no path {request.path}", "data": []}, 404)
        return Reply({"code": "0", "msg": "", "data": answers[request.path](request.query)})

    def _instruments(self, query: dict[str, str]) -> list[Any]:
        names = sorted({*self.funding, *self.open_interest, *self.running})
        return [
            {
                "instType": "SWAP",
                "instId": name,
                "uly": name.removesuffix("-SWAP"),
                "settleCcy": "USDT",
                "baseCcy": "",
                "quoteCcy": "",
                "ctVal": "0.01",
                "ctMult": "1",
                "ctValCcy": name.split("-")[0],
                "ctType": "linear",
                "lever": "100",
                "listTime": "1573557408000",
                "expTime": "",
                "tickSz": "0.1",
                "lotSz": "1",
                "minSz": "1",
                "state": "suspend" if name in self.delisted else "live",
                "ruleType": "normal",
            }
            for name in (names if query["instType"] == "SWAP" else [])
        ]

    def _funding(self, query: dict[str, str]) -> list[Any]:
        after, before = whole(query, "after", ms(self.now) + 1), whole(query, "before", 0)
        rows = [
            {
                "instType": "SWAP",
                "instId": query["instId"],
                "formulaType": "withRate",
                "method": "current_period",
                "fundingRate": "0.0009",
                "realizedRate": rate,
                "fundingTime": str(ms(ts)),
            }
            for ts, rate in sorted(self.funding.get(query["instId"], {}).items(), reverse=True)
            if self.now - QUARTER <= ts <= self.now and before < ms(ts) < after
        ]
        return self.quirks.rows(rows[: min(whole(query, "limit", 100), 100)])

    def _running(self, query: dict[str, str]) -> list[Any]:
        settles = self.now.replace(hour=8, minute=0)
        rows = [
            {
                "instType": "SWAP",
                "instId": name,
                "method": "current_period",
                "fundingRate": rate,
                "nextFundingRate": "",
                "fundingTime": str(ms(settles)),
                "nextFundingTime": str(ms(settles + timedelta(hours=self.hours))),
                "ts": str(ms(self.now)),
            }
            for name, rate in sorted(self.running.items())
            if query["instId"] in ("ANY", name)
        ]
        return self.quirks.rows(rows)

    def _open_interest(self, query: dict[str, str]) -> list[Any]:
        shift = timedelta(0) if query.get("period") == "1Dutc" else timedelta(hours=-8)
        begin, end = whole(query, "begin", 0), whole(query, "end", ms(self.now) + 1)
        rows = [
            [str(ms(day + shift)), *values]
            for day, values in sorted(
                self.open_interest.get(query["instId"], {}).items(), reverse=True
            )
            if self.now - DAYS <= day + shift <= self.now and begin < ms(day + shift) < end
        ]
        return self.quirks.rows(rows[: min(whole(query, "limit", 100), 100)])
