"""Faults in rows of every other modality, and in order books. Out: ``FAULTS``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf, nan

from tests.bad_data.corpus import (
    BookFault,
    Fault,
    LeftOut,
    Outcome,
    Quarantined,
    Row,
    RowFault,
    Stored,
)

SQL = "x'); DELETE FROM raw.headlines; --"
FORMULAS = (
    '=HYPERLINK("http://x","y")',
    "+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
)


def funding(at: datetime, series: str) -> Row:
    return {
        "venue": series,
        "symbol": "BTC/USDT:USDT",
        "ts": at,
        "rate": 1e-4,
        "interval_hours": 8.0,
    }


def open_interest(at: datetime, series: str) -> Row:
    return {"provider": series, "asset": "BTC", "contract": "BTCUSD", "ts": at,
            "open": 1e8, "high": 1.2e8, "low": 9e7, "close": 1.1e8}  # fmt: skip


def implied(at: datetime, series: str) -> Row:
    return {"venue": series, "index_name": "BTC-DVOL", "resolution": "1h", "ts": at,
            "open": 55.0, "high": 57.0, "low": 54.0, "close": 56.0}  # fmt: skip


def onchain(at: datetime, series: str) -> Row:
    return {
        "provider": f"{series}_2024-03-01",
        "asset": "BTC",
        "metric": "AdrActCnt",
        "ts": at,
        "value": 9e5,
    }


def sentiment(at: datetime, series: str) -> Row:
    return {"provider": series, "metric": "fear_greed", "ts": at, "value": 50.0, "label": "Neutral"}


def headline(at: datetime, series: str) -> Row:
    return {
        "publisher": series,
        "ts": at,
        "title": "Bitcoin holds its range",
        "url": f"https://x.example/{series}",
    }


KINDS: dict[str, tuple[str, Callable[[datetime, str], Row]]] = {
    "funding": ("funding/rates", funding),
    "open interest": ("open_interest/1d", open_interest),
    "implied volatility": ("implied_volatility/dvol", implied),
    "on-chain": ("onchain/metrics", onchain),
    "sentiment": ("sentiment/metrics", sentiment),
    "headlines": ("headlines/headlines", headline),
}


def one(kind: str, name: str, outcome: Outcome, **changed: object) -> RowFault:
    stem, sound = KINDS[kind]
    return RowFault(name, kind, outcome, stem, lambda at, s: [{**sound(at, s), **changed}])


def run(
    kind: str, name: str, outcome: Outcome, column: str, values: tuple[float, ...], hours: int
) -> RowFault:
    """Values one after the other in one series."""
    stem, sound = KINDS[kind]
    return RowFault(
        name, kind, outcome, stem,
        lambda at, s: [{**sound(at + n * timedelta(hours=hours), s), column: value} for n, value in enumerate(values)],
    )  # fmt: skip


FAULTS: list[Fault] = [
    one("funding", "a funding rate in percent", Quarantined("rate_in_range"), rate=0.09),
    run("funding", "a venue's whole feed in percent", Quarantined("venue_rate_is_decimal", 6), "rate", (0.01, 0.011, 0.012, 0.009, 0.01, 0.01), 8),
    one("funding", "NaN as funding rate", Quarantined("rate_is_complete"), rate=nan),
    one("funding", "infinity as funding rate", Quarantined("values_are_readable"), rate=-inf),
    one("funding", "an interval of zero hours", Quarantined("interval_hours_in_range"), interval_hours=0.0),
    one("funding", "an interval in minutes", Quarantined("interval_hours_in_range"), interval_hours=480.0),
    one("funding", "SQL as contract", Quarantined("names_are_plain"), symbol=f"BTC{SQL}"),
    one("open interest", "negative open interest", Quarantined("low_in_range"), low=-1.0),
    one("open interest", "open interest in cents of cents", Quarantined("close_in_range"), close=1.1e12, high=1.2e12),
    RowFault("open interest from dollars to coins", "open interest", Stored("nobody can say which is right", 2, "close_does_not_leap"), "open_interest/1d",
             lambda at, s: [{**open_interest(at + n * timedelta(days=1), s), "open": None, "high": None, "low": None, "close": close} for n, close in enumerate((1.1e8, 2.5e3))]),
    one("open interest", "infinity as open interest", Quarantined("values_are_readable"), close=inf),
    one("open interest", "SQL as provider", Quarantined("names_are_plain"), provider=SQL),
    one("implied volatility", "implied volatility as a fraction", Quarantined("close_in_range"), close=0.56, low=0.5),
    one("implied volatility", "implied volatility of 1000 percent", Quarantined("high_in_range"), high=1000.0),
    one("implied volatility", "a resolution that nobody reads", Quarantined("resolution_is_known"), resolution="7m"),
    one("implied volatility", "a resolution that is no length of time", LeftOut("rows left out: no ts"), resolution="soon"),
    one("on-chain", "a negative count", Quarantined("counts_are_not_negative"), value=-1.0),
    one("on-chain", "market over realised value of 1000", Quarantined("CapMVRVCur_in_range"), metric="CapMVRVCur", value=1000.0),
    one("on-chain", "NaN as a count", Quarantined("value_is_complete"), value=nan),
    run("on-chain", "fees from coins to satoshi", Stored("nobody can say which is right", 2, "value_does_not_leap"), "value", (9e5, 9e13), 24),
    one("on-chain", "an asset in Cyrillic look-alikes", Quarantined("names_are_plain"), asset="ВТС"),
    one("on-chain", "SQL as metric", Quarantined("names_are_plain"), metric=SQL),
    one("on-chain", "flows from nobody knows when", LeftOut("no way to tell when they were known"), metric="FlowInExUSD", provider="coinmetrics"),
    one("sentiment", "Fear & Greed of 101", Quarantined("fear_greed_in_range"), value=101.0),
    one("sentiment", "a negative number of posts", Quarantined("counts_are_not_negative"), metric="gdelt_article_count", value=-3.0),
    one("sentiment", "NaN as sentiment", Quarantined("value_is_complete"), value=nan),
    one("sentiment", "a formula as label", Stored("text, shown as text"), label=FORMULAS[0]),
    one("headlines", "mojibake", Stored("odd, not impossible", 1, "title_is_clean"), title="Deutsche BÃ¶rse lists bitcoin â€œfundâ€\x9d"),
    one("headlines", "HTML in a title", Stored("escaped wherever it is shown", 1, "title_is_clean"), title="<script>alert(1)</script> Bitcoin up"),
    one("headlines", "an empty title", Stored("left out of the tone", 1, "title_is_complete"), title=""),
    one("headlines", "no title", Stored("left out of the tone", 1, "title_is_complete"), title=None),
    one("headlines", "a title of a million characters", Quarantined("title_is_a_title"), title="bitcoin " * 125_000),
    one("headlines", "NUL bytes in a title", Stored("odd, not impossible", 1, "title_is_clean"), title="Bitcoin\0 up\0"),
    *(one("headlines", f"a formula as title: {text[0]}", Stored("text; behind an apostrophe in CSV"), title=text) for text in FORMULAS),
    one("headlines", "SQL as title", Stored("text, never part of a query"), title=f"Bitcoin {SQL}"),
    one("headlines", "SQL as address", Stored("text, never part of a query"), url=f"https://x.example/{SQL}"),
    one("headlines", "SQL as publisher", Stored("text, never part of a query"), publisher=SQL),
    one("headlines", "a script as address", Stored("never a link", 1, "url_is_a_web_address"), url="javascript:alert(1)"),
    one("headlines", "text written from right to left", Stored("text, shown as text"), title="Bitcoin \u202eemanoc pu\u202c rises"),
    one("headlines", "a headline from before there was a coin", Quarantined("ts_is_of_our_time"), ts=datetime.fromisoformat("2001-09-11T12:00:00+00:00")),
    BookFault("a book of brackets 100,000 deep", "order books", Quarantined("bids_are_levels"), "[" * 100_000),
    BookFault("a book that is no JSON", "order books", Quarantined("bids_are_levels"), "[[100.0,1.0]"),
    BookFault("a book of objects", "order books", Quarantined("bids_are_levels"), '{"100.0": 1.0}'),
    BookFault("NaN in a book", "order books", Quarantined("bids_are_levels"), "[[NaN,1.0]]"),
    BookFault("infinity in a book", "order books", Quarantined("bids_are_levels"), "[[1e999,1.0]]"),
    BookFault("a price of a million digits", "order books", Quarantined("bids_are_levels"), "[[" + "9" * 1_000_000 + ",1.0]]"),
    BookFault("a negative amount in a book", "order books", Quarantined("bids_are_levels"), "[[100.0,-1.0]]"),
    BookFault("an empty side", "order books", Quarantined("bids_are_levels"), "[]"),
    BookFault("a crossed book", "order books", Quarantined("book_is_not_crossed"), "[[102.0,1.0]]"),
    BookFault("a book in the wrong order", "order books", Quarantined("bids_fall"), "[[99.0,1.0],[100.0,1.0]]"),
]  # fmt: skip
