"""Commands for who keeps a home in order: doctor, backup, restore.

In: a home. Out: findings on the terminal or as JSON, exit status 0, 1 or 2. Never: a write to the home by `doctor`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestration.cli.app import DAY, app, console, errors, escape, guard, read_settings


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also build the features of two days anew: minutes.")
    ] = False,
    day: Annotated[
        date | None,
        typer.Option("--day", help="Build the features of this day anew; implies --deep.", **DAY),
    ] = None,
) -> None:
    """Check that every invariant holds. Exit status 0: all hold, 1: one is broken, 2: it could not look."""
    settings = read_settings()
    from orchestration.doctor import CannotLook, broken, examine
    from orchestration.status import is_locked

    if not settings.warehouse and settings.warehouse_path.exists() and is_locked(settings):
        errors.print("a run is writing: waiting until it pauses", soft_wrap=True)
    try:
        findings = examine(settings, deep=deep or day is not None, days=[day] if day else [])
    except (CannotLook, OSError) as error:
        errors.print(f"[bold red]cannot look[/]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from None
    bad = broken(findings)
    if as_json:
        document = {
            "home": str(settings.home),
            "holds": not bad,
            "findings": [asdict(item) for item in findings],
        }
        typer.echo(json.dumps(document, indent=1))
    else:
        _show(settings, findings, len(bad))
    raise typer.Exit(1 if bad else 0)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="New folder to write, outside the home.")],
    keep: Annotated[
        int | None,
        typer.Option(help="Then delete all but this many newest backups beside it.", min=1),
    ] = None,
) -> None:
    """Write a consistent backup of the home while nothing writes to it; waits for a run to pause."""
    settings = read_settings()

    def make() -> tuple[Any, list[Path]]:
        from orchestration.backup import backup as write
        from orchestration.backup import keep_newest

        made = write(settings, folder)
        return made, keep_newest(folder, keep) if keep else []

    made, deleted = guard(make)
    console.print(
        f"backup of {settings.home} in {made.folder}: {len(made.manifest['files'])} files, {made.bytes / 2**20:.1f} MiB",
        soft_wrap=True,
    )
    _show_elsewhere(made)
    for path in deleted:
        console.print(f"deleted the older {path}", soft_wrap=True)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="Backup to restore from.")],
) -> None:
    """Fill an empty home (VOLCAST_HOME) from a backup, every file verified; then check it as `doctor` does."""
    settings = read_settings()

    def fill() -> Any:
        from orchestration.backup import restore as read

        return read(settings, folder)

    found = guard(fill)
    console.print(
        f"home {settings.home} restored from the backup of {found.manifest['created_at']}",
        soft_wrap=True,
    )
    _show_elsewhere(found)
    doctor(as_json=False, deep=False, day=None)


def _show_elsewhere(found: Any) -> None:
    """Say where the artefacts lie that a backup does not hold."""
    if found.artifacts_elsewhere:
        console.print(
            f"models and snapshots are not in it: they lie in {found.artifacts_elsewhere} (VOLCAST_ARTIFACTS), by the addresses that the registry keeps",
            soft_wrap=True,
        )


def _show(settings: Any, findings: list[Any], bad: int) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for item in findings:
        if not item.holds:
            mark = "[bold red]broken[/]" if item.severity == "critical" else "[yellow]left over[/]"
        else:
            mark = "[green]holds[/]" if item.checked or not item.note else "[dim]no data[/]"
        text = escape(item.meaning)
        if item.note:
            text += f" [dim]({escape(item.note)})[/]"
        if not item.holds:
            text += f"\n{item.broken:,} broken, the first: {escape(item.example)}\n[bold]{escape(item.advice)}[/]"
        table.add_row(mark, item.name, f"{item.checked:,}", text)
    console.print(f"home {settings.home}", soft_wrap=True)
    console.print(table)
    held = sum(item.holds for item in findings)
    console.print(
        f"[bold]{bad} broken[/], {held} of {len(findings)} invariants hold"
        if bad
        else f"{held} of {len(findings)} invariants hold"
    )
