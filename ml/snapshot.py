"""The training snapshot: one folder that holds all a worker reads, under a hash of its content.

In: frames in the layout of features.daily, features.realized, features.hourly and, where there is one, features.funding_venues;
any fsspec folder URI.
Out: daily.parquet, realized.parquet, hourly.parquet, funding.parquet and, written last, snapshot.json {sha256, source, as_of}.
Never: a hash that depends on row order, column order, Parquet metadata or number width; a read of a folder that was
not finished or was changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEYS: dict[str, tuple[str, ...]] = {
    "daily": ("asset", "as_of"),
    "realized": ("asset", "day", "known_on"),
    "hourly": ("asset", "ts"),
    "funding": ("asset", "as_of", "venue"),
}
OPTIONAL = ("funding",)
MANIFEST = "snapshot.json"


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot."""

    sha256: str
    source: str
    as_of: date
    daily: pd.DataFrame
    realized: pd.DataFrame
    hourly: pd.DataFrame
    funding: pd.DataFrame | None = None


def write_snapshot(
    folder_uri: str,
    daily: pd.DataFrame,
    realized: pd.DataFrame,
    hourly: pd.DataFrame,
    source: str,
    as_of: date,
    funding: pd.DataFrame | None = None,
) -> str:
    """Write the snapshot and return the sha256 of its content; the same content again is left as it is."""
    tables = _tables(daily, realized, hourly, funding)
    manifest = {"sha256": _content_hash(tables), "source": source, "as_of": as_of.isoformat()}
    fs, folder = fsspec.core.url_to_fs(folder_uri)
    manifest_path = f"{folder}/{MANIFEST}"
    if fs.exists(manifest_path):
        if (
            json.loads(fs.cat_file(manifest_path)) == manifest
            and _folder_hash(fs, folder) == manifest["sha256"]
        ):
            return str(manifest["sha256"])
        fs.rm_file(manifest_path)
    fs.makedirs(folder, exist_ok=True)
    for name in set(OPTIONAL) - set(tables):
        if fs.exists(f"{folder}/{name}.parquet"):
            fs.rm_file(f"{folder}/{name}.parquet")
    for name, table in tables.items():
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write_atomically(f"{folder_uri}/{name}.parquet", buffer.getvalue())
    write_atomically(f"{folder_uri}/{MANIFEST}", json.dumps(manifest, indent=1).encode())
    return str(manifest["sha256"])


def read_snapshot(folder_uri: str, expected_sha256: str | None = None) -> Snapshot:
    """Read and verify. ValueError when the content is not what snapshot.json, or `expected_sha256`, says."""
    fs, folder = fsspec.core.url_to_fs(folder_uri)
    if not fs.exists(f"{folder}/{MANIFEST}"):
        raise FileNotFoundError(
            f"{folder_uri}: no {MANIFEST}; the snapshot was never finished, write it again"
        )
    manifest: dict[str, Any] = json.loads(fs.cat_file(f"{folder}/{MANIFEST}"))
    expected = manifest["sha256"] if expected_sha256 is None else expected_sha256
    tables = _read_tables(fs, folder)
    found = _content_hash(tables)
    if found != expected:
        raise ValueError(
            f"{folder_uri}: content has sha256 {found}, expected {expected}; write the snapshot again"
        )
    frames = {name: table.to_pandas() for name, table in tables.items()}
    return Snapshot(
        sha256=found,
        source=manifest["source"],
        as_of=date.fromisoformat(manifest["as_of"]),
        **frames,
    )


def content_hash(
    daily: pd.DataFrame,
    realized: pd.DataFrame,
    hourly: pd.DataFrame,
    funding: pd.DataFrame | None = None,
) -> str:
    """The sha256 that `write_snapshot` would give these frames."""
    return _content_hash(_tables(daily, realized, hourly, funding))


def write_atomically(uri: str, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none; on a local path by a rename."""
    fs, path = fsspec.core.url_to_fs(uri)
    if "file" not in fs.protocol:
        fs.pipe_file(path, content)  # object stores show a file only when its upload is complete
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _tables(
    daily: pd.DataFrame,
    realized: pd.DataFrame,
    hourly: pd.DataFrame,
    funding: pd.DataFrame | None,
) -> dict[str, pa.Table]:
    """By name; a table that the snapshot does not have is left out."""
    frames = {"daily": daily, "realized": realized, "hourly": hourly, "funding": funding}
    return {name: _table(frame) for name, frame in frames.items() if frame is not None}


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _read_tables(fs: Any, folder: str) -> dict[str, pa.Table]:
    return {
        name: pq.read_table(BytesIO(fs.cat_file(f"{folder}/{name}.parquet")))
        for name in KEYS
        if name not in OPTIONAL or fs.exists(f"{folder}/{name}.parquet")
    }


def _folder_hash(fs: Any, folder: str) -> str:
    try:
        return _content_hash(_read_tables(fs, folder))
    except (OSError, pa.ArrowException):
        return ""  # unreadable: to be written again


def _content_hash(tables: dict[str, pa.Table]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tables):
        table = tables[name]
        missing = sorted(set(KEYS[name]) - set(table.column_names))
        if missing:
            raise ValueError(
                f"snapshot table {name}: no column {missing[0]!r}: expected the keys {KEYS[name]}"
            )
        canonical = pa.table(
            {column: _canonical(table[column]) for column in sorted(table.column_names)}
        )
        canonical = canonical.sort_by([(column, "ascending") for column in KEYS[name]])
        digest.update(f"{name}:{canonical.num_rows}".encode())
        for column in canonical.column_names:
            digest.update(f"|{column}:{canonical[column].type}|".encode())
            _update(digest, canonical[column].combine_chunks())
    return digest.hexdigest()


def _canonical(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as float64, times as microseconds since 1970 UTC, all else as text; NaN as null."""
    kind = column.type
    if pa.types.is_temporal(kind):
        return column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).cast(
            pa.int64()
        )
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    return column.cast(pa.string())


def _update(digest: Any, array: pa.Array) -> None:
    digest.update(np.packbits(pc.is_valid(array).to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_string(array.type):
        texts = [text.encode() for text in array.fill_null("").to_pylist()]
        digest.update(np.array([len(text) for text in texts], dtype=np.int64).tobytes())
        digest.update(b"".join(texts))
    else:
        digest.update(
            np.ascontiguousarray(array.fill_null(0).to_numpy(zero_copy_only=False)).tobytes()
        )
