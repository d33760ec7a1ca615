"""From a provider's answer to rows of a raw table.

In: decoded JSON, rows as dicts. Out: checked models, Arrow tables with the columns of the raw table, pages of a bounded size.
Never: guesses a missing field, or drops one that is new without keeping its name and an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from orchestration.sources.live.errors import ShapeChanged
from orchestration.sources.live.transport import Transport
from orchestration.sources.protocol import Page, SourceError
from orchestration.sources.schema import TABLES

SOURCE = "live"
PAGE_ROWS = 50_000
"""Rows gathered before they are stored: each store costs a validation and a transaction."""
T = TypeVar("T")


class Answer(BaseModel):
    """A part of a provider's documented answer: fields that are missing are an error, fields that are new are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


def parse(kind: type[T] | Any, payload: Any, transport: Transport, endpoint: str) -> T:
    """``payload`` as ``kind`` (an ``Answer`` or a list of them). Raises ``ShapeChanged`` that names provider, endpoint and field.

    Unknown fields stay in the model's ``model_extra``, and in ``transport.seen.unknown_fields`` with an example.
    """
    try:
        value: T = TypeAdapter(kind).validate_python(payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "(the whole answer)"
        found = "" if first["type"] == "missing" else f", got {str(first['input'])[:80]!r}"
        raise ShapeChanged(
            transport.provider, endpoint, f"field {place}: {first['msg']}{found}"
        ) from None
    _keep_unknown(value, transport, endpoint)
    return value


def _keep_unknown(value: Any, transport: Transport, endpoint: str, place: str = "") -> None:
    if isinstance(value, BaseModel):
        for name, example in (value.model_extra or {}).items():
            transport.seen.unknown_fields.setdefault(
                f"{endpoint}: {place}{name}", repr(example)[:80]
            )
        for name in type(value).model_fields:
            _keep_unknown(getattr(value, name), transport, endpoint, f"{place}{name}.")
    elif isinstance(value, list) and value:
        for item in (value[0], value[-1]):
            _keep_unknown(item, transport, endpoint, place)


def unknown_field_notes(transport: Transport) -> tuple[str, ...]:
    """A line for each field that the provider's documentation, as read by us, does not have."""
    return tuple(
        f"new field {name} = {example}" for name, example in transport.seen.unknown_fields.items()
    )


def arrow(table: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a batch of ``raw.<table>``: absent keys are NULL, ``source`` is filled in. Raises KeyError for a key that is no column."""
    schema = TABLES[table].arrow
    known = set(schema.names)
    filled = []
    for row in rows:
        if not row.keys() <= known:
            raise KeyError(f"raw.{table} has no column {sorted(row.keys() - known)}")
        filled.append({**row, "source": SOURCE})
    return pa.Table.from_pylist(filled, schema=schema)


def from_columns(table: str, columns: Mapping[str, Any]) -> pa.Table:
    """Arrow arrays as a batch of ``raw.<table>``; a plain value counts for every row. Raises KeyError for a key that is no column."""
    schema = TABLES[table].arrow
    if not columns.keys() <= set(schema.names):
        raise KeyError(f"raw.{table} has no column {sorted(columns.keys() - set(schema.names))}")
    given = {**columns, "source": SOURCE}
    rows = max(len(value) for value in given.values() if isinstance(value, _ARRAYS))
    return pa.table(
        [_column(given.get(field.name), field.type, rows) for field in schema], schema=schema
    )


_ARRAYS = (pa.Array, pa.ChunkedArray)


def _column(value: Any, kind: pa.DataType, rows: int) -> pa.Array | pa.ChunkedArray:
    if isinstance(value, _ARRAYS):
        return value.cast(kind)
    return pa.nulls(rows, kind) if value is None else pa.repeat(pa.scalar(value, kind), rows)


def paged(pages: Iterable[Page], size: int = PAGE_ROWS) -> Iterator[Page]:
    """The same rows in fewer, larger pages; each carries the ``known_through`` of its last part. What came before an error is given first."""
    waiting: list[pa.Table] = []
    rows, through = 0, None
    try:
        for page in pages:
            waiting.append(page.rows)
            rows += page.rows.num_rows
            through = page.known_through if page.known_through is not None else through
            if rows >= size:
                yield Page(pa.concat_tables(waiting).combine_chunks(), through)
                waiting, rows = [], 0
    except SourceError:
        if waiting:
            yield Page(pa.concat_tables(waiting).combine_chunks(), through)
        raise
    if waiting:
        yield Page(pa.concat_tables(waiting).combine_chunks(), through)


def from_ms(value: float) -> datetime:
    """Milliseconds since 1970 -> UTC. Raises ValueError for what is no time."""
    try:
        return datetime.fromtimestamp(value / 1000, tz=UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{value!r}: expected milliseconds since 1970") from error


def to_ms(value: datetime) -> int:
    """UTC -> milliseconds since 1970."""
    return round(value.timestamp() * 1000)


def _from_seconds(value: Any) -> datetime:
    if not isinstance(value, int | float | str) or not 1e9 <= float(value) < 1e10:
        raise ValueError("expected seconds since 1970")
    return datetime.fromtimestamp(float(value), tz=UTC)


Seconds = Annotated[datetime, BeforeValidator(_from_seconds)]
"""A field of an answer: seconds since 1970, in quotes or not."""


def midnight(value: datetime) -> datetime:
    """The start of the UTC day of ``value``."""
    return value.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def within(
    table: pa.Table,
    known_after: datetime | None,
    known_until: datetime,
    read: datetime | None = None,
) -> pa.Table:
    """The rows with ``known_after < known_at <= known_until``, and those that are known because they were ``read`` then."""
    import pyarrow.compute as pc

    known_until = max(known_until, read or known_until)

    known = table["known_at"]
    keep = pc.less_equal(known, pa.scalar(known_until, known.type))
    if known_after is not None:
        keep = pc.and_(keep, pc.greater(known, pa.scalar(known_after, known.type)))
    return table.filter(keep)


def in_order(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """Rows by ``keys``, one for each: providers repeat and shuffle rows across pages; the last one counts."""
    unique = {tuple(row[key] for key in keys): row for row in rows}
    return [unique[name] for name in sorted(unique)]
