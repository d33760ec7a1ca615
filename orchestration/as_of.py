"""What was known when a forecast was made.

In: a coin, a day, perhaps a horizon. Out: every forecast that was made for it, replaced ones too, each with its version, when it was made, the snapshot
of the lake that it read, the feature row as it stood there, and how new the raw rows were; and what today's tables say otherwise. Without snapshots (a
file) the rows are told apart by ``known_at`` and ``ingested_at``. Never: a forecast made anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.warehouse import Warehouse, WarehouseError
from orchestration.warehouse.state import CATALOG

_OWN_COLUMNS = ("as_of", "asset")


@dataclass(frozen=True)
class RawSeen:
    """The newest row of a raw table that could be used: what was known by the decision time and stored when the forecast was made."""

    table: str
    rows: int
    newest_known_at: datetime | None
    newest_ingested_at: datetime | None
    arrived_since: int
    """Rows known by the decision time that were stored only after the forecast was made: a forecast made today would use them."""


@dataclass(frozen=True)
class Made:
    """One forecast as it was made."""

    model: str
    model_version: str
    horizon: int
    volatility: float | None
    made_at: datetime | None
    superseded_at: datetime | None
    run_id: str | None
    lake_snapshot: int | None
    version_trained_as_of: date | None
    version_snapshot: int | None


@dataclass(frozen=True)
class Known:
    """What a desk is told; ``differs`` names, in words, what today's tables say otherwise."""

    asset: str
    as_of: date
    decision_time: datetime
    forecasts: list[Made]
    features: dict[str, Any]
    features_snapshot: int | None
    features_today: dict[str, Any]
    raw: list[RawSeen]
    differs: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """JSON's kinds only."""
        made: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return made


def known_when_made(
    settings: Settings, asset: str, as_of: date, horizon: int | None = None
) -> Known:
    """Look. Raises ``WarehouseError`` where no forecast of that coin and day was ever made, or a snapshot is gone."""
    decision = settings.decision_time(as_of)
    warehouse = Warehouse(settings)
    with warehouse.read() as connection:
        made = _forecasts(connection, asset, as_of, horizon)
        if not made:
            raise WarehouseError(
                f"no forecast of {asset} as of {as_of}{f' for horizon {horizon}' if horizon else ''} was ever made: "
                '`volcast sql "SELECT DISTINCT asset, as_of FROM forecasts.volatility"` lists those that were'
            )
        first = min((item.made_at for item in made if item.made_at), default=datetime.now(UTC))
        snapshot = min((item.lake_snapshot for item in made if item.lake_snapshot is not None), default=None)  # fmt: skip
        try:
            features = _features(connection, asset, as_of, snapshot)
            raw = [_seen(connection, name, asset, decision, first, snapshot) for name in TABLES]
        except duckdb.Error as error:
            if snapshot is None or "snapshot" not in str(error).lower():
                raise
            raise WarehouseError(
                f"snapshot {snapshot}, which the forecast read, is not in the lake any more: {error}"
            ) from error
        today = _features(connection, asset, as_of, None)
    found = Known(asset, as_of, decision, made, features, snapshot, today, raw)
    found.differs.extend(_differences(found))
    return found


def _forecasts(
    connection: duckdb.DuckDBPyConnection, asset: str, as_of: date, horizon: int | None
) -> list[Made]:
    rows = connection.execute(
        """
        WITH made AS (
            SELECT model, model_version, horizon, volatility, created_at AS made_at, CAST(NULL AS TIMESTAMPTZ) AS superseded_at, run_id
            FROM forecasts.volatility WHERE asset = $asset AND as_of = $as_of
            UNION ALL
            SELECT model, model_version, horizon, CAST(row_json ->> 'volatility' AS DOUBLE), made_at, superseded_at, row_json ->> 'run_id'
            FROM forecasts.superseded WHERE table_name = 'forecasts.volatility' AND asset = $asset AND as_of = $as_of
        )
        SELECT made.model, made.model_version, made.horizon, made.volatility, made.made_at, made.superseded_at, made.run_id,
            CASE WHEN made.superseded_at IS NULL THEN ledger.lake_snapshot END, registry.trained_as_of, registry.lake_snapshot
        FROM made
        LEFT JOIN forecasts.ledger AS ledger ON ledger.table_name = 'forecasts.volatility' AND ledger.as_of = $as_of
            AND ledger.model = made.model AND ledger.model_version = made.model_version
        LEFT JOIN models.registry AS registry ON registry.model = made.model AND registry.model_version = made.model_version
        WHERE $horizon IS NULL OR made.horizon = $horizon
        ORDER BY made.model, made.horizon, made.made_at, made.model_version
        """,
        {"asset": asset, "as_of": as_of, "horizon": horizon},
    ).fetchall()
    return [Made(*row) for row in rows]


def _at(snapshot: int | None) -> str:
    return "" if snapshot is None else f" AT (VERSION => {int(snapshot)})"


def _features(
    connection: duckdb.DuckDBPyConnection, asset: str, as_of: date, snapshot: int | None
) -> dict[str, Any]:
    """The row of features.daily; empty where there is none."""
    there = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'features' AND table_name = 'daily'",
        [CATALOG],
    ).fetchone()
    if not there or not there[0]:
        return {}
    cursor = connection.execute(
        f"SELECT * FROM features.daily{_at(snapshot)} WHERE asset = ? AND as_of = ?",
        [asset, as_of],
    )
    names = [column[0] for column in cursor.description or ()]
    row = cursor.fetchone()
    return {} if row is None else dict(zip(names, row, strict=True))


def _seen(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    asset: str,
    decision: datetime,
    made_at: datetime,
    snapshot: int | None,
) -> RawSeen:
    table = TABLES[name]
    of_coin = ""
    if "symbol" in table.columns and "asset" not in table.columns:
        of_coin = " AND split_part(symbol, '/', 1) = $asset"
    elif name in ("funding_rates", "open_interest", "implied_volatility", "onchain_metrics"):
        of_coin = " AND asset = $asset"
    known = f"known_at <= $decision{of_coin}"
    parameters: dict[str, Any] = {"decision": decision}
    if of_coin:
        parameters["asset"] = asset
    stored = "true" if snapshot is not None else "ingested_at <= $made_at"
    then = connection.execute(
        f"SELECT count(*), max(known_at), max(ingested_at) FROM {table.qualified_name}{_at(snapshot)} WHERE {known} AND {stored}",
        parameters if snapshot is not None else {**parameters, "made_at": made_at},
    ).fetchone() or (0, None, None)
    now = connection.execute(
        f"SELECT count(*) FROM {table.qualified_name} WHERE {known}", parameters
    ).fetchone() or (0,)
    return RawSeen(table.qualified_name, int(then[0]), then[1], then[2], int(now[0]) - int(then[0]))


def _differences(found: Known) -> list[str]:
    differs = [
        f"{item.model} {item.model_version}, horizon {item.horizon}: replaced at {item.superseded_at:%Y-%m-%d %H:%M} UTC"
        for item in found.forecasts
        if item.superseded_at is not None
    ]
    names = [name for name in found.features_today if name not in _OWN_COLUMNS]
    changed = [
        name for name in names if repr(found.features.get(name)) != repr(found.features_today[name])
    ]
    if changed:
        shown = ", ".join(
            f"{name} was {found.features.get(name)!r}, is {found.features_today[name]!r}"
            for name in changed[:3]
        )
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        differs.append(f"features.daily: {shown}{more}")
    differs += [
        f"{item.table}: {item.arrived_since} rows known by the decision time arrived after the forecast was made"
        for item in found.raw
        if item.arrived_since
    ]
    return differs
