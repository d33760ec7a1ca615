"""No fault changes a forecast silently: the line is run with all of them, and its numbers are those of a market without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.bad_data import bar_faults, market, other_row_faults
from tests.bad_data.corpus import Fault, Row, RowFault
from tests.bad_data.faulty_rows import made_rows
from tests.end_to_end.homes import SMALL_MARKET, Home, export_archive

AS_OF = date(2023, 12, 20)
TABLES = ("features.daily", "features.hourly", "features.realized", "forecasts.volatility")
FAULTS: list[Fault] = [
    fault for fault in (*bar_faults.FAULTS, *other_row_faults.FAULTS) if isinstance(fault, RowFault)
]


@dataclass(frozen=True)
class Market:
    """An archive of the simulated market, and what the line makes of it without a fault."""

    folder: Path
    hashes: dict[str, str]
    scratch: Path


def environment(folder: Path) -> dict[str, str]:
    return {
        "VOLCAST_SOURCE": "archive",
        "VOLCAST_ARCHIVE": str(folder),
        "VOLCAST_ASSETS": SMALL_MARKET["VOLCAST_ASSETS"],
        "VOLCAST_MODELS": "ewma,log_har",
    }


def hashes_of(folder: Path, home: Path) -> dict[str, str]:
    made = Home(home, environment(folder))
    made.run("run", "--as-of", AS_OF.isoformat())
    return {table: made.table_hash(table) for table in TABLES}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Market:
    scratch = tmp_path_factory.mktemp("forecasts")
    simulated = Home(scratch / "unused", dict(SMALL_MARKET)).settings
    folder = scratch / "sound"
    export_archive(simulated, folder, AS_OF)
    return Market(folder, hashes_of(folder, scratch / "home"), scratch)


def rows_near(faults: Sequence[Fault]) -> dict[str, list[Row]]:
    """The faults' rows with their times moved to the last days before the forecast."""
    shift = datetime.combine(AS_OF - timedelta(days=3), time(), UTC) - market.SLOTS
    made = made_rows(faults)
    for row in (row for rows in made.values() for row in rows):
        for name in ("ts", "known_at"):
            if row.get(name) is not None and row[name].year == market.START.year:
                row[name] += shift
    return made


def with_rows(sound: Market, faults: Sequence[Fault], name: str) -> Path:
    """A copy of the archive with the rows of ``faults`` in its files."""
    made, folder = rows_near(faults), sound.scratch / name
    for path in sound.folder.rglob("*.parquet"):
        stem = str(path.relative_to(sound.folder).with_suffix(""))
        added = [
            row
            for fault in faults
            if isinstance(fault, RowFault) and fault.stem == stem
            for row in made[fault.name]
        ]
        table = pq.read_table(path)
        records: list[dict[str, Any]] = table.to_pylist() + [
            _raw(row, table.column_names) for row in added
        ]
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            type(table).from_pylist(records, schema=table.schema), folder / f"{stem}.parquet"
        )
    return folder


def _raw(row: Row, columns: Sequence[str]) -> Row:
    """A row in the columns of the exported file, which carries what an archive's file derives."""
    found = {name: row.get(name) for name in columns}
    if row["ts"] is not None and "known_at" in columns and found["known_at"] is None:
        # a bar's hour is over in one, a daily value's day in one: a value known before its end is another fault
        delay = timedelta(hours=2) if "volume" in columns else timedelta(days=2)
        found["known_at"] = row["ts"] + delay if row["ts"].year < 9999 else row["ts"]
    for name, value in (("metric", "fear_greed"), ("asset", "BTC"), ("source", "simulated")):
        if name in columns and found[name] is None:
            found[name] = value
    return found


def changes(sound: Market, faults: Sequence[Fault], name: str) -> list[str]:
    """Tables that are others with ``faults``."""
    found = hashes_of(with_rows(sound, faults, f"{name}-archive"), sound.scratch / f"{name}-home")
    return [table for table in TABLES if found[table] != sound.hashes[table]]


def culprits(sound: Market, faults: Sequence[Fault], name: str = "all") -> list[str]:
    """The faults that change a number, found by halves."""
    if not changes(sound, faults, name):
        return []
    if len(faults) == 1:
        return [faults[0].name]
    half = len(faults) // 2
    return culprits(sound, faults[:half], f"{name}0") + culprits(sound, faults[half:], f"{name}1")


@pytest.mark.slow
def test_no_faulty_row_changes_a_feature_or_a_forecast(sound: Market) -> None:
    assert culprits(sound, FAULTS) == []


@pytest.mark.slow
def test_a_change_of_a_price_would_be_seen(sound: Market) -> None:
    folder = sound.scratch / "other"
    for path in sound.folder.rglob("*.parquet"):
        frame = pd.read_parquet(path)
        if path.parent.name == "ohlcv":
            last = (frame["symbol"] == "BTC/USDT") & (frame["ts"] == frame["ts"].max())
            frame.loc[last, ["high", "close"]] *= 1.001
        target = folder / path.relative_to(sound.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(target, index=False)
    found = hashes_of(folder, sound.scratch / "other-home")
    assert found["forecasts.volatility"] != sound.hashes["forecasts.volatility"]
