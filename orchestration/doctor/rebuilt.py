"""Features of some days made anew from nothing but what was known then: the strongest look at point in time.

In: the raw rows with ``known_at`` up to the decision time of a day. Out: a finding that counts rows of that day which differ in any column from the stored
ones. The raw rows are copied once, under the lock; dbt then builds the last ``HISTORY_DAYS`` days in a scratch warehouse a day, while runs go on.
Minutes: only with ``--deep``.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from orchestration.doctor.finding import Count, Finding, Invariant, Look
from orchestration.doctor.point_in_time import REBUILD
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, attach, get_json_state

BUILT = "features_built"
"""What the state of the warehouse says of the build, as assets/features.py writes it."""
SAMPLE_DAYS = 2
SEED = 7
HISTORY_DAYS = 200
"""Days of features built before the day: longer than any window by as_of."""
_DAY_COLUMN = {
    "features.daily": "as_of",
    "features.funding_venues": "as_of",
    "features.hourly": "known_on",
    "features.realized": "known_on",
    "features.order_book": "known_on",
}


def prepare(look: Look, folder: Path) -> Callable[[], Finding]:
    """Copy into ``folder`` what is needed of the warehouse; the function that then builds and compares without it, and without its lock."""
    from orchestration.dbt import project_fingerprint

    missing = [table for table in REBUILT.needs if table not in look.tables]
    if missing:
        return partial(REBUILT.finding, Count(note=f"nothing to look at: no {', '.join(missing)}"))
    built = get_json_state(look.connection, BUILT)
    if not built or json.loads(built["fingerprint"])[0] != project_fingerprint():
        note = "the stored features are of another version of the dbt project"
        return partial(REBUILT.finding, Count(note=note))
    if "open_from" in built:
        note = f"a run has yet to build the features from {built['open_from']} on"
        return partial(REBUILT.finding, Count(note=note))
    _, offset, interval, assets = json.loads(built["fingerprint"])
    settings = look.settings.model_copy(
        update={"decision_offset_minutes": offset, "rv_interval": interval}
    )
    days = look.days or _sample(look)
    held = _Held(folder, settings, days, date.fromisoformat(built["from"]), tuple(assets))
    held.copy(look)
    return held.compare


@dataclass(frozen=True)
class _Held:
    """Raw rows and stored features as they stood at one moment, in a file of their own in ``folder``."""

    folder: Path
    settings: Settings
    days: tuple[date, ...]
    first: date
    assets: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.folder / "held.duckdb"

    def copy(self, look: Look) -> None:
        connection = look.connection
        attach(connection, self.path, "held", read_only=False)
        for schema in ("raw", "features"):
            connection.execute(f"CREATE SCHEMA held.{schema}")
        for table in TABLES.values():
            connection.execute(
                f"CREATE TABLE held.{table.qualified_name} AS FROM {table.qualified_name} WHERE known_at <= ?",
                [self.settings.decision_time(max(self.days))],
            )
        for name, column in _DAY_COLUMN.items():
            if name in look.tables:
                connection.execute(
                    f"CREATE TABLE held.{name} AS FROM {name} WHERE list_contains(?, {column})",
                    [list(self.days)],
                )
        connection.execute("DETACH held")

    def compare(self) -> Finding:
        checked = broken = 0
        example = ""
        for day in self.days:
            with tempfile.TemporaryDirectory(dir=self.folder) as home:
                found = self._compare(day, Path(home))
            checked += found.checked
            broken += found.broken
            example = example or found.example
        days = f"days {', '.join(map(str, self.days))}"
        return REBUILT.finding(Count(checked, broken, example, days))

    def _compare(self, day: date, home: Path) -> Count:
        """Build the day in a scratch warehouse and hold its rows against the stored ones."""
        from orchestration import dbt

        scratch = self.settings.model_copy(
            update={"home": home, "warehouse": "", "lake_data": ""}  # a file, whatever is examined
        )
        warehouse = Warehouse(scratch)
        with warehouse.write() as connection:
            attach(connection, self.path, "held", read_only=True)
            for table in TABLES.values():
                connection.execute(
                    f"INSERT INTO {table.qualified_name} FROM held.{table.qualified_name} WHERE known_at <= ?",
                    [scratch.decision_time(day)],
                )
        first = max(self.first, day - timedelta(days=HISTORY_DAYS))
        with warehouse.lock() as lock:
            dbt.build(scratch, first, day, self.assets, lock=lock, full_refresh=True)
        with warehouse.read() as connection:
            attach(connection, self.path, "held", read_only=True)
            return _differences(Look(scratch, connection, "", frozenset()), day)


def _sample(look: Look) -> tuple[date, ...]:
    """The newest day, and others by a fixed seed."""
    days = [row[0] for row in look.connection.execute("SELECT DISTINCT as_of FROM features.daily ORDER BY 1").fetchall()]  # fmt: skip
    others = random.Random(SEED).sample(days[:-1], min(SAMPLE_DAYS - 1, len(days) - 1))  # noqa: S311
    return (*others, *days[-1:])


def _differences(look: Look, day: date) -> Count:
    checked = broken = 0
    example = ""
    for table, column in _DAY_COLUMN.items():
        columns = look.connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'held' AND schema_name || '.' || table_name = ? ORDER BY column_index",
            [table],
        ).fetchall()
        if not columns:
            continue
        of_the_day = f"WHERE {column} = DATE '{day}'"
        names = ", ".join(f'"{row[0]}"' for row in columns)
        stored = f"SELECT {names} FROM held.{table} {of_the_day}"
        made = f"SELECT {names} FROM {table} {of_the_day}"
        found = look.count(
            f"SELECT count(*) FROM held.{table} {of_the_day}",
            f"SELECT '{table}' AS \"table\", asset, {column} FROM (({stored}) EXCEPT ALL ({made})) "
            f"UNION ALL SELECT '{table}, rebuilt' AS \"table\", asset, {column} FROM (({made}) EXCEPT ALL ({stored}))",
        )
        checked += found.checked
        broken += found.broken
        example = example or found.example
    return Count(checked, broken, example)


REBUILT = Invariant(
    "rebuilt",
    "features built anew from the raw rows known by the decision time alone are those stored, bit for bit",
    f"history that came later (a coin, a provider) changes days that were built before it; else {REBUILD}",
    ("features.daily", "raw.ohlcv"),
)
