"""What providers may answer. Out: ``FAULTS``; ``body()`` is an answer, or its bytes part by part."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from tests.bad_data.corpus import AnswerFault, Outcome, Quarantined, Refused, Stored

NOON = datetime(2024, 6, 30, 12, tzinfo=UTC)
HOUR_MS = 1_719_784_800_000
"""2024-06-30 22:00 UTC."""
FORMULA = '=HYPERLINK("http://x")'


@dataclass(frozen=True)
class Said:
    """An answer; ``parts`` are sent one by one, chunked, until the reader hangs up."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    parts: Callable[[], Iterator[bytes]] | None = None


def of(
    provider: str, name: str, outcome: Outcome, said: Callable[[], Said] | bytes | object
) -> AnswerFault:
    if isinstance(said, bytes):
        content = said
        made: Callable[[], Said] = lambda: Said(content)  # noqa: E731
    elif callable(said):
        made = said
    else:
        made = lambda: Said(json.dumps(said).encode())  # noqa: E731
    return AnswerFault(name, f"answers: {provider}", outcome, provider, made)


def fear(day: str = "1719705600", **changed: object) -> dict[str, object]:
    reading = {"value": "50", "value_classification": "Neutral", "timestamp": day, **changed}
    return {"name": "Fear and Greed Index", "data": [reading], "metadata": {"error": None}}


def candle(**changed: object) -> list[list[object]]:
    names = (
        "ts",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "end",
        "quote",
        "trades",
        "buy",
        "buy_quote",
        "ignore",
    )
    sound: dict[str, object] = dict(
        zip(
            names,
            (
                HOUR_MS,
                "100",
                "102",
                "99",
                "101",
                "5",
                HOUR_MS + 3_599_999,
                "500",
                7,
                "2",
                "200",
                "0",
            ),
            strict=True,
        )
    )
    return [list({**sound, **changed}.values())]


def feed(title: str = "Bitcoin holds", prologue: str = "", date: str | None = None) -> bytes:
    stamp = date or format_datetime(NOON)
    return (
        f'<?xml version="1.0"?>{prologue}<rss version="2.0"><channel><title>D</title><item><title>{title}</title>'
        f"<guid>{abs(hash(title + prologue))}</guid><pubDate>{stamp}</pubDate></item></channel></rss>"
    ).encode()


def gzip_bomb(layers: int = 1) -> Callable[[], Said]:
    """Half a gigabyte of blanks in half a megabyte; of two layers in a kilobyte."""

    def made() -> Said:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        content = b"".join(packer.compress(b" " * 2**20) for _ in range(512)) + packer.flush()
        for _ in range(layers - 1):
            content = gzip.compress(content)
        return Said(content, headers={"Content-Encoding": ", ".join(["gzip"] * layers)})

    return made


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 2**16


def drip() -> Iterator[bytes]:
    """A byte now and then, for ever: never a time-out between two of them."""
    while True:
        yield b" "
        time.sleep(0.05)


LAUGHS = (
    "<!DOCTYPE r [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>"
)
FG, RSS, BARS = "alternative.me", "rss", "binance"

FAULTS = [
    of(FG, "an empty answer", Refused("not JSON: .empty."), b""),
    of(FG, "half of an answer", Refused("not JSON"), json.dumps(fear()).encode()[:60]),
    of(FG, "a page where JSON belongs", Refused("not JSON: '<!DOCTYPE html>"), b"<!DOCTYPE html><html></html>"),
    of(FG, "JSON 100,000 deep", Refused("not JSON"), b"[" * 100_000 + b"]" * 100_000),
    of(FG, "a number of a million digits", Refused("not JSON|field"), b'{"data": ' + b"9" * 1_000_000 + b"}"),
    of(FG, "bytes that are no text", Refused("not JSON"), bytes(range(256)) * 8),
    of(FG, "an object where a list belongs", Refused("field data: Input should be a valid list"), {**fear(), "data": {"0": 1}}),
    of(FG, "a field that is missing", Refused("field data.0.value: Field required"), {**fear(), "data": [{"timestamp": "1719705600", "value_classification": "x"}]}),
    of(FG, "text where a number belongs", Refused("field data.0.value: .*got 'high'"), fear(value="high")),
    of(FG, "milliseconds where seconds belong", Refused("field data.0.timestamp: .*expected seconds since 1970"), fear("1719705600000")),
    of(FG, "the year 1970 from a provider", Refused("field data.0.timestamp: .*expected seconds since 1970"), fear("86400")),
    of(FG, "NaN from a provider", Quarantined("value_is_complete"), fear("1719532800", value="NaN")),
    of(FG, "infinity from a provider", Quarantined("values_are_readable"), fear("1719446400", value="1e999")),
    of(FG, "a value beyond its scale", Quarantined("fear_greed_in_range"), fear("1719360000", value="7300")),
    of(FG, "a formula as a provider's label", Stored("text, shown as text"), fear("1719273600", value_classification=FORMULA)),
    of(FG, "a redirect of a JSON interface to a file", Refused("302"), lambda: Said(b"{}", 302, {"Location": "file:///etc/passwd"})),
    of(FG, "a gzip bomb of half a gigabyte", Refused("more than 67,108,864 bytes"), gzip_bomb()),
    of(FG, "a gzip bomb within a gzip bomb", Refused("more than 67,108,864 bytes"), gzip_bomb(2)),
    of(FG, "gzip that is none", Refused("ContentDecodingError"), lambda: Said(b"{}", headers={"Content-Encoding": "gzip"})),
    of(FG, "an answer that never ends", Refused("more than 67,108,864 bytes"), lambda: Said(parts=endless)),
    of(FG, "an answer that drips for ever", Refused("not finished after"), lambda: Said(parts=drip)),
    of(RSS, "a billion laughs", Refused("defines XML entities"), feed("&a9;", LAUGHS)),
    of(RSS, "an entity that is a file", Refused("defines XML entities"), feed("&x;", '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>')),
    of(RSS, "a feed that is a path", Refused("not a feed"), b"/etc/passwd"),
    of(RSS, "a redirect of a feed to a file", Refused("redirects to .*: not followed"), lambda: Said(b"", 302, {"Location": "file:///etc/passwd"})),
    of(RSS, "a redirect of a feed into the own network", Refused("redirects to '169.254.169.254.*: not followed"), lambda: Said(b"", 302, {"Location": "http://169.254.169.254/"})),
    of(RSS, "a feed of 100 MB", Refused("more than 4,194,304 bytes"), b"<rss>" + b" " * 100_000_000),
    of(RSS, "a feed cut off", Refused("cut off before its end"), feed()[:-20]),
    of(RSS, "a feed of zeros", Refused("not text"), bytes(1000)),
    of(RSS, "HTML in a feed's title", Stored("its words without the markup"), feed("&lt;b onload=x&gt;Ether up&lt;/b&gt;")),
    of(RSS, "a formula as a feed's title", Stored("text; behind an apostrophe in CSV"), feed("=cmd|x!A0")),
    of(RSS, "a title of a million characters in a feed", Stored("its first 300 characters"), feed("long " * 200_000)),
    of(BARS, "a candle of text", Refused("ccxt cannot read|field"), candle(close="much")),
    of(BARS, "a candle without a close", Refused("field close: expected a number"), candle(close=None)),
    of(BARS, "a candle of infinity", Refused("field high: expected a number, got inf"), candle(high="1e999")),
    of(BARS, "a candle too short", Refused("missing, the candle has 8 of 12 values"), [candle()[0][:8]]),
    of(BARS, "a candle of microseconds", Refused("field ts: expected milliseconds since 1970, got 1719784800000000"), candle(ts=HOUR_MS * 1000)),
    of(BARS, "a candle of seconds", Refused("BTC is listed, but has no bar since 2024-06-20"), candle(ts=HOUR_MS // 1000)),
    of(BARS, "an object where candles belong", Refused("expected a list|ccxt cannot read"), {"candles": []}),
    of(BARS, "a candle of a negative price", Quarantined("close_in_range"), candle(close="-101", low="-102")),
    of(BARS, "a candle with high under low", Quarantined("high_covers_open_and_close"), candle(ts=HOUR_MS - 3_600_000, high="98")),
]  # fmt: skip
