"""Realised variance as known on each day -> monthly fits of regimes, and the filtered probabilities of each day.

In: features.realized, features.daily, stored fits. Out: rows of ``models.regime_parameters`` and ``forecasts.regimes``. A fit that is stored is not
made again; a day reads the versions known on it, from the first day of its fit's window on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.panel import Panel
from ml.regimes.market import MARKET, market_members, market_series
from ml.regimes.model import REGIMES, Days, Floats, RegimeModel
from orchestration.monthly import missing_days, monthly_fit
from orchestration.settings import Settings


@dataclass(frozen=True)
class Fit:
    """A stored fit; no model where it was refused."""

    model: RegimeModel | None
    members: dict[str, float]
    reason: str


def regime_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New rows of models.regime_parameters and of forecasts.regimes for the days of first .. last that lack them."""
    wanted = missing_days(connection, "forecasts.regimes", first, last)
    if not wanted:
        return pd.DataFrame(), pd.DataFrame()
    window = settings.train_window_days
    fits, made = _stored(connection, {monthly_fit(day) for day in wanted}), []
    begins = [fit.model.first_day.astype(date) for fit in fits.values() if fit.model is not None]
    begins.append(monthly_fit(min(wanted)) - timedelta(days=window - 1))
    panel = _panel(connection, min(begins), max(wanted))  # a fit may have had a longer window
    filters: dict[tuple[str, date], _Filter] = {}
    rows = []
    for day, coins in wanted.items():
        fitted = monthly_fit(day)
        known = panel.until(day)
        table = _log_variance(known)
        for asset in [*coins, MARKET]:
            key = (asset, fitted)
            if key not in fits:
                fits[key], row = _fit(panel, asset, fitted, window)
                made.append(row)
            fit = fits[key]
            if fit.model is None:
                status = f"no regimes: {fit.reason}"
                rows.append({**_empty(asset, day, fitted), "status": status})
                continue
            values = _series(known.assets, table, asset, fit.members)
            start = known.row(fit.model.first_day.astype(date))
            own = filters.setdefault(key, _Filter(fit.model))
            states = own.through(known.days[start:], values[start:])
            rows.append({**_empty(asset, day, fitted), **_state(fit.model, states, values[start:])})
    kept = [row for row in made if row is not None]
    return pd.DataFrame(kept), pd.DataFrame(rows)


class _Filter:
    """A filter that goes on from the day up to which the values are what they were: the same arithmetic as from the first day."""

    def __init__(self, model: RegimeModel) -> None:
        self.model = model
        self._values = np.empty(0)
        self._states = np.empty((0, len(REGIMES)))

    def through(self, days: Days, values: Floats) -> Floats:
        """(T, K) as ``RegimeModel.filtered``."""
        size = min(len(values), len(self._values))
        old, new = self._values[:size], values[:size]
        differs = np.flatnonzero((old != new) & ~(np.isnan(old) & np.isnan(new)))
        same = int(differs[0]) if len(differs) else size
        if same == 0:
            states = self.model.filtered(days, values)
        else:
            adjusted = self.model.adjusted(days[same:], values[same:])
            further = self.model.continued(self._states[same - 1], adjusted)
            states = np.concatenate([self._states[:same], further])
        self._values, self._states = values.copy(), states
        return states


def _fit(panel: Panel, asset: str, fitted: date, window: int) -> tuple[Fit, dict[str, Any] | None]:
    """A new fit and its row; no row where the data begin after the fitting day."""
    if np.datetime64(fitted, "D") < panel.days[0]:
        return Fit(None, {}, f"no data on {fitted}, the day of the fit"), None
    from ml.regimes.fitting import fit_regimes  # statsmodels and numba: only when there is a fit

    known = panel.until(fitted).window(window)
    table = _log_variance(known)
    members = market_members(known.assets, table) if asset == MARKET else {}
    values = _series(known.assets, table, asset, members)
    found = fit_regimes(known.days, values)
    row = {
        "asset": asset,
        "fitted_as_of": pd.Timestamp(fitted),
        "parameters": found.model.to_json() if found.model else None,
        "members": json.dumps(members) if asset == MARKET else None,
        "log_likelihood": found.log_likelihood,
        "converged": found.converged,
        "days": found.days,
        "reason": found.reason,
    }
    return Fit(found.model, members, found.reason), row


def _stored(connection: duckdb.DuckDBPyConnection, days: set[date]) -> dict[tuple[str, date], Fit]:
    rows = connection.execute(
        "SELECT asset, fitted_as_of, parameters, members, reason FROM models.regime_parameters WHERE list_contains(?, fitted_as_of)",
        [sorted(days)],
    ).fetchall()
    return {
        (str(asset), day): Fit(
            RegimeModel.from_json(parameters) if parameters else None,
            json.loads(members) if members else {},
            str(reason),
        )
        for asset, day, parameters, members, reason in rows
    }


def _panel(connection: duckdb.DuckDBPyConnection, first: date, last: date) -> Panel:
    days = connection.execute(
        "SELECT source, asset, as_of FROM features.daily WHERE as_of BETWEEN ? AND ? ORDER BY asset, as_of",
        [first, last],
    ).df()
    realized = connection.execute(
        "SELECT * FROM features.realized WHERE day BETWEEN ? AND ? AND known_on <= ? ORDER BY asset, day, known_on",
        [first, last, last],
    ).df()
    return Panel.from_frames(days, realized)


def _log_variance(panel: Panel) -> Floats:
    """(T, N); NaN where a day's variance is not known or 0."""
    variance = panel.realized_variance()
    return np.log(np.where(variance > 0, variance, np.nan))


def _series(
    assets: tuple[str, ...], table: Floats, asset: str, members: dict[str, float]
) -> Floats:
    if asset == MARKET:
        return market_series(assets, table, members)
    if asset not in assets:
        return np.full(len(table), np.nan)
    return np.ascontiguousarray(table[:, assets.index(asset)])


def _empty(asset: str, day: date, fitted: date) -> dict[str, Any]:
    return {
        "asset": asset,
        "as_of": pd.Timestamp(day),
        **{f"p_{name}": np.nan for name in REGIMES},
        "regime": None,
        "expected_days_left": np.nan,
        "carried_days": None,
        "fitted_as_of": pd.Timestamp(fitted),
    }


def _state(model: RegimeModel, states: Floats, values: Floats) -> dict[str, Any]:
    """The last day's probabilities; they are carried where its variance is not known."""
    probability = states[-1]
    likely = int(np.argmax(probability))
    known = np.flatnonzero(np.isfinite(values))
    carried = len(values) - 1 - int(known[-1]) if len(known) else len(values)
    return {
        **{f"p_{name}": float(p) for name, p in zip(REGIMES, probability, strict=True)},
        "regime": REGIMES[likely],
        "expected_days_left": float(model.expected_days[likely]),
        "carried_days": carried,
        "status": "ok"
        if carried == 0
        else f"carried: variance last known {carried} day{'s' if carried > 1 else ''} ago",
    }
