"""Covariance and VaR on the archive: HAR-DRD against a constant and an EWMA correlation, and the coverage of the mixture VaR.

Needs real data: an archive folder by `--archive` or ``VOLCAST_TEST_ARCHIVE``. Variances are those of one model walked forward, the same for all three
correlations, so that they alone differ. The light is that of all coins on every h-th day, as `ml.evaluation.traffic_lights` gives it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from benchmarks.skill import _walk
from ml.conformal import adjust
from ml.evaluation.comparison import diebold_mariano
from ml.evaluation.outcomes import first_known_outcomes
from ml.evaluation.traffic_lights import design_effect, light
from ml.forecasts import HORIZONS, QUANTILE_COLUMNS, QUANTILE_LEVELS
from ml.panel import Panel
from ml.risk.correlations import FEWEST_HOURS, mean_over_days, realized_correlations
from ml.risk.covariance import WINDOW_DAYS, fit_correlations, forecast_correlations
from ml.risk.holdings import Portfolio
from ml.risk.mixture import OUTERMOST, mixture_var_es
from ml.risk.portfolio import portfolio_risk
from ml.risk.tails import LEVELS
from ml.risk.var_es import SUFFIXES
from tests.ml.archive_frames import COINS
from tests.ml.baselines.realised_frames import archive_bars, hourly_frame, measured_frames

DECAY, EWMA_DAYS = 0.94, 250
RULES = ("HAR-DRD", "EWMA 0.94", "constant")
Tables = list[tuple[str, list[str], list[list[Any]]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--archive", type=Path, help="archive folder; default: VOLCAST_TEST_ARCHIVE"
    )
    parser.add_argument("--model", default="harx_cal", help="whose variances and quantiles")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 31))
    parser.add_argument("--window", type=int, default=1500)
    parser.add_argument("--refit-weeks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(network_weeks=26, workers=1, folder=None)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    archive = options.archive or os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not archive:
        raise SystemExit("no archive: name its folder with --archive or VOLCAST_TEST_ARCHIVE")
    bars = archive_bars(Path(archive), tuple(COINS))
    daily, realized = measured_frames(bars, "archive")
    panel = Panel.from_frames(daily, realized, hourly_frame(bars, "archive"))
    forecasts = _walk(panel, options.model, options)
    forecasts = adjust(forecasts, first_known_outcomes(realized, HORIZONS))
    correlation_rows, correlations = _correlations(panel, forecasts, options)
    coverage_rows = _coverage(panel, forecasts)
    scale_rows = _return_scales(panel, forecasts, options.first)
    simulated_rows = _simulated()
    return {
        "model": options.model,
        "correlation": correlation_rows,
        "coverage": coverage_rows,
        "return_scale": scale_rows,
        "simulated": simulated_rows,
        "days": correlations,
    }, [
        (
            f"correlations, {options.first} to {options.last}, variances of {options.model}; losses in means over days, DM p against HAR-DRD",
            ["h", "rule", "log|R| + tr(R^-1 C)", "DM p", "Frobenius", "DM p", "min-variance volatility", "DM p"],
            correlation_rows,
        ),
        (
            "breaches in percent and light of all coins: the model's own distribution, by c (return scale)",
            ["h", "c", "side", "95", "97.5", "99"],
            coverage_rows,
        ),
        ("returns over the root of their own RV, before the first forecast", ["h", "n", "mean square root", "kurtosis", "largest q99.9 / q99"], scale_rows),
        (
            "portfolio by the model's own distribution over simulation with exact simple returns, three coins",
            ["weights", "h", "VaR 95", "ES 95", "VaR 97.5", "ES 97.5", "VaR 99", "ES 99"],
            simulated_rows,
        ),
    ]  # fmt: skip


def _correlations(
    panel: Panel, forecasts: pd.DataFrame, options: argparse.Namespace
) -> tuple[list[list[Any]], int]:
    returns = panel.hourly[..., panel.hourly_fields.index("log_return")].astype(np.float64)
    daily = realized_correlations(returns)
    shared = np.isfinite(returns).all(axis=2)
    known = np.where(shared[:, :, None], returns, 0.0)
    covariances = np.einsum("thi,thj->tij", known, known)
    covariances[shared.sum(axis=1) < FEWEST_HOURS] = np.nan
    rows: list[list[Any]] = []
    for horizon in HORIZONS:
        variance = (
            forecasts[forecasts["horizon"] == horizon]
            .pivot(index="as_of", columns="asset", values="variance")
            .reindex(index=pd.DatetimeIndex(panel.days), columns=list(panel.assets))
            .to_numpy()
        )
        losses: dict[str, list[tuple[float, float, float]]] = {rule: [] for rule in RULES}
        for row, matrices in _by_day(panel, returns, daily, options, horizon):
            ahead = covariances[row + 1 : row + 1 + horizon]
            if not (np.isfinite(ahead).all() and np.isfinite(variance[row]).all()):
                continue
            realised = ahead.mean(axis=0)
            spread = np.sqrt(np.diagonal(realised))
            truth = realised / np.outer(spread, spread)
            deviation = np.sqrt(variance[row])
            for rule, matrix in matrices.items():
                covariance = matrix * np.outer(deviation, deviation)
                weights = np.linalg.solve(covariance, np.ones(len(deviation)))
                weights /= weights.sum()
                losses[rule].append(
                    (
                        float(np.linalg.slogdet(matrix)[1] + np.trace(np.linalg.solve(matrix, truth))),
                        float(np.square(matrix - truth).sum()),
                        float(weights @ realised @ weights),
                    )
                )  # fmt: skip
        best = np.array(losses[RULES[0]])
        for rule in RULES:
            mine = np.array(losses[rule])
            p = [
                None if rule == RULES[0] else diebold_mariano(best[:, k], mine[:, k], horizon).p_value
                for k in range(3)
            ]  # fmt: skip
            mean = mine.mean(axis=0)
            rows.append(
                [horizon, rule, round(mean[0], 4), _shown(p[0]), round(mean[1], 3), _shown(p[1]),
                 f"{np.sqrt(365 * mean[2]):.2%}", _shown(p[2])]
            )  # fmt: skip
        days = len(best)
    return rows, days


def _by_day(
    panel: Panel, returns: Any, daily: Any, options: argparse.Namespace, horizon: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of the days with a forecast of all coins by all rules, fitted on the last Sunday before."""
    fit = None
    for row in range(panel.row(options.first), panel.row(options.last) - horizon + 1):
        weekday = (panel.days[row].astype("datetime64[D]").astype(int) + 3) % 7  # 0 Monday
        sunday = row - (int(weekday) + 1) % 7 if (int(weekday) + 1) % 7 else row - 7
        if fit is None or fit.fitted_as_of != str(panel.days[sunday]):
            fit = fit_correlations(
                returns[: sunday + 1][-WINDOW_DAYS:], panel.assets, str(panel.days[sunday])
            )
        found = forecast_correlations(fit, returns[: row + 1], str(panel.days[row]))
        if len(found.columns) < len(panel.assets):
            continue
        past = daily[row + 1 - EWMA_DAYS : row + 1]
        weight = DECAY ** np.arange(EWMA_DAYS - 1, -1, -1) * np.isfinite(past[:, 0, 0])
        ewma = (weight[:, None, None] * np.nan_to_num(past)).sum(axis=0) / weight.sum()
        constant = mean_over_days(daily[sunday + 1 - WINDOW_DAYS : sunday + 1], WINDOW_DAYS, 1)[-1]
        yield row, dict(zip(RULES, (found.matrices[horizon], ewma, constant), strict=True))


def _coverage(panel: Panel, forecasts: pd.DataFrame) -> list[list[Any]]:
    """Share of breaches of the mixture by horizon, c and side, with the light of all coins on every h-th day."""
    rows: list[list[Any]] = []
    for horizon in HORIZONS:
        returns = panel.horizon_return(horizon)
        own = forecasts[forecasts["horizon"] == horizon]
        day = ((own["as_of"].to_numpy().astype("datetime64[D]") - panel.days[0]) / np.timedelta64(1, "D")).astype(int)  # fmt: skip
        r = returns[day, pd.Index(panel.assets).get_indexer(pd.Index(own["asset"]))]
        known = np.isfinite(r)
        for scale in (1.0, 0.9):
            risk = mixture_var_es(own[list(QUANTILE_COLUMNS)].to_numpy()[known], horizon, scale)
            for side, earned in (("", np.expm1(r[known])), ("short_", -np.expm1(r[known]))):
                cells, effect = [], 1.0
                thin = (day[known] - day.min()) % horizon == 0
                for level in LEVELS:
                    hits = earned < -risk[f"mixture_{side}var_{SUFFIXES[level]}"]
                    if level == LEVELS[0]:
                        effect = design_effect(hits[thin], day[known][thin])
                    colour = light(hits[thin].sum() / effect, thin.sum() / effect, level)
                    cells.append(f"{hits.mean():.2%} {colour}")
                rows.append([horizon, scale, "short" if side else "long", *cells])
    return rows


def _return_scales(panel: Panel, forecasts: pd.DataFrame, first: date) -> list[list[Any]]:
    rows = []
    for horizon in HORIZONS:
        stop = panel.row(first) - horizon
        z = (panel.horizon_return(horizon) / np.sqrt(horizon * panel.target(horizon)))[:stop]
        z = z[np.isfinite(z)]
        own = forecasts[forecasts["horizon"] == horizon]
        slope = np.log(own["q99"] / own["q95"]) / (norm.ppf(0.99) - norm.ppf(0.95))
        largest = float(np.exp((slope * (norm.ppf(0.999) - norm.ppf(0.99))).max()))
        rows.append([horizon, len(z), round(float(np.sqrt(np.mean(z**2))), 3), round(float(np.mean(z**4) / np.mean(z**2) ** 2), 2), round(largest, 2)])  # fmt: skip
    return rows


def _simulated() -> list[list[Any]]:
    """Relative errors of VaR and ES; variances of all coins at one quantile, normal returns given them, 1,000,000 draws."""
    variance, spread, draws = np.array([0.0010, 0.0020, 0.0030]), 0.5, 1_000_000
    correlation = np.array([[1.0, 0.7, 0.5], [0.7, 1.0, 0.6], [0.5, 0.6, 1.0]])
    levels = np.sqrt(365 * variance[:, None] * np.exp(spread * norm.ppf(QUANTILE_LEVELS) - spread**2 / 2))  # fmt: skip
    rows: list[list[Any]] = []
    for weights in ((0.7, 0.5, 0.3), (-0.8, -0.3, -0.1), (1.0, -0.6, 0.2), (1.0, -1.0, 0.0), (1.0, -0.3, -0.3)):  # fmt: skip
        book = Portfolio("simulated", dict(zip("ABC", weights, strict=True)))
        for horizon in HORIZONS:
            found = portfolio_risk(book, variance, levels, correlation, horizon, np.empty(0)).measures  # fmt: skip
            generator = np.random.default_rng(2)
            score = np.clip(generator.standard_normal(draws), norm.ppf(OUTERMOST), -norm.ppf(OUTERMOST))  # fmt: skip
            scale = np.exp(spread / 2 * score - spread**2 / 4) * np.sqrt(horizon)
            r = generator.standard_normal((draws, 3)) @ np.linalg.cholesky(correlation).T
            earned = np.expm1(r * scale[:, None] * np.sqrt(variance)) @ np.array(weights)
            loss = np.sort(-earned)
            row: list[Any] = [", ".join(map(str, weights)), horizon]
            for level in LEVELS:
                cut = int(draws * level)
                for measure, truth in (("var", loss[cut]), ("es", loss[cut:].mean())):
                    row.append(f"{found[f'mixture_{measure}_{SUFFIXES[level]}'] / truth - 1:.1%}")
            rows.append(row)
    return rows


def _shown(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.4f}"
