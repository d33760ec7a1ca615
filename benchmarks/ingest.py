"""Years of 5-minute bars into the warehouse, killed on the way, against ccxt's paged `fetch_ohlcv` from the same server.

In: a seeded market, told by a server in a process of its own in the formats of Binance's archive files, `/api/v3/exchangeInfo` and
`/api/v3/klines`. Out: rows a second, memory and size of `volcast ingest --table ohlcv`, which is killed with SIGKILL at random moments and
started again, and whether the table then holds every offered bar once. Never leaves 127.0.0.1.

The peer only fetches: it stores nothing, checks nothing and cannot be killed. Our calls keep their own rate limit, the peer has none.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psutil

Tables = list[tuple[str, list[str], list[list[Any]]]]
COINS = (
    "BTC", "ETH", "BNB", "XRP", "SOL", "ADA", "DOGE", "TRX", "LTC", "LINK", "DOT", "AVAX", "BCH", "XLM", "ATOM", "ETC", "FIL", "UNI",
    "NEAR", "ALGO",
)  # fmt: skip
BAR = timedelta(minutes=5)
BAR_MS = 300_000
LEVEL = b"#"
"""Stands for a coin's number in front of its prices, so that one text serves every coin and no coin's bars pass for another's."""
LEVEL_CENTS = 100_000_000  # a level is a million dollars
MICROSECONDS_FROM = datetime(2025, 1, 1, tzinfo=UTC)
"""Since then the archive's times are in microseconds."""


@dataclass(frozen=True, eq=False)
class Market:
    """The bars of every coin less its level; prices in cents, volumes in hundred-thousandths of a coin."""

    first: datetime
    numbers: np.ndarray  # (T, 7): open, high, low, close, volume, trades, taker's volume

    def lines(self, start: int, stop: int, per_ms: int = 1) -> Iterator[bytes]:
        """The bars ``start`` to ``stop`` as the API writes them, with ``LEVEL`` for the coin; ``per_ms`` 1000 for microseconds."""
        first = int(self.first.timestamp() * 1000)
        for place, row in enumerate(self.numbers[start:stop].tolist(), start):
            *_, close, volume, trades, taken = row
            ms = first + place * BAR_MS
            prices = ",".join(f'"#{p // 100:06d}.{p % 100:02d}000000"' for p in row[:4])
            yield (
                f'[{ms * per_ms},{prices},"{volume / 1e5:.8f}",{(ms + BAR_MS) * per_ms - 1},"{volume * close / 1e7:.8f}",'
                f'{trades},"{taken / 1e5:.8f}","{taken * close / 1e7:.8f}","0"]'
            ).encode()

    @lru_cache(maxsize=256)  # noqa: B019 - one market lives as long as the server
    def day(self, number: int) -> list[bytes]:
        """The bars of one day of the API, made once."""
        return list(self.lines(288 * number, 288 * (number + 1)))

    def place(self, moment: datetime) -> int:
        return round((moment - self.first) / BAR)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--years", type=float, default=5)
    parser.add_argument("--coins", type=int, default=20, help=f"at most {len(COINS)}")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--peer-days", type=int, default=60)
    parser.add_argument("--latency", type=float, default=0, help="ms before every answer")
    parser.add_argument("--seed", type=int, default=7)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    if not 1 <= options.coins <= len(COINS):
        raise SystemExit(f"--coins {options.coins}: expected 1 to {len(COINS)}")
    coins = COINS[: options.coins]
    market = random_market(options.years, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        files, home = Path(temporary) / "files", Path(temporary) / "home"
        archived = write_archive(market, coins, files)
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        served = context.Value("q", 0)
        server = context.Process(
            target=serve, args=(market, coins, files, options.latency / 1000, served, theirs)
        )
        server.start()
        theirs.close()
        try:
            url = f"http://127.0.0.1:{mine.recv()}"
            moments = random.Random(options.seed)
            kills = sorted(
                int(archived * moments.uniform(0.02, 0.98)) for _ in range(options.kills)
            )
            starts, peak, processor = [], 0.0, _processor_seconds()
            for kill_after in [*kills, None]:
                seconds, used = _ingest(
                    _environment(market, coins, home, url), served, kill_after, moments
                )
                starts.append(seconds)
                peak = max(peak, used)
            processor, fetched = _processor_seconds() - processor, served.value
            peer = [_peer(url, market, options.peer_days, limited) for limited in (False, True)]
        finally:
            mine.close()
            server.join()
        found = _stored(market, coins, home)
        size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 2**20
    wall = sum(starts)
    offered = len(coins) * len(market.numbers)
    figures: dict[str, Any] = {
        "coins": len(coins),
        "years": options.years,
        "latency_ms": options.latency,
        "rows_offered": offered,
        **found,
        "starts_seconds": starts,
        "wall_seconds": wall,
        "processor_seconds": processor,
        "load_average": os.getloadavg()[1],
        "rows_per_second": found["rows"] / wall,
        "peak_megabytes": peak,
        "home_megabytes": size,
        "archive_files": archived,
        "archive_files_served": fetched,
        "paged_rows_per_second": peer[0],
        "paged_rate_limited_rows_per_second": peer[1],
        "ratio_paged": found["rows"] / wall / peer[0],
        "ratio_paged_rate_limited": found["rows"] / wall / peer[1],
    }
    return figures, [_summary(figures), _comparison(figures, options.peer_days)]


def _summary(figures: dict[str, Any]) -> tuple[str, list[str], list[list[Any]]]:
    starts = figures["starts_seconds"]
    rows = [
        ["bars offered", f"{figures['rows_offered']:,}"],
        ["bars stored", f"{figures['rows']:,}"],
        ["every offered bar, once, with its close", figures["exact"]],
        ["quarantined", figures["quarantined"]],
        ["streams not read to the end", figures["stale"]],
        [f"wall of {len(starts)} starts, s", figures["wall_seconds"]],
        ["each start, s", ", ".join(f"{seconds:.1f}" for seconds in starts)],
        ["processor time of all starts, s", figures["processor_seconds"]],
        ["load of the machine, 5 minutes", figures["load_average"]],
        ["rows a second", f"{figures['rows_per_second']:,.0f}"],
        ["archive files there / fetched", f"{figures['archive_files']} / {figures['archive_files_served']}"],
        ["peak memory of its processes, MiB", figures["peak_megabytes"]],
        ["home on disk, MiB", figures["home_megabytes"]],
    ]  # fmt: skip
    title = f"ingest of {figures['coins']} coins, {figures['years']:g} years of 5m bars, killed {len(starts) - 1} times"
    return title, ["figure", "value"], rows


def _comparison(figures: dict[str, Any], days: int) -> tuple[str, list[str], list[list[Any]]]:
    rows = [
        ["volcast, fetched, checked and stored", f"{figures['rows_per_second']:,.0f}", 1.0],
        ["ccxt, no rate limit, fetched only", f"{figures['paged_rows_per_second']:,.0f}", figures["ratio_paged"]],
        ["ccxt, its rate limit, fetched only", f"{figures['paged_rate_limited_rows_per_second']:,.0f}", figures["ratio_paged_rate_limited"]],
    ]  # fmt: skip
    title = f"against paged fetch_ohlcv of one coin's {days} days, {figures['latency_ms']:g} ms before every answer"
    return title, ["", "rows a second", "ratio"], rows


# -- the market ----------------------------------------------------------------------------------------------------


def random_market(years: float, seed: int) -> Market:
    """A random walk from midnight so many years ago to the last whole 5 minutes."""
    now = datetime.now(UTC)
    end = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0)
    first = (end - timedelta(days=365.25 * years)).replace(hour=0, minute=0)
    count = round((end - first) / BAR)
    generator = np.random.default_rng(seed)
    walk = np.exp(np.cumsum(generator.normal(0, 0.0008, count + 1)))
    price = np.clip(np.rint(3_000_000 * walk), 100, LEVEL_CENTS - 1e6).astype(np.int64)
    opened, close = price[:-1], price[1:]
    high = np.maximum(opened, close) + generator.integers(0, 500, count)
    low = np.minimum(opened, close) - generator.integers(0, 50, count)
    volume = generator.integers(1, 9_000_000, count)
    trades = generator.integers(1, 3000, count)
    return Market(first, np.column_stack([opened, high, low, close, volume, trades, volume // 3]))


def write_archive(market: Market, coins: tuple[str, ...], folder: Path) -> int:
    """Every whole month, and the days of the last ones, as zips with checksums; returns how many the ingest will want."""
    from orchestration.sources.live.binance_files import period_of

    folder.mkdir()
    now, moment, count = datetime.now(UTC), market.first, 0
    while (period := period_of(moment, now)) is not None:
        per_ms = 1000 if period.start >= MICROSECONDS_FROM else 1
        start, stop = max(0, market.place(period.start)), market.place(period.end)
        text = b"\n".join(market.lines(start, stop, per_ms)).translate(None, b'[]"') + b"\n"
        for level, coin in enumerate(coins, 1):
            name = f"{coin}USDT-5m-{period.label}"
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr(f"{name}.csv", text.replace(LEVEL, b"%d" % level))
            (folder / f"{name}.zip").write_bytes(packed.getvalue())
            digest = hashlib.sha256(packed.getvalue()).hexdigest()
            (folder / f"{name}.zip.CHECKSUM").write_text(f"{digest}  {name}.zip\n")
            count += 1
        moment = period.end
    return count


# -- the server ----------------------------------------------------------------------------------------------------


def serve(
    market: Market, coins: tuple[str, ...], files: Path, latency: float, served: Any, ready: Any
) -> None:
    """Answer until the other end of ``ready``, which is sent the port, is closed; ``served`` counts the zips."""
    path_of_file = re.compile(
        r"/binance_files/data/spot/(?:monthly|daily)/klines/\w+/5m/([\w-]+\.zip(?:\.CHECKSUM)?)"
    )
    symbols = ",".join(_listed(coin) for coin in coins)
    listed = (
        f'{{"timezone":"UTC","serverTime":0,"rateLimits":[],"exchangeFilters":[],"symbols":[{symbols}]}}'
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(latency)
            parts = urlsplit(self.path)
            file = path_of_file.fullmatch(parts.path)
            if file:
                path = files / file[1]
                if not path.exists():
                    return self._send(b"<Error><Code>NoSuchKey</Code></Error>", 404)
                if path.suffix == ".zip":
                    with served.get_lock():
                        served.value += 1
                return self._send(path.read_bytes())
            if parts.path == "/binance/api/v3/exchangeInfo":
                return self._send(listed)
            if parts.path == "/binance/api/v3/klines":
                asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                return self._send(_klines(market, coins, asked))
            return self._send(b"not found", 404)

        def _send(self, body: bytes, status: int = 200) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    ready.send(http.server_address[1])
    with contextlib.suppress(EOFError):  # the benchmark has ended, however it did
        ready.recv()


def _listed(coin: str) -> str:
    return (
        f'{{"symbol":"{coin}USDT","status":"TRADING","baseAsset":"{coin}","baseAssetPrecision":8,"quoteAsset":"USDT","quotePrecision":8,'
        '"quoteAssetPrecision":8,"orderTypes":["LIMIT","MARKET"],"isSpotTradingAllowed":true,"isMarginTradingAllowed":true,'
        '"filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01","tickSize":"0.01"}],"permissions":[],"permissionSets":[["SPOT"]]}'
    )


def _klines(market: Market, coins: tuple[str, ...], asked: dict[str, str]) -> bytes:
    """The oldest ``limit`` bars from ``startTime`` on; no bars of other lengths."""
    if asked["interval"] != "5m":
        return b"[]"
    first = int(market.first.timestamp() * 1000)
    start = max(0, -((first - int(asked["startTime"])) // BAR_MS))
    stop = min(
        start + min(int(asked.get("limit", 500)), 1000),
        len(market.numbers),
        (int(asked.get("endTime", 2**53)) - first) // BAR_MS + 1,
    )
    found = [
        line for number in range(start // 288, stop // 288 + 1) for line in market.day(number)
    ][start % 288 : start % 288 + max(0, stop - start)]
    level = coins.index(asked["symbol"].removesuffix("USDT")) + 1
    return b"[" + b",".join(found).replace(LEVEL, b"%d" % level) + b"]"


# -- the two readers -----------------------------------------------------------------------------------------------


def _environment(market: Market, coins: tuple[str, ...], home: Path, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOLCAST_")}
    return {
        **kept,
        "VOLCAST_HOME": str(home),
        "VOLCAST_SOURCE": "live",
        "VOLCAST_BASE_URLS": f"*={url}",
        "VOLCAST_PRICE_VENUES": "binance",
        "VOLCAST_LIVE_BARS": "5m",
        "VOLCAST_LIVE_START": market.first.date().isoformat(),
        "VOLCAST_ASSETS": ",".join(coins),
        "NO_PROXY": "*",
    }


def _ingest(
    environment: dict[str, str], served: Any, kill_after: int | None, moments: random.Random
) -> tuple[float, float]:
    """One start: wall seconds and peak MiB of its processes. Killed up to a second after the server gave ``kill_after`` zips in all."""
    command = [sys.executable, "-m", "orchestration.cli", "ingest", "--table", "ohlcv"]
    started, peak, deadline = time.monotonic(), 0.0, None
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            members = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in members) / 2**20)
        except psutil.Error:
            continue
        if kill_after is not None and deadline is None and served.value >= kill_after:
            deadline = time.monotonic() + moments.uniform(0, 1)
        if deadline is not None and time.monotonic() >= deadline:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.1)
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return time.monotonic() - started, peak


def _processor_seconds() -> float:
    """What the child processes that have ended used, in all."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peer(url: str, market: Market, days: int, limited: bool) -> float:
    """Rows a second of ccxt's fetch_ohlcv over the last ``days``, page after page; the median of five passes after a first one."""
    import ccxt

    exchange = ccxt.binance(
        {"enableRateLimit": limited, "options": {"fetchMarkets": {"types": ["spot"]}}}
    )
    exchange.has["fetchCurrencies"] = False
    exchange.session.trust_env = False
    exchange.urls["api"] = {
        name: f"{url}/binance{urlsplit(address).path}"
        for name, address in exchange.urls["api"].items()
    }
    exchange.load_markets()
    rates = []
    for _ in range(6):
        rows = list[list[float]]()
        since = int(market.first.timestamp() * 1000) + BAR_MS * max(
            0, len(market.numbers) - 288 * days
        )
        started = time.perf_counter()
        while page := exchange.fetch_ohlcv("BTC/USDT", "5m", since, 1000):
            rows += page
            since = int(page[-1][0]) + BAR_MS
        rates.append(len(rows) / (time.perf_counter() - started))
        expected = min(len(market.numbers), 288 * days)
        if len(rows) != expected:
            raise SystemExit(f"the peer read {len(rows)} rows: expected {expected}")
    return float(np.median(rates[1:]))


def _stored(market: Market, coins: tuple[str, ...], home: Path) -> dict[str, Any]:
    """What the warehouse holds, coin by coin, against the market."""
    from orchestration.settings import Settings
    from orchestration.warehouse import Warehouse

    settings = Settings.from_env({"VOLCAST_HOME": str(home)})
    with Warehouse(settings).read() as connection:
        found = connection.execute(
            "SELECT symbol, count(*), count(DISTINCT (venue, symbol, interval, ts)), sum(CAST(round(close * 100) AS HUGEINT)), min(ts), max(ts) "
            "FROM raw.ohlcv GROUP BY symbol"
        ).fetchall()
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM quarantine.rows), (SELECT count(*) FROM raw.streams WHERE status <> 'ok'), "
            "(SELECT count(*) FROM raw.batches)"
        ).fetchone()
    bars, closes = len(market.numbers), int(market.numbers[:, 3].sum())
    last = market.first + (bars - 1) * BAR
    expected = {
        (f"{coin}/USDT", bars, bars, closes + level * LEVEL_CENTS * bars, market.first, last)
        for level, coin in enumerate(coins, 1)
    }
    quarantined, stale, batches = counts or (0, 0, 0)
    return {
        "rows": sum(row[1] for row in found),
        "distinct_keys": sum(row[2] for row in found),
        "exact": set(found) == expected and len(found) == len(coins),
        "quarantined": quarantined,
        "stale": stale,
        "batches": batches,
    }
