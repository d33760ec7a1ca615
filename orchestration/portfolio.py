"""Weights and stored forecasts -> rows of forecasts.portfolio_risk and .portfolio_components, by ml/risk/portfolio.

In: a portfolio, stored volatility forecasts, quantiles and correlations, features.realized. Out: figures of the days asked for, by model, or why
there are none. The simulation looks back at the forecasts that this home stored, each made at its own decision time, with the weights of
today; returns are those known at the decision time of the day. Never: a model run again, a coin left out, a weight changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.forecasts import DAYS_PER_YEAR, HORIZONS, QUANTILE_COLUMNS
from ml.panel import Panel
from ml.risk.holdings import Portfolio, PortfolioError, portfolio_name
from ml.risk.portfolio import (
    PORTFOLIO_COLUMNS,
    PortfolioRisk,
    linear_returns,
    portfolio_risk,
    portfolio_variance,
)
from ml.risk.tails import MIN_OBSERVATIONS
from orchestration.correlations import HISTORY_DAYS, OK
from orchestration.tables import OUTPUT_TABLES

Floats = NDArray[np.float64]
KEY = ("portfolio", "as_of", "horizon", "model", "model_version")
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class PortfolioRows:
    """Rows of the two tables, less source and run."""

    risk: pd.DataFrame
    components: pd.DataFrame


def portfolio_rows(
    connection: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    first: date,
    last: date,
    *,
    models: tuple[str, ...] | None = None,
    stored: bool = False,
) -> PortfolioRows:
    """Rows of first .. last by every model (or ``models``) that forecast the day, in its newest version.

    A day, model and horizon without figures has a row whose status says why. ``stored``: leave out what forecasts.portfolio_risk holds with
    figures for the same weights already; a day that lacks some at a horizon is made again, and left out if it comes out the same.
    """
    served = _served(connection, first - timedelta(days=HISTORY_DAYS), last, models)
    wanted = served[served["as_of"] >= pd.Timestamp(first)]
    if stored:
        wanted = _not_stored(connection, portfolio.name, portfolio.weights_hash, wanted)
    if wanted.empty:
        return PortfolioRows(pd.DataFrame(), pd.DataFrame())
    book = _Book.read(
        connection, portfolio, served[served["model"].isin(set(wanted["model"]))], last
    )
    risk: list[dict[str, Any]] = []
    components: list[dict[str, Any]] = []
    for day, of_day in wanted.groupby("as_of", sort=True):
        as_of = pd.Timestamp(str(day)).date()
        known = _coins(connection, as_of)
        returns = book.returns_known_on(as_of)
        for model, version in zip(of_day["model"], of_day["model_version"], strict=True):
            for horizon in HORIZONS:
                head = {
                    "portfolio": portfolio.name,
                    "as_of": pd.Timestamp(as_of),
                    "horizon": horizon,
                    "model": str(model),
                    "model_version": str(version),
                    "weights_hash": portfolio.weights_hash,
                }
                try:
                    portfolio.require_known(known)
                    found = book.risk(connection, as_of, str(model), str(version), horizon, returns)
                except ValueError as error:
                    risk.append({**head, **_empty(), **_sums(portfolio), "status": str(error)})
                    continue
                risk.append({**head, **_figures(found), **_sums(portfolio)})
                volatilities = book.volatilities(as_of, str(model), horizon)
                components += [
                    {
                        **head,
                        "asset": asset,
                        "weight": weight,
                        "volatility": volatilities[asset],
                        "share": found.shares[asset],
                        **{f"component_{name}": found.shares[asset] * value for name, value in found.measures.items()},
                    }
                    for asset, weight in portfolio.weights.items()
                ]  # fmt: skip
    rows = PortfolioRows(pd.DataFrame(risk), pd.DataFrame(components))
    return _changed(connection, rows) if stored else rows


def refused_rows(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    reason: str,
    first: date,
    last: date,
    *,
    stored: bool = False,
) -> PortfolioRows:
    """Rows that say, for every day, model and horizon, why the file of weights could not be used."""
    name, digest = portfolio_name(path), hashlib.sha256(reason.encode()).hexdigest()[:12]
    wanted = _served(connection, first, last, None)
    if stored:
        wanted = _not_stored(connection, name, digest, wanted)
    rows = [
        {
            "portfolio": name,
            "as_of": day,
            "horizon": horizon,
            "model": model,
            "model_version": version,
            "weights_hash": digest,
            "gross_weight": np.nan,
            "net_weight": np.nan,
            **_empty(),
            "status": reason,
        }
        for day, model, version in zip(wanted["as_of"], wanted["model"], wanted["model_version"], strict=True)
        for horizon in HORIZONS
    ]  # fmt: skip
    refused = PortfolioRows(pd.DataFrame(rows), pd.DataFrame())
    return _changed(connection, refused) if stored else refused


def problem_of(connection: duckdb.DuckDBPyConnection, path: Path, day: date, model: str) -> str:
    """Why the portfolio has no figures of the newest version of a model on a day; '' where it has them, or where nothing is forecast.

    Where ``model`` forecast nothing on the day, the other models that did are asked, by name.
    """
    served = _served(connection, day, day, None)
    own = served[served["model"] == model]
    for name, version in (own if len(own) else served)[["model", "model_version"]].to_numpy():
        row = connection.execute(
            "SELECT status FROM forecasts.portfolio_risk WHERE portfolio = ? AND as_of = ? AND model = ? AND model_version = ? "
            "AND volatility IS NULL ORDER BY horizon LIMIT 1",
            [portfolio_name(path), day, name, version],
        ).fetchone()
        if row is not None:
            return str(row[0])
    return ""


@dataclass(frozen=True)
class _Book:
    """Forecasts of T days for the n coins of one portfolio, NaN where a coin has none."""

    portfolio: Portfolio
    days: NDArray[np.datetime64]  # (T,) datetime64[D], consecutive
    variance: dict[tuple[str, int], Floats]  # model, horizon -> (T, n)
    quantiles: dict[tuple[str, int], Floats]  # -> (T, n, 11)
    correlation: dict[int, Floats]  # horizon -> (T, n, n)
    realized: Panel  # returns of the same days and after, with their versions

    @classmethod
    def read(
        cls,
        connection: duckdb.DuckDBPyConnection,
        portfolio: Portfolio,
        served: pd.DataFrame,
        last: date,
    ) -> _Book:
        assets = list(portfolio.weights)
        first = served["as_of"].min().date()
        days = np.arange(np.datetime64(first), np.datetime64(last) + _DAY, dtype="datetime64[D]")
        connection.register("served_days", served)
        found = connection.execute(
            f"SELECT f.asset, f.as_of, f.horizon, f.model, f.variance, {', '.join(f'f.{name}' for name in QUANTILE_COLUMNS)} "
            "FROM forecasts.volatility f JOIN served_days s ON s.as_of::DATE = f.as_of AND s.model = f.model "
            "AND s.model_version = f.model_version WHERE list_contains(?, f.asset)",
            [assets],
        ).df()
        connection.unregister("served_days")
        variance, quantiles = {}, {}
        for key, rows in found.groupby(["model", "horizon"]):
            place = (
                _days(rows["as_of"], days),
                pd.Index(assets).get_indexer(pd.Index(rows["asset"])),
            )
            values = np.full((len(days), len(assets)), np.nan)
            values[place] = rows["variance"]
            levels = np.full((len(days), len(assets), len(QUANTILE_COLUMNS)), np.nan)
            levels[place] = rows[list(QUANTILE_COLUMNS)].to_numpy(np.float64)
            cell = str(key[0]), int(str(key[1]))
            variance[cell], quantiles[cell] = values, levels
        return cls(
            portfolio, days, variance, quantiles, _correlations(connection, assets, days), _returns(connection, assets, days)
        )  # fmt: skip

    def row(self, as_of: date) -> int:
        return int((np.datetime64(as_of) - self.days[0]) / _DAY)

    def returns_known_on(self, as_of: date) -> dict[int, Floats]:
        """horizon -> (t, n) log returns over the h days after each day, as known at the decision time of ``as_of``."""
        known = self.realized.until(as_of)
        column = [known.assets.index(asset) if asset in known.assets else None for asset in self.portfolio.weights]  # fmt: skip
        missing = np.full(len(known.days), np.nan)
        found = {}
        for horizon in HORIZONS:
            returns = known.horizon_return(horizon)
            found[horizon] = np.stack([missing if c is None else returns[:, c] for c in column], axis=1)  # fmt: skip
        return found

    def volatilities(self, as_of: date, model: str, horizon: int) -> dict[str, float]:
        values = np.sqrt(DAYS_PER_YEAR * self.variance[model, horizon][self.row(as_of)])
        return dict(zip(self.portfolio.weights, values.tolist(), strict=True))

    def risk(
        self,
        connection: duckdb.DuckDBPyConnection,
        as_of: date,
        model: str,
        version: str,
        horizon: int,
        returns: dict[int, Floats],
    ) -> PortfolioRisk:
        """Raises ``PortfolioError`` for a coin without a forecast or correlations, and what ``portfolio_risk`` raises."""
        row, cell = self.row(as_of), (model, horizon)
        variance = self.variance.get(cell)
        for place, asset in enumerate(self.portfolio.weights):
            if variance is None or not np.isfinite(variance[row, place]):
                reason = _refusal(connection, as_of, asset, model, version, horizon)
                raise PortfolioError(
                    f"{self.portfolio.name}: {asset} has no forecast of {model} for {as_of}, horizon {horizon}: {reason}"
                )
        matrix = self.correlation[horizon][row]
        for place, asset in enumerate(self.portfolio.weights):
            if not np.isfinite(matrix[place, place]):
                reason = _uncorrelated(connection, as_of, asset, horizon)
                raise PortfolioError(
                    f"{self.portfolio.name}: {asset} has no correlations for {as_of}, horizon {horizon}: {reason}"
                )
        weights = np.array(list(self.portfolio.weights.values()))
        assert variance is not None  # noqa: S101 - raised above
        before = slice(max(0, row - HISTORY_DAYS), row)
        scale = np.sqrt(horizon * portfolio_variance(weights, variance[before], self.correlation[horizon][before]))  # fmt: skip
        scale = np.where(scale > 0, scale, np.nan)  # weights so small that the variance underflows
        past = linear_returns(weights, returns[horizon][before]) / scale
        return portfolio_risk(
            self.portfolio, variance[row], self.quantiles[cell][row], matrix, horizon, past
        )


def _served(
    connection: duckdb.DuckDBPyConnection, first: date, last: date, models: tuple[str, ...] | None
) -> pd.DataFrame:
    """as_of, model, model_version: the newest version of each model that forecast a day."""
    return connection.execute(
        """
        SELECT f.as_of::TIMESTAMP AS as_of, f.model, f.model_version
        FROM (SELECT DISTINCT as_of, model, model_version FROM forecasts.volatility WHERE as_of BETWEEN $first AND $last) f
        JOIN models.registry m USING (model, model_version)
        WHERE $models IS NULL OR list_contains($models, f.model)
        QUALIFY row_number() OVER (PARTITION BY f.as_of, f.model ORDER BY m.created_at DESC, f.model_version) = 1
        ORDER BY f.as_of, f.model
        """,
        {"first": first, "last": last, "models": None if models is None else list(models)},
    ).df()


def _not_stored(
    connection: duckdb.DuckDBPyConnection, name: str, digest: str, wanted: pd.DataFrame
) -> pd.DataFrame:
    """Days and versions of ``wanted`` whose stored rows are of other weights or lack figures at some horizon."""
    held = set(
        connection.execute(
            "SELECT as_of, model, model_version FROM forecasts.portfolio_risk WHERE portfolio = ? AND weights_hash = ? "
            "GROUP BY ALL HAVING count(*) = ? AND bool_and(status = ?)",
            [name, digest, len(HORIZONS), OK],
        ).fetchall()
    )
    new = [
        (day.date(), model, version) not in held
        for day, model, version in zip(wanted["as_of"], wanted["model"], wanted["model_version"], strict=True)
    ]  # fmt: skip
    return wanted[np.array(new, dtype=bool)]


def _changed(connection: duckdb.DuckDBPyConnection, rows: PortfolioRows) -> PortfolioRows:
    """Less the days and versions whose every row stands in forecasts.portfolio_risk as it is, so that a second run writes nothing."""
    if rows.risk.empty:
        return rows
    day = ["portfolio", "as_of", "model", "model_version"]
    names = ", ".join(f'"{name}"' for name in rows.risk.columns)
    connection.register("made_again", rows.risk)
    same = connection.execute(
        # NaN is NULL in the warehouse, see replace_rows
        f"WITH made AS (SELECT {', '.join(_as_stored(name) for name in rows.risk.columns)} FROM made_again), "
        f"other AS (FROM made EXCEPT SELECT {names} FROM forecasts.portfolio_risk) "
        f"SELECT DISTINCT {', '.join(day)} FROM made ANTI JOIN other USING ({', '.join(day)})"
    ).df()
    connection.unregister("made_again")
    if same.empty:
        return rows

    def kept(frame: pd.DataFrame) -> pd.DataFrame:
        if frame.empty:
            return frame
        held = pd.MultiIndex.from_frame(same.assign(as_of=pd.to_datetime(same["as_of"])))
        own = pd.MultiIndex.from_frame(frame[day].assign(as_of=pd.to_datetime(frame["as_of"])))
        return frame[~own.isin(held)].reset_index(drop=True)

    return PortfolioRows(kept(rows.risk), kept(rows.components))


def _as_stored(name: str) -> str:
    kind = OUTPUT_TABLES["forecasts.portfolio_risk"].columns[name][0]
    value = f'"{name}"::{kind}'
    return f'CASE WHEN isnan({value}) THEN NULL ELSE {value} END AS "{name}"' if kind == "DOUBLE" else f'{value} AS "{name}"'  # fmt: skip


def _coins(connection: duckdb.DuckDBPyConnection, as_of: date) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT asset FROM features.daily WHERE as_of = ?", [as_of]
    ).fetchall()
    return {str(asset) for (asset,) in rows}


def _correlations(
    connection: duckdb.DuckDBPyConnection, assets: list[str], days: NDArray[np.datetime64]
) -> dict[int, Floats]:
    rows = connection.execute(
        "SELECT asset, other_asset, as_of, horizon, correlation FROM forecasts.correlations "
        "WHERE as_of BETWEEN $first AND $last AND list_contains($assets, asset) AND list_contains($assets, other_asset)",
        {"first": days[0].astype(object), "last": days[-1].astype(object), "assets": assets},
    ).df()
    found = {horizon: np.full((len(days), len(assets), len(assets)), np.nan) for horizon in HORIZONS}  # fmt: skip
    for horizon, own in rows.groupby("horizon"):
        row = _days(own["as_of"], days)
        here, there = (
            pd.Index(assets).get_indexer(pd.Index(own[name])) for name in ("asset", "other_asset")
        )
        matrix = found[int(str(horizon))]
        matrix[row, here, there] = matrix[row, there, here] = own["correlation"]
    return found


def _returns(
    connection: duckdb.DuckDBPyConnection, assets: list[str], days: NDArray[np.datetime64]
) -> Panel:
    rows = connection.execute(
        "SELECT * FROM features.realized WHERE day BETWEEN ? AND ? AND known_on <= ? AND list_contains(?, asset) "
        "ORDER BY asset, day, known_on",
        [days[0].astype(object), days[-1].astype(object), days[-1].astype(object), assets],
    ).df()
    grid = pd.MultiIndex.from_product(
        [assets, days.astype("datetime64[s]")], names=["asset", "as_of"]
    )
    source = str(rows["source"].iloc[0]) if len(rows) else ""
    return Panel.from_frames(grid.to_frame(index=False).assign(source=source), rows)


def _refusal(
    connection: duckdb.DuckDBPyConnection,
    as_of: date,
    asset: str,
    model: str,
    version: str,
    horizon: int,
) -> str:
    row = connection.execute(
        "SELECT reason FROM forecasts.refusals WHERE as_of = ? AND asset = ? AND model = ? AND model_version = ? AND horizon = ?",
        [as_of, asset, model, version, horizon],
    ).fetchone()
    return str(row[0]) if row else "none is stored"


def _uncorrelated(
    connection: duckdb.DuckDBPyConnection, as_of: date, asset: str, horizon: int
) -> str:
    row = connection.execute(
        "SELECT status FROM forecasts.correlations WHERE as_of = ? AND asset = ? AND other_asset = asset AND horizon = ?",
        [as_of, asset, horizon],
    ).fetchone()
    return str(row[0]) if row else "none are stored"


def _figures(found: PortfolioRisk) -> dict[str, Any]:
    enough = found.observations >= MIN_OBSERVATIONS
    return {
        "volatility": float(np.sqrt(DAYS_PER_YEAR * found.variance)),
        "diversification_ratio": found.diversification_ratio,
        **found.measures,
        "past_forecasts": found.observations,
        "status": OK
        if enough
        else f"filtered historical simulation needs {MIN_OBSERVATIONS} past forecasts with a known return, has {found.observations}",
    }


def _empty() -> dict[str, Any]:
    figures = ("volatility", "diversification_ratio", *PORTFOLIO_COLUMNS)
    return {**dict.fromkeys(figures, np.nan), "past_forecasts": 0}


def _sums(portfolio: Portfolio) -> dict[str, float]:
    weights = list(portfolio.weights.values())
    return {"gross_weight": sum(map(abs, weights)), "net_weight": sum(weights)}


def _days(values: pd.Series[Any], days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    stamps = pd.to_datetime(values).to_numpy().astype("datetime64[D]")
    return ((stamps - days[0]) / _DAY).astype(np.int64)
