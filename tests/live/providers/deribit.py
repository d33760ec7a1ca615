"""Deribit v2, JSON-RPC over GET: instruments, funding, the volatility index.

Built from docs.deribit.com/api-reference/market-data: public-get_instruments, public-get_funding_rate_history,
public-get_funding_rate_value, public-get_volatility_index_data; errors from docs.deribit.com/articles/errors.

Funding is hourly, at most 744 rows, the newest before end_timestamp whatever the start (ccxt issues 24921, 25040); interest_8h is of the
eight hours up to the stamp. The index: at most 1,000 candles, the newest, stamped with their beginning, the running one among them;
``continuation`` is the end_timestamp to go on with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.live.providers.quirks import Quirks, ms
from tests.live.server import Reply, Request

ROWS = 744
HOUR = timedelta(hours=1)
Candle = tuple[float, float, float, float]


@dataclass
class Deribit:
    """``funding``: hour -> rate of that hour, by instrument. ``index``: (currency, resolution) -> beginning -> open, high, low, close."""

    now: datetime
    funding: dict[str, dict[datetime, float]] = field(default_factory=dict)
    index: dict[tuple[str, str], dict[datetime, Candle]] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    delisted: set[str] = field(default_factory=set)
    quirks: Quirks = field(default_factory=Quirks)
    points: int = 1000  # candles of one answer
    ends_belong: bool = True  # whether a candle at a bound of the stretch is given
    error: tuple[int, int, str] | None = None  # HTTP status, code and message of the next answers

    def __call__(self, request: Request) -> Reply:
        answers = {
            "/api/v2/public/get_instruments": self._instruments,
            "/api/v2/public/get_currencies": lambda _: [],
            "/api/v2/public/get_funding_rate_history": self._funding,
            "/api/v2/public/get_funding_rate_value": self._running,
            "/api/v2/public/get_volatility_index_data": self._index,
        }
        if self.error is not None:
            status, code, message = self.error
            error = {"code": code, "message": message, "data": {"reason": "wait"}}
            return Reply({"jsonrpc": "2.0", "error": error, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False}, status)  # fmt: skip
        if request.path not in answers:
            return Reply({"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}}, 400)  # fmt: skip
        return Reply(
            {
                "jsonrpc": "2.0",
                "result": answers[request.path](request.query),
                "usIn": 1,
                "usOut": 2,
                "usDiff": 1,
                "testnet": False,
            }
        )

    def _instruments(self, _: dict[str, str]) -> list[Any]:
        return [
            {
                "instrument_name": name,
                "kind": "future",
                "settlement_period": "perpetual",
                "base_currency": name.split("-")[0].split("_")[0],
                "quote_currency": "USDC" if "_USDC" in name else "USD",
                "counter_currency": "USDC" if "_USDC" in name else "USD",
                "settlement_currency": "USDC" if "_USDC" in name else name.split("-")[0],
                "is_active": name not in self.delisted,
                "tick_size": 0.5,
                "min_trade_amount": 10.0,
                "contract_size": 10.0,
                "maker_commission": 0.0,
                "taker_commission": 0.0005,
                "max_leverage": 50,
                "creation_timestamp": 1534167754000,
                "expiration_timestamp": 32503708800000,
            }
            for name in sorted({*self.funding, *self.running})
        ]

    def _funding(self, query: dict[str, str]) -> list[Any]:
        rates = self.funding.get(query["instrument_name"], {})
        end = int(query["end_timestamp"])
        rows = [
            {
                "timestamp": ms(ts),
                "index_price": 62690.1,
                "prev_index_price": 62711.5,
                "interest_8h": sum(rates.get(ts - back * HOUR, 0.0) for back in range(8)),
                "interest_1h": rate,
            }
            for ts, rate in sorted(rates.items())
            if ts <= self.now and ms(ts) <= end
        ]
        return self.quirks.rows(rows[-ROWS:])

    def _running(self, query: dict[str, str]) -> float:
        start, end = int(query["start_timestamp"]), int(query["end_timestamp"])
        if (start, end) != (ms(self.now - 8 * HOUR), ms(self.now)):
            raise AssertionError(f"asked for {start}..{end}, not for the eight hours before now")
        return self.running[query["instrument_name"]]

    def _index(self, query: dict[str, str]) -> Any:
        start, end = int(query["start_timestamp"]), int(query["end_timestamp"])
        bound = 0 if self.ends_belong else 1
        candles = [
            [ms(ts), *values]
            for ts, values in sorted(
                self.index.get((query["currency"], query["resolution"]), {}).items()
            )
            if ts <= self.now and start + bound <= ms(ts) <= end - bound
        ]
        newest = candles[-self.points :]
        more = len(candles) > len(newest)
        result = {
            "data": self.quirks.rows(newest),
            "continuation": newest[0][0] - 1 + bound if more else None,
        }
        return {name: value for name, value in result.items() if name != self.quirks.without}
