"""What differs between the open-interest histories of venues.

In: nothing but code. Out: ``Rules`` by ccxt id and the documented shape of each venue's answer. Never asks anyone.

Venues stamp a day in two ways. Binance and Bybit give a snapshot: the value of D 00:00 ends day D-1. OKX gives a period: the value of D is
the last one of day D. Of a venue that we have not read about, a stamp is taken for the beginning of a period, which is never too early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from orchestration.sources.live.history import Cut
from orchestration.sources.live.rows import Answer

DAY_MS = 86_400_000


class BinanceOpenInterest(Answer):
    symbol: str
    sumOpenInterest: float
    sumOpenInterestValue: float
    timestamp: int
    CMCCirculatingSupply: float | None = None


class BybitOpenInterest(Answer):
    openInterest: float
    timestamp: int
    singleOpenInterest: float | None = None


class BybitOpenInterests(Answer):
    rows: list[BybitOpenInterest] = Field(alias="list")
    symbol: str | None = None
    category: str | None = None
    nextPageCursor: str | None = None


class BybitAnswer(Answer):
    result: BybitOpenInterests
    retCode: int
    retMsg: str | None = None
    retExtInfo: Any = None
    time: int | None = None


class BybitCandles(Answer):
    rows: list[Annotated[list[float], Field(min_length=5)]] = Field(alias="list")
    symbol: str | None = None
    category: str | None = None


class BybitMarkAnswer(Answer):
    result: BybitCandles
    retCode: int
    retMsg: str | None = None
    retExtInfo: Any = None
    time: int | None = None


class OkxAnswer(Answer):
    code: str
    data: list[Annotated[list[float], Field(min_length=4)]]
    msg: str | None = None


@dataclass(frozen=True)
class Rules:
    """How a venue is asked and what its stamps mean; the defaults are for venues that we have not read about."""

    answer: Any = None
    limit: int | None = None
    window_ms: int | None = 30 * DAY_MS
    cut: Cut = "either"
    snapshot: bool = False  # the stamp is the moment of the value, not the beginning of its day
    keeps: timedelta | None = None
    earlier_refused: bool = False  # a request that begins before ``keeps`` is an error
    by_end: bool = False  # the venue is paged from its newest row back, without a beginning
    priced_by: Any = None  # the shape of its mark prices, where it counts in coins
    params: Mapping[str, Any] = field(default_factory=dict)


_BINANCE = Rules(
    list[BinanceOpenInterest],
    limit=500,
    window_ms=None,
    cut="newer",
    snapshot=True,
    keeps=timedelta(days=30),
    earlier_refused=True,
)
RULES: dict[str, Rules] = {
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
    "bybit": Rules(
        BybitAnswer,
        limit=200,
        window_ms=200 * DAY_MS,
        cut="older",
        snapshot=True,
        priced_by=BybitMarkAnswer,
    ),
    "okx": Rules(
        OkxAnswer,
        limit=100,
        window_ms=None,
        cut="older",
        by_end=True,
        keeps=timedelta(days=100),
        params={"period": "1Dutc"},
    ),
}
UNKNOWN = Rules()
