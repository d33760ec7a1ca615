"""Features of some days made anew from nothing but what was known then: the strongest look at point in time.

In: the raw rows with ``known_at`` up to the decision time of a day. Out: a finding that counts rows of that day which differ in any column from the stored
ones. The scratch warehouse lies in a temporary folder; dbt builds the last ``HISTORY_DAYS`` days in it. Minutes: only with ``--deep``.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from orchestration.doctor.finding import Count, Invariant, Look
from orchestration.doctor.point_in_time import REBUILD
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


def _rebuilt(look: Look) -> Count:
    from orchestration.dbt import project_fingerprint

    built = get_json_state(look.connection, BUILT)
    if not built or json.loads(built["fingerprint"])[0] != project_fingerprint():
        return Count(note="the stored features are of another version of the dbt project")
    days = look.days or _sample(look)
    checked = broken = 0
    example = ""
    for day in days:
        found = _compare(look, built, day)
        checked += found.checked
        broken += found.broken
        example = example or found.example
    return Count(checked, broken, example, f"days {', '.join(map(str, days))}")


def _sample(look: Look) -> tuple[date, ...]:
    """The newest day, and others by a fixed seed."""
    days = [row[0] for row in look.connection.execute("SELECT DISTINCT as_of FROM features.daily ORDER BY 1").fetchall()]  # fmt: skip
    others = random.Random(SEED).sample(days[:-1], min(SAMPLE_DAYS - 1, len(days) - 1))  # noqa: S311
    return (*others, *days[-1:])


def _compare(look: Look, built: Mapping[str, Any], day: date) -> Count:
    """Build the day in a scratch warehouse and hold its rows against the stored ones."""
    from orchestration import dbt

    _, offset, interval, assets = json.loads(built["fingerprint"])
    with tempfile.TemporaryDirectory() as folder:
        built_as = {
            "home": Path(folder),
            "decision_offset_minutes": offset,
            "rv_interval": interval,
        }
        scratch = look.settings.model_copy(update=built_as)
        warehouse = Warehouse(scratch)
        with warehouse.write():
            pass
        connection = look.connection
        attach(connection, scratch.warehouse_path, "scratch", read_only=False)
        for table in TABLES.values():
            connection.execute(
                f"INSERT INTO scratch.{table.qualified_name} FROM {table.qualified_name} WHERE known_at <= ?",
                [scratch.decision_time(day)],
            )
        connection.execute("DETACH scratch")
        first = max(date.fromisoformat(built["from"]), day - timedelta(days=HISTORY_DAYS))
        with warehouse.lock() as lock:
            dbt.build(scratch, first, day, tuple(assets), lock=lock, full_refresh=True)
        attach(connection, scratch.warehouse_path, "scratch", read_only=True)
        try:
            return _differences(look, day)
        finally:
            connection.execute("DETACH scratch")


def _differences(look: Look, day: date) -> Count:
    checked = broken = 0
    example = ""
    for table, column in _DAY_COLUMN.items():
        if table not in look.tables:
            continue
        of_the_day = f"WHERE {column} = DATE '{day}'"
        names = ", ".join(f'"{row[0]}"' for row in look.connection.execute(f"DESCRIBE {table}").fetchall())  # fmt: skip
        stored = f"SELECT {names} FROM {table} {of_the_day}"
        made = f"SELECT {names} FROM scratch.{table} {of_the_day}"
        found = look.count(
            f"SELECT count(*) FROM {table} {of_the_day}",
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
    by=_rebuilt,
)
