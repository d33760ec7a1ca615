"""What a card is made of: sections of notes and tables, the same for Markdown and HTML.

In: text and rows from SQL. Out: ``Section``. Never: markup; the templates escape every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from orchestration.report.formats import FILTERS
from orchestration.report.queries import NothingYet, Row, rows

Format = Callable[[Any], str] | None


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the name in SQL, and how a value is shown."""

    title: str
    name: str
    show: str = ""  # a filter of report/formats.py; '' as it is
    digits: int | None = None

    def text(self, row: Row) -> str:
        value = row[self.name]
        if self.show:
            extra = () if self.digits is None else (self.digits,)
            return FILTERS[self.show](value, *extra)
        if value is None:
            return "–"
        return "yes" if value is True else "no" if value is False else str(value)


@dataclass(frozen=True)
class Table:
    """Cells as text; ``numbers`` says which columns are aligned as such."""

    title: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]


@dataclass
class Section:
    """A numbered part of a card. ``notes`` are sentences, ``nothing`` why there is no table."""

    title: str
    lead: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """Whose card it is, and where its numbers come from."""

    connection: duckdb.DuckDBPyConnection
    model: str
    version: str
    as_of: Any  # newest day of the published forecasts
    seen: dict[Any, list[Row]] = field(default_factory=dict)
    """Answers by query and the parameters that it mentions: versions of one model, and models of one window, share many."""

    def rows(self, sql: str, **more: Any) -> list[Row]:
        """``sql`` with $model, $version and $as_of. Raises ``NothingYet`` where a table or column is not there."""
        parameters = {"model": self.model, "version": self.version, "as_of": self.as_of, **more}
        used = {name: value for name, value in parameters.items() if f"${name}" in sql}
        key = (sql, *used.values())
        if key not in self.seen:
            self.seen[key] = rows(self.connection, sql, **used)
        return self.seen[key]

    def some(self, sql: str, **more: Any) -> list[Row]:
        """The same; nothing where a table is not there yet."""
        try:
            return self.rows(sql, **more)
        except NothingYet:
            return []


def table(title: str, found: Sequence[Row], columns: Sequence[Column]) -> list[Table]:
    """One table, or none where there are no rows."""
    if not found:
        return []
    cells = tuple(tuple(column.text(row) for column in columns) for row in found)
    numbers = tuple(bool(c.show) and c.show not in ("day", "words", "instant", "digest") for c in columns)  # fmt: skip
    return [Table(title, tuple(column.title for column in columns), cells, numbers)]


def pairs(title: str, values: Mapping[str, str]) -> Table:
    """A table of names and values."""
    return Table(title, ("what", "value"), tuple(values.items()), (False, False))
