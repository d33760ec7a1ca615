"""Every fault in a row ends where the corpus says: in quarantine with its reason, stored, or left out and counted."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from orchestration.sources.schema import TABLES
from quality import validate
from tests.bad_data import bar_faults, market, other_row_faults
from tests.bad_data.corpus import BookFault, Fault, LeftOut, Quarantined, Row, RowFault, Stored
from tests.bad_data.faulty_rows import (
    TABLE_OF,
    Found,
    ingested,
    made_rows,
    with_faults,
)

FAULTS: list[Fault] = [*bar_faults.FAULTS, *other_row_faults.FAULTS]
BOOKS = [fault for fault in FAULTS if isinstance(fault, BookFault)]
ROWS = made_rows(FAULTS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All faults of the corpus read in one go, as an archive that holds them all would be."""
    folder = tmp_path_factory.mktemp("faulty")
    market.write(folder / "archive", with_faults(market.frames(), FAULTS, ROWS))
    return ingested(folder / "home", folder / "archive", FAULTS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The same market without a fault."""
    folder = tmp_path_factory.mktemp("sound")
    return ingested(folder / "home", market.write(folder / "archive", market.frames()))


@pytest.fixture(scope="module")
def flagged(found: Found) -> dict[str, set[tuple[str, int]]]:
    """(expectation, row) of every warning of a table's gate, by table."""
    return {
        table: {
            (result.expectation, row)
            for result in validate(f"raw.{table}", pd.DataFrame(rows)).results
            for row in result.failing_rows
        }
        for table, rows in found.stored.items()
        if rows
    }


def place(fault: Fault) -> tuple[str, list[Row]]:
    if isinstance(fault, BookFault):
        return "order_books", [{"ts": market.slot(BOOKS_AT[fault.name])}]
    assert isinstance(fault, RowFault)
    return TABLE_OF[fault.stem], ROWS[fault.name]


BOOKS_AT = {fault.name: number for number, fault in enumerate(FAULTS)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_faulty_row_ends_where_it_should(
    fault: Fault, found: Found, flagged: dict[str, set[tuple[str, int]]]
) -> None:
    table, rows = place(fault)
    times = {row["ts"] for row in rows}
    stored, reasons = found.stored_at(table, times), found.quarantined_at(table, times)
    outcome = fault.outcome
    if isinstance(outcome, LeftOut):
        assert not stored
        assert not reasons
        assert any(re.search(outcome.log, line) for line in found.log)
    elif isinstance(outcome, Quarantined):
        assert len(stored) == outcome.stored
        assert len(reasons) == outcome.rows
        assert all(re.search(outcome.reason, reason) for reason in reasons), reasons
    else:
        assert isinstance(outcome, Stored)
        assert not reasons
        assert len(stored) == outcome.rows
        assert all(any(_says(row, given) for given in rows) for _, row in stored)
        if outcome.flag:
            assert any((outcome.flag, position) in flagged[table] for position, _ in stored)


def _says(row: Row, given: Row) -> bool:
    """Whether a stored row has the values of a given one; NaN is NULL."""
    names = (
        "close",
        "volume",
        "quote_volume",
        "rate",
        "value",
        "title",
        "url",
        "publisher",
        "label",
    )
    return all(_same(row[name], given[name]) for name in names if name in row and name in given)


def _same(stored: object, given: object) -> bool:
    if isinstance(given, float) and math.isnan(given):
        return stored is None
    return stored == given


def test_the_sound_rows_around_them_are_stored_as_if_nothing_had_happened(
    found: Found, sound: Found
) -> None:
    own = {row["ts"] for rows in ROWS.values() for row in rows}
    for table in TABLES:
        if table == "order_books":
            continue
        kept = [_values(row) for row in found.stored[table] if row["ts"] not in own]
        assert kept == [_values(row) for row in sound.stored[table]], table
        assert not sound.quarantined[table]


def _values(row: Row) -> Row:
    return {name: row[name] for name in row if name not in ("ingested_at", "batch_id")}
