"""Expectations that every raw table shares. In: a table's key. Out: expectations. Never names a table."""

from __future__ import annotations

from quality.conditions import of_our_time, readable, texts_match
from quality.names import EARLIEST, PLAIN_NAME
from quality.suite import (
    Expectation,
    complete,
    holds,
    not_after_decision,
    not_before,
    one_of,
)
from quality.verdict import CRITICAL

NAMES = ("venue", "symbol", "provider", "asset", "metric", "resolution")
"""Columns of a key that name who and what; a publisher and its id are free text."""
SOURCES = ("archive", "simulated", "live")


def unique(columns: tuple[str, ...]) -> Expectation:
    """``columns`` together name one row. Of equal copies the first stays; of copies that differ none can be trusted."""
    return Expectation(
        "rows_are_unique",
        "expect_compound_columns_to_be_unique",
        columns[0],
        CRITICAL,
        f"one row for each {', '.join(columns)}: quarantine the copies and look at what sent them twice",
        {"column_list": list(columns), "ignore_row_if": "never"},
        needs=columns,
    )


def all_readable() -> Expectation:
    return holds(
        "values_are_readable",
        readable,
        (),
        CRITICAL,
        "no infinity, and no text where a number or a time belongs: quarantine the row and look at the connector",
    )


def raw_rows(key: tuple[str, ...]) -> tuple[Expectation, ...]:
    """What holds for a row of any raw table: named, readable, unique per version, and not from the future."""
    return (
        *(
            complete(column, CRITICAL, f"{column} names the row: quarantine rows without it")
            for column in (*key, "known_at")
        ),
        holds(
            "names_are_plain",
            texts_match(tuple(column for column in key if column in NAMES), PLAIN_NAME),
            tuple(column for column in key if column in NAMES),
            CRITICAL,
            "names have up to 120 ASCII letters, digits and ._:/()+@%~-: quarantine, a look-alike or code for a name?",
        ),
        holds(
            "ts_is_of_our_time",
            of_our_time(EARLIEST),
            ("ts",),
            CRITICAL,
            f"ts is not before {EARLIEST:%Y-%m-%d}: seconds read as milliseconds? Quarantine and mend the unit",
            column="ts",
        ),
        unique((*key, "known_at")),
        all_readable(),
        one_of(
            "source",
            SOURCES,
            CRITICAL,
            "source is archive, simulated or live: quarantine, so that a made-up market is never taken for a real one",
        ),
        not_before(
            "known_at",
            "ts",
            CRITICAL,
            "known_at is not before ts: nothing is known before it happens; quarantine and mend the connector's delay",
        ),
        not_after_decision(
            "known_at",
            "known_at is not after the decision time: it is the future; quarantine, look for a clock or a time zone",
        ),
    )
