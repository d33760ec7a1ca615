"""A folder of Parquet or CSV files behind the same protocol as a live provider.

In: a folder in the layout of ``archive_files``; each file optional, but prices. Out: batches of the
raw tables. Never: fills a gap, corrects a value, drops a duplicate or writes to the folder. Rows
without a known_at are left out and counted in the log, since nobody could say when they may be
used.

Reading is DuckDB's, in memory: a batch at a time, sorted by ``known_at``; what does not fit spills
to a temporary folder.
"""

from __future__ import annotations

import glob
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.sources.archive_files import ARCHIVE_FILES, PRICE_FILES, ArchiveFile
from orchestration.sources.bundle import FeedBundle
from orchestration.sources.protocol import MAX_BATCH_ROWS, SourceError
from orchestration.sources.schema import TABLES

logger = logging.getLogger(__name__)

SOURCE = "archive"
BENCHMARK_ASSET = "BTC"
"""Read whatever the restriction on coins says, because features of every coin need it."""

SORTED_AT_ONCE = 3_000_000
"""Rows of a file that are put in order at a time: half a gigabyte of bars."""

_EXTENSIONS = (".parquet", ".csv")


@dataclass(frozen=True)
class FoundFile:
    """A file of the folder: what it should hold, where it is, and the columns that it has."""

    layout: ArchiveFile
    path: Path
    header: frozenset[str]

    def scan(self) -> str:
        """SQL for the file's rows, its path being the parameter ``$path``."""
        if self.path.suffix == ".parquet":
            return "read_parquet($path)"
        return _CSV

    def typed(self) -> str:
        """SQL for the file's columns in the types of the layout; an optional column that is not
        there is NULL.
        """
        columns = ", ".join(
            f'CAST("{name}" AS {kind}) AS "{name}"'
            if name in self.header
            else f'CAST(NULL AS {kind}) AS "{name}"'
            for name, kind in self.layout.all_columns.items()
        )
        return f"SELECT {columns} FROM {self.scan()}"

    @property
    def parameter(self) -> str:
        """The path, with characters that DuckDB would read as a pattern escaped."""
        return glob.escape(str(self.path))


_CSV = (
    "read_csv($path, header = true, all_varchar = true, delim = ',', "
    "quote = '\"', escape = '\"', nullstr = '')"
)


class ArchiveFeed:
    """One raw table of an archive, from one file or several."""

    def __init__(self, table: str, files: Sequence[FoundFile], coins: Sequence[str] | None) -> None:
        self._table = table
        self.files = tuple(files)
        self.coins = None if coins is None else list(coins)
        self._counted: set[Path] = set()

    @property
    def table(self) -> str:
        """The raw table."""
        return self._table

    def batches(self, known_after: datetime | None, known_until: datetime) -> Iterator[pa.Table]:
        """See ``Feed.batches``: file by file, in the order of ``known_at``, then of the other
        columns.
        """
        for file in self.files:
            self._count_left_out(file)
            yield from self._read(file, known_after, known_until)

    def _read(
        self, file: FoundFile, known_after: datetime | None, known_until: datetime
    ) -> Iterator[pa.Table]:
        schema = TABLES[self._table]
        chosen = []
        for column, kind in schema.columns.items():
            if column == "known_at":
                sql = file.layout.known_at
            elif column == "source":
                sql = f"'{SOURCE}'"
            else:
                sql = file.layout.select.get(column, f'"{column}"')
            chosen.append(f'CAST({sql} AS {kind}) AS "{column}"')
        parameters: dict[str, Any] = {"path": file.parameter, "until": known_until}
        conditions = ["known_at <= $until"]
        if known_after is not None:
            conditions.append("known_at > $after")
            parameters["after"] = known_after
        rows = f"SELECT * FROM typed {self._restriction(file, parameters)}"
        order = ", ".join(f'"{column}"' for column in schema.columns if column != "known_at")
        relation = f"""
            WITH typed AS ({file.typed()}), rows AS ({rows}),
                 raw AS (SELECT {", ".join(chosen)} FROM rows),
                 wanted AS (SELECT * FROM raw WHERE {" AND ".join(conditions)})
        """
        with _connection(file) as connection:
            days = connection.execute(
                f"{relation} SELECT date_trunc('day', known_at), count(*) FROM wanted GROUP BY 1 ORDER BY 1",
                parameters,
            ).fetchall()
            for start, end in _spans(days):
                reader = connection.execute(
                    f"{relation} SELECT * FROM wanted "
                    "WHERE ($start IS NULL OR known_at >= $start) AND ($end IS NULL OR known_at < $end) "
                    f"ORDER BY known_at, {order}",
                    {**parameters, "start": start, "end": end},
                ).to_arrow_reader(MAX_BATCH_ROWS)
                for batch in reader:
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch]).cast(schema.arrow)

    def _restriction(self, file: FoundFile, parameters: dict[str, Any]) -> str:
        if self.coins is None or file.layout.coin is None:
            return ""
        parameters["coins"] = self.coins
        # a row without a coin is passed on, for the gate to refuse
        return f"WHERE coalesce(list_contains($coins, {file.layout.coin}), true)"

    def _count_left_out(self, file: FoundFile) -> None:
        if file.path in self._counted:
            return
        self._counted.add(file.path)
        with _connection(file) as connection:
            row = connection.execute(
                f"SELECT count(*) FROM ({file.typed()}) WHERE ({file.layout.known_at}) IS NULL",
                {"path": file.parameter},
            ).fetchone()
        if row and row[0]:
            logger.warning(
                "%s: %d rows left out: no ts, or no way to tell when they were known",
                file.path,
                row[0],
            )


def _spans(
    days: Sequence[tuple[datetime, int]],
) -> Iterator[tuple[datetime | None, datetime | None]]:
    """``days`` (midnights with their counts of rows) in spans of whole days that can be sorted in memory; None: no bound."""
    start, rows = None, 0
    for day, count in days:
        if rows and rows + count > SORTED_AT_ONCE:
            yield start, day
            start, rows = day, 0
        rows += count
    if rows:
        yield start, None


class ArchiveSource(FeedBundle):
    """An archive folder as a source; see the module.

    ``assets`` restricts coins (BTC and stablecoins are read all the same); None: every coin with
    prices. Raises SourceError for a folder without prices, a file without a column, a file in both
    formats and a coin without prices.
    """

    name = SOURCE

    def __init__(self, folder: Path, assets: Sequence[str] | None = None) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise SourceError(f"archive {folder}: no such folder")
        self.files = tuple(
            found for layout in ARCHIVE_FILES if (found := _find(folder, layout)) is not None
        )
        self._prices = [file for file in self.files if file.layout in PRICE_FILES]
        if not self._prices:
            wanted = " or ".join(f"{layout.stem}.parquet" for layout in PRICE_FILES)
            raise SourceError(f"archive {folder}: no prices; expected {wanted} (or .csv)")
        available, self._first, self._last = self._inspect_prices()
        for asset in assets or ():
            if asset not in available:
                raise SourceError(
                    f"asset {asset!r}: no prices in archive {folder}, "
                    f"which has {', '.join(available)}"
                )
        self.assets = tuple(available if assets is None else assets)
        coins = None if assets is None else sorted({BENCHMARK_ASSET, *assets})
        super().__init__(
            ArchiveFeed(table, files, coins)
            for table in TABLES
            if (files := [file for file in self.files if file.layout.table == table])
        )

    def first_day(self) -> date:
        """The day of the first bar of the coins that were asked for."""
        return self._first

    def last_day(self) -> date:
        """The day of the last bar."""
        return self._last

    def describe(self) -> dict[str, Any]:
        """Plain JSON values for people and for the metadata of a run."""
        return {
            "source": SOURCE,
            "folder": str(self.folder),
            "assets": list(self.assets),
            "first_day": self._first.isoformat(),
            "last_day": self._last.isoformat(),
            "files": [str(file.path.relative_to(self.folder)) for file in self.files],
        }

    def _inspect_prices(self) -> tuple[list[str], date, date]:
        assets: set[str] = set()
        days: list[date] = []
        for file in self._prices:
            with _connection(file) as connection:
                rows = connection.execute(
                    f"SELECT {file.layout.coin}, CAST(min(ts) AS DATE), CAST(max(ts) AS DATE) "
                    f"FROM ({file.typed()}) WHERE ts IS NOT NULL AND symbol IS NOT NULL "
                    "GROUP BY ALL",
                    {"path": file.parameter},
                ).fetchall()
            for asset, first, last in rows:
                assets.add(asset)
                days += [first, last]
        if not days:
            raise SourceError(f"archive {self.folder}: the price files have no rows")
        return sorted(assets), min(days), max(days)


def _find(folder: Path, layout: ArchiveFile) -> FoundFile | None:
    paths = [path for end in _EXTENSIONS if (path := folder / f"{layout.stem}{end}").is_file()]
    if not paths:
        return None
    if len(paths) > 1:
        raise SourceError(f"{paths[0]} and {paths[1].name}: the same data twice, keep one of them")
    found = FoundFile(layout, paths[0], frozenset())
    with _connection(found) as connection:
        described = connection.execute(
            f"SELECT * FROM {found.scan()} LIMIT 0", {"path": found.parameter}
        ).description
    header = frozenset(column[0] for column in described or ())
    missing = [column for column in layout.columns if column not in header]
    if missing:
        raise SourceError(
            f"{found.path}: column {', '.join(map(repr, missing))} is missing; "
            f"expected {', '.join(layout.columns)}"
        )
    extra = sorted(header - layout.all_columns.keys())
    if extra:
        logger.info("%s: columns not read: %s", found.path, ", ".join(extra))
    return FoundFile(layout, found.path, header)


@contextmanager
def _connection(file: FoundFile) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB in UTC that can spill; its errors become ones that name the file."""
    with tempfile.TemporaryDirectory(prefix="volcast-archive-") as spill:
        connection = duckdb.connect(":memory:")
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET autoinstall_known_extensions = false")
            connection.execute("SET temp_directory = ?", [spill])
            connection.execute("SET memory_limit = '2GB'")
            yield connection
        except duckdb.Error as error:
            raise SourceError(f"{file.path}: {error}") from error
        finally:
            connection.close()
