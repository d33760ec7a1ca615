"""Measures of past days -> monthly fits of the probability of jumps and crashes, and the probabilities of each day.

In: features.daily, stored fits. Out: rows of ``models.jump_parameters`` and ``forecasts.jumps``. A fit that is stored is not made again.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.forecasts import HORIZONS
from ml.panel import Panel
from ml.tails.rare_days import KINDS, MEASURES, RULES, rare_days
from ml.tails.rare_risk import NEEDED_DAYS, Floats, RareRisk, covariates, fit_rare_risk
from orchestration.monthly import missing_days, monthly_fit, read_columns
from orchestration.settings import Settings

FIGURES = (
    "coin_days", "events", "brier", "brier_base", "skill", "skill_low_95", "skill_high_95", "held_out_days",
)  # fmt: skip
Key = tuple[str, int, date]


def jump_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New rows of models.jump_parameters and of forecasts.jumps for the days of first .. last that lack them."""
    wanted = missing_days(connection, "forecasts.jumps", first, last)
    if not wanted:
        return pd.DataFrame(), pd.DataFrame()
    days = {monthly_fit(day) for day in wanted}
    fits, made = _stored(connection, days), []
    for fitted in sorted(days):
        if any((kind, h, fitted) not in fits for kind in KINDS for h in HORIZONS):
            new, fitted_rows = _fit(connection, settings, fitted)
            fits |= new
            made += fitted_rows
    panel = read_columns(
        connection, MEASURES, min(wanted) - timedelta(days=NEEDED_DAYS), max(wanted)
    )
    rare, x = _measured(panel)
    found = []
    for day, coins in wanted.items():
        row, fitted = panel.row(day), monthly_fit(day)
        for asset in coins:
            column = panel.assets.index(asset)
            for horizon in HORIZONS:
                parts: dict[str, Any] = {}
                notes = []
                for kind in KINDS:
                    fit = fits[kind, horizon, fitted]
                    figures, note = _probability(fit, asset, x[kind, horizon][row, column])
                    seen = rare[kind][row, column]
                    figures["today"] = None if math.isnan(seen) else bool(seen)
                    parts |= {f"{kind}_{name}": value for name, value in figures.items()}
                    notes += [f"{kind}: {note}"] if note else []
                found.append(
                    {
                        "asset": asset,
                        "as_of": pd.Timestamp(day),
                        "horizon": horizon,
                        **parts,
                        "fitted_as_of": pd.Timestamp(fitted),
                        "status": "; ".join(notes) or "ok",
                    }
                )
    rows = pd.DataFrame(found)
    return pd.DataFrame(made), rows.astype({f"{kind}_today": "boolean" for kind in KINDS})


def _probability(
    fit: RareRisk | str, asset: str, x: Floats
) -> tuple[dict[str, float | bool | None], str]:
    """Probability, base rate and skill, and what has to be said about them."""
    if isinstance(fit, str):
        return dict.fromkeys(("probability", "base_rate", "skill"), np.nan), f"no fit: {fit}"
    figures: dict[str, float | bool | None] = {
        "probability": fit.probability(asset, x),
        "base_rate": fit.base_rate(asset),
        "skill": fit.skill,
    }
    if not fit.has_skill:
        return figures, f"base rate, held-out skill {fit.skill:.4f} is not above 0"
    if not np.isfinite(x).all():
        return figures, "base rate, a covariate is missing"
    return figures, ""


def _measured(panel: Panel) -> tuple[dict[str, Floats], dict[tuple[str, int], Floats]]:
    measures = {name: panel.feature(name) for name in MEASURES}
    rare = {kind: rare_days(measures, kind) for kind in KINDS}
    x = {(kind, h): covariates(measures, rare[kind], h) for kind in KINDS for h in HORIZONS}
    return rare, x


def _fit(
    connection: duckdb.DuckDBPyConnection, settings: Settings, fitted: date
) -> tuple[dict[Key, RareRisk | str], list[dict[str, Any]]]:
    window = settings.train_window_days
    fits: dict[Key, RareRisk | str] = {}
    try:
        panel = read_columns(
            connection, MEASURES, fitted - timedelta(days=window + NEEDED_DAYS - 1), fitted
        )
    except LookupError:
        return {(k, h, fitted): f"no data on {fitted}" for k in KINDS for h in HORIZONS}, []
    rare, x = _measured(panel)
    rows = []
    for kind in KINDS:
        for h in HORIZONS:
            fit = fit_rare_risk(panel.assets, x[kind, h][-window:], rare[kind][-window:], h)
            fits[kind, h, fitted] = fit
            refused = isinstance(fit, str)
            rows.append(
                {
                    "kind": kind,
                    "horizon": h,
                    "fitted_as_of": pd.Timestamp(fitted),
                    "rule": RULES[kind],
                    "parameters": None if isinstance(fit, str) else fit.to_json(),
                    **{name: None if refused else getattr(fit, name) for name in FIGURES},
                    "reason": fit if isinstance(fit, str) else "",
                }
            )
    return fits, rows


def _stored(connection: duckdb.DuckDBPyConnection, days: set[date]) -> dict[Key, RareRisk | str]:
    rows = connection.execute(
        f"SELECT kind, horizon, fitted_as_of, parameters, reason, {', '.join(FIGURES)} FROM models.jump_parameters "
        "WHERE list_contains(?, fitted_as_of)",
        [sorted(days)],
    ).fetchall()
    found: dict[Key, RareRisk | str] = {}
    for kind, horizon, day, parameters, reason, *figures in rows:
        numbers = {
            name: np.nan if value is None else value
            for name, value in zip(FIGURES, figures, strict=True)
        }
        found[str(kind), int(horizon), day] = (
            RareRisk.from_json(parameters, int(horizon), numbers) if parameters else str(reason)
        )
    return found
