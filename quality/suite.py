"""The vocabulary that suites are written in: expectations as rows of a table.

In: nothing. Out: ``Suite``, ``Expectation`` and short constructors for its common forms. An expectation names a Great
Expectations type and its arguments, so a suite reads as data. Three forms:

* about values of a column (``complete``, ``between``, ``not_before``): the type as Great Expectations has it;
* about several columns or rows (``holds``): a boolean column is computed first, then expected to be true;
* about the frame as a whole (``measured``): a figure is computed first, then expected to lie in a range.

Never: runs anything. ``engine.py`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from quality.frames import Kind, Mask
from quality.reference import Reference
from quality.verdict import CRITICAL, Severity

NOW = "{now}"
"""Stands for the decision time in an expectation's arguments."""
LAST_DAY = "{last day}"
"""Stands for the last whole UTC day before the decision time: the as_of that is being decided."""


@dataclass(frozen=True)
class Evidence:
    """What a check may look at: typed frames, the coins that should be there, the decision time."""

    frame: pd.DataFrame
    unreadable: Mask
    reference: Reference | None
    assets: tuple[str, ...] | None
    now: pd.Timestamp | None


@dataclass(frozen=True)
class Measurement:
    """One figure about a frame and the words that say where it comes from."""

    value: float
    detail: str = ""


# A check answers, or says in a few words why it cannot.
RowCondition = Callable[[Evidence], Mask | str]
FrameMeasure = Callable[[Evidence], Measurement | str]


@dataclass(frozen=True)
class Expectation:
    """One row of a suite. ``type`` is the Great Expectations type, ``message`` what is expected and what to do."""

    name: str
    type: str
    column: str | None
    severity: Severity
    message: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    condition: RowCondition | None = None
    measure: FrameMeasure | None = None
    unit: str = ""


@dataclass(frozen=True)
class Suite:
    """What one table must look like.

    ``columns`` maps a column to how it is read; those in ``optional`` may be absent or null. ``key`` and, where there
    is one, ``known_at`` name a row. ``empty`` is the severity of a frame without rows.
    """

    name: str
    about: str
    key: tuple[str, ...]
    columns: Mapping[str, Kind]
    optional: frozenset[str]
    empty: Severity
    empty_message: str
    expectations: tuple[Expectation, ...]

    def __post_init__(self) -> None:
        names = [e.name for e in self.expectations]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"suite {self.name!r}: expectation named twice: {repeated}")
        strange = [c for e in self.expectations for c in e.needs if c not in self.columns]
        if strange:
            raise ValueError(f"suite {self.name!r}: expectations need unknown columns {strange}")

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(column for column in self.columns if column not in self.optional)


def complete(column: str, severity: Severity, message: str) -> Expectation:
    """No null in ``column``."""
    return Expectation(
        f"{column}_is_complete",
        "expect_column_values_to_not_be_null",
        column,
        severity,
        message,
        {"column": column},
        needs=(column,),
    )


def between(
    column: str,
    low: float | None,
    high: float | None,
    severity: Severity,
    message: str,
    *,
    name: str | None = None,
    above: bool = False,
    where: tuple[str, tuple[str, ...]] | None = None,
) -> Expectation:
    """Values in [low, high], nulls aside; ``above`` leaves ``low`` out; ``where`` keeps rows whose column is one of."""
    kwargs: dict[str, Any] = {"column": column, "min_value": low, "max_value": high}
    needs: tuple[str, ...] = (column,)
    if above:
        kwargs["strict_min"] = True
    if where is not None:
        kwargs |= {
            "row_condition": f"{where[0]} in {list(where[1])}",
            "condition_parser": "pandas",
        }
        needs = (column, where[0])
    return Expectation(
        name or f"{column}_in_range",
        "expect_column_values_to_be_between",
        column,
        severity,
        message,
        kwargs,
        needs,
    )


def one_of(column: str, values: tuple[str, ...], severity: Severity, message: str) -> Expectation:
    """Values from a closed list, nulls aside."""
    return Expectation(
        f"{column}_is_known",
        "expect_column_values_to_be_in_set",
        column,
        severity,
        message,
        {"column": column, "value_set": list(values)},
        needs=(column,),
    )


def not_before(
    later: str, earlier: str, severity: Severity, message: str, *, name: str | None = None
) -> Expectation:
    """``later`` >= ``earlier`` where both are there; for numbers as well as times."""
    return Expectation(
        name or f"{later}_not_before_{earlier}",
        "expect_column_pair_values_a_to_be_greater_than_b",
        later,
        severity,
        message,
        {
            "column_A": later,
            "column_B": earlier,
            "or_equal": True,
            "ignore_row_if": "either_value_is_missing",
        },
        needs=(later, earlier),
    )


def holds(
    name: str,
    condition: RowCondition,
    needs: tuple[str, ...],
    severity: Severity,
    message: str,
    *,
    column: str | None = None,
) -> Expectation:
    """A computed condition is true in every row."""
    return Expectation(
        name,
        "expect_column_values_to_be_in_set",
        column,
        severity,
        message,
        {"column": name, "value_set": [True]},
        needs=needs,
        condition=condition,
    )


def measured(
    name: str,
    measure: FrameMeasure,
    needs: tuple[str, ...],
    severity: Severity,
    message: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    column: str | None = None,
) -> Expectation:
    """A computed figure about the frame lies in [low, high]."""
    return Expectation(
        name,
        "expect_column_max_to_be_between",
        column,
        severity,
        message,
        {"column": name, "min_value": low, "max_value": high},
        needs=needs,
        measure=measure,
        unit=unit,
    )


def not_after_decision(column: str, message: str, *, last: str = NOW) -> Expectation:
    """No value of ``column`` lies after the decision time, or, for days, after the day that it closes."""
    return Expectation(
        f"{column}_not_after_decision_time",
        "expect_column_values_to_be_between",
        column,
        CRITICAL,
        message,
        {"column": column, "max_value": last},
        needs=(column,),
    )
