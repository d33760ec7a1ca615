"""The words in which a fault is told: what is wrong, in which input, and what must come of it.

In: nothing. Out: ``Fault`` and its outcomes; ``all_faults`` gathers every module of the corpus. Never: runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Quarantined:
    """So many rows are in quarantine with a reason that matches, and so many are stored."""

    reason: str
    rows: int = 1
    stored: int = 0

    @property
    def words(self) -> str:
        kept = f"; {self.stored} stored" if self.stored else ""
        return f"quarantine: {_plain(self.reason)}{kept}"


@dataclass(frozen=True)
class Stored:
    """So many rows are in the raw table, unchanged, because they are real or do no harm; ``flag`` is the warning of the gate."""

    why: str
    rows: int = 1
    flag: str | None = None

    @property
    def words(self) -> str:
        return f"stored: {self.why}" + (f"; the gate warns: {self.flag}" if self.flag else "")


@dataclass(frozen=True)
class LeftOut:
    """Not stored, and counted in a line of the log that matches."""

    log: str

    @property
    def words(self) -> str:
        return f"left out, counted in the log: {_plain(self.log)}"


@dataclass(frozen=True)
class Refused:
    """An error whose message matches."""

    message: str

    @property
    def words(self) -> str:
        return f"error: {_plain(self.message)}"


@dataclass(frozen=True)
class GateCloses:
    """The gate of the day closes: nothing is trained or forecast until somebody looks."""

    expectation: str

    @property
    def words(self) -> str:
        return f"the gate closes: {self.expectation}"


@dataclass(frozen=True)
class GateWarns:
    """The day goes on, and the verdict says what is odd."""

    expectation: str

    @property
    def words(self) -> str:
        return f"the gate warns: {self.expectation}"


Outcome = Quarantined | Stored | LeftOut | Refused | GateCloses | GateWarns
Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """``name`` is its id in the tests and the document; ``input`` is the kind of data."""

    name: str
    input: str
    outcome: Outcome


@dataclass(frozen=True)
class RowFault(Fault):
    """Rows put into a file of an archive; each fault has a time of its own, so that all are read in one go."""

    stem: str
    make: Callable[[datetime, str], Sequence[Row]]
    """make(time, name of a series of its own) -> rows in the columns of the file."""


@dataclass(frozen=True)
class BookFault(Fault):
    """One side of an order book, as text."""

    bids: str
    asks: str = "[[101.0,1.0]]"


@dataclass(frozen=True)
class FileFault(Fault):
    """Something in the place of a file of an archive; ``make(folder)`` puts it there."""

    make: Callable[[Path], object]


@dataclass(frozen=True)
class MarketFault(Fault):
    """A change of a whole market: ``make`` changes the bars or rates in place of what the market had."""

    stem: str
    make: Callable[[Any], Any]


@dataclass(frozen=True)
class AnswerFault(Fault):
    """A provider's answer: ``provider`` is read, and this is what it says."""

    provider: str
    body: Callable[[], Any]


@dataclass(frozen=True)
class SettingFault(Fault):
    """A variable of the environment, or a portfolio's file."""

    make: Callable[[Path], object]


def _plain(pattern: str) -> str:
    """A pattern as words."""
    return re.sub(r"\\(.)", r"\1", pattern).replace(".*", " … ")


def all_faults() -> list[Fault]:
    """The whole corpus, in the order of the document. Raises ValueError for a name that is there twice."""
    from tests.bad_data import (
        answer_faults,
        bar_faults,
        file_faults,
        market_faults,
        other_row_faults,
        setting_faults,
    )

    modules = (
        bar_faults,
        market_faults,
        other_row_faults,
        file_faults,
        answer_faults,
        setting_faults,
    )
    faults = [fault for module in modules for fault in module.FAULTS]
    names = [fault.name for fault in faults]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"faults named twice: {repeated}")
    return faults
