"""Row faults put into the files of a market, and what became of each.

In: faults. Out: an archive folder with all of their rows; after an ingest, per fault what was stored, quarantined and logged. Never: another
door than production's: ``ArchiveSource`` and ``ingest_window``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from orchestration.ingest import ingest_window
from orchestration.settings import Settings
from orchestration.sources.archive import ArchiveSource
from orchestration.sources.bundle import FeedBundle
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse
from tests.bad_data import market
from tests.bad_data.corpus import BookFault, Fault, Row, RowFault

TABLE_OF = {
    "ohlcv/1h": "ohlcv",
    "funding/rates": "funding_rates",
    "open_interest/1d": "open_interest",
    "implied_volatility/dvol": "implied_volatility",
    "onchain/metrics": "onchain_metrics",
    "sentiment/metrics": "sentiment_metrics",
    "headlines/headlines": "headlines",
}


def made_rows(faults: Iterable[Fault]) -> dict[str, list[Row]]:
    """The rows of each fault by its name, every fault at a time of its own."""
    return {
        fault.name: list(fault.make(market.slot(number), f"venue{number}"))
        for number, fault in enumerate(f for f in faults if isinstance(f, RowFault))
    }


def with_faults(
    tables: dict[str, pd.DataFrame], faults: Sequence[Fault], rows: dict[str, list[Row]]
) -> dict[str, pd.DataFrame]:
    """The market's files with the faults' rows at the end of each."""
    found = {}
    for stem, frame in tables.items():
        added = [
            row
            for fault in faults
            if isinstance(fault, RowFault) and fault.stem == stem
            for row in rows[fault.name]
        ]
        columns = list(dict.fromkeys([*frame.columns, *(name for row in added for name in row)]))
        records = frame.to_dict("records") + added
        found[stem] = pd.DataFrame(
            {name: pd.Series([r.get(name) for r in records], dtype=object) for name in columns}
        )
    return found


class Books(FeedBundle):
    """Order books as a source of the past; an archive has none."""

    name = "archive"
    assets = ("BTC",)

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.rows = [
            {"venue": fault.name, "symbol": "BTC/USDT", "asset": "BTC", "ts": market.slot(number),
             "bids": fault.bids, "asks": fault.asks, "known_at": market.slot(number), "source": "archive"}
            for number, fault in enumerate(faults)
            if isinstance(fault, BookFault)
        ]  # fmt: skip
        super().__init__([self])

    @property
    def table(self) -> str:
        return "order_books"

    def batches(self, *window: Any) -> Iterator[pa.Table]:  # type: ignore[override]
        if window[0] == "order_books":
            return super().batches(*window)
        return iter([pa.Table.from_pylist(self.rows, schema=TABLES["order_books"].arrow)])

    def first_day(self) -> Any:
        return market.START.date()


@dataclass
class Found:
    """What the warehouse and the log hold after an ingest."""

    stored: dict[str, list[Row]]
    quarantined: dict[str, list[tuple[Row, str]]]
    log: list[str] = field(default_factory=list)

    def stored_at(self, table: str, times: set[datetime]) -> list[tuple[int, Row]]:
        """Position in the table and row."""
        return [(n, row) for n, row in enumerate(self.stored[table]) if row["ts"] in times]

    def quarantined_at(self, table: str, times: set[datetime]) -> list[str]:
        """Reasons."""
        return [reason for row, reason in self.quarantined[table] if _time(row["ts"]) in times]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def ingested(home: Path, folder: Path, faults: Sequence[Fault] = ()) -> Found:
    """Read the archive, and the books of the faults, into a home."""
    warehouse = Warehouse(Settings(home=home))
    lines = _Lines()
    logger = logging.getLogger("orchestration")
    logger.addHandler(lines)
    try:
        source = ArchiveSource(folder)
        for table in TABLES:
            known = Books(faults) if table == "order_books" else source
            ingest_window(warehouse, known, table, market.LAST, market.LAST)  # type: ignore[arg-type]
    finally:
        logger.removeHandler(lines)
    return Found(*contents(warehouse), lines.lines)


def contents(
    warehouse: Warehouse,
) -> tuple[dict[str, list[Row]], dict[str, list[tuple[Row, str]]]]:
    """Stored rows and quarantined rows with their reasons, by table."""
    stored, quarantined = {}, {}
    with warehouse.read() as connection:
        for table in TABLES:
            found = connection.execute(f"SELECT * FROM raw.{table} ORDER BY ALL").to_arrow_table()
            stored[table] = found.to_pylist()
            rows = connection.execute(
                "SELECT row_json, reason FROM quarantine.rows WHERE table_name = ?",
                [f"raw.{table}"],
            ).fetchall()
            quarantined[table] = [(json.loads(text), str(reason)) for text, reason in rows]
    return stored, quarantined
