"""What differs between the funding histories of venues, and how long a rate counts for.

In: nothing but code. Out: ``FundingRules`` by ccxt id, the documented shape of each venue's answer, ``interval_hours``. Never asks anyone.

A rate is paid at its settlement for the interval that ends there. Most venues do not say how long that was, so it is the time since the
settlement before; see ``interval_hours`` for holes and for venues that change it (8 h to 4 h or 1 h in volatile weeks, and back).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from orchestration.sources.live.history import Cut, Part
from orchestration.sources.live.rows import Answer, from_ms

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HALF_MINUTE = timedelta(seconds=30)
"""A stamp that is off by less belongs to the same minute."""
INTERVALS = (1.0, 2.0, 4.0, 8.0)
USUAL_HOURS = 8.0


class BinanceSettled(Answer):
    symbol: str
    fundingTime: int
    fundingRate: float
    markPrice: str | None = None


class BybitSettled(Answer):
    symbol: str
    fundingRate: float
    fundingRateTimestamp: int


class BybitResult(Answer):
    category: str
    rows: list[BybitSettled] = Field(alias="list")


class BybitAnswer(Answer):
    retCode: int
    retMsg: str
    result: BybitResult
    retExtInfo: Any = None
    time: int | None = None


class OkxSettled(Answer):
    instId: str
    fundingTime: int
    realizedRate: float
    fundingRate: float
    instType: str | None = None
    method: str | None = None
    formulaType: str | None = None


class OkxAnswer(Answer):
    code: str
    data: list[OkxSettled]
    msg: str | None = None


class DeribitSettled(Answer):
    timestamp: int
    interest_1h: float
    interest_8h: float
    index_price: float
    prev_index_price: float


class DeribitAnswer(Answer):
    result: list[DeribitSettled]
    jsonrpc: str | None = None
    id: Any = None
    usIn: int | None = None
    usOut: int | None = None
    usDiff: int | None = None
    testnet: bool | None = None


class HyperliquidSettled(Answer):
    coin: str
    fundingRate: float
    time: int
    premium: float | None = None


@dataclass(frozen=True)
class FundingRules:
    """How a venue's history is asked for; the defaults are for venues whose paging we have not read about."""

    answer: Any = None  # the shape of its answer
    limit: int | None = None  # rows asked for at once
    window_ms: int | None = 30 * DAY_MS
    cut: Cut = "either"
    by_end: str | None = (
        None  # the parameter that gives what is before it, where that is how one pages
    )
    hours: float | None = None  # the interval, where it never changes
    rate: str = ""  # the field of the venue's own row that is the rate, where ccxt takes another
    keeps: timedelta | None = None  # how far back it goes
    spacing_ms: int = HOUR_MS
    current_hours: float | None = (
        None  # the interval of a running rate about which the venue is silent
    )
    known: bool = field(default=True)


_BINANCE = FundingRules(
    list[BinanceSettled], limit=1000, window_ms=None, cut="newer", current_hours=USUAL_HOURS
)
RULES: dict[str, FundingRules] = {
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
    "bybit": FundingRules(BybitAnswer, limit=200, window_ms=200 * 8 * HOUR_MS, cut="older"),
    "okx": FundingRules(
        OkxAnswer,
        limit=100,
        window_ms=None,
        cut="older",
        by_end="after",
        keeps=timedelta(days=92),
    ),
    "deribit": FundingRules(
        DeribitAnswer, hours=1.0, rate="interest_1h"
    ),  # at most 744 rows, the newest
    "hyperliquid": FundingRules(list[HyperliquidSettled], window_ms=None, hours=1.0),
    "dydx": FundingRules(hours=1.0),
}
UNKNOWN = FundingRules(known=False)


@dataclass(frozen=True)
class Settlement:
    """A settled rate; ``ms`` is the venue's stamp, often some milliseconds late."""

    ms: int
    rate: float

    @property
    def ts(self) -> datetime:
        """The minute of the settlement."""
        return from_ms(round(self.ms / 60_000) * 60_000)


@dataclass(frozen=True)
class Rate:
    """A settled rate and the hours that it was paid for."""

    ts: datetime
    rate: float
    hours: float


def interval_hours(
    before: Rate | None, ts: datetime, after: datetime | None, usual: float = USUAL_HOURS
) -> float:
    """Hours between the settlement at ``ts`` and the one before it.

    A distance longer than the interval so far is a new interval if the next settlement is as far again, and a hole if it is nearer; at the
    newest settlement nobody can tell yet, and the distance counts. One that is no interval (16 h) is a hole.
    """
    ahead = None if after is None else _hours(after - ts)
    if before is None:
        return ahead if ahead in INTERVALS else usual
    behind = _hours(ts - before.ts)
    if behind not in INTERVALS:
        return before.hours
    if behind > before.hours and ahead is not None and ahead < behind:
        return before.hours
    return behind


def with_intervals(
    parts: Iterable[Part[Settlement]], hours: float | None
) -> Iterator[tuple[list[Rate], datetime]]:
    """Rates with their interval, and the time up to which every settlement is in these or earlier ones.

    The newest settlement is held back until the one after it is known.
    """
    before: Rate | None = None
    waiting: list[Settlement] = []
    until = None
    for part in parts:
        waiting = _one_a_minute([*waiting, *part.entries])
        waiting = [one for one in waiting if before is None or one.ts > before.ts]
        ready: list[Rate] = []
        while len(waiting) > 1:
            first = waiting.pop(0)
            before = _rate(before, first, waiting[0].ts, hours)
            ready.append(before)
        until = from_ms(part.until) - HALF_MINUTE
        yield ready, until if not waiting else min(until, waiting[0].ts - timedelta(microseconds=1))
    if waiting and until is not None:
        yield [_rate(before, waiting[0], None, hours)], until


def _rate(
    before: Rate | None, settled: Settlement, after: datetime | None, hours: float | None
) -> Rate:
    found = hours or interval_hours(before, settled.ts, after)
    return Rate(settled.ts, settled.rate, found)


def _one_a_minute(entries: list[Settlement]) -> list[Settlement]:
    unique = {entry.ts: entry for entry in entries}
    return [unique[ts] for ts in sorted(unique)]


def _hours(distance: timedelta) -> float | None:
    hours = distance / timedelta(hours=1)
    return float(round(hours)) if abs(hours - round(hours)) <= 0.1 else None
