"""What following the advised leverage would have given, as a Dagster asset.

In: advice, realised prices and the hours around midnight. Out: ``evaluation.leverage_backtest``, a block of rows each Sunday. A Sunday that has its rows is not run again.
"""

import dagster as dg
import pandas as pd

from orchestration.assets.common import key_of, output_options, result
from orchestration.champion import champion_on
from orchestration.partitions import day_range
from orchestration.platform import Platform
from orchestration.warehouse import replace_rows

TABLE = "evaluation.leverage_backtest"


@dg.asset(
    **output_options(
        TABLE,
        "evaluation",
        deps=[key_of("forecasts.risk"), key_of("features.realized"), key_of("features.hourly")],
    )
)
def leverage_backtest(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from orchestration.leverage_backtest import backtest_rows, sundays_due

    _, last = day_range(context)
    with platform.warehouse.read() as connection:
        parts = [
            backtest_rows(connection, platform.settings, sunday)
            for sunday in sundays_due(connection, last)
        ]
    rows = pd.concat([part for part in parts if len(part)]) if any(map(len, parts)) else None
    if rows is not None:
        for attempt in platform.warehouse.writes():
            with attempt as connection:
                replace_rows(connection, TABLE, rows, on=["as_of"])
    with platform.warehouse.read() as connection:
        newest = connection.execute(
            f"SELECT strategy, realised_volatility, worst_drawdown FROM {TABLE} WHERE asset = 'PORTFOLIO' AND horizon = 1 "
            f"AND model = ? AND as_of = (SELECT max(as_of) FROM {TABLE} WHERE as_of <= ?) ORDER BY strategy",
            [champion_on(connection, last).model, last],
        ).fetchall()
        total = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
    plotted = {f"realised_volatility_{name}": value for name, value, _ in newest}
    plotted |= {f"worst_drawdown_{name}": value for name, _, value in newest}
    made = 0 if rows is None else len(rows)
    return result(platform, int(total[0]) if total else 0, rows_made=made, **plotted)
