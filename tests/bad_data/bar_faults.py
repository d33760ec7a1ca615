"""Faults in single bars. Out: ``FAULTS``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import inf, nan

from tests.bad_data.corpus import LeftOut, Outcome, Quarantined, Row, RowFault, Stored

HOUR = timedelta(hours=1)
SQL = "'; DROP TABLE raw.ohlcv; --"


def bar(at: datetime, series: str, **changed: object) -> Row:
    """A sound bar of a venue of the fault's own."""
    row: Row = {
        "venue": series,
        "symbol": "BTC/USDT",
        "ts": at,
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": 101.0,
        "volume": 5.0,
        "quote_volume": 500.0,
    }
    return {**row, **changed}


def one(name: str, outcome: Outcome, **changed: object) -> RowFault:
    return RowFault(name, "bars", outcome, "ohlcv/1h", lambda at, s: [bar(at, s, **changed)])


def several(name: str, outcome: Outcome, make: object) -> RowFault:
    return RowFault(name, "bars", outcome, "ohlcv/1h", make)  # type: ignore[arg-type]


def prices(*closes: float) -> object:
    """Bars one after the other, each opening where the one before closed; high and low are the body's."""

    def make(at: datetime, series: str) -> Sequence[Row]:
        opened, rows = closes[0], []
        for count, close in enumerate(closes):
            top, bottom = max(opened, close), min(opened, close)
            step = (
                dict.fromkeys(("open", "high", "low", "close"), close)
                if top > 8 * bottom
                else {"open": opened, "high": top * 1.001, "low": bottom * 0.999, "close": close}
            )
            rows.append(bar(at + count * HOUR, series, **step))
            opened = close
        return rows

    return make


CRASH = (
    7940.0,
    7670.0,
    7350.0,
    7220.0,
    6180.0,
    5780.0,
    5990.0,
    5600.0,
    4810.0,
    4050.0,
    5010.0,
    5260.0,
)
"""Hours of the shape of 2020-03-12: half of the price in half a day."""


def at_once(name: str, outcome: Outcome, closes: Sequence[float]) -> RowFault:
    """The same moment at several venues."""
    return several(
        name,
        outcome,
        lambda at, s: [
            bar(at, f"{s}{n}", open=c, high=c * 1.01, low=c * 0.99, close=c)
            for n, c in enumerate(closes)
        ],
    )


FAULTS = [
    # numbers that are none
    one("NaN as close", Quarantined("close_is_complete"), close=nan),
    one("infinity as high", Quarantined("values_are_readable"), high=inf),
    one("minus infinity as low", Quarantined("values_are_readable"), low=-inf),
    one("NaN as volume", Quarantined("volume_is_complete"), volume=nan),
    one("infinity as volume", Quarantined("values_are_readable"), volume=inf),
    one("NaN as quote volume", Stored("NULL in its place, which no sort takes for the largest"), quote_volume=nan),
    # prices and volumes that cannot be
    one("price of zero", Quarantined("low_in_range"), low=0.0),
    one("negative price", Quarantined("close_in_range"), close=-101.0, low=-102.0),
    one("high under low", Quarantined("high_covers_open_and_close"), high=98.0),
    one("close above the bar", Quarantined("high_covers_open_and_close"), close=103.0),
    one("open below the bar", Quarantined("low_covers_open_and_close"), open=98.0),
    one("negative volume", Quarantined("volume_in_range"), volume=-5.0),
    one("negative quote volume", Quarantined("quote_volume_in_range"), quote_volume=-5.0),
    # copies
    several("the same bar twice", Stored("once", 1), lambda at, s: [bar(at, s), bar(at, s)]),
    several("two bars for one hour", Quarantined("rows_are_unique", 2), lambda at, s: [bar(at, s), bar(at, s, close=100.5)]),
    several("three bars for one hour, two of them equal", Quarantined("rows_are_unique", 2),
            lambda at, s: [bar(at, s), bar(at, s, close=100.5), bar(at, s)]),
    several("bars in reverse order", Stored("order in the file says nothing", 3), lambda at, s: list(reversed(prices(100.0, 101.0, 102.0)(at, s)))),  # type: ignore[operator]
    # moves
    several("a 10x spike that reverts", Quarantined("no_fat_finger", 1, 2), prices(100.0, 1000.0, 101.0)),
    several("a drop to a tenth that reverts", Quarantined("no_fat_finger", 1, 2), prices(100.0, 10.0, 101.0)),
    one("a 10x wick inside a bar", Quarantined("no_fat_finger"), high=1020.0),
    one("a wick to a tenth inside a bar", Quarantined("no_fat_finger"), low=9.0),
    several("a 10x move that stays", Stored("perhaps real", 4, "no_unconfirmed_leap"), prices(100.0, 101.0, 1010.0, 1015.0)),
    several("a crash like 2020-03-12", Stored("real", len(CRASH)), prices(*CRASH)),
    at_once("one venue of three stands apart", Quarantined("no_venue_far_from_the_others", 1, 2), (100.0, 100.5, 140.0)),
    at_once("one venue of two stands apart", Stored("nobody can say which is right", 2, "closes_agree_across_venues"), (100.0, 110.0)),
    # times
    one("a stamp in seconds read as milliseconds", Quarantined("ts_is_of_our_time"), ts=datetime(1970, 1, 20, 17, 6, tzinfo=UTC)),
    one("the first microsecond of 1970", Quarantined("ts_is_of_our_time"), ts=datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
    one("the year 1", Quarantined("ts_is_of_our_time"), ts=datetime(1, 1, 2, tzinfo=UTC)),
    one("the year 9999", LeftOut(r"rows left out: known after the present"), ts=datetime(9999, 12, 30, tzinfo=UTC)),
    one("a stamp of years from now", LeftOut(r"rows left out: known after the present"), ts=datetime(2090, 1, 1, tzinfo=UTC)),
    one("no stamp", LeftOut(r"rows left out: no ts"), ts=None),
    several("the hour that comes twice when summer time ends, local time taken as UTC", Quarantined("rows_are_unique", 2, 1),
            lambda at, s: [bar(at, s), bar(at, s, close=100.5), bar(at + HOUR, s)]),
    several("a bar known before it closed", Quarantined("bar_is_closed_when_known"), lambda at, s: [bar(at, s, known_at=at + HOUR / 2)]),
    several("a bar known before it opened", Quarantined("known_at_not_before_ts"), lambda at, s: [bar(at, s, known_at=at - HOUR)]),
    # names
    one("a pair against the euro", LeftOut("rows left out: of no coin against the dollar"), symbol="BTC/EUR"),
    one("a pair against another coin", LeftOut("rows left out: of no coin against the dollar"), symbol="BTC/ETH"),
    one("a pair the wrong way round", LeftOut("rows left out: of no coin against the dollar"), symbol="USDT/BTC"),
    one("a ticker in Cyrillic look-alikes", Quarantined("symbol_is_a_dollar_pair"), symbol="ВТС/USDT"),
    one("a ticker with full-width letters", Quarantined("symbol_is_a_dollar_pair"), symbol="ＢＴＣ/USDT"),
    one("a ticker with an invisible character", Quarantined("names_are_plain"), symbol="BTC\u200b/USDT"),
    one("a ticker in small letters", Quarantined("symbol_is_a_dollar_pair"), symbol="btc/usdt"),
    one("SQL as symbol", Quarantined("names_are_plain"), symbol=f"BTC{SQL}/USDT"),
    one("SQL as venue", Quarantined("names_are_plain"), venue=f"binance{SQL}"),
    one("a formula as venue", Quarantined("names_are_plain"), venue="=HYPERLINK(\"http://x\")"),
    one("a NUL byte in a symbol", Quarantined("names_are_plain"), symbol="BTC\0/USDT"),
    one("a symbol of 4000 characters", Quarantined("names_are_plain"), symbol="B" * 4000 + "/USDT"),
    one("no symbol", Quarantined("symbol_is_complete"), symbol=None),
    one("an empty venue", Quarantined("venue_is_complete"), venue=""),
]  # fmt: skip
