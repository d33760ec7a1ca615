"""A backfill that is killed at random moments, over a bad network, and started again: every bar is stored, once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.end_to_end.homes import Home
from tests.live.providers.binance_files import BinanceFiles
from tests.live.providers.binance_spot import BinanceSpot
from tests.live.providers.candles import Candle, candles
from tests.live.server import ProviderServer, storm
from tests.live.world import address

HOUR = timedelta(hours=1)
COINS = ("BTC", "ETH")
KILLS = 3
STORED = (
    "symbol", "ts", "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "known_at", "venue",
    "interval", "source",
)  # fmt: skip
PROGRAM = """
from dataclasses import replace
from orchestration import cli, ingest
from orchestration.sources.live import prices, venue

ingest.STORE_ROWS = prices.PAGE_ROWS = 300
quick = {"requests": 1000, "first_wait": 0.01}
prices.FILE_POLICY = replace(prices.FILE_POLICY, **quick)
venue.VENUE_POLICY = replace(venue.VENUE_POLICY, **quick)
cli.main()
"""
"""`volcast` that stores a few days at a time, so that there is much to be killed between, and waits less between attempts."""


@pytest.mark.parametrize("seed", [1])
def test_a_backfill_that_is_killed_again_and_again_ends_with_every_bar_once(
    serve: Callable[..., ProviderServer], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    start = (end - timedelta(days=90)).replace(hour=0)
    bars = {
        (coin, "1h"): candles(start, end, "1h", seed=seed + place)
        for place, coin in enumerate(COINS)
    }
    clock = lambda: datetime.now(UTC)  # noqa: E731
    server = serve(binance=BinanceSpot(bars, clock), binance_files=BinanceFiles(bars, clock))
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
    for _ in range(KILLS):
        server.calm()
        server.plan(storm(chance.randrange(1000), 200, 0.2))
        assert _killed(home, server, chance.randrange(5, 60), chance.uniform(0, 1))
        stored.append(_count(home))
    assert stored == sorted(stored)  # what was stored before a kill stays
    assert stored[-1] > 0  # and some of it was stored before the last start
    finished = datetime.now(UTC)
    server.calm()
    server.plan(storm(chance.randrange(1000), 50, 0.2))
    for _ in range(3):  # a storm may also make a start give up
        output, _ = _start(home).communicate(timeout=300)
        if "stale" not in output:
            break
    found = home.rows(f"SELECT {', '.join(STORED)} FROM raw.ohlcv ORDER BY symbol, ts")
    assert found == [row for coin in COINS for row in _expected(coin, bars[coin, "1h"])]
    assert home.rows("SELECT count(*) FROM quarantine.rows") == [(0,)]
    cursors = home.rows("SELECT stream, status, known_until >= ? FROM raw.streams ORDER BY stream", [finished])  # fmt: skip
    assert cursors == [(f"prices/1h/{coin}", "ok", True) for coin in COINS]


def _start(home: Home) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "ingest", "--table", "ohlcv"],
        env=home.variables,
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _killed(home: Home, server: ProviderServer, requests: int, seconds: float) -> bool:
    """Start the ingest and kill it ``seconds`` after the server has answered it so often; whether it was still at work then."""
    before, process = len(server.requests), _start(home)
    while process.poll() is None and len(server.requests) < before + requests:
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


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
