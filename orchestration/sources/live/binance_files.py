"""Binance's public archive: spot bars as one zip for each month or day, beside a file with its SHA-256.

In: a market and a moment. Out: the bars of the month or day around it as a batch of ``raw.ohlcv``, or None where the archive has no such
file. Never: unpacks to disk, believes a file whose checksum is wrong, or unpacks more than ``MAX_CSV_BYTES``.

Built from the README of github.com/binance/binance-public-data: months appear by the first Monday of the next one, days on the next day,
and times are in microseconds since 2025. Some files begin with a row of names, most do not.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from orchestration.sources.live.bars import DAY, bar_table
from orchestration.sources.live.config import Providers
from orchestration.sources.live.errors import (
    NotListed,
    ProviderRefused,
    ProviderUnavailable,
    ShapeChanged,
)
from orchestration.sources.live.rows import midnight
from orchestration.sources.live.transport import Policy, Transport

PROVIDER = "binance_files"
ADDRESS = "https://data.binance.vision"
POLICY = Policy(requests=10, per=1.0, json=False)
MONTH_PUBLISHED = timedelta(days=8)
DAY_PUBLISHED = timedelta(days=1)
"""How long after its end a file is asked for."""
MAX_CSV_BYTES = 64 * 2**20
"""Nine times a month of 1-minute bars."""
LOOK_AHEAD = 2
MOST_FAULTS = 3
"""After so many bad files the API is asked for all the rest."""
"""Files fetched while one is being stored."""
COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_NUMBERS = (
    "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume",
)  # fmt: skip
_LARGEST_MS = 100_000_000_000_000  # the year 5138 in milliseconds, March 1973 in microseconds
_MARKET_ID = re.compile(r"[A-Z0-9]{2,20}")
_CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)\s*")


@dataclass(frozen=True)
class Period:
    """A whole month or UTC day."""

    start: datetime
    end: datetime
    kind: str  # monthly or daily
    label: str  # 2023-01 or 2023-01-31


def period_of(moment: datetime, now: datetime) -> Period | None:
    """The month around ``moment``, or else the day, that the archive should have by ``now``."""
    day = midnight(moment)
    first = day.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    if following + MONTH_PUBLISHED <= now:
        return Period(first, following, "monthly", f"{first:%Y-%m}")
    if day + DAY + DAY_PUBLISHED <= now:
        return Period(day, day + DAY, "daily", f"{day:%Y-%m-%d}")
    return None


class BinanceFiles:
    """Bars of one market and interval from the archive, a little ahead of who asks. Close it when done."""

    def __init__(
        self, providers: Providers, market_id: str, symbol: str, interval: str, until: datetime
    ) -> None:
        self.transport: Transport = providers.transport(PROVIDER, POLICY)
        self.market_id, self.symbol, self.interval, self.until = market_id, symbol, interval, until
        self.notes: list[str] = []
        self._missing: list[str] = []
        self._given_up, self._faults = False, 0
        self._workers = ThreadPoolExecutor(LOOK_AHEAD + 1, thread_name_prefix=PROVIDER)
        self._asked: dict[Period, Future[pa.Table | None]] = {}

    def period(self, moment: datetime) -> Period | None:
        """What the archive should have around ``moment``; None where it is too early, or the archive does not answer."""
        if self._given_up or moment >= self.until or not _MARKET_ID.fullmatch(self.market_id):
            return None
        return period_of(moment, self.until)

    def read(self, period: Period) -> pa.Table | None:
        """Bars of ``period`` in order; None where the archive has no such file, or does not answer. A bad file is named in the notes."""
        for past in [asked for asked in self._asked if asked.end <= period.start]:
            self._asked.pop(past).cancel()
        wanted: Period | None = period
        for _ in range(LOOK_AHEAD + 1):
            if wanted is None:
                break
            if wanted not in self._asked:
                self._asked[wanted] = self._workers.submit(self._fetch, wanted)
            wanted = self.period(wanted.end)
        try:
            table = self._asked.pop(period).result()
        except (ProviderUnavailable, ProviderRefused) as error:
            self.notes.append(f"{error}; the API is asked for the rest")
            self._given_up = True
            return None
        except ShapeChanged as error:
            self.notes.append(f"{error}; the API is asked for it")
            self._faults += 1
            self._given_up = self._faults >= MOST_FAULTS
            return None
        if table is None:
            self._missing.append(self.name(period))
        return table

    def close(self) -> None:
        """Forget what was fetched ahead."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def all_notes(self) -> list[str]:
        """What a person should know of the files that were read."""
        if not self._missing:
            return self.notes
        first, count = self._missing[0], len(self._missing)
        more = f" and {count - 1} more" if count > 1 else ""
        return [*self.notes, f"not in the archive, asked of the API instead: {first}{more}"]

    def name(self, period: Period) -> str:
        """The file of ``period``: ``BTCUSDT-5m-2023-01.zip``."""
        return f"{self.market_id}-{self.interval}-{period.label}.zip"

    def path(self, period: Period) -> str:
        """Where it is on the archive's host."""
        return (
            f"/data/spot/{period.kind}/klines/{self.market_id}/{self.interval}/{self.name(period)}"
        )

    def _fetch(self, period: Period) -> pa.Table | None:
        body = self._download(self.path(period), self.name(period))
        return None if body is None else self._table(body, period)

    def _download(self, path: str, name: str) -> bytes | None:
        """The file, if its checksum is right; fetched twice before it is called wrong."""
        detail = ""
        for _ in range(2):
            try:
                line = self.transport.get_bytes(f"{ADDRESS}{path}.CHECKSUM")
                body = self.transport.get_bytes(f"{ADDRESS}{path}")
            except NotListed:
                return None
            stated = _CHECKSUM.fullmatch(line[:400].decode("ascii", "replace"))
            if stated is None or stated[2] != name:
                detail = f"{name}.CHECKSUM: expected a SHA-256 and {name!r}, got {line[:80]!r}"
                continue
            found = hashlib.sha256(body).hexdigest()
            if found == stated[1]:
                return body
            detail = f"{name}: SHA-256 is {found[:16]}..., its checksum file says {stated[1][:16]}..., twice"
        raise ShapeChanged(PROVIDER, path, detail)

    def _table(self, body: bytes, period: Period) -> pa.Table:
        name = self.name(period)
        text = unpacked(body, name.removesuffix(".zip") + ".csv", self.path(period))
        table = self._parsed(text, period)
        ts = table["open_time"]
        ts = pc.if_else(pc.greater(ts, _LARGEST_MS), ts, pc.multiply(ts, 1000))
        ts = ts.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        inside = pc.and_(
            pc.greater_equal(ts, pa.scalar(period.start, ts.type)),
            pc.less(ts, pa.scalar(period.end, ts.type)),
        )
        bars = bar_table(
            "binance",
            self.symbol,
            self.interval,
            ts,
            {column: table[column] for column in _NUMBERS},
        )
        kept = bars.filter(inside)
        if kept.num_rows < bars.num_rows:
            self.notes.append(
                f"{name}: {bars.num_rows - kept.num_rows} bars of another time left out, the first of {ts.filter(pc.invert(inside))[0]}"
            )
        return in_order(kept)

    def _parsed(self, text: bytes, period: Period) -> pa.Table:
        name, path = self.name(period), self.path(period)
        first = text[:4096].split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        fields = first.split(",") if first else []
        header = bool(fields) and not fields[0].isdigit()
        if header and fields[0] != COLUMNS[0]:
            raise ShapeChanged(
                PROVIDER, path, f"{name}: field {COLUMNS[0]}: expected, got {first[:80]!r}"
            )
        if fields and len(fields) < len(COLUMNS):
            raise ShapeChanged(
                PROVIDER,
                path,
                f"{name}: field {COLUMNS[len(fields)]}: missing, a row has {len(fields)} of {len(COLUMNS)} values",
            )
        names = [*COLUMNS, *(f"value {place + 1}" for place in range(len(COLUMNS), len(fields)))]
        for place in range(len(COLUMNS), len(fields)):
            self.transport.seen.unknown_fields.setdefault(
                f"{PROVIDER}: value {place + 1}", repr(fields[place])[:80]
            )
        try:
            table = csv.read_csv(
                pa.py_buffer(text),
                read_options=csv.ReadOptions(
                    column_names=names, skip_rows=int(header), use_threads=False, block_size=8 << 20
                ),
                convert_options=csv.ConvertOptions(
                    column_types={"open_time": pa.int64(), **dict.fromkeys(_NUMBERS, pa.float64())},
                    include_columns=["open_time", *_NUMBERS],
                ),
            )
        except pa.ArrowInvalid as error:
            if not text.strip():
                raise ShapeChanged(PROVIDER, path, f"{name}: no rows") from None
            raise ShapeChanged(PROVIDER, path, f"{name}: {str(error)[:200]}") from None
        if table["open_time"].null_count:
            raise ShapeChanged(PROVIDER, path, f"{name}: field open_time: a row without it")
        return table


def in_order(bars: pa.Table) -> pa.Table:
    """Bars by open time, one for each; the last one counts."""
    ts = bars["ts"].to_numpy().astype("int64")
    if (np.diff(ts) > 0).all():
        return bars
    order = np.argsort(ts, kind="stable")
    return bars.take(order[np.append(np.diff(ts[order]) > 0, True)])


def unpacked(body: bytes, member: str, path: str) -> bytes:
    """The one file of a zip. Raises ``ShapeChanged`` for another name, more files, a broken zip or one that unpacks to too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as packed:
            names = packed.namelist()
            if names != [member]:
                raise ShapeChanged(
                    PROVIDER,
                    path,
                    f"expected {member!r} alone in the zip, found {str(names)[:200]}",
                )
            with packed.open(member) as file:
                text = file.read(MAX_CSV_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
        raise ShapeChanged(PROVIDER, path, f"{member}: {type(error).__name__}: {error}") from None
    if len(text) > MAX_CSV_BYTES:
        raise ShapeChanged(
            PROVIDER, path, f"{member}: unpacks to more than {MAX_CSV_BYTES:,} bytes"
        )
    return text
