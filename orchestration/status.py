"""What a home holds, as tables for the terminal.

In: settings. Out: rich tables. Reads the live warehouse under a shared lock; when a run is writing it says so at once instead of waiting.
"""

from __future__ import annotations

import fcntl
from datetime import date

import duckdb
from rich.markup import escape
from rich.table import Table

from orchestration.champion import champion_on
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, get_state


def status_tables(settings: Settings) -> list[Table]:
    """Home, raw tables, stale streams if there are any, models and gates."""
    home = Table("what", "value", title=f"home {settings.home}", title_justify="left")
    if not settings.warehouse_path.exists():
        home.add_row("warehouse", "nothing yet: run `./volcast demo`")
        return [home]
    if is_locked(settings):
        home.add_row("warehouse", "a run is writing: ask again when it ends")
        return [home]
    with Warehouse(settings).read() as connection:
        newest = connection.execute(
            "SELECT max(as_of), count(*) FROM forecasts.volatility"
        ).fetchone()
        home.add_row("source", get_state(connection, "source") or "none yet")
        home.add_row(
            "newest forecast",
            f"{newest[0]} ({newest[1]} rows)" if newest and newest[0] else "none yet",
        )
        home.add_row("champion", _champion(connection))
        home.add_row(
            "published",
            str(settings.published_path) if settings.published_path.exists() else "not yet",
        )
        raw = Table(
            "raw table",
            "rows",
            "newest event",
            "known until",
            "quarantined",
            title="data",
            title_justify="left",
        )
        for name in TABLES:
            count, latest = connection.execute(
                f"SELECT count(*), max(ts) FROM raw.{name}"
            ).fetchone() or (0, None)
            held = connection.execute(
                "SELECT count(*) FROM quarantine.rows WHERE table_name = ? AND released_at IS NULL",
                [f"raw.{name}"],
            ).fetchone()
            cursor = connection.execute(
                "SELECT min(known_until) FROM raw.streams WHERE table_name = ?", [f"raw.{name}"]
            ).fetchone()
            raw.add_row(
                name,
                str(count),
                str(latest or ""),
                str((cursor and cursor[0]) or ""),
                str(held[0] if held else 0),
            )
        stale = Table(
            "stream", "status", "last good", "why", title="stale streams", title_justify="left"
        )
        for row in connection.execute(
            "SELECT stream, status, coalesce(strftime(succeeded_at, '%Y-%m-%d %H:%M'), 'never'), detail FROM raw.streams "
            "WHERE status <> 'ok' AND (status <> 'not listed' OR table_name = 'raw.ohlcv') ORDER BY stream"
        ).fetchall():
            stale.add_row(*(escape(str(value)) for value in row))
        models = Table(
            "model",
            "live version",
            "trained as of",
            "status",
            "device",
            title="models",
            title_justify="left",
        )
        for row in connection.execute(
            "SELECT model, model_version, trained_as_of, status, device FROM models.registry WHERE status <> 'retired' ORDER BY 4, 1"
        ).fetchall():
            models.add_row(*(str(value) for value in row))
        gates = Table(
            "suite",
            "day",
            "expectations",
            "failed",
            "of them critical",
            "overridden",
            title="newest gates",
            title_justify="left",
        )
        for row in connection.execute(
            """
            SELECT suite, as_of, count(*), count(*) FILTER (NOT success), count(*) FILTER (NOT success AND severity = 'critical'),
                coalesce(min(overridden_by), '')
            FROM quality.validations
            GROUP BY suite, as_of, run_id
            QUALIFY row_number() OVER (PARTITION BY suite ORDER BY as_of DESC, max(checked_at) DESC) = 1
            ORDER BY suite
            """
        ).fetchall():
            gates.add_row(*(str(value) for value in row))
    return [home, raw, *([stale] if stale.row_count else []), models, gates]


def _champion(connection: duckdb.DuckDBPyConnection) -> str:
    """Who leads the next day, since when and why."""
    try:
        champion = champion_on(connection, date.max)
    except LookupError:
        return "none yet"
    since = f" since {champion.since}" if champion.since else ""
    return escape(f"{champion.model}{since}: {champion.reason}")


def is_locked(settings: Settings) -> bool:
    """Whether a run holds the warehouse lock at this moment."""
    path = settings.warehouse_path.with_suffix(".lock")
    if not path.exists():
        return False
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
