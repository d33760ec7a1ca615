"""Commands that show what is there: models, sql, report, card, status, revisions, sources check."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.cli.app import (
    DAY,
    app,
    console,
    escape,
    guard,
    newest_day,
    print_table,
    read_settings,
    sources,
)


@app.command()
def models() -> None:
    """List the models that VOLCAST_MODELS and `evaluate --models` may name."""
    from ml.models import MODELS, model_class

    table = Table("model", "what it is", "needs torch")
    for name, entry in MODELS.items():
        about = (model_class(name).__doc__ or "").strip().splitlines()[0]
        table.add_row(name, escape(about), "yes" if entry.uses_torch else "")
    console.print(table)


@app.command()
def report(
    as_of: Annotated[
        date | None, typer.Option("--as-of", help="Day; the newest one by default.", **DAY)
    ] = None,
) -> None:
    """Write the HTML report of a day from the published tables and print where it lies."""
    settings = read_settings()

    def build() -> Path:
        from orchestration.report import build_report
        from orchestration.runs import report_path
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            day = as_of or newest_day(connection)
            page = build_report(connection, day)
        path = report_path(settings, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    with console.status("writing the report"):
        path = guard(build)
    console.print(f"report: {path}", soft_wrap=True)


@app.command()
def card(
    model: Annotated[str, typer.Argument(help="Model, such as attention.")],
    version: Annotated[
        str | None, typer.Option(help="Version; the one that serves the newest day by default.")
    ] = None,
) -> None:
    """Print the model card of a version as Markdown, from the published tables."""
    settings = read_settings()

    def text() -> str:
        from orchestration.model_cards import card_text
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            return card_text(connection, model, version)

    typer.echo(guard(text), nl=False)


@app.command()
def status() -> None:
    """One screen: last run, next due day, what is wrong, data, gates, stale streams, space."""
    settings = read_settings()
    from orchestration.status import status_tables

    for table in guard(lambda: status_tables(settings)):
        console.print(table)


@app.command()
def revisions(
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what providers revised and by how much, and which metrics' history moves."""
    settings = read_settings()

    def read() -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        from orchestration.revisions import revision_table
        from orchestration.warehouse import Warehouse

        with Warehouse(settings).read() as connection:
            return revision_table(connection)

    names, rows = guard(read)
    if as_csv:
        return print_table(names, rows, as_csv=True)
    revised = [row for row in rows if row[names.index("revisions")]]
    print_table(
        names,
        [
            [
                "moves"
                if v is True
                else ""
                if v is False
                else f"{v:%Y-%m-%d %H:%M}"
                if isinstance(v, datetime)
                else v
                for v in row
            ]
            for row in revised
        ],
        as_csv=False,
    )
    console.print(
        f"{len(rows) - len(revised)} of {len(rows)} series were never revised; --csv has them all"
    )


@sources.command("check")
def sources_check() -> None:
    """Ask each live provider for one row, and show who answers."""
    settings = read_settings()
    table = Table("provider", "status", "seconds", "what came", title_justify="left")
    failed = 0

    def ask() -> None:
        nonlocal failed
        from orchestration.sources.live import LiveConfig
        from orchestration.sources.live.check import probe_all

        with console.status("asking"):
            for found in sorted(probe_all(LiveConfig.of(settings)), key=lambda p: p.provider):
                colour = {"ok": "green", "slow": "yellow"}.get(found.status, "red")
                failed += colour == "red"
                table.add_row(
                    found.provider,
                    f"[{colour}]{found.status}[/]",
                    f"{found.seconds:.1f}",
                    escape(found.detail),
                )

    guard(ask)
    console.print(table)
    if failed:
        raise typer.Exit(1)
