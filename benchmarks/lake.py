"""Readers and writers of the live tables at once: a lake against the file.

In: how many readers and writers, for how many seconds. Out: reads and writes per second and their p50 and p95, on a file and on a lake (SQLite catalog,
files in a folder; or what ``--lake`` and ``--data`` name), in the same run; and the lake's figures over the file's. Every reader and writer is a process;
on the file all share one home, on the lake each writer has its own, as several machines would.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.warehouse import Warehouse

Tables = list[tuple[str, list[str], list[list[Any]]]]
READERS, WRITERS = (1, 4, 16, 32), (1, 2, 4)
_CHILD = """
import json, sys, time
from pathlib import Path
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse
kind, number, home, storage, seconds = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]), float(sys.argv[5])
warehouse, taken = Warehouse(Settings(home=home, **storage)), []
print("ready", flush=True); sys.stdin.readline()
end = time.monotonic() + seconds
while (began := time.monotonic()) < end:
    if kind == "read":
        with warehouse.read() as connection:
            connection.execute("SELECT symbol, count(*), avg(close), max(known_at) FROM raw.ohlcv GROUP BY 1 ORDER BY 1").fetchall()
    else:
        for attempt in warehouse.writes():
            with attempt as connection:
                connection.execute(
                    "INSERT INTO raw.ohlcv BY NAME SELECT 'writer' || ? AS venue, 'BTC/USDT' AS symbol, '5m' AS interval, now() AS ts, 1.0 AS close, "
                    "now() AS known_at, now() AS ingested_at FROM range(288)", [str(number)])
    taken.append(time.monotonic() - began)
print(json.dumps(taken))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rows", type=int, default=500_000, help="bars that are there before")
    parser.add_argument("--lake", default="", help="VOLCAST_WAREHOUSE of a new, empty lake")
    parser.add_argument("--data", default="", help="VOLCAST_LAKE_DATA of that lake")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    figures: dict[str, Any] = {"readers": {}, "writers": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        address = options.lake or f"ducklake:sqlite:{folder}/catalog.sqlite"
        data = options.data or ("" if options.lake else str(folder / "files"))
        stores = {"file": {}, "lake": {"warehouse": address, "lake_data": data}}
        for storage in stores.values():
            _fill(Warehouse(Settings(home=folder / "filled", **storage)), options.rows)
        for kind, counts in (("read", READERS), ("write", WRITERS)):
            for count in counts:
                figures["readers" if kind == "read" else "writers"][count] = {
                    name: _measure(kind, count, folder, storage, options.seconds)
                    for name, storage in stores.items()
                }
    tables = []
    for kind, found in figures.items():
        rows = [
            [
                count,
                *(both[name][key] for name in ("file", "lake") for key in ("per_second", "p50", "p95")),
                both["lake"]["per_second"] / both["file"]["per_second"],
                both["lake"]["p50"] / both["file"]["p50"],
                both["lake"]["p95"] / both["file"]["p95"],
            ]
            for count, both in found.items()
        ]  # fmt: skip
        header = [kind, "file/s", "file p50 s", "file p95 s", "lake/s", "lake p50 s", "lake p95 s", "rate x", "p50 x", "p95 x"]  # fmt: skip
        tables.append((f"{kind} at once, lake over file", header, rows))
    return figures, tables


def _fill(warehouse: Warehouse, rows: int) -> None:
    with warehouse.write() as connection:
        connection.execute(
            "INSERT INTO raw.ohlcv BY NAME SELECT 'filled' AS venue, 'C' || (i % 20) || '/USDT' AS symbol, '5m' AS interval, "
            "TIMESTAMPTZ '2020-01-01' + to_minutes(5 * (i // 20)) AS ts, 100.0 + i % 7 AS close, ts AS known_at, ts AS ingested_at FROM range(?) r(i)",
            [rows],
        )


def _measure(
    kind: str, count: int, folder: Path, storage: dict[str, str], seconds: float
) -> dict[str, float]:
    processes = []
    for number in range(count):
        home = folder / (f"writer{number}" if storage and kind == "write" else "filled")
        processes.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _CHILD,
                    kind,
                    str(number),
                    str(home),
                    json.dumps(storage),
                    str(seconds),
                ],
                env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    began = time.monotonic()
    taken: list[float] = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate()
        taken += json.loads(output.splitlines()[-1])
    wall = time.monotonic() - began
    cuts = statistics.quantiles(taken, n=20) if len(taken) > 1 else taken * 19
    return {"per_second": len(taken) / wall, "p50": statistics.median(taken), "p95": cuts[18]}
