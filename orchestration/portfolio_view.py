"""A portfolio's risk on one day, as `volcast portfolio` shows it.

In: a connection to the published copy, a file of weights, a stored day. Out: rows for a terminal and for CSV. Never: a write, or figures for a
file with an entry that cannot be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from ml.forecasts import HORIZONS
from ml.risk.holdings import PortfolioError, read_portfolio
from ml.risk.portfolio import PORTFOLIO_COLUMNS
from orchestration.champion import champion_on
from orchestration.correlations import OK
from orchestration.portfolio import portfolio_rows
from orchestration.warehouse import WarehouseError

ALL_COINS = "ALL"
READ_TABLES = (
    "features.daily",
    "features.realized",
    "forecasts.correlations",
    "forecasts.refusals",
    "forecasts.volatility",
    "models.decisions",
    "models.registry",
)
"""Of the published copy."""


@dataclass(frozen=True)
class PortfolioView:
    """One day's figures of a portfolio: as every column, and as what fits a terminal."""

    title: str
    names: list[str]
    rows: list[list[Any]]
    short_names: list[str]
    short_rows: list[list[str]]
    notes: list[str]


def show_portfolio(
    connection: duckdb.DuckDBPyConnection, path: Path, day: date, model: str = ""
) -> PortfolioView:
    """The risk of a file of weights on a stored day: per horizon a row ALL, then each coin's part of it.

    Raises ``PortfolioError`` for a file that cannot be used or a day without figures, ``LookupError`` for a day or model without
    forecasts, ``WarehouseError`` for a copy that is older than a table that is read.
    """
    portfolio = read_portfolio(path)
    _require_tables(connection, day)
    name = model or champion_on(connection, day).model
    found = portfolio_rows(connection, portfolio, day, day, models=(name,))
    if found.risk.empty:
        raise LookupError(
            f"no forecast of {name} published for {day}: expected a day and a model of forecasts.volatility (`volcast status`)"
        )
    refused = found.risk[found.risk["volatility"].isna()]
    if len(refused):
        raise PortfolioError(str(refused["status"].iloc[0]))
    names = ["horizon", "asset", "weight", "volatility", "share", *PORTFOLIO_COLUMNS]
    whole = found.risk.assign(asset=ALL_COINS, weight=found.risk["net_weight"], share=1.0)
    parts = found.components.rename(
        columns={f"component_{measure}": measure for measure in PORTFOLIO_COLUMNS}
    )
    rows: list[list[Any]] = []
    for horizon in HORIZONS:
        for frame in (whole, parts):
            mine = frame.loc[frame["horizon"] == horizon, names]
            rows += [[None if v != v else v for v in row] for row in mine.astype(object).to_numpy().tolist()]  # fmt: skip
    shown = ["horizon", "asset", "weight", "volatility", "share", "var_975", "es_975", "mixture_var_975", "mixture_es_975"]  # fmt: skip
    places = [names.index(column) for column in shown]
    source = connection.execute("SELECT max(source) FROM forecasts.volatility WHERE as_of = ?", [day]).fetchone()  # fmt: skip
    simulated = "SIMULATED MARKET: " if source and source[0] == "simulated" else ""
    first = found.risk.iloc[0]
    notes = [f"horizon {int(row['horizon'])}: {row['status']}" for row in found.risk.to_dict("records") if row["status"] != OK]  # fmt: skip
    ratios = ", ".join(f"{ratio:.2f}" for ratio in found.risk["diversification_ratio"])
    return PortfolioView(
        title=f"{simulated}risk of {portfolio.name} by {name}, as of {day} (fractions of the capital; gross {first['gross_weight']:.2f})",
        names=names,
        rows=rows,
        short_names=["days", "coin", "weight", "volatility", "share", "VaR 97.5 %", "ES 97.5 %", "own VaR", "own ES"],
        short_rows=[[_shown(names[place], row[place]) for place in places] for row in rows],
        notes=[f"diversification ratio at {', '.join(map(str, HORIZONS))} days: {ratios}", *notes],
    )  # fmt: skip


def _require_tables(connection: duckdb.DuckDBPyConnection, day: date) -> None:
    found = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    lacking = [table for table in READ_TABLES if (table,) not in found]
    if lacking:
        raise WarehouseError(
            f"the published copy has no {', '.join(lacking)}: it was made by an older volcast; `volcast run --as-of {day}` makes and "
            "publishes what is missing"
        )


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in ("horizon", "asset"):
        return str(value)
    return f"{value:.2f}" if name == "weight" else f"{value:.1%}"
