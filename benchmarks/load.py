"""Many coins and years of 5-minute bars through ingest, features and daily forecasts: wall time, memory and disk of each step.

In: a seeded random market, written month by month as an archive folder (``ohlcv/5m.parquet``). Out: for each command that a user would start
(`volcast ingest`, the first `volcast run`, the run of the next day) its wall time and the peak of the memory of all its processes; with
``--readers`` also what SQL readers of the published copy felt during the last run. There is no peer: no other tool does this job.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.line import _timed

Tables = list[tuple[str, list[str], list[list[Any]]]]
LAST = date(2023, 12, 30)
BARS_A_DAY = 288
MODELS = "ewma,log_har,harx_cal,har_pooled,har_panel,combination_equal"
READER_QUERY = "SELECT asset, avg(volatility), max(q95) FROM forecasts.volatility WHERE horizon = 1 GROUP BY asset ORDER BY 2 DESC LIMIT 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coins", type=int, default=200)
    parser.add_argument("--years", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--readers", type=int, default=32, help="SQL readers during the last run")
    parser.add_argument(
        "--folder", type=Path, help="keep archive and home there; default: temporary"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        archive, home = folder / "archive", folder / "home"
        first = LAST - timedelta(days=round(365.25 * options.years) - 1)
        rows = write_market(archive, options.coins, first, LAST + timedelta(days=1), options.seed)
        environment = {
            **os.environ,
            "VOLCAST_HOME": str(home),
            "VOLCAST_SOURCE": "archive",
            "VOLCAST_ARCHIVE": str(archive),
            "VOLCAST_MODELS": MODELS,
        }
        volcast = [sys.executable, "-m", "orchestration.cli"]
        steps: list[list[Any]] = []
        readers: list[list[Any]] = []
        days = (LAST - timedelta(days=1), LAST)
        for name, command in (
            ("ingest of all history", ["ingest"]),
            (
                "first run: features of all history, fits, forecasts",
                ["run", "--as-of", str(days[0])],
            ),
            ("next day", ["run", "--as-of", str(days[1])]),
        ):
            last = name == "next day" and options.readers
            published = home / "published" / "volcast.duckdb"
            if last:
                with Readers(published, options.readers) as crowd:
                    time.sleep(30)
                readers.append(["nothing", *crowd.figures()])
            with Readers(published, options.readers if last else 0) as crowd:
                wall, peak = _timed([*volcast, *command], environment)
            if last:
                readers.append(["the next day's run", *crowd.figures()])
            steps.append([name, wall, peak / 1024, _gib(home)])
            print(f"{name}: {wall:.0f} s, {peak / 1024:.2f} GiB", flush=True)
    figures = {"bars": rows, "coins": options.coins, "steps": steps, "readers": readers}
    header = ["step", "seconds", "peak GiB of all processes", "home GiB"]
    return figures, [
        (f"{options.coins} coins, {options.years:g} years, {rows:,} bars", header, steps),
        (
            "SQL readers of the published copy",
            ["beside", "readers", "queries", "errors", "p50 ms", "p99 ms"],
            readers,
        ),
    ]


def write_market(
    folder: Path, coins: int, first: date, last: date, seed: int, bars: str = "5m"
) -> int:
    """Bars of every coin as ``ohlcv/5m.parquet`` (or 1h), one row group a month, as a dump that grows month by month; returns how many."""
    path = folder / "ohlcv" / f"{bars}.parquet"
    a_day = {"1h": 24, "5m": BARS_A_DAY}[bars]
    if path.exists():
        return int(pq.read_metadata(path).num_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    names = ["BTC", "ETH", *(f"C{number:03d}" for number in range(2, coins))][:coins]
    log_price = generator.uniform(0, 8, coins)
    log_variance = np.full(coins, np.log(0.65**2 / 365 / a_day))
    level = log_variance.copy()
    writer = None
    temporary = path.with_suffix(".part")
    day, rows = first, 0
    while day <= last:
        month = min(
            (day.replace(day=1) + timedelta(days=32)).replace(day=1), last + timedelta(days=1)
        )
        blocks = []
        while day < month:
            log_variance += 0.05 * (level - log_variance) + 0.2 * generator.standard_normal(coins)
            blocks.append(_day(generator, day, names, log_price, log_variance, a_day))
            day += timedelta(days=1)
        table = pa.concat_tables(blocks).combine_chunks()
        writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    os.replace(temporary, path)
    return rows


def _day(
    generator: np.random.Generator,
    day: date,
    names: list[str],
    log_price: np.ndarray,
    log_variance: np.ndarray,
    bars: int,
) -> pa.Table:
    """One day of all coins; moves ``log_price`` to its end. Arrays are (coin, bar)."""
    coins = len(names)
    market = generator.standard_normal(bars)
    own = generator.standard_normal((coins, bars))
    returns = np.exp(log_variance / 2)[:, None] * (0.7 * market + 0.714 * own)
    closes = log_price[:, None] + np.cumsum(returns, axis=1)
    opens = np.concatenate([log_price[:, None], closes[:, :-1]], axis=1)
    wick = (
        np.abs(generator.standard_normal((2, coins, bars)))
        * np.exp(log_variance / 2)[:, None]
        * 0.5
    )
    volume = np.exp(generator.standard_normal((coins, bars)) + 6)
    log_price[:] = closes[:, -1]
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    stamps = start + np.arange(bars, dtype=np.int64) * (86_400_000_000 // bars)
    numbers = {
        "open": np.exp(opens),
        "high": np.exp(np.maximum(opens, closes) + wick[0]),
        "low": np.exp(np.minimum(opens, closes) - wick[1]),
        "close": np.exp(closes),
        "volume": volume,
        "taker_buy_volume": volume * generator.uniform(0.3, 0.7, volume.shape),
    }
    symbols = pa.array([f"{name}/USDT" for name in names]).dictionary_encode()
    index = pa.array(np.repeat(np.arange(coins, dtype=np.int32), bars))
    return pa.table(
        {
            "venue": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(coins * bars, np.int32)), ["simulated"]
            ),
            "symbol": pa.DictionaryArray.from_arrays(index, symbols.dictionary),
            "ts": pa.array(np.tile(stamps, coins), pa.timestamp("us", tz="UTC")),
            **{name: pa.array(values.ravel()) for name, values in numbers.items()},
        }
    )


class Readers:
    """So many threads that query the published copy, each through a connection of its own, while a run goes on."""

    def __init__(self, published: Path, count: int) -> None:
        self.published, self.count = published, count
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(count)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        import duckdb

        while not self._stop.wait(0.5):
            started = time.monotonic()
            try:
                with duckdb.connect(str(self.published), read_only=True) as connection:
                    connection.execute(READER_QUERY).fetchall()
                self.seconds.append(time.monotonic() - started)
            except duckdb.Error as error:
                self.errors.append(str(error))

    def figures(self) -> list[Any]:
        middle, late = np.percentile(self.seconds, [50, 99]) * 1000 if self.seconds else (0.0, 0.0)
        return [self.count, len(self.seconds), len(self.errors), float(middle), float(late)]


def _gib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**30
