"""Attention as data: a month of a desk's attention read by SQL from the published copy, through every view and from the rows.

A real model's maps on a made-up market, repeated over days and coins, go through the platform's own write and publish.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from ml.attention.model import AttentionModel
from orchestration.settings import Settings
from orchestration.views import VIEWS
from orchestration.warehouse import Warehouse, read_published, replace_rows
from tests.ml.attention.markets import planted_market

TRAINED = date(2022, 1, 20)
BRIEF = {"epochs": 1, "min_steps": 1, "window_days": 360, "min_group_samples": 50}
KEY = ["as_of", "model", "model_version"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coins", type=int, default=20)
    parser.add_argument("--days", type=int, default=730, help="days of history in the copy")
    parser.add_argument("--repeats", type=int, default=9)


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    panel = planted_market(coins=8)
    model = AttentionModel()
    model.fit(panel, TRAINED, BRIEF, 0)
    one = model.attention(panel, [TRAINED]).to_frame("v1")
    coins = [
        one[one["asset"] == panel.assets[n % 8]].assign(asset=f"COIN{n:02d}")
        for n in range(options.coins)
    ]
    day = pd.concat(coins, ignore_index=True)
    last = date(2024, 6, 30)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        warehouse = Warehouse(settings)
        for first in range(0, options.days, 90):
            stop = min(first + 90, options.days)
            part = [day.assign(as_of=last - timedelta(days=back)) for back in range(first, stop)]
            with warehouse.write() as connection:
                replace_rows(connection, "forecasts.attention_weights", pd.concat(part), on=KEY)
        warehouse.publish()
        month = f"as_of > DATE '{last}' - 30"
        queries = {
            "forecasts.attention_weights": f"SELECT * FROM forecasts.attention_weights WHERE {month}",
            **{view.name: f"SELECT * FROM {view.name} WHERE {month}" for view in VIEWS},
        }
        rows = []
        for name, query in queries.items():
            seconds = []
            for _ in range(options.repeats):
                with read_published(settings) as connection:
                    started = time.perf_counter()
                    found = connection.execute(query).fetch_arrow_table().num_rows
                    seconds.append(time.perf_counter() - started)
            rows.append([name, found, sorted(seconds)[len(seconds) // 2]])
        size = settings.published_path.stat().st_size / 2**20
    stored = len(day) * options.days
    figures = {
        "coins": options.coins, "days": options.days, "rows": stored, "megabytes": size,
        "seconds": {name: seconds for name, _, seconds in rows},
    }  # fmt: skip
    title = f"a month of {options.coins} coins out of {stored:,} weights ({options.days} days, {size:.0f} MB), seconds"
    return figures, [(title, ["read", "rows", "median s"], rows)]
