"""What a home holds and what is wrong with it, as tables for the terminal: one screen of 80 columns.

In: settings. Out: rich tables. Reads the live warehouse, or, while a run is writing, the published copy, and says so; never waits.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
from rich.markup import escape
from rich.table import Table

from orchestration.alerts.causes import Cause, open_causes
from orchestration.champion import champion_on
from orchestration.due_days import due_day
from orchestration.metrics.home import size_of
from orchestration.metrics.tables import NEWEST_VERDICTS, STALE_STREAM
from orchestration.observing import View, look, utc_now, who_writes
from orchestration.run_history import FAILED, RUNNING, PastRun, past_runs
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, WarehouseError, get_state

COLOURS = {"critical": "red", "warning": "yellow", "info": "cyan"}
PLAIN: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}
"""Tables without lines, which leave 80 columns to what they say."""
MOST_CAUSES = 5
MOST_STALE = 5


def status_tables(settings: Settings) -> list[Table]:
    """Home with last run, next day and space; what is wrong; data and gates; stale streams where there are any."""
    now = utc_now()
    home = Table(show_header=False, title=f"home {settings.home}", title_justify="left")
    try:
        is_made = Warehouse(settings).exists()
    except WarehouseError as error:  # a lake's catalog that does not answer
        home.add_row("warehouse", f"[red]{escape(str(error))}[/]")
        return [home]
    if not is_made:
        home.add_row("warehouse", "nothing yet: run `./volcast demo`")
        return [home]
    tables = [home]
    for name, value in _runs(settings, now):
        home.add_row(name, value)
    try:
        with look(settings) as view:
            if view is None:
                home.add_row("warehouse", "a first run is writing: ask again when it ends")
            else:
                for name, value in _of_tables(view, settings):
                    home.add_row(name, escape(value))
                tables += [_data(view.connection), *_stale(view.connection)]
    except (WarehouseError, duckdb.Error) as error:
        home.add_row("warehouse", f"[red]{escape(str(error))}[/]")
    for name, value in _space(settings):
        home.add_row(name, value)
    causes = open_causes(settings, now)
    home.add_row("alerts", "none open" if not causes else f"[bold]{len(causes)} open[/]")
    return [home, *_wrong(causes, settings), *tables[1:]]


def _runs(settings: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    found = past_runs(settings)
    for run in [run for run in found if run.status in RUNNING][:3]:
        since = run.started_at or run.created_at
        yield "running", f"{run.job} {run.days} since {_moment(since)} ({_ago(now - since)})"
    last = next((run for run in found if run.status not in RUNNING), None)
    yield "last run", _outcome(last, now) if last else "none yet"
    due = due_day(settings, now) + timedelta(days=1)
    yield "next due", f"{due}, at {_moment(settings.decision_time(due))}"


def _outcome(run: PastRun, now: datetime) -> str:
    word = {"SUCCESS": "[green]succeeded[/]", "FAILURE": "[red]failed[/]"}.get(
        run.status, f"[{'red' if run.status in FAILED else 'yellow'}]{run.status.lower()}[/]"
    )
    parts = [f"{run.job} {run.days} {word}".replace("  ", " ")]
    if run.seconds is not None:
        parts.append(f"in {run.seconds:.0f} s")
    if run.ended_at is not None:
        parts.append(f"at {_moment(run.ended_at)} ({_ago(now - run.ended_at)})")
    return " ".join(parts)


def _of_tables(view: View, settings: Settings) -> Iterator[tuple[str, str]]:
    connection = view.connection
    if view.writer is not None:
        yield "writing", f"{view.writer}; below is the published copy"
    newest = connection.execute("SELECT max(as_of), count(*) FROM forecasts.volatility").fetchone()
    if settings.warehouse:
        from orchestration.lake.upkeep import size_of_lake

        held = size_of_lake(connection)
        yield (
            "lake",
            f"{held.snapshots} snapshots, {held.pinned} pinned; {held.files} files, {held.small_files} small, {_bytes(held.bytes)}",
        )
    yield "source", get_state(connection, "source", catalog=None) or "none yet"
    yield (
        "forecasts",
        f"newest {newest[0]} ({newest[1]} rows)" if newest and newest[0] else "none yet",
    )
    yield "champion", _champion(connection)
    trained = connection.execute(
        "SELECT trained_as_of FROM models.registry WHERE status <> 'retired' ORDER BY 1 DESC"
    ).fetchall()
    if trained:
        by_day = ", ".join(
            f"{count} of {day}" for day, count in list(Counter(d for (d,) in trained).items())[:4]
        )
        yield "models", f"{len(trained)} live: {by_day}"


def _champion(connection: duckdb.DuckDBPyConnection) -> str:
    """Who leads the next day, since when and why."""
    try:
        champion = champion_on(connection, date.max)
    except LookupError:
        return "none yet"
    since = f" since {champion.since}" if champion.since else ""
    return f"{champion.model}{since}: {champion.reason}"


def _space(settings: Settings) -> Iterator[tuple[str, str]]:
    published = settings.published_path
    if published.exists():
        made = datetime.fromtimestamp(published.stat().st_mtime, utc_now().tzinfo)
        yield "published", f"{_moment(made)}, {_bytes(published.stat().st_size)}"
    else:
        yield "published", "not yet"
    free = shutil.disk_usage(settings.home).free
    yield "disk", f"{_bytes(free)} free; this home takes {_bytes(size_of(settings.home))}"


def _wrong(causes: list[Cause], settings: Settings) -> Iterator[Table]:
    if not causes:
        return
    table = Table("what is wrong", "what to do", title="alerts", title_justify="left", expand=True)
    for cause in causes[:MOST_CAUSES]:
        colour = COLOURS[cause.severity]
        todo = f"{cause.todo} ({settings.alert_runbook}#{cause.section})"
        table.add_row(f"[{colour}]{escape(cause.title)}[/]", escape(todo))
    if len(causes) > MOST_CAUSES:
        table.add_row(f"and {len(causes) - MOST_CAUSES} more", "`volcast alert` shows all")
    yield table


def _data(connection: duckdb.DuckDBPyConnection) -> Table:
    """A row for each raw and feature table: how much, how new, and what its gate said last."""
    table = Table(title="data and gates", title_justify="left", **PLAIN)
    for name in ("table", "rows", "newest", "refused", "gate"):
        number = name in ("rows", "refused")
        table.add_column(name, justify="right" if number else "left", no_wrap=name != "gate")
    verdicts = {row[0]: row for row in connection.execute(NEWEST_VERDICTS).fetchall()}
    held = dict(
        connection.execute(
            "SELECT table_name, count(*) FROM quarantine.rows WHERE released_at IS NULL GROUP BY 1"
        ).fetchall()
    )
    existing = {
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall()
    }
    columns = {f"raw.{name}": "ts" for name in TABLES} | {
        "features.daily": "as_of",
        "features.hourly": "known_on",
        "features.realized": "known_on",
    }
    for name, newest in columns.items():
        if name in existing:
            count, latest = connection.execute(
                f"SELECT count(*), max({newest}) FROM {name}"
            ).fetchone() or (0, None)
            moment = f"{latest:%Y-%m-%d %H:%M}" if isinstance(latest, datetime) else latest or ""
            refused = held.get(name, 0)
            table.add_row(
                name, f"{count}", f"{moment}", f"{refused or ''}", _gate(verdicts.get(name))
            )
    return table


def _gate(verdict: tuple[object, ...] | None) -> str:
    if verdict is None:
        return ""
    _, day, _, _, warnings, closing, overridden_by, _ = verdict
    if closing:
        return f"[red]closed[/] {day}"
    if overridden_by:
        return f"open {day} [yellow]by {escape(str(overridden_by))}[/]"
    return f"open {day}" + (f", {warnings} warn" if warnings else "")


def _stale(connection: duckdb.DuckDBPyConnection) -> Iterator[Table]:
    found = connection.execute(
        f"""
        SELECT provider, table_name, count(*), coalesce(strftime(min(succeeded_at), '%m-%d %H:%M'), 'never'),
            any_value(status || ': ' || detail ORDER BY stream)
        FROM raw.streams WHERE {STALE_STREAM} GROUP BY 1, 2 ORDER BY 1, 2
        """
    ).fetchall()
    if not found:
        return
    table = Table(
        *("provider", "table", "streams", "last good", "why"),
        title="stale streams",
        title_justify="left",
        **PLAIN,
    )
    for provider, name, count, since, why in found[:MOST_STALE]:
        table.add_row(escape(provider), name, f"{count}", since, escape(why[:60]))
    if len(found) > MOST_STALE:
        table.add_row(f"and {len(found) - MOST_STALE} more", "", "", "", "")
    yield table


def is_locked(settings: Settings) -> bool:
    """Whether a run holds the warehouse lock at this moment."""
    return who_writes(settings) is not None


def _moment(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _ago(passed: timedelta) -> str:
    minutes = int(passed.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 72 * 60 else f"{minutes // 1440} days"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
