"""A folder of Parquet or CSV files behind the same protocol as a live provider.

In: a folder in the layout of ``archive_files``; each file optional, but prices. Out: batches of the
raw tables. Never: fills a gap, corrects a value, drops a duplicate or writes to the folder. Rows
without a known_at are left out and counted in the log, since nobody could say when they may be
used; so are rows dated after the present, and bars of markets against anything but a dollar.

Reading is DuckDB's, in memory: a batch at a time, sorted by ``known_at``; what does not fit spills
to a temporary folder.
"""

from __future__ import annotations

import glob
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.sources.archive_files import ARCHIVE_FILES, PRICE_FILES, ArchiveFile
from orchestration.sources.archive_guards import (
    LONGEST_TEXT,
    SPARE_TEXT,
    TEXT_PER_ROW,
    Mark,
    csv_columns,
    in_words,
    mark,
    present,
    require_affordable,
    require_type,
    require_unchanged,
)
from orchestration.sources.bundle import FeedBundle
from orchestration.sources.protocol import MAX_BATCH_ROWS, SourceError
from orchestration.sources.schema import TABLES
from quality.names import DOLLAR_PAIR, EARLIEST

logger = logging.getLogger(__name__)

SOURCE = "archive"
BENCHMARK_ASSET = "BTC"
"""Read whatever the restriction on coins says, because features of every coin need it."""

SORTED_AT_ONCE = 3_000_000
"""Rows of a file that are put in order at a time: half a gigabyte of bars."""

SHORT = timedelta(days=31)
"""A window so short is put in order at once: counting its rows first would be one more reading of the file."""
Span = tuple[datetime | None, datetime | None]

_EXTENSIONS = (".parquet", ".csv")


@dataclass(frozen=True)
class FoundFile:
    """A file of the folder: what it should hold, where it is, and the columns that it has."""

    layout: ArchiveFile
    path: Path
    header: dict[str, str]
    mark: Mark

    def scan(self) -> str:
        """SQL for the file's rows; ``parameters`` has what it needs."""
        return "read_parquet($path)" if self.is_parquet else _CSV

    def typed(self) -> str:
        """SQL for the file's columns in the types of the layout; an optional column that is not
        there is NULL, and so is a time without end.
        """
        columns = ", ".join(
            f'{_TYPED[kind].format(name=name)} AS "{name}"'
            if name in self.header
            else f'CAST(NULL AS {kind}) AS "{name}"'
            for name, kind in self.layout.all_columns.items()
        )
        return f"SELECT {columns} FROM {self.scan()}"

    @property
    def is_parquet(self) -> bool:
        """Else it is CSV."""
        return self.path.suffix == ".parquet"

    @property
    def parameters(self) -> dict[str, Any]:
        """The path, with characters that DuckDB would read as a pattern escaped, and of CSV the columns."""
        path = glob.escape(str(self.path))
        return {"path": path} if self.is_parquet else {"path": path, "columns": self.header}


_CSV = (
    "read_csv($path, auto_detect = false, columns = $columns, header = true, delim = ',', "
    "quote = '\"', escape = '\"', nullstr = '', skip = 0, comment = '', compression = 'none', "
    "null_padding = false, ignore_errors = false, strict_mode = true)"
)
"""Nothing is detected: a guess at the dialect may take a row for a comment or a second header."""
_TYPED = {
    "VARCHAR": f'CASE WHEN strlen(CAST("{{name}}" AS VARCHAR)) > {LONGEST_TEXT} THEN '
    f"error('column ''{{name}}'': a text of more than {LONGEST_TEXT:,} bytes') "
    'ELSE CAST("{name}" AS VARCHAR) END',
    "DOUBLE": 'CAST("{name}" AS DOUBLE)',
    "TIMESTAMPTZ": 'CASE WHEN isfinite(CAST("{name}" AS TIMESTAMPTZ)) THEN CAST("{name}" AS TIMESTAMPTZ) END',
}


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
            require_unchanged(file.path, file.mark)

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
        parameters: dict[str, Any] = {**file.parameters, "until": known_until}
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
            spans: Iterable[Span] = [(None, None)]
            if known_after is None or known_until - known_after > SHORT:
                days = connection.execute(
                    f"{relation} SELECT date_trunc('day', known_at), count(*) FROM wanted GROUP BY 1 ORDER BY 1",
                    parameters,
                ).fetchall()
                spans = _spans(days)
            for start, end in spans:
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
        # a row without a coin is passed on, for the gate to refuse
        ours = f"WHERE NOT coalesce({file.layout.others}, false)"
        if self.coins is None or file.layout.coin is None:
            return ours
        parameters["coins"] = self.coins
        return f"{ours} AND coalesce(list_contains($coins, {file.layout.coin}), true)"

    def _count_left_out(self, file: FoundFile) -> None:
        if file.path in self._counted:
            return
        self._counted.add(file.path)
        texts = [
            name
            for name, kind in file.layout.all_columns.items()
            if kind == "VARCHAR" and name in file.header
        ]
        size = " + ".join(f'coalesce(strlen("{name}"), 0)' for name in texts)
        with _connection(file) as connection:
            rows, unknown, future, text, others = connection.execute(
                f"SELECT count(*), count(*) FILTER (known IS NULL), count(*) FILTER (known > $present), "
                f"coalesce(sum(size), 0), count(*) FILTER (other) FROM (SELECT ({file.layout.known_at}) AS known, "
                f"{size} AS size, ({file.layout.others}) AS other FROM ({file.typed()}))",
                {**file.parameters, "present": datetime.now(UTC)},
            ).fetchone() or (0, 0, 0, 0, 0)
        if text > TEXT_PER_ROW * rows + SPARE_TEXT:
            raise SourceError(
                f"{file.path}: {text:,} bytes of text in {rows:,} rows: expected {TEXT_PER_ROW:,} a row at most; "
                "pages where titles belong?"
            )
        if unknown:
            logger.warning(
                "%s: %d rows left out: no ts, or no way to tell when they were known",
                file.path,
                unknown,
            )
        if others:
            logger.warning(
                "%s: %d rows left out: of no coin against the dollar, such as BTC/USDT",
                file.path,
                others,
            )
        if future:
            logger.warning(
                "%s: %d rows left out: known after the present, by their ts or known_at",
                file.path,
                future,
            )


def _spans(days: Sequence[tuple[datetime, int]]) -> Iterator[Span]:
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
        _name_strangers(folder)
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
                    f"SELECT symbol, CAST(min(ts) AS DATE), CAST(max(ts) AS DATE) "
                    f"FROM ({file.typed()}) WHERE ts BETWEEN $earliest AND $present "
                    "AND symbol IS NOT NULL GROUP BY ALL",
                    {
                        **file.parameters,
                        "earliest": EARLIEST,
                        "present": datetime.now(UTC) + timedelta(days=1),
                    },
                ).fetchall()
            for symbol, first, last in rows:
                if re.fullmatch(DOLLAR_PAIR, symbol):  # bars of any other are left out, or refused
                    assets.add(symbol.split("/")[0])
                    days += [first, last]
        if not days:
            raise SourceError(
                f"archive {self.folder}: the price files have no rows of a coin against the dollar, such as BTC/USDT, "
                f"between {EARLIEST:%Y-%m-%d} and now"
            )
        return sorted(assets), min(days), max(days)


def _name_strangers(folder: Path) -> None:
    """A line in the log for files beside the layout's own: a misspelt or packed one would be missed by nobody."""
    expected = {f"{layout.stem}{end}" for layout in ARCHIVE_FILES for end in _EXTENSIONS}
    places = {layout.stem.split("/")[0] for layout in ARCHIVE_FILES}
    strangers = sorted(
        name
        for place in places
        if (folder / place).is_dir()
        for path in (folder / place).iterdir()
        if (name := f"{place}/{path.name}") not in expected
    )
    if strangers:
        more = f" and {len(strangers) - 10} more" if len(strangers) > 10 else ""
        logger.warning("%s: not read, no name of the layout: %s%s", folder, strangers[:10], more)


def _find(folder: Path, layout: ArchiveFile) -> FoundFile | None:
    paths = [path for end in _EXTENSIONS if present(folder, path := folder / f"{layout.stem}{end}")]
    if not paths:
        return None
    if len(paths) > 1:
        raise SourceError(f"{paths[0]} and {paths[1].name}: the same data twice, keep one of them")
    path = paths[0]
    found = FoundFile(layout, path, {}, mark(path))
    if not found.is_parquet:
        found = replace(found, header=csv_columns(path))
    with _connection(found) as connection:
        if found.is_parquet:
            require_affordable(connection, path, found.parameters["path"])
            described = connection.execute(
                f"DESCRIBE SELECT * FROM {found.scan()}", found.parameters
            ).fetchall()
            found = replace(found, header={str(row[0]): str(row[1]) for row in described})
        missing = [column for column in layout.columns if column not in found.header]
        if missing:
            raise SourceError(
                f"{path}: column {', '.join(map(repr, missing))} is missing; "
                f"expected {', '.join(layout.columns)}"
            )
        for column, wanted in layout.all_columns.items():
            if column in found.header and not _is_empty(connection, found, column):
                require_type(path, column, wanted, found.header[column])
    extra = sorted(found.header.keys() - layout.all_columns.keys())
    if extra:
        logger.info("%s: columns not read: %s", path, ", ".join(extra))
    return found


def _is_empty(connection: duckdb.DuckDBPyConnection, file: FoundFile, column: str) -> bool:
    """Whether a column holds nothing but NULL: Parquet calls that INTEGER."""
    if file.header[column] != "INTEGER":
        return False
    row = connection.execute(
        f'SELECT count("{column}") FROM {file.scan()}', file.parameters
    ).fetchone()
    return row == (0,)


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
            require_unchanged(file.path, file.mark)
            broken = isinstance(error, duckdb.ConversionException)
            cell = _unreadable_cell(connection, file) if broken else None
            raise SourceError(
                f"{file.path}: {cell or f'cannot be read: {in_words(error)}; write it again from where it came from'}"
            ) from error
        finally:
            connection.close()


def _unreadable_cell(connection: duckdb.DuckDBPyConnection, file: FoundFile) -> str | None:
    """The first text that is no number or no time: its row, its column, and what was expected."""
    for column, kind in file.layout.all_columns.items():
        if kind == "VARCHAR" or file.header.get(column) != "VARCHAR":
            continue
        row = connection.execute(
            f'SELECT number, found FROM (SELECT row_number() OVER () AS number, "{column}" AS found FROM {file.scan()}) '
            f"WHERE found IS NOT NULL AND TRY_CAST(found AS {kind}) IS NULL ORDER BY number LIMIT 1",
            file.parameters,
        ).fetchone()
        if row is not None:
            wanted = (
                "a number such as 0.5"
                if kind == "DOUBLE"
                else "a time such as 2024-06-30T13:00:00Z"
            )
            return (
                f"row {row[0]}, column {column!r}: {str(row[1])[:60]!r}: expected {wanted}; "
                "mend the cell or take the row out"
            )
    return None
