"""What the commands share: the program, the terminal, settings, errors that end in one line, and tables.

In: what a command wants to do. Out: exit status 1 with the error where it fails. Never: a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="volcast",
    help="Batch forecasts of crypto volatility: ingest, gates, features, training, forecasts, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
quarantine = typer.Typer(help="Rows that a gate refused.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")
sources = typer.Typer(help="The live providers.", no_args_is_help=True)
app.add_typer(sources, name="sources")
console = Console()
errors = Console(stderr=True)
T = TypeVar("T")


def _day(value: str) -> date:
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"{value!r}: expected a day such as 2024-06-30") from None


DAY: dict[str, Any] = {"parser": _day, "metavar": "YYYY-MM-DD"}


def guard(action: Callable[[], T]) -> T:
    """Run ``action``; an expected error becomes one message and exit status 1."""
    try:
        return action()
    except KeyboardInterrupt:
        errors.print("stopped; run the same command again to go on where it was")
        raise typer.Exit(130) from None
    except Exception as error:
        import duckdb

        expected = (ValueError, RuntimeError, LookupError, OSError, duckdb.Error)
        if not isinstance(error, expected) or os.environ.get("VOLCAST_DEBUG"):
            raise
        from orchestration.disk_space import advice, is_full
        from orchestration.logs import note_command_failure
        from orchestration.secrets import mask

        note_command_failure(error)
        text = mask(str(error))
        errors.print(f"[bold red]error[/]: {escape(text)}", soft_wrap=True)
        if is_full(text) and "no space for" not in text:
            errors.print(escape(advice(text, read_settings().home)), soft_wrap=True)
        raise typer.Exit(1) from None


def escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def read_settings() -> Any:
    from orchestration.logs import start
    from orchestration.settings import Settings

    settings = guard(Settings.from_env)
    start(settings)
    return settings


def query_table(settings: Any, query: str, *, as_csv: bool = False, live: bool = False) -> None:
    """A query of ours, on the published copy or on the live warehouse; ``cli/querying.py`` has those that people type."""

    def fetch() -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        from orchestration.warehouse import Warehouse, read_published

        opened = Warehouse(settings).read() if live else read_published(settings)
        with opened as connection:
            found = connection.execute(query)
            return [item[0] for item in found.description or ()], found.fetchall()

    print_table(*guard(fetch), as_csv=as_csv)


def print_table(names: Sequence[str], rows: Sequence[Sequence[Any]], *, as_csv: bool) -> None:
    if as_csv:
        for row in (names, *rows):
            sys.stdout.write(csv_line(row))
        return
    table = Table(header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def csv_line(row: Sequence[Any]) -> str:
    """A record that ends in a line feed; a text with either line end within is quoted, or the rest of it would be a record of its own."""
    import csv
    import io

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow([_plain(value) for value in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _plain(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, behind an apostrophe; numbers, text that is one included, as they are."""
    if not isinstance(value, str) or not value.lstrip(" ").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else escape(str(value))


def newest_day(connection: Any) -> date:
    row = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    if row is None or row[0] is None:
        raise LookupError(
            "no forecast published yet: run `./volcast demo` or `./volcast run --as-of DATE` first"
        )
    return row[0]
