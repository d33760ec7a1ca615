"""What an examination gives, and the shape of an invariant that SQL can state.

In: a read-only connection to the warehouse. Out: ``Finding``, one per invariant. Never: a write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import duckdb

from orchestration.settings import Settings

Severity = Literal["critical", "warning"]
RESTORE = "restore a backup into an empty home (`volcast restore FOLDER`)"


class CannotLook(RuntimeError):
    """The home cannot be examined at all; the message says why and what to do."""


@dataclass(frozen=True)
class Finding:
    """One invariant: whether it ``holds`` over ``checked`` things, how many of them are ``broken``, one of those, and what to do.

    ``severity``: a broken critical invariant means wrong or lost data; a broken warning is something that the next run clears away.
    """

    name: str
    meaning: str
    holds: bool
    checked: int
    broken: int = 0
    example: str = ""
    advice: str = ""
    note: str = ""
    severity: Severity = "critical"


@dataclass(frozen=True)
class Count:
    """How many things were looked at, how many are broken, and one of those."""

    checked: int = 0
    broken: int = 0
    example: str = ""
    note: str = ""


@dataclass(frozen=True)
class Look:
    """What the invariants look at: a home, and an open read-only connection in which the warehouse is the default catalog."""

    settings: Settings
    connection: duckdb.DuckDBPyConnection
    layout: str
    tables: frozenset[str]
    deep: bool = False
    days: tuple[date, ...] = ()
    """Days whose features are rebuilt; empty: a sample."""
    values: dict[str, Any] = field(default_factory=dict)
    """Parameters of the SQL, by name: those that it names are bound."""

    def one(self, query: str) -> tuple[Any, ...]:
        """First row of a query; empty where there is none."""
        used = {name: value for name, value in self.values.items() if f"${name}" in query}
        row = self.connection.execute(query, used).fetchone()
        return row if row is not None else ()

    def count(self, checked: str, broken: str) -> Count:
        """``checked`` counts what is looked at, ``broken`` gives the rows that break the invariant."""
        (total,) = self.one(checked)
        found = self.one(f"SELECT count(*) OVER (), * FROM ({broken}) LIMIT 1")
        if not found:
            return Count(int(total or 0))
        names = [column[0] for column in self.connection.description or []]
        example = ", ".join(
            f"{name}={value}"
            for name, value in zip(names[1:], found[1:], strict=True)
            if value is not None
        )
        return Count(int(total or 0), int(found[0]), example)


@dataclass(frozen=True)
class Invariant:
    """What must hold, in a sentence; what to do where it does not; and how to look: two queries, or a function.

    Where the warehouse lacks one of the tables in ``needs`` there is nothing to look at; that the table is missing is the layout's finding.
    """

    name: str
    meaning: str
    advice: str
    needs: tuple[str, ...] = ()
    checked: str = ""
    broken: str = ""
    by: Callable[[Look], Count] | None = None
    severity: Severity = "critical"

    def __call__(self, look: Look) -> Finding:
        missing = [table for table in self.needs if table not in look.tables]
        if missing:
            return self.finding(Count(note=f"nothing to look at: no {', '.join(missing)}"))
        return self.finding(self.by(look) if self.by else look.count(self.checked, self.broken))

    def finding(self, count: Count) -> Finding:
        holds = count.broken == 0
        return Finding(
            self.name,
            self.meaning,
            holds,
            count.checked,
            count.broken,
            count.example,
            "" if holds else self.advice,
            count.note,
            self.severity,
        )
