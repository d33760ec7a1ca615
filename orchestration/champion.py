"""Which model leads on a day, and why.

In: a connection to the warehouse or to its published copy. Out: the champion as of any day, the statuses of the registry. A promotion
decided on day D holds from the day after, so that a backfill shows on each day the champion that a daily run had.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from orchestration.settings import Settings
from orchestration.warehouse import bump_revision, get_json_state, set_json_state

STATE_KEY = "champion"
START_REASON = "starting champion: none was promoted yet"
PIN_REASON = "pinned by VOLCAST_CHAMPION"


@dataclass(frozen=True)
class Champion:
    """The model that leads on a day; ``decided_on`` is the day of its promotion, None where it was not promoted."""

    model: str
    decided_on: date | None
    reason: str

    @property
    def since(self) -> date | None:
        """First day that it led."""
        return None if self.decided_on is None else self.decided_on + timedelta(days=1)


def champion_setting(settings: Settings) -> dict[str, object]:
    """What the warehouse keeps of the settings, so that readers of the published copy need none."""
    return {
        "pin": settings.pinned_champion,
        "start": settings.starting_champion,
        "models": list(settings.models),
    }


def note_champion_setting(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Keep the setting, and give the registry the statuses that follow from it."""
    set_json_state(connection, STATE_KEY, champion_setting(settings))
    set_statuses(connection, champion_on(connection, date.max))


def is_noted(connection: duckdb.DuckDBPyConnection, settings: Settings) -> bool:
    """Whether the warehouse holds the setting as it is."""
    return get_json_state(connection, STATE_KEY) == champion_setting(settings)


def champion_on(connection: duckdb.DuckDBPyConnection, day: date) -> Champion:
    """The champion of ``day``: the pin, else the last promotion decided before it, else the starting champion.

    Raises ``LookupError`` in a warehouse that no run has written to.
    """
    row = connection.execute("SELECT value FROM meta.state WHERE key = ?", [STATE_KEY]).fetchone()
    if row is None:
        raise LookupError("no champion yet: run the line first (`volcast run --as-of DATE`)")
    setting = json.loads(row[0])
    if setting["pin"]:
        return Champion(str(setting["pin"]), None, PIN_REASON)
    promoted = connection.execute(
        "SELECT model, as_of, reason FROM models.decisions WHERE kind = 'promote' AND as_of < ? AND list_contains(?, model) "
        "ORDER BY as_of DESC LIMIT 1",
        [day, setting["models"]],
    ).fetchone()
    if promoted is not None:
        return Champion(str(promoted[0]), promoted[1], f"promoted on {promoted[1]}: {promoted[2]}")
    return Champion(str(setting["start"]), None, START_REASON)


def set_statuses(connection: duckdb.DuckDBPyConnection, champion: Champion) -> None:
    """The newest version of each model is live: the champion's is the champion, the others candidates; older ones are retired."""
    connection.execute(
        """
        UPDATE models.registry AS r SET
            status = CASE WHEN n.place > 1 THEN 'retired' WHEN r.model = $champion THEN 'champion' ELSE 'candidate' END,
            status_reason = CASE WHEN n.place > 1 THEN 'a newer version serves the newest days'
                WHEN r.model = $champion THEN $reason ELSE 'published beside the champion' END
        FROM (
            SELECT model, model_version,
                row_number() OVER (PARTITION BY model ORDER BY trained_as_of DESC, created_at DESC, model_version) AS place
            FROM models.registry
        ) AS n
        WHERE r.model = n.model AND r.model_version = n.model_version
        """,
        {"champion": champion.model, "reason": champion.reason},
    )
    bump_revision(connection)
