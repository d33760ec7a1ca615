"""`volcast sql`: a query that somebody typed, on the published copy, within limits.

In: SQL, and how much memory and time it may take. Out: a table or CSV on the terminal. Never: the live warehouse, a file, the network, or more
rows on a terminal than a person reads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from orchestration.cli.app import app, errors, guard, print_table, read_settings

TERMINAL_ROWS = 10_000
_PAGE_ROWS = 10_000


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SQL on the published copy, which opens read-only.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all rows of it.")] = False,
    memory: Annotated[str, typer.Option(help="Most memory that the query may take.")] = "4GiB",
    seconds: Annotated[
        float, typer.Option(help="Seconds after which the query is stopped.", min=0.001)
    ] = 600.0,
) -> None:
    """Query the published tables."""
    settings = read_settings()

    def answer() -> None:
        import duckdb

        from orchestration.warehouse import read_published

        with read_published(settings, memory=memory) as connection:
            try:
                with _limited(connection, seconds):
                    found = connection.execute(query)
                    if found.description is not None:
                        _show(found, as_csv=as_csv)
            except duckdb.InterruptException:
                raise ValueError(
                    f"stopped after {seconds:g} s: ask for less, or raise --seconds"
                ) from None
            except duckdb.OutOfMemoryException:
                raise ValueError(
                    f"more than {memory} needed: ask for less, or raise --memory"
                ) from None

    guard(answer)


@contextmanager
def _limited(connection: Any, seconds: float) -> Iterator[None]:
    """Whatever the connection does is interrupted after that time."""
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show(found: Any, *, as_csv: bool) -> None:
    names = [item[0] for item in found.description]
    if not as_csv:
        rows = found.fetchmany(TERMINAL_ROWS + 1)
        print_table(names, rows[:TERMINAL_ROWS], as_csv=False)
        if len(rows) > TERMINAL_ROWS:
            errors.print(f"the first {TERMINAL_ROWS:,} rows; --csv prints all")
        return
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    while page := found.fetchmany(_PAGE_ROWS):
        writer.writerows(page)
