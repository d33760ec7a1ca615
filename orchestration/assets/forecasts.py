"""Volatility forecasts of every model, and the risk figures drawn from them.

In: features, artefacts of the versions that serve the days, open gates; for risk, audits and drift too. Out: ``forecasts.volatility``, ``forecasts.refusals``, ``forecasts.risk``.
A day that a version has forecast is not forecast again.
"""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from ml.model import fitted_lookback_days
from ml.models import MODELS
from orchestration.assets.common import key_of, output_options, output_specs, result
from orchestration.assets.explanations import ATTENTION_MODELS
from orchestration.calibration import calibrated_forecasts
from orchestration.champion import champion_on
from orchestration.gates import require_open_gates
from orchestration.panels import read_features
from orchestration.partitions import day_range, days_of
from orchestration.platform import Platform
from orchestration.versions import served_days
from orchestration.warehouse import replace_rows


@dg.multi_asset(
    name="volatility_forecasts",
    specs=output_specs(
        ("forecasts.volatility", "forecasts.model_quantiles", "forecasts.refusals"),
        "forecasts",
        ("models.registry", "features.daily", "features.hourly", "features.realized"),
        kinds={"python", "pytorch", "duckdb"},
    ),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def volatility(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]):
    first, last = day_range(context)
    settings, warehouse = platform.settings, platform.warehouse
    with warehouse.read() as connection:
        require_open_gates(connection, days_of(first, last))
        blocks = served_days(connection, settings, first, last, without="forecasts.volatility")
        if not blocks:
            context.log.info("every forecast of these days exists: nothing to do")
        loaded = [(block, block.load(settings)) for block in blocks]
        if loaded:
            lookback = max(fitted_lookback_days(model) for _, model in loaded)
            panel_from = min(min(block.days) for block in blocks)
            needs_hours = any(MODELS[block.model].reads_hourly for block in blocks)
            frames = read_features(
                connection, last, (last - panel_from).days + lookback, hourly=needs_hours
            )
            panel = frames.panel
        snapshot = warehouse.snapshot(connection)
    made, refused = [], []
    for block, model in loaded:
        forecasts = model.forecast(panel, block.days)
        made.append(forecasts.to_frame().assign(model_version=block.model_version))
        refused.append(forecasts.refused().assign(model_version=block.model_version))
    rows = own = pd.DataFrame()
    if made:
        own = _stamped(pd.concat(made), platform, context.run.run_id)
        with warehouse.read() as connection:
            rows = calibrated_forecasts(connection, own, last)
    refusals = (
        _stamped(pd.concat(refused), platform, context.run.run_id) if refused else pd.DataFrame()
    )
    if not rows.empty or not refusals.empty:
        for attempt in warehouse.writes():
            with attempt as connection:
                _write(connection, "forecasts.model_quantiles", own, snapshot)
                _write(connection, "forecasts.volatility", rows, snapshot)
                _write(
                    connection,
                    "forecasts.refusals",
                    refusals.rename(columns={"status": "reason"}),
                    snapshot,
                )
    for reason, count in refusals.groupby("status").size().items() if not refusals.empty else ():
        context.log.warning(f"{count} forecasts refused: {reason}")
    with warehouse.read() as connection:
        summary = connection.execute(
            "SELECT asset, horizon, round(100 * volatility, 1) AS volatility_percent, round(100 * q10, 1) AS low_80, "
            "round(100 * q90, 1) AS high_80 FROM forecasts.volatility WHERE as_of = ? AND model = ? ORDER BY ALL",
            [last, champion_on(connection, last).model],
        ).df()
        total = connection.execute("SELECT count(*) FROM forecasts.volatility").fetchone()
        total_own = connection.execute("SELECT count(*) FROM forecasts.model_quantiles").fetchone()
        total_refused = connection.execute("SELECT count(*) FROM forecasts.refusals").fetchone()
    first_asset = summary[summary["horizon"] == 1]
    yield result(
        platform,
        int(total[0]) if total else 0,
        key_of("forecasts.volatility"),
        forecasts_made=len(rows),
        mean_volatility_percent=float(first_asset["volatility_percent"].mean())
        if len(first_asset)
        else None,
        champion_forecasts=dg.MetadataValue.md(summary.to_markdown(index=False))
        if len(summary)
        else None,
    )
    yield result(
        platform, int(total_own[0]) if total_own else 0, key_of("forecasts.model_quantiles")
    )
    yield result(
        platform,
        int(total_refused[0]) if total_refused else 0,
        key_of("forecasts.refusals"),
        refused=len(refusals),
    )


@dg.asset(
    **output_options(
        "forecasts.risk",
        "forecasts",
        deps=[
            key_of(name)
            for name in (
                "forecasts.volatility",
                "forecasts.explanations",
                "features.daily",
                "models.drift",  # of Sundays before each day: a backfill has judged them by now, as daily runs had
            )
        ],
    )
)
def risk(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from orchestration.risk import risk_rows  # scipy: only when there is work

    first, last = day_range(context)
    settings, warehouse = platform.settings, platform.warehouse
    with warehouse.read() as connection:
        blocks = served_days(connection, settings, first, last, without="forecasts.risk")
        rows = risk_rows(connection, settings, blocks, first, last, audited=ATTENTION_MODELS)
        snapshot = warehouse.snapshot(connection)
    if not rows.empty:
        for attempt in warehouse.writes():
            with attempt as connection:
                replace_rows(
                    connection,
                    "forecasts.risk",
                    rows,
                    on=["as_of", "model", "model_version"],
                    snapshot=snapshot,
                )
    with warehouse.read() as connection:
        latest = connection.execute(
            "SELECT avg(uncertainty), avg(advised_leverage), avg(var_975) FROM forecasts.risk "
            "WHERE as_of = ? AND model = ? AND horizon = 1",
            [last, champion_on(connection, last).model],
        ).fetchone()
        total = connection.execute("SELECT count(*) FROM forecasts.risk").fetchone()
    uncertainty, leverage, var = latest if latest else (None, None, None)
    return result(
        platform,
        int(total[0]) if total else 0,
        rows_made=len(rows),
        mean_uncertainty=uncertainty,
        mean_advised_leverage=leverage,
        mean_var_975=var,
    )


def _stamped(rows: pd.DataFrame, platform: Platform, run_id: str) -> pd.DataFrame:
    decisions = {
        day: platform.settings.decision_time(pd.Timestamp(day).date())
        for day in rows["as_of"].unique()
    }
    return rows.assign(
        source=platform.source.name,
        decision_time=rows["as_of"].map(decisions),
        run_id=run_id,
        created_at=datetime.now(UTC),
    )


def _write(connection, table: str, rows: pd.DataFrame, snapshot: int | None) -> None:
    if not rows.empty:
        replace_rows(
            connection, table, rows, on=["as_of", "model", "model_version"], snapshot=snapshot
        )
