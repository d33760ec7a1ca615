"""Regimes, rare days, extreme quantiles, events and their effects as Dagster assets.

In: features, stored forecasts, open gates. Out: ``forecasts.regimes``, ``.jumps``, ``.tails``, ``.events`` with the monthly fits behind them in
``models.*``, and ``evaluation.event_effects``. What a day has is not made again; effects of a Sunday are made again where their evidence changed.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
import pandas as pd

from orchestration.assets.common import key_of, output_options, output_specs, result
from orchestration.gates import require_open_gates
from orchestration.partitions import day_range, days_of
from orchestration.platform import Platform
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import get_state, replace_rows, set_state

Results = Iterator[dg.MaterializeResult[None]]


REGIME_TABLES = ("models.regime_parameters", "forecasts.regimes")
JUMP_TABLES = ("models.jump_parameters", "forecasts.jumps")
TAIL_TABLES = ("models.tail_parameters", "forecasts.tails")
FEATURES = ("features.daily", "features.realized")


@dg.multi_asset(
    name="regimes",
    specs=output_specs(REGIME_TABLES, "forecasts", FEATURES),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def regimes(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Results:
    from orchestration.regimes import regime_rows

    first, last = day_range(context)
    with platform.warehouse.read() as connection:
        require_open_gates(connection, days_of(first, last))
        made = regime_rows(connection, platform.settings, first, last)
    _note_refusals(context, made[0], "asset")
    store_rows(platform, context.run.run_id, REGIME_TABLES, made)
    with platform.warehouse.read() as connection:
        market = connection.execute(
            "SELECT p_turbulent FROM forecasts.regimes WHERE as_of = ? AND asset = 'MARKET'", [last]
        ).fetchone()
    more = {"forecasts.regimes": {"p_turbulent_market": market[0] if market else None}}
    yield from _results(platform, REGIME_TABLES, made, more)


@dg.multi_asset(
    name="jumps",
    specs=output_specs(JUMP_TABLES, "forecasts", FEATURES),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def jumps(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Results:
    from orchestration.rare_days import jump_rows

    first, last = day_range(context)
    with platform.warehouse.read() as connection:
        require_open_gates(connection, days_of(first, last))
        made = jump_rows(connection, platform.settings, first, last)
    _note_refusals(context, made[0], "kind")
    store_rows(platform, context.run.run_id, JUMP_TABLES, made)
    yield from _results(platform, JUMP_TABLES, made, {})


@dg.multi_asset(
    name="tails",
    specs=output_specs(TAIL_TABLES, "forecasts", ("forecasts.volatility", "models.registry")),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def tails(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Results:
    from orchestration.tails import tail_rows
    from orchestration.versions import served_days

    first, last = day_range(context)
    settings = platform.settings
    with platform.warehouse.read() as connection:
        blocks = served_days(connection, settings, first, last, without="forecasts.tails")
        made = tail_rows(connection, settings, blocks)
    store_rows(platform, context.run.run_id, TAIL_TABLES, made)
    yield from _results(platform, TAIL_TABLES, made, {})


@dg.asset(**output_options("forecasts.events", "forecasts", deps=[key_of("features.daily")]))
def events(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from orchestration.events import event_rows

    first, last = day_range(context)
    with platform.warehouse.read() as connection:
        require_open_gates(connection, days_of(first, last))
        rows = event_rows(connection, first, last)
    store_rows(platform, context.run.run_id, ("forecasts.events",), (rows,))
    active = rows[rows["active"].fillna(False)] if len(rows) else rows
    for event, own in active.groupby("event") if len(active) else ():
        context.log.info(f"{event}: active on {own['asset'].nunique()} coins, {len(own)} coin-days")
    return _result(platform, "forecasts.events", len(rows), active_coin_days=len(active))


@dg.asset(
    **output_options(
        "evaluation.event_effects",
        "evaluation",
        deps=[
            key_of(name)
            for name in ("forecasts.events", "forecasts.volatility", "features.realized")
        ],
    )
)
def event_effects(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)
    written = 0
    for sunday in (day for day in days_of(first, last) if day.weekday() == 6):
        written += judge_effects(platform, sunday, context.run.run_id)
    return _result(platform, "evaluation.event_effects", written)


def judge_effects(platform: Platform, sunday: date, run_id: str) -> int:
    """Store the effects as at a Sunday; 0 rows where the evidence is what it was."""
    from orchestration.events import EVIDENCE_DAYS, effect_rows

    table, key = "evaluation.event_effects", f"evaluation.event_effects:{sunday}"
    with platform.warehouse.read() as connection:
        evidence = _evidence(connection, sunday - timedelta(days=EVIDENCE_DAYS), sunday)
        if get_state(connection, key) == evidence:
            return 0
        rows = effect_rows(connection, platform.settings, sunday)
    if rows.empty:
        return 0
    for attempt in platform.warehouse.writes():
        with attempt as connection:
            connection.execute(f"DELETE FROM {table} WHERE as_of = ?", [sunday])
            replace_rows(connection, table, _stamped(platform, run_id, table, rows), on=["as_of"])
            set_state(connection, key, evidence)
    return len(rows)


def _evidence(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> str:
    """What the effects rest on, as counts and hashes."""
    found = []
    for query in (
        "SELECT count(*), sum(hash(asset, as_of, horizon, model, model_version, variance)) FROM forecasts.volatility WHERE as_of BETWEEN ? AND ?",
        "SELECT count(*), sum(hash(asset, as_of, event, active)) FROM forecasts.events WHERE as_of BETWEEN ? AND ?",
        "SELECT count(*), sum(hash(asset, day, known_on, realized_variance)) FROM features.realized WHERE day >= ? AND known_on <= ?",
    ):
        found.append(str(connection.execute(query, [first, last]).fetchone()))
    return " ".join(found)


def _stamped(platform: Platform, run_id: str, table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """With source and run; whole numbers that may be missing as such."""
    whole = {
        name: "Int64"
        for name, (kind, _) in OUTPUT_TABLES[table].columns.items()
        if kind == "INTEGER" and name in rows
    }
    return rows.astype(whole).assign(
        source=platform.source.name, run_id=run_id, created_at=datetime.now(UTC)
    )


def store_rows(
    platform: Platform, run_id: str, tables: tuple[str, ...], frames: tuple[pd.DataFrame, ...]
) -> None:
    """Replace the rows of each table that share a key with its frame's; writes nothing where all are empty."""
    if all(rows.empty for rows in frames):
        return
    for attempt in platform.warehouse.writes():
        with attempt as connection:
            for table, rows in zip(tables, frames, strict=True):
                if not rows.empty:
                    key = list(OUTPUT_TABLES[table].key)
                    replace_rows(connection, table, _stamped(platform, run_id, table, rows), on=key)


def _note_refusals(context: dg.AssetExecutionContext, fits: pd.DataFrame, name: str) -> None:
    refused = fits[fits["reason"] != ""] if len(fits) else fits
    for row in refused.itertuples():
        context.log.info(
            f"{getattr(row, name)}: fit of {row.fitted_as_of:%Y-%m-%d} refused: {row.reason}"
        )


def _result(platform: Platform, table: str, rows: int, **more: Any) -> dg.MaterializeResult[None]:
    with platform.warehouse.read() as connection:
        total = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return result(platform, int(total[0]) if total else 0, key_of(table), rows_made=rows, **more)


def _results(
    platform: Platform,
    tables: tuple[str, ...],
    made: tuple[pd.DataFrame, ...],
    more: dict[str, dict[str, Any]],
) -> Results:
    for table, rows in zip(tables, made, strict=True):
        yield _result(platform, table, len(rows), **more.get(table, {}))


REGIME_ASSETS = [regimes, jumps, tails, events, event_effects]
