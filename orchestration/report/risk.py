"""Published tables -> the rows of the risk section: VaR and ES, doubt and leverage with its parts, traffic lights, the portfolio.

In: a connection to the published snapshot and an as_of. Out: lists of dictionaries, as ``queries.py`` gives them. Never writes.
"""

from __future__ import annotations

from datetime import date

import duckdb

from orchestration.report.queries import COINS_FIRST, Row, rows
from orchestration.tables.risk import RISK


def risk_figures(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """VaR and ES of both methods and sides, the parts of the uncertainty, and how the leverage came about; of two versions the newer."""
    return rows(
        connection,
        f"""
        SELECT {", ".join(f"r.{name}" for name in RISK.columns)} FROM forecasts.risk r LEFT JOIN models.registry m USING (model, model_version)
        WHERE r.as_of = $as_of AND r.model = $model
        QUALIFY row_number() OVER (PARTITION BY asset, horizon ORDER BY m.created_at DESC NULLS LAST, model_version DESC) = 1
        ORDER BY {COINS_FIRST.format("")}, horizon
        """,
        as_of=as_of,
        model=model,
    )


def traffic_lights(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """Backtests over all coins, and of a portfolio where there is one, as at the last day judged."""
    return rows(
        connection,
        """
        SELECT as_of AS judged_on, method, side, level, horizon, asset, periods, breaches, expected_breaches, effective_periods,
            light, kupiec_p, christoffersen_p, dq_p, acerbi_szekely_z, acerbi_szekely_p, verdict
        FROM evaluation.traffic_lights
        WHERE model = $model AND (asset = 'ALL' OR asset LIKE 'portfolio:%')
            AND as_of = (SELECT max(as_of) FROM evaluation.traffic_lights WHERE as_of <= $as_of)
        ORDER BY asset, method, side, horizon, level
        """,
        as_of=as_of,
        model=model,
    )


def leverage_backtest(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """What following the advice for one day at a time would have given, as at the last Sunday judged; the portfolio first."""
    return rows(
        connection,
        """
        SELECT as_of AS judged_on, * EXCLUDE (source, as_of) FROM evaluation.leverage_backtest
        WHERE model = $model AND horizon = (SELECT min(horizon) FROM evaluation.leverage_backtest WHERE model = $model)
            AND as_of = (SELECT max(as_of) FROM evaluation.leverage_backtest WHERE as_of <= $as_of)
        ORDER BY asset = 'PORTFOLIO' DESC, asset, strategy
        """,
        as_of=as_of,
        model=model,
    )


def portfolio(connection: duckdb.DuckDBPyConnection, as_of: date, model: str) -> list[Row]:
    """The stored portfolio by horizon."""
    return rows(
        connection,
        """
        SELECT * EXCLUDE (source, run_id, created_at) FROM forecasts.portfolio_risk WHERE as_of = $as_of AND model = $model
        QUALIFY row_number() OVER (PARTITION BY portfolio, horizon ORDER BY created_at DESC, model_version DESC) = 1
        ORDER BY portfolio, horizon
        """,
        as_of=as_of,
        model=model,
    )


def portfolio_components(
    connection: duckdb.DuckDBPyConnection, as_of: date, model: str
) -> list[Row]:
    """Each coin's part of it, largest first."""
    return rows(
        connection,
        """
        SELECT * EXCLUDE (source, run_id, created_at) FROM forecasts.portfolio_components WHERE as_of = $as_of AND model = $model
        QUALIFY row_number() OVER (PARTITION BY portfolio, horizon, asset ORDER BY created_at DESC, model_version DESC) = 1
        ORDER BY portfolio, horizon, abs(share) DESC, asset
        """,
        as_of=as_of,
        model=model,
    )
