"""`volcast sql`: a query that somebody typed, on the published copy, within limits.

In: SQL, and how much memory and time it may take. Out: a table or CSV on the terminal. Never: the live warehouse, a file, the network, or more
rows on a terminal than a person reads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Annotated, Any

import typer

from orchestration.cli.app import app, csv_line, errors, guard, print_table, read_settings

TERMINAL_ROWS = 10_000
GRACE_SECONDS = 20.0
"""How long a query that was told to stop may take to do so."""
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

        def ask(connection: Any) -> None:
            found = connection.execute(query)
            if found.description is not None:
                _show(found, as_csv=as_csv)

        with read_published(settings, memory=memory) as connection:
            try:
                _within(seconds, connection, ask)
            except TimeoutError:
                raise ValueError(
                    f"stopped after {seconds:g} s: ask for less, or raise --seconds"
                ) from None
            except duckdb.OutOfMemoryException:
                raise ValueError(
                    f"more than {memory} needed: ask for less, or raise --memory"
                ) from None

    guard(answer)


def _within(seconds: float, connection: Any, ask: Callable[[Any], None]) -> None:
    """Run ``ask`` in a thread of its own, so that this one is free to hear Ctrl-C and the clock. Raises ``TimeoutError``."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, connection)
        try:
            asked.result(timeout=seconds)
        except (KeyboardInterrupt, TimeoutError):
            since = time.monotonic()
            while not wait([asked], timeout=0.2).done:
                connection.interrupt()  # again: the query may not have begun yet
                if time.monotonic() - since > GRACE_SECONDS:  # it only reads: nothing is lost
                    errors.print("stopped; the query did not hear it, so this process ends at once")
                    os._exit(1)
            raise


def _show(found: Any, *, as_csv: bool) -> None:
    names = [item[0] for item in found.description]
    if not as_csv:
        rows = found.fetchmany(TERMINAL_ROWS + 1)
        print_table(names, rows[:TERMINAL_ROWS], as_csv=False)
        if len(rows) > TERMINAL_ROWS:
            errors.print(f"the first {TERMINAL_ROWS:,} rows; --csv prints all")
        return
    sys.stdout.write(csv_line(names))
    while page := found.fetchmany(_PAGE_ROWS):
        sys.stdout.writelines(map(csv_line, page))
