"""Binance's public archive: ``/data/spot/{monthly,daily}/klines/<market>/<interval>/<name>.zip`` and ``.zip.CHECKSUM``.

Built from the README of github.com/binance/binance-public-data: one CSV in each zip, the columns of ``/api/v3/klines``, no header in most
files, microseconds from 2025 on, days on the next day, months by the first Monday of the next; 404 with XML for what is not there.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.live.providers.binance_spot import kline
from tests.live.providers.candles import Book
from tests.live.server import Reply, Request

_PATH = re.compile(
    r"/data/spot/(monthly|daily)/klines/(\w+)/(\w+)/(\w+-\w+-([\d-]+))\.zip(\.CHECKSUM)?"
)
_MISSING = b"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>NoSuchKey</Code></Error>"
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)


@dataclass
class BinanceFiles(Book):
    """Register as ``binance_files``. Files are named as in their URL, without ``.zip``."""

    header: bool = False
    microseconds: bool = False
    missing: set[str] = field(default_factory=set)
    wrong_checksum: dict[str, int] = field(default_factory=dict)
    """How often the checksum of a file is wrong."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """Zips to serve instead, with a right checksum."""
    checksums: dict[str, bytes] = field(default_factory=dict)
    """Checksum files to serve instead."""

    def __call__(self, request: Request) -> Reply:
        found = _PATH.fullmatch(request.path)
        if found is None:
            return _missing()
        kind, market, interval, name, label, checksum = found.groups()
        body = self.bodies.get(name) or self._zip(kind, market, interval, name, label)
        if body is None or name in self.missing:
            return _missing()
        if not checksum:
            return Reply(body, headers={"Content-Type": "application/zip"})
        if name in self.checksums:
            return Reply(self.checksums[name])
        digest = hashlib.sha256(body).hexdigest()
        if self.wrong_checksum.get(name, 0) > 0:
            self.wrong_checksum[name] -= 1
            digest = hashlib.sha256(b"another file").hexdigest()
        return Reply(f"{digest}  {name}.zip\n".encode(), headers={"Content-Type": "text/plain"})

    def _zip(self, kind: str, market: str, interval: str, name: str, label: str) -> bytes | None:
        start = datetime.strptime(f"{label}-01"[:10], "%Y-%m-%d").replace(tzinfo=UTC)
        end = start + timedelta(days=1)
        published = end
        if kind == "monthly":
            end = (start + timedelta(days=32)).replace(day=1)
            published = end + timedelta(days=(-end.weekday()) % 7)
        bars = [
            bar
            for bar in self.bars.get((market.removesuffix("USDT"), interval), [])
            if start <= bar.ts < end
        ]
        if not bars or published > self.clock():
            return None
        rows = self.served(kline(bar, interval, 1000 if self.microseconds else 1) for bar in bars)
        lines = [HEADER] if self.header else []
        lines += [",".join(str(value) for value in row) for row in rows]
        return zipped({f"{name}.csv": ("\n".join(lines) + "\n").encode()})


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip with these files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return packed.getvalue()


def _missing() -> Reply:
    return Reply(_MISSING, 404, {"Content-Type": "application/xml"})
