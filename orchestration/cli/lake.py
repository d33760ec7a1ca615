"""Commands about what was known, and about where the tables lie: as-of, migrate.

In: a home. Out: tables on the terminal, or JSON. Never: a change to the warehouse that is moved from.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.cli.app import DAY, app, console, errors, escape, guard, read_settings


@app.command(name="as-of")
def as_of(
    asset: Annotated[str, typer.Argument(help="Coin, such as BTC.")],
    day: Annotated[date, typer.Argument(help="Day of the forecast.", **DAY)],
    horizon: Annotated[int | None, typer.Option(min=1, help="One horizon only, in days.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show what was known when a forecast was made, and what today's tables say otherwise."""
    settings = read_settings()

    def look() -> Any:
        from orchestration.as_of import known_when_made

        return known_when_made(settings, asset, day, horizon)

    found = guard(look)
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
        return
    table = Table("model", "version", "days", "volatility", "made", "snapshot", box=None, pad_edge=False)  # fmt: skip
    for item in found.forecasts:
        made = f"{item.made_at:%Y-%m-%d %H:%M}" if item.made_at else ""
        if item.superseded_at:
            made += f", replaced {item.superseded_at:%Y-%m-%d %H:%M}"
        volatility = "" if item.volatility is None else f"{item.volatility:.4f}"
        snapshot = "" if item.lake_snapshot is None else str(item.lake_snapshot)
        table.add_row(item.model, item.model_version, str(item.horizon), volatility, made, snapshot)
    console.print(
        f"{asset} as of {day}, decided at {found.decision_time:%Y-%m-%d %H:%M} UTC", soft_wrap=True
    )
    console.print(table)
    raw = Table("raw table", "rows", "newest known", "newest stored", box=None, pad_edge=False)
    for seen in found.raw:
        if seen.rows:
            raw.add_row(
                seen.table,
                f"{seen.rows}",
                f"{seen.newest_known_at:%Y-%m-%d %H:%M}",
                f"{seen.newest_ingested_at:%Y-%m-%d %H:%M}",
            )
    console.print(raw)
    where = (
        f"as they stood in snapshot {found.features_snapshot}"
        if found.features_snapshot is not None
        else "as stored today: a file keeps no snapshots"
    )
    console.print(f"features.daily, {where}: --json shows {len(found.features)} columns")
    console.print("[bold]differs today[/]" if found.differs else "today's tables say the same")
    for line in found.differs:
        console.print(f"  {escape(line)}", soft_wrap=True)


@app.command()
def migrate(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="ducklake:sqlite:<file>, ducklake:postgres:dbname=... host=..., or file: back into warehouse.duckdb.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Folder or s3://bucket/prefix of the lake's Parquet files; lake/ under the home by default."
        ),
    ] = "",
) -> None:
    """Move the tables into a lake, or back into a file, verified row for row; the old place is left as it is."""
    settings = read_settings()

    def move() -> list[Any]:
        from orchestration.lake.migrate import migrate as moved
        from orchestration.settings import Settings

        address = "" if to == "file" else to
        values = settings.model_dump()
        target = Settings(**{**values, "warehouse": address, "lake_data": data})
        if target.warehouse == settings.warehouse:
            raise ValueError(
                f"--to {to}: the tables lie there already (VOLCAST_WAREHOUSE={settings.warehouse})"
            )
        return moved(settings, target, tell)

    def tell(item: Any) -> None:
        word = "was there" if item.was_there else "moved"
        console.print(f"{item.table}: {item.rows} rows {word}, verified", soft_wrap=True)

    found = guard(move)
    rows = sum(item.rows for item in found)
    console.print(
        f"{len(found)} tables with {rows} rows are in their new place; from now on set "
        f"VOLCAST_WAREHOUSE={'' if to == 'file' else escape(to)}{f' and VOLCAST_LAKE_DATA={escape(data)}' if data else ''}",
        soft_wrap=True,
    )
    if to == "file":
        errors.print("the lake is left as it is: delete it when nobody needs it", soft_wrap=True)
