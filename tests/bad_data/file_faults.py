"""Things in the place of an archive's files. Out: ``FAULTS``; each ``make(folder)`` changes a folder that holds a sound archive."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bad_data import market
from tests.bad_data.corpus import FileFault, LeftOut, Outcome, Refused, Stored

BARS, NEWS = "ohlcv/1h.parquet", "headlines/headlines.parquet"
HEADER = "venue,symbol,ts,open,high,low,close,volume\n"
LINE = "binance,BTC/USDT,{ts},100.0,102.0,99.0,101.0,5.0\n"
STAMP = "2024-02-01T0{hour}:00:00Z"


def sound_csv(hours: int = 5) -> str:
    return HEADER + "".join(LINE.format(ts=STAMP.format(hour=hour)) for hour in range(hours))


def csv(name: str, outcome: Outcome, text: str | bytes) -> FileFault:
    """CSV in the place of the bars."""

    def make(folder: Path) -> None:
        (folder / BARS).unlink()
        content = text if isinstance(text, bytes) else text.encode()
        (folder / BARS).with_suffix(".csv").write_bytes(content)

    return FileFault(name, "CSV files", outcome, make)


def cell(name: str, outcome: Outcome, right: str, wrong: str) -> FileFault:
    """The third bar's cell is another."""
    lines = sound_csv().splitlines(keepends=True)
    lines[3] = lines[3].replace(right.format(hour=2), wrong, 1)
    return csv(name, outcome, "".join(lines))


def parquet(
    name: str, outcome: Outcome, change: Callable[[pa.Table], pa.Table], file: str = BARS
) -> FileFault:
    def make(folder: Path) -> None:
        pq.write_table(change(pq.read_table(folder / file)), folder / file)

    return FileFault(name, "Parquet files", outcome, make)


def replaced(name: str, outcome: Outcome, change: Callable[[bytes], bytes]) -> FileFault:
    def make(folder: Path) -> None:
        (folder / BARS).write_bytes(change((folder / BARS).read_bytes()))

    return FileFault(name, "Parquet files", outcome, make)


def place(name: str, outcome: Outcome, make: Callable[[Path], object]) -> FileFault:
    return FileFault(name, "paths", outcome, make)


def cast(column: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(
        table.column_names.index(column), column, table[column].cast(kind)
    )


def put(column: str, values: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(column), column, values(table))


def seconds(table: pa.Table) -> pa.Array:
    return pa.array([stamp.timestamp() for stamp in table["ts"].to_pylist()]).cast(pa.int64())


def encrypted(folder: Path) -> None:
    import base64

    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):
        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
            return base64.b64encode(key_bytes).decode()

        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            return base64.b64decode(wrapped_key)

    table = pq.read_table(folder / BARS)
    factory = pe.CryptoFactory(lambda _: Keys())
    how = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": table.column_names})
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), how)
    with pq.ParquetWriter(folder / BARS, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


def wrong_footer(content: bytes) -> bytes:
    """The length of the footer is another."""
    return content[:-8] + (2**31 - 1).to_bytes(4, "little") + content[-4:]


def rows_bomb(folder: Path) -> None:
    """Twenty million bars that are one, in a file of kilobytes."""
    table = pq.read_table(folder / BARS).slice(0, 1)
    many = pa.table({name: pa.repeat(table[name][0], 5_000_000) for name in table.column_names})
    with pq.ParquetWriter(folder / BARS, many.schema, compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(many, row_group_size=5_000_000)


def text_bomb(size: int, rows: int) -> Callable[[Path], None]:
    """Titles that are one long text, packed to almost nothing."""

    def make(folder: Path) -> None:
        table = pq.read_table(folder / NEWS)
        columns = {name: pa.repeat(table[name][0], rows) for name in table.column_names}
        columns["ts"] = pa.concat_arrays(
            [table["ts"].combine_chunks()] * (rows // table.num_rows + 1)
        )[:rows]
        columns["title"] = pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), rows), ["x" * size]
        )
        pq.write_table(pa.table(columns), folder / NEWS, compression="zstd")

    return make


def link(target: Callable[[Path], Path | str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / NEWS).unlink()
        (folder / NEWS).symlink_to(target(folder))

    return make


def outside(folder: Path) -> Path:
    """A file that lies beside the archive."""
    other = folder.parent / "elsewhere.parquet"
    pq.write_table(market.arrow(market.frames()["headlines/headlines"]), other)
    return other


def in_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else under the name of the headlines' file."""

    def change(folder: Path) -> None:
        (folder / NEWS).unlink()
        make(folder / NEWS)

    return change


def moved(folder: Path) -> None:
    """A link that stays within the archive."""
    os.replace(folder / NEWS, folder / "headlines/2024.parquet")
    (folder / NEWS).symlink_to("2024.parquet")


def linked_folder(folder: Path) -> None:
    shutil.move(folder / "headlines", folder.parent / "elsewhere")
    (folder / "headlines").symlink_to(folder.parent / "elsewhere")


def grown(folder: Path) -> None:
    """Takes effect while the file is read: see ``test_files``."""
    (folder / "grow").touch()


def locked(folder: Path) -> None:
    (folder / NEWS).chmod(0)


def as_csv(frame: pd.DataFrame, **options: object) -> str:
    return str(frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ", **options))  # type: ignore[call-overload]


CELL = r"1h\.csv: row 3, column '{}': '{}': expected {}"

FAULTS = [
    # CSV
    csv("an empty CSV file", Refused("empty: expected a header and rows"), b""),
    csv("a CSV file with a header alone", Refused("the price files have no rows"), HEADER),
    csv("a CSV file with a byte-order mark", Stored("the mark is no part of the header", 5), b"\xef\xbb\xbf" + sound_csv().encode()),
    csv("a CSV file with CRLF", Stored("either line end", 5), sound_csv().replace("\n", "\r\n")),
    csv("a CSV file without a last line end", Stored("the last line counts", 5), sound_csv().rstrip("\n")),
    csv("lines that end in two ways", Refused("1h.csv: cannot be read"), sound_csv().replace("\n", "\r\n", 3)),
    csv("semicolons between columns", Refused("columns set apart by semicolons: expected commas"), sound_csv().replace(",", ";")),
    csv("decimal commas", Refused(r"Line: 2 .*Expected Number of Columns: 8 Found: 9"), sound_csv().replace(".0", ",0")),
    cell("a decimal comma in quotes", Refused(CELL.format("close", "101,0", "a number")), "101.0", '"101,0"'),
    cell("text where a price belongs", Refused(CELL.format("close", "n/a", "a number")), "101.0", "n/a"),
    cell("a leap second", Refused(CELL.format("ts", "2016-12-31T23:59:60Z", "a time")), STAMP, "2016-12-31T23:59:60Z"),
    cell("an hour that is none: 24:00", Refused(CELL.format("ts", "2024-02-01T24:00:01Z", "a time")), STAMP, "2024-02-01T24:00:01Z"),
    cell("the day before the month", Refused(CELL.format("ts", "31/01/2024", "a time")), STAMP, "31/01/2024"),
    cell("seconds since 1970 in CSV", Refused(CELL.format("ts", "1706745600", "a time")), STAMP, "1706745600"),
    cell("a time without a zone", Stored("taken as UTC, as the layout says", 5), STAMP, "2024-02-01 02:00:00"),
    cell("a time with another zone", Stored("its instant", 5), STAMP, "2024-02-01T04:00:00+02:00"),
    cell("a time without end", LeftOut("1 rows left out: no ts"), STAMP, "infinity"),
    cell("a row that is too short", Refused("Line: 4 .*Expected Number of Columns: 8 Found: 7"), ",5.0", ""),
    cell("a row that is too long", Refused("Line: 4 .*Expected Number of Columns: 8 Found: 9"), ",5.0", ",5.0,6.0"),
    cell("a row that looks like a comment", Stored("no comment: read as a bar, which the gate refuses for its venue", 5), "binance", "#binance"),
    cell("a quote that never closes", Refused("a quote is opened and never closed"), "binance", '"binance'),
    csv("lines before the header", Refused("column 'venue', .* is missing"), "exported 2024-03-01\n" + sound_csv()),
    csv("a column that is there twice", Refused("line 1: column 'close' is there twice"), sound_csv().replace("volume", "close")),
    csv("gzip under the name of CSV", Refused("line 1: not a header in UTF-8"), gzip.compress(sound_csv().encode())),
    csv("UTF-16", Refused("line 1: not a header in UTF-8"), sound_csv().encode("utf-16")),
    csv("Latin-1 in a name", Refused("not utf-8 encoded"), sound_csv().replace("binance", "börse").encode("latin-1")),
    csv("a line of 100 MB", Refused("line 7: a record of more than 2,000,000 bytes"), sound_csv().encode() + b"x" * 100_000_000),
    csv("a first line of 10 MB", Refused("line 1: a record of more than 2,000,000 bytes"), b"x" * 10_000_000),
    csv("a quote around 10 MB of lines", Refused("a record of more than 2,000,000 bytes"), sound_csv().encode() + b'"' + b"x\n" * 5_000_000),
    # Parquet
    replaced("a file of 0 bytes", Refused("1h.parquet: cannot be read"), lambda _: b""),
    replaced("a file cut in half", Refused("1h.parquet: cannot be read"), lambda content: content[: len(content) // 2]),
    replaced("a footer of another length", Refused("1h.parquet: cannot be read"), wrong_footer),
    replaced("CSV under the name of Parquet", Refused("1h.parquet: cannot be read"), lambda _: sound_csv().encode()),
    replaced("a page of zeros within", Refused("1h.parquet: cannot be read"), lambda content: content[:200] + bytes(60_000) + content[60_200:]),
    FileFault("an encrypted file", "Parquet files", Refused("1h.parquet: cannot be read: .*[Ee]ncrypt"), encrypted),
    parquet("an empty table", Refused("the price files have no rows"), lambda table: table.slice(0, 0)),
    parquet("a column that is missing", Refused("column 'volume' is missing; expected venue"), lambda table: table.drop_columns(["volume"])),
    parquet("a column under another name", Refused("column 'close' is missing"), lambda table: table.rename_columns(["last" if n == "close" else n for n in table.column_names])),
    parquet("a column more", Stored("named in the log, not read", 2880), lambda table: table.append_column("rank", pa.nulls(table.num_rows, pa.int8()))),
    parquet("seconds since 1970 as a number", Refused("column 'ts' is BIGINT: expected a timestamp with a time zone; a bare number has no unit"), put("ts", seconds)),
    parquet("seconds under the type of milliseconds", Refused("no rows of a coin against the dollar.*between 2009-01-03 and now"), put("ts", lambda t: seconds(t).cast(pa.timestamp("ms")).cast(pa.timestamp("us", "UTC")))),
    parquet("nanoseconds under the type of microseconds", Refused("no rows of a coin against the dollar.*between 2009-01-03 and now"), put("ts", lambda t: pa.array([int(s) * 10**9 for s in seconds(t).to_pylist()]).cast(pa.timestamp("us", "UTC")))),
    parquet("times without a zone", Stored("taken as UTC, as the layout says", 2880), cast("ts", pa.timestamp("us"))),
    parquet("times to the nanosecond", Stored("to the microsecond", 2880), cast("ts", pa.timestamp("ns", "UTC"))),
    parquet("prices as text", Stored("numbers all the same", 2880), cast("close", pa.string())),
    parquet("text among the prices", Refused(r"1h\.parquet: row 8, column 'close': 'halted': expected a number"), put("close", lambda t: pa.array(["halted" if n == 7 else str(v) for n, v in enumerate(t["close"].to_pylist())]))),
    parquet("truth values as prices", Refused("column 'close' is BOOLEAN: expected a number"), put("close", lambda t: pa.array([True] * t.num_rows))),
    parquet("lists as prices", Refused(r"column 'close' is DOUBLE\[\]: expected a number"), put("close", lambda t: pa.array([[v] for v in t["close"].to_pylist()]))),
    parquet("bytes as titles", Refused("column 'title' is BLOB: expected text"), cast("title", pa.binary()), NEWS),
    parquet("numbers as titles", Refused("column 'title' is BIGINT: expected text"), put("title", lambda t: pa.array(range(t.num_rows))), NEWS),
    parquet("text that is no UTF-8", Refused("headlines.parquet: cannot be read"), put("title", lambda t: pa.array([b"caf\xe9"] * t.num_rows).view(pa.string())), NEWS),
    # bombs
    FileFault("20 million rows in a file of kilobytes", "Parquet files", Refused(r"20,000,000 rows in [\d,]+ bytes: expected at most"), rows_bomb),
    FileFault("one title of 100 MB", "Parquet files", Refused("column 'title': a text of more than 2,000,000 bytes"), text_bomb(100_000_000, 40)),
    FileFault("a dictionary that unpacks to 300 MB", "Parquet files", Refused("column 'title' unpacks to 300,.* expected at most"), text_bomb(300_000_000, 40)),
    FileFault("a title of a megabyte, ten thousand times", "Parquet files", Refused("bytes of text in 10,000 rows: expected 1,000 a row at most"), text_bomb(1_000_000, 10_000)),
    # what stands in a file's place
    place("a link to a file outside of the archive", Refused("a link to .*elsewhere.parquet, outside of the archive: not followed"), link(outside)),
    place("a link to a system file", Refused("a link to /etc/passwd, outside of the archive"), link(lambda _: "/etc/passwd")),
    place("a link up and out", Refused("outside of the archive"), link(lambda folder: os.path.relpath(outside(folder), (folder / NEWS).parent))),
    place("a folder that is a link out", Refused("headlines: a link to .*elsewhere, outside of the archive"), linked_folder),
    place("a link within the archive", Stored("followed", 2880), moved),
    place("a link to nothing", Refused("cannot be opened .*remove or mend the link"), link(lambda _: "nothing.parquet")),
    place("a link to itself", Refused("cannot be opened .*remove or mend the link"), link(lambda folder: folder / NEWS)),
    place("a folder in place of a file", Refused("headlines.parquet: a folder: expected a file"), in_place(Path.mkdir)),
    place("a FIFO in place of a file", Refused("headlines.parquet: a FIFO: expected a file"), in_place(os.mkfifo)),
    place("a device in place of a file", Refused("a link to /dev/zero, outside of the archive"), link(lambda _: "/dev/zero")),
    place("a file in place of a folder", Refused("headlines: a file: expected a folder"), lambda folder: (shutil.rmtree(folder / "headlines"), (folder / "headlines").touch())),
    place("a file without permission", Refused("no permission to read it"), locked),
    place("a file that grows while it is read", Refused("changed while it was read"), grown),
    place("the same data in both formats", Refused("the same data twice, keep one of them"), lambda folder: (folder / NEWS).with_suffix(".csv").touch()),
    place("a packed file beside the others", LeftOut(r"not read, no name of the layout: \['headlines/headlines.csv.gz'\]"), lambda folder: (folder / "headlines/headlines.csv.gz").touch()),
]  # fmt: skip
