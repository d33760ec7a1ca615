"""Tails on real data: do extreme quantiles hold, has the probability of rare days skill, what regimes and events are worth.

Reads the features of a warehouse of the archive (`--published`, a copy that its runs publish), fits HARX-cal every few weeks on the past, the rest on the
first Sunday of each month, and judges what followed. Peers in the same run on the same days: the normal distribution around the same forecast and
the largest past losses (filtered historical simulation) for quantiles, the base rate for probabilities.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from scipy.stats import norm

from ml.events.catalog import COLUMNS, DETECTORS
from ml.events.detector import detect
from ml.events.effects import event_effect
from ml.forecasts import HORIZONS
from ml.models import create
from ml.panel import Panel
from ml.regimes.fitting import fit_regimes
from ml.regimes.model import REGIMES
from ml.risk.tails import TailFit
from ml.tails.peaks import FEWEST_EXCEEDANCES, PROBABILITIES, fit_pareto
from ml.tails.rare_days import KINDS, MEASURES, any_ahead, rare_days
from ml.tails.rare_risk import covariates, fit_rare_risk
from orchestration.monthly import monthly_fit
from orchestration.panels import read_features

MODEL = "harx_cal"
Floats = np.ndarray[Any, np.dtype[np.float64]]
Tables = list[tuple[str, list[str], list[list[Any]]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--published",
        type=Path,
        required=True,
        help="published/volcast.duckdb of a home on the archive",
    )
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 31))
    parser.add_argument("--window", type=int, default=1500, help="days of the rolling window")
    parser.add_argument("--refit-weeks", type=int, default=4, help="weeks between fits of HARX-cal")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    with duckdb.connect(str(options.published), read_only=True) as connection:
        panel = read_features(connection, options.last, hourly=False).panel
    figures: dict[str, Any] = {"coins": list(panel.assets), "first": str(options.first)}
    tables: Tables = []
    variance, quantiles = forecasts(panel, options)
    for name, found in (
        ("quantiles", coverage(panel, variance, quantiles, options)),
        ("probabilities", rare_skill(panel, options)),
        ("regimes", regimes(panel, options)),
        ("events", effects(panel, variance, options)),
    ):
        title, header, rows = found
        tables.append(found)
        figures[name] = [dict(zip(header, row, strict=True)) for row in rows]
        del title
    return figures, tables


def days_of(options: argparse.Namespace) -> list[date]:
    return [
        options.first + timedelta(days=n) for n in range((options.last - options.first).days + 1)
    ]


def forecasts(panel: Panel, options: argparse.Namespace) -> tuple[Floats, dict[str, Floats]]:
    """(T, N, H) variance forecast out of sample, NaN before; and by method (T, N, H, 2, P) standardised quantiles of both sides."""
    shape = (len(panel.days), len(panel.assets), len(HORIZONS))
    variance = np.full(shape, np.nan)
    found = {
        name: np.full((*shape, 2, len(PROBABILITIES)), np.nan)
        for name in ("pareto", "largest losses", "normal")
    }
    found["normal"][:] = norm.isf(PROBABILITIES)
    for block in blocks(days_of(options), 7 * options.refit_weeks):
        trained = block[0] - timedelta(days=1)
        model = create(MODEL)
        model.fit(panel, trained, {"window_days": options.window}, 0)
        made = model.forecast(panel, block)
        rows = panel.rows(block)
        variance[rows] = made.variance
        tail = model.state().meta["tail"]
        for column, asset in enumerate(panel.assets):
            for h, horizon in enumerate(HORIZONS):
                stored = tail.get(asset, {}).get(str(horizon))
                if not stored:
                    continue
                kept = TailFit.from_dict(stored)
                for side, losses in enumerate((kept.long, kept.short)):
                    if len(losses) > FEWEST_EXCEEDANCES:
                        fit = fit_pareto(losses, kept.observations, horizon)
                        found["pareto"][rows, column, h, side] = fit.quantiles
                    at = [int(kept.observations * p) for p in PROBABILITIES]
                    found["largest losses"][rows, column, h, side] = [losses[n] for n in at]
    return variance, found


def blocks(days: list[date], size: int) -> Iterator[list[date]]:
    for start in range(0, len(days), size):
        yield days[start : start + size]


def coverage(
    panel: Panel, variance: Floats, quantiles: dict[str, Floats], options: argparse.Namespace
) -> tuple[str, list[str], list[list[Any]]]:
    """Share of returns beyond each quantile in percent, with an interval clustered by date; horizons overlap."""
    rows: list[list[Any]] = []
    for h, horizon in enumerate(HORIZONS):
        z = panel.horizon_return(horizon) / np.sqrt(horizon * variance[:, :, h])
        for p, probability in enumerate(PROBABILITIES):
            for side, name in enumerate(("below", "above")):
                row: list[Any] = [horizon, 100 * probability, name]
                for method, values in quantiles.items():
                    beyond = (-z if side == 0 else z) > values[:, :, h, side, p]
                    given = np.isfinite(z) & np.isfinite(values[:, :, h, side, p])
                    share, half = by_date(np.where(given, beyond, np.nan), horizon)
                    row += [100 * share, 100 * half] if method == "pareto" else [100 * share]
                rows.append([*row, int(np.isfinite(z).sum())])
    header = [
        "days",
        "promised %",
        "side",
        "Pareto %",
        "+- 95 %",
        "largest losses %",
        "normal %",
        "returns",
    ]
    return f"Returns beyond extreme quantiles around {MODEL}", header, rows


def by_date(values: Floats, horizon: int) -> tuple[float, float]:
    """Mean over coin-days and half its 95 % interval: all coins of a day, and days that overlap, go together (Newey-West)."""
    given = np.isfinite(values)
    mean = float(values[given].mean())
    moments = np.where(given, values - mean, 0.0).sum(axis=1)
    total = float(moments @ moments)
    for lag in range(1, horizon + 7):
        total += 2.0 * (1.0 - lag / (horizon + 7)) * float(moments[lag:] @ moments[:-lag])
    return mean, 1.96 * float(np.sqrt(max(total, 0.0))) / int(given.sum())


def rare_skill(panel: Panel, options: argparse.Namespace) -> tuple[str, list[str], list[list[Any]]]:
    """Brier skill against the base rate out of sample: of the regression always, and as published (base rate where it had no skill)."""
    days = days_of(options)
    measures = {name: panel.feature(name) for name in MEASURES}
    rows = []
    for kind in KINDS:
        rare = rare_days(measures, kind)
        for horizon in HORIZONS:
            x = covariates(measures, rare, horizon)
            target = any_ahead(rare, horizon)
            scores = np.full((3, *rare.shape), np.nan)
            used = 0
            fits = {}
            for day in days:
                fitted = monthly_fit(day)
                if fitted not in fits:
                    stop = panel.row(fitted) + 1
                    start = max(stop - options.window, 0)
                    fits[fitted] = fit_rare_risk(
                        panel.assets, x[start:stop], rare[start:stop], horizon
                    )
                    used += not isinstance(fits[fitted], str) and fits[fitted].has_skill
                fit = fits[fitted]
                if isinstance(fit, str):
                    continue
                row = panel.row(day)
                for column, asset in enumerate(panel.assets):
                    y = target[row, column]
                    base = fit.base_rate(asset)
                    always = fit.regression(asset, x[row, column])
                    given = [base, always, fit.probability(asset, x[row, column])]
                    scores[:, row, column] = [(p - y) ** 2 for p in given]
            base, always, published = (np.nanmean(part) for part in scores)
            _, half = by_date(scores[0] - scores[2], horizon)
            rows.append(
                [kind, horizon, float(np.nanmean(target[panel.rows(days)])), float(1 - always / base),
                 float(1 - published / base), float(half / base), f"{used} of {len(fits)}"]
            )  # fmt: skip
    header = [
        "kind",
        "days",
        "base rate",
        "skill of regression",
        "skill as published",
        "+- 95 %",
        "fits with skill",
    ]
    return "Probability of at least one rare day: Brier skill against the base rate", header, rows


def regimes(panel: Panel, options: argparse.Namespace) -> tuple[str, list[str], list[list[Any]]]:
    """Realised volatility of the day after each filtered regime, and how fits went."""
    days, variance = days_of(options), panel.realized_variance()
    log_variance = np.log(np.where(variance > 0, variance, np.nan))
    after: dict[str, list[float]] = {name: [] for name in REGIMES}
    stays: dict[str, list[float]] = {name: [] for name in REGIMES}
    made, refused, seconds = 0, 0, 0.0
    for fitted in sorted({monthly_fit(day) for day in days}):
        stop = panel.row(fitted) + 1
        start = max(stop - options.window, 0)
        served = [day for day in days if monthly_fit(day) == fitted]
        for column in range(len(panel.assets)):
            own = log_variance[:, column]
            began = time.process_time()
            fit = fit_regimes(panel.days[start:stop], own[start:stop])
            seconds += time.process_time() - began
            made += 1
            if fit.model is None:
                refused += 1
                continue
            begin = panel.row(fit.model.first_day.astype(date))
            end = panel.row(served[-1]) + 1
            states = fit.model.filtered(panel.days[begin:end], own[begin:end])
            for name, stay in zip(REGIMES, fit.model.expected_days, strict=True):
                stays[name].append(float(stay))
            for day in served:
                row = panel.row(day)
                if row + 1 < len(variance) and np.isfinite(variance[row + 1, column]):
                    likely = REGIMES[int(states[row - begin].argmax())]
                    after[likely].append(variance[row + 1, column])
    total = sum(map(len, after.values()))
    rows = [
        [name, len(after[name]) / total, 100 * float(np.sqrt(365 * np.mean(after[name]))),
         float(np.median(stays[name])), f"{refused} of {made}", seconds / made]
        for name in REGIMES
    ]  # fmt: skip
    header = [
        "regime",
        "share of days",
        "volatility of the next day %",
        "median stay, days",
        "fits refused",
        "core seconds a fit",
    ]
    return "Regimes, filtered", header, rows


def effects(
    panel: Panel, variance: Floats, options: argparse.Namespace
) -> tuple[str, list[str], list[list[Any]]]:
    """log(RV/F) on active less quiet days."""
    columns = {name: panel.feature(name) for name in COLUMNS}
    at = panel.rows(days_of(options))
    rows: list[list[Any]] = []
    for detector in DETECTORS.values():
        found = detect(detector, columns, at)
        active = np.where(np.isfinite(found.score), found.active, np.nan)
        for h, horizon in enumerate(HORIZONS):
            with np.errstate(divide="ignore", invalid="ignore"):
                error = np.log(panel.target(horizon)[at]) - np.log(variance[at, :, h])
            effect = event_effect(np.where(np.isfinite(error), error, np.nan), active, horizon)
            rows.append(
                [detector.name, horizon, effect.estimate, effect.low_95, effect.high_95,
                 effect.episodes, effect.active_coin_days, effect.quiet_coin_days]
            )  # fmt: skip
    header = [
        "event",
        "days",
        "log(RV/F)",
        "low 95 %",
        "high 95 %",
        "episodes",
        "active coin-days",
        "quiet",
    ]
    return f"Outcomes beyond {MODEL}'s forecasts while an event is on", header, rows
