"""A backfill that is killed at random moments, over a bad network, and started again: every bar is stored, once."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import Home
from tests.live.providers.binance_files import BinanceFiles
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.providers.candles import Candle, candles
from tests.live.server import Handler, ProviderServer, Reply, Request, storm
from tests.live.world import address

HOUR = timedelta(hours=1)
COINS = ("BTC", "ETH")
STORED = (
    "symbol", "ts", "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "known_at", "venue",
    "interval", "source",
)  # fmt: skip
PROGRAM = """
from dataclasses import replace
from orchestration import cli, ingest
from orchestration.sources.live import prices, venue

ingest.STORE_ROWS = prices.PAGE_ROWS = 500
quick = {"requests": 1000, "first_wait": 0.01, "attempts": 12}
prices.FILE_POLICY = replace(prices.FILE_POLICY, **quick)
venue.VENUE_POLICY = replace(venue.VENUE_POLICY, **quick)
cli.main()
"""
"""`volcast` that stores a few days at a time, so that there is much to be killed between, and tries more often but waits less."""


@dataclass
class Trap:
    """Kills its reader ``seconds`` after it asks for bars of ``coin`` of ``moment`` or later; what was asked for is never given.

    The archive and the API share one, so that a read cannot get round it, and the coins are read in the order of their names.
    """

    coin: str
    moment: datetime
    seconds: float
    process: subprocess.Popen[str] | None = None

    def before(self, handler: Handler) -> Handler:
        def answer(request: Request) -> Reply:
            asked = _asked(request)
            if self.process and asked and asked >= (self.coin, self.moment):
                time.sleep(self.seconds)
                self.process.kill()
            return handler(request)

        return answer


def _asked(request: Request) -> tuple[str, datetime] | None:
    """Coin and first open time of the bars that are asked for."""
    file = re.search(r"/(\w+)USDT-1h-([\d-]+)\.zip", request.path)
    if file:
        return file[1], datetime.fromisoformat(f"{file[2]}-01"[:10]).replace(tzinfo=UTC)
    if "startTime" in request.query:
        ms = int(request.query["startTime"])
        return request.query["symbol"].removesuffix("USDT"), datetime.fromtimestamp(ms / 1000, UTC)
    return None


@pytest.mark.slow
def test_a_backfill_that_is_killed_again_and_again_ends_with_every_bar_once(
    serve: Callable[..., ProviderServer], tmp_path: Path
) -> None:
    chance = random.Random(1)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    start = (end - timedelta(days=90)).replace(hour=0)
    bars = {(coin, "1h"): candles(start, end, "1h", seed=place) for place, coin in enumerate(COINS)}
    clock = lambda: datetime.now(UTC)  # noqa: E731
    api, archive = BinanceSpot(bars, clock), BinanceFiles(bars, clock)
    server = serve()
    server.clock = clock
    home = Home(
        tmp_path / "home",
        {
            "VOLCAST_SOURCE": "live",
            "VOLCAST_ASSETS": ",".join(COINS),
            "VOLCAST_LIVE_START": start.date().isoformat(),
            "VOLCAST_LIVE_BARS": "1h",
            "VOLCAST_PRICE_VENUES": "binance",
            **address(server.url),
        },
    )
    stored = []
    for coin, share in (("BTC", chance.random()), ("ETH", 0.0), ("ETH", chance.random())):
        trap = Trap(coin, start + share * timedelta(days=85), chance.uniform(0, 1.5))
        server.handlers = {"binance": trap.before(api), "binance_files": trap.before(archive)}
        _storm(server, chance)
        trap.process = _start(home)
        output, _ = trap.process.communicate(timeout=300)
        assert trap.process.returncode == -signal.SIGKILL, output
        stored.append(_count(home))
    assert stored == sorted(stored)  # what was stored before a kill stays
    assert 0 < stored[-1] < 2 * len(bars["BTC", "1h"])
    server.handlers = {"binance": api, "binance_files": archive}
    finished = datetime.now(UTC)
    _storm(server, chance)
    output, _ = _start(home).communicate(timeout=300)
    found = home.rows(f"SELECT {', '.join(STORED)} FROM raw.ohlcv ORDER BY symbol, ts")
    assert found == [row for coin in COINS for row in _expected(coin, bars[coin, "1h"])], output
    assert home.rows("SELECT count(*) FROM quarantine.rows") == [(0,)]
    cursors = home.rows(
        "SELECT stream, status, known_until >= ? FROM raw.streams ORDER BY stream", [finished]
    )
    assert cursors == [(f"prices/1h/{coin}", "ok", True) for coin in COINS]


def _storm(server: ProviderServer, chance: random.Random) -> None:
    server.calm()
    server.plan(storm(chance.randrange(1000), 200, 0.2))


def _start(home: Home) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "ingest", "--table", "ohlcv"],
        env=home.variables,
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _count(home: Home) -> int:
    [(rows, keys)] = home.rows("SELECT count(*), count(DISTINCT (symbol, ts)) FROM raw.ohlcv")
    assert rows == keys
    return int(rows)


def _expected(coin: str, bars: list[Candle]) -> list[tuple[Any, ...]]:
    return [
        (
            f"{coin}/USDT", bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, float(bar.trades),
            bar.taker_buy_volume, bar.ts + HOUR + timedelta(minutes=1), "binance", "1h", "live",
        )
        for bar in bars
    ]  # fmt: skip
