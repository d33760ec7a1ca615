"""What is asked of an archive's file before a row of it is read: whose it is, what it claims to hold, and what it would cost.

In: a path of an archive folder. Out: the same path, or a SourceError that names the file, what was found and what to do. Never: reads rows
into memory, follows a link out of the folder, or opens what is no regular file (a FIFO would wait for ever, a device never ends).

A folder may be what a stranger packed. So: links are followed within the folder and nowhere else; a Parquet file may not claim more rows
than its bytes can hold; no text, line or column chunk is longer than anything that is data.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from pathlib import Path

import duckdb

from orchestration.sources.protocol import SourceError

LONGEST_TEXT = 2_000_000
"""Bytes of one text, and of one line of a CSV file."""
TEXT_PER_ROW, SPARE_TEXT = 1_000, 100_000_000
"""Bytes of text that a file may hold: so many a row, and so many besides; a batch of rows then fits in memory."""
ROWS_PER_BYTE = 20
"""More rows than this for each byte of a Parquet file are copies of a few: 1.7 rows for 100 bytes is usual for bars."""
MOST_ROWS = 2_000_000_000
LARGEST_CHUNK = 256 * 2**20
"""Uncompressed bytes of one column of one row group, which is unpacked whole."""
_KINDS = {
    "VARCHAR": ("text", ("VARCHAR", "ENUM", "UUID")),
    "DOUBLE": (
        "a number",
        ("DOUBLE", "FLOAT", "DECIMAL", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
         "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "VARCHAR"),
    ),
    "TIMESTAMPTZ": ("a timestamp with a time zone", ("TIMESTAMP", "DATE", "VARCHAR")),
}  # fmt: skip

Mark = tuple[int, int, int, int]


def present(folder: Path, path: Path) -> bool:
    """Whether there is a file at ``path`` that may be read. Raises SourceError for anything there that may not be."""
    for step in (path.parent, path):
        if not os.path.lexists(step):
            return False
        try:
            target = step.resolve(strict=True)
            mode = target.stat().st_mode
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or "a link to itself"
            raise SourceError(
                f"{step}: cannot be opened ({why}): expected a file or no file; remove or mend the link"
            ) from None
        if not target.is_relative_to(folder.resolve()):
            raise SourceError(
                f"{step}: a link to {target}, outside of the archive: not followed; copy the file to its place, "
                "or set VOLCAST_ARCHIVE to the folder that holds the files"
            )
        if step == path and not stat.S_ISREG(mode):
            raise SourceError(f"{path}: {_kind_of(mode)}: expected a file; remove it")
        if step != path and not stat.S_ISDIR(mode):
            raise SourceError(f"{step}: {_kind_of(mode)}: expected a folder; remove it")
    try:
        path.open("rb").close()
    except PermissionError:
        raise SourceError(
            f"{path}: no permission to read it; let the user of volcast read the file"
        ) from None
    return True


def _kind_of(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
    ):
        if is_kind(mode):
            return name
    return "a device"


def mark(path: Path) -> Mark:
    """What changes when a file is written or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def require_unchanged(path: Path, before: Mark) -> None:
    """Raises SourceError for a file that was written since ``before``: its rows are of two states."""
    try:
        same = mark(path) == before
    except OSError:
        same = False
    if not same:
        raise SourceError(
            f"{path}: changed while it was read; write a new file beside it, rename it over this one, and run again"
        )


def csv_columns(path: Path) -> dict[str, str]:
    """The columns of a CSV file, all text, in order. Raises SourceError for one whose records cannot be told apart."""
    line_number, record, quotes = 0, 0, 0
    header: list[str] = []
    with path.open("rb") as file:
        while line := file.readline(LONGEST_TEXT + 1):
            line_number += 1
            record += len(line)
            quotes += line.count(b'"')
            if record > LONGEST_TEXT:
                raise SourceError(
                    f"{path}, line {line_number}: a record of more than {LONGEST_TEXT:,} bytes; "
                    "is a quote or a line end missing?"
                )
            if quotes % 2 == 0:
                header = header or _header(path, line)
                record = quotes = 0
    if quotes % 2:
        raise SourceError(f"{path}: a quote is opened and never closed")
    if not header:
        raise SourceError(f"{path}: empty: expected a header and rows")
    return dict.fromkeys(header, "VARCHAR")


def _header(path: Path, line: bytes) -> list[str]:
    try:
        names = next(csv.reader([line.decode("utf-8-sig").splitlines()[0]]), [])
    except (UnicodeDecodeError, csv.Error, IndexError):
        raise SourceError(
            f"{path}, line 1: not a header in UTF-8: {line[:60]!r}; is it packed, or in another encoding?"
        ) from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"{path}, line 1: column {', '.join(map(repr, repeated))} is there twice")
    if len(names) == 1 and ";" in names[0]:
        raise SourceError(f"{path}, line 1: columns set apart by semicolons: expected commas")
    return names


def require_affordable(connection: duckdb.DuckDBPyConnection, path: Path, parameter: str) -> None:
    """Raises SourceError for a Parquet file whose footer claims more than a file of its size can hold."""
    rows, *_ = connection.execute(
        "SELECT coalesce(sum(num_rows), 0) FROM parquet_file_metadata($path)", {"path": parameter}
    ).fetchone() or (0,)
    most = min(MOST_ROWS, max(ROWS_PER_BYTE * path.stat().st_size, 100_000))
    if rows > most:
        raise SourceError(
            f"{path}: {rows:,} rows in {path.stat().st_size:,} bytes: expected at most {most:,}; copies of one row?"
        )
    column, size = connection.execute(
        "SELECT arg_max(path_in_schema, total_uncompressed_size), coalesce(max(total_uncompressed_size), 0) "
        "FROM parquet_metadata($path)",
        {"path": parameter},
    ).fetchone() or ("", 0)
    if size > LARGEST_CHUNK:
        raise SourceError(
            f"{path}: column {column!r} unpacks to {size:,} bytes in one row group: expected at most {LARGEST_CHUNK:,}; "
            "write smaller row groups"
        )


def require_type(path: Path, column: str, wanted: str, found: str) -> None:
    """Raises SourceError for a column whose type cannot be read as ``wanted`` without guessing."""
    words, readable = _KINDS[wanted]
    if found.startswith(readable) and not found.endswith("[]"):
        return
    hint = "; a bare number has no unit" if wanted == "TIMESTAMPTZ" else ""
    raise SourceError(f"{path}: column {column!r} is {found}: expected {words}{hint}")


def in_words(error: duckdb.Error) -> str:
    """DuckDB's message in one line, without its advice on options and the query."""
    text = str(error)
    text = re.split(r"Possible fixes|Possible Solution|LINE \d+:", text)[0]
    line = " ".join(text.replace("\0", "\\0").split())
    return line if len(line) <= 400 else line[:399] + "…"
