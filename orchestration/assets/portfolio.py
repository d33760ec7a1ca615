"""Correlations between coins, and the risk of the portfolio that VOLCAST_PORTFOLIO names.

In: hours, forecasts, a file of weights. Out: ``forecasts.correlations``, ``forecasts.portfolio_risk``, ``forecasts.portfolio_components``. A file that
cannot be used fails this asset's own check and is told in the rows; everything else of the night goes on.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from ml.risk.holdings import PortfolioError, read_portfolio
from orchestration.assets.common import key_of, output_options, output_specs, result
from orchestration.champion import champion_on
from orchestration.correlations import correlation_rows, days_without_correlations
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.portfolio import KEY, PortfolioRows, portfolio_rows, problem_of, refused_rows
from orchestration.warehouse import replace_rows

TABLES = ("forecasts.portfolio_risk", "forecasts.portfolio_components")
RISK_KEY = key_of("forecasts.portfolio_risk")
_DAYS_AT_ONCE = 200


@dg.asset(
    **output_options(
        "forecasts.correlations",
        "forecasts",
        deps=[key_of("features.hourly"), key_of("forecasts.volatility")],
    )
)
def correlations(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    first, last = day_range(context)
    warehouse, made = platform.warehouse, 0
    with warehouse.read() as connection:
        days = days_without_correlations(connection, first, last)
    for start in range(0, len(days), _DAYS_AT_ONCE):
        with warehouse.read() as connection:
            rows = correlation_rows(connection, days[start : start + _DAYS_AT_ONCE])
        made += len(rows)
        if len(rows):
            for attempt in warehouse.writes():
                with attempt as connection:
                    replace_rows(
                        connection, "forecasts.correlations", _stamped(rows, platform, context.run.run_id), on=["as_of"]
                    )  # fmt: skip
    with warehouse.read() as connection:
        total = connection.execute("SELECT count(*) FROM forecasts.correlations").fetchone()
        mean = connection.execute(
            "SELECT avg(correlation) FROM forecasts.correlations WHERE as_of = ? AND horizon = 1 AND asset <> other_asset",
            [last],
        ).fetchone()
        refused = connection.execute(
            "SELECT DISTINCT asset, status FROM forecasts.correlations WHERE as_of = ? AND status <> 'ok' ORDER BY 1",
            [last],
        ).fetchall()
    for asset, reason in refused:
        context.log.warning(f"no correlations of {asset}: {reason}", extra={"coin": asset})
    return result(
        platform,
        int(total[0]) if total else 0,
        rows_made=made,
        coins_refused=len(refused),
        mean_correlation_1d=mean[0] if mean else None,
    )


@dg.multi_asset(
    name="portfolio",
    specs=output_specs(
        TABLES, "forecasts", ("forecasts.volatility", "forecasts.correlations", "features.realized")
    ),
    check_specs=[
        dg.AssetCheckSpec(
            "usable",
            asset=RISK_KEY,
            description="The file of weights can be used, and the champion (where it forecast nothing, every model that did) has figures at every horizon; "
            "the message names what is wrong.",
        )
    ],
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="warehouse",
)
def portfolio(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    first, last = day_range(context)
    path, warehouse = platform.settings.portfolio, platform.warehouse
    problem = ""
    if path is not None:
        with warehouse.read() as connection:
            try:
                book = read_portfolio(path)
                rows = portfolio_rows(connection, book, first, last, stored=True)
            except PortfolioError as error:
                problem = str(error)
                rows = refused_rows(connection, path, str(error), first, last, stored=True)
        _write(platform, rows, context.run.run_id)
        with warehouse.read() as connection:
            champion = champion_on(connection, last).model
            problem = problem or problem_of(connection, path, last, champion)
    if problem:
        context.log.error(f"portfolio: {problem}")
    with warehouse.read() as connection:
        for table in TABLES:
            total = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            yield result(
                platform, int(total[0]) if total else 0, key_of(table), portfolio=str(path or "")
            )
    yield dg.AssetCheckResult(
        asset_key=RISK_KEY,
        check_name="usable",
        passed=not problem,
        severity=dg.AssetCheckSeverity.ERROR,
        description=problem or ("" if path else "VOLCAST_PORTFOLIO is not set"),
        metadata={"message": problem} if problem else {},
    )


def _write(platform: Platform, rows: PortfolioRows, run_id: str) -> None:
    """Replace the rows of the days, models and versions; components of a portfolio that lost its figures go too."""
    if rows.risk.empty:
        return
    keys = [name for name in KEY if name != "horizon"]
    for attempt in platform.warehouse.writes():
        with attempt as connection:
            replace_rows(connection, TABLES[0], _stamped(rows.risk, platform, run_id), on=keys)
            replace_rows(
                connection, TABLES[1], _stamped(rows.components, platform, run_id), on=keys, scope=rows.risk[keys].drop_duplicates()
            )  # fmt: skip


def _stamped(rows: pd.DataFrame, platform: Platform, run_id: str) -> pd.DataFrame:
    return rows.assign(source=platform.source.name, run_id=run_id, created_at=datetime.now(UTC))


PORTFOLIO_ASSETS = [correlations, portfolio]
