"""Commands for a risk desk between two daily runs, which store nothing: nowcast and portfolio."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.cli.app import (
    DAY,
    app,
    console,
    errors,
    escape,
    guard,
    newest_day,
    print_table,
    read_settings,
)


@app.command()
def nowcast(
    bars: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet of bars since the last as_of: asset, ts, high, low, close, volume. Default: ask the source."
        ),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            help="UTC instant that no bar may end after; default: now for source=live, else 12 hours after the last as_of.",
            formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model by name; default: the champion.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every quantile.")] = False,
) -> None:
    """Update the newest forecasts with the bars of the running day; nothing is stored."""
    settings = read_settings()

    def make() -> Any:
        from orchestration.nowcast import bars_of_file, bars_of_source, open_nowcaster
        from orchestration.platform import Platform
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            opened = open_nowcaster(connection, settings, model)
        until = at.replace(tzinfo=UTC) if at else None
        if bars is not None:
            found = bars_of_file(bars)
        else:
            source = Platform(settings).source
            start = datetime.combine(opened.nowcaster.as_of + timedelta(days=1), time(), tzinfo=UTC)
            until = until or source.now() or start + timedelta(hours=12)
            found = bars_of_source(source, opened.nowcaster, until)
        made = opened.nowcaster.update(found, until)
        return made, opened.beside_daily(made)

    made, rows = guard(make)
    if as_csv:
        return print_table(list(rows.columns), rows.to_numpy().tolist(), as_csv=True)
    table = Table(
        title=f"{rows['model'].iloc[0]} as of {made.at:%Y-%m-%d %H:%M} UTC, from the forecast of {made.as_of} (annualised)",
        title_justify="left",
    )
    for name in ("coin", "days", "volatility", "10 %", "90 %", "last night", "change"):
        table.add_column(name, justify="left" if name == "coin" else "right")
    for row in rows[rows["variance"].notna()].itertuples():
        change = row.volatility / row.daily_volatility - 1
        cells = [
            f"{value:.1%}" for value in (row.volatility, row.q10, row.q90, row.daily_volatility)
        ]
        table.add_row(row.asset, str(row.horizon), *cells, f"{change:+.0%}")
    console.print(table)
    for asset, status in zip(made.assets, made.status, strict=True):
        if status != "ok":
            errors.print(f"[yellow]{escape(asset)}[/]: {escape(status)}", soft_wrap=True)
    for note in made.notes:
        errors.print(f"left aside: {escape(note)}", soft_wrap=True)


@app.command()
def portfolio(
    weights: Annotated[
        Path,
        typer.Argument(
            help="File of weights: .csv (asset,weight) or .json, fractions of the capital.",
            metavar="FILE",
        ),
    ],
    as_of: Annotated[
        date | None, typer.Option("--as-of", help="Day; the newest one by default.", **DAY)
    ] = None,
    model: Annotated[str, typer.Option(help="Model; the champion of the day by default.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every column.")] = False,
) -> None:
    """Show VaR and ES of a portfolio and each coin's part, from the published copy; stores nothing."""
    settings = read_settings()

    def figures() -> Any:
        from orchestration.portfolio_view import show_portfolio
        from orchestration.warehouse import read_published

        with read_published(settings) as connection:
            return show_portfolio(connection, weights, as_of or newest_day(connection), model)

    found = guard(figures)
    if as_csv:
        return print_table(found.names, found.rows, as_csv=True)
    table = Table(title=escape(found.title), title_justify="left")
    for name in found.short_names:
        table.add_column(name, justify="left" if name == "coin" else "right")
    for row in found.short_rows:
        table.add_row(*row)
    console.print(table)
    for note in found.notes:
        console.print(escape(note), soft_wrap=True)
