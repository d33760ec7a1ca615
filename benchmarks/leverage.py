"""Uncertainty and leverage on the archive: does the score rank errors, and what would following the advice have given.

Needs real data: an archive folder by `--archive` or ``VOLCAST_TEST_ARCHIVE``. Forecasts are walked forward as in `skill`, a year earlier
so that tails, intervals and drift have a past. Trades are made at the first hourly close after each decision, 01:00 UTC, at a
cost per unit of turnover; funding and interest on cash are left out, for every strategy alike.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.leverage_inputs import doubts, judged, trade_prices, walked
from ml.evaluation.ranking import means_by_tenth, rank_association
from ml.forecasts import DAYS_PER_YEAR, HORIZONS
from ml.panel import Panel
from ml.risk.leverage import LeveragePolicy, target_leverage
from ml.risk.leverage_backtest import (
    DEFAULT_COST,
    Floats,
    constant_leverage,
    equal_weights,
    ewma_leverage,
    follow_weights,
    held,
    performance,
    returns_of,
)
from ml.risk.leverage_path import LONGEST_GAP_DAYS, LastAdvice, follow
from ml.risk.uncertainty import PARTS
from ml.worker import code_version
from tests.ml.archive_frames import COINS
from tests.ml.baselines.realised_frames import archive_bars, hourly_frame, measured_frames

MODELS = (
    "random_walk", "ewma", "log_har", "harx_cal", "har_pooled", "har_panel", "combination_equal",
)  # fmt: skip
"""The default models but GARCH and attention."""
MONTH = 30
RULES = ((0.0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.3, 0.1), (0.2, 0.05), (0.2, 10.0))
"""Band and largest change that are compared."""

Tables = list[tuple[str, list[str], list[list[Any]]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--archive", type=Path, help="archive folder; default: VOLCAST_TEST_ARCHIVE"
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), help="whose disagreement counts"
    )
    parser.add_argument("--leads", nargs="+", default=["combination_equal", "harx_cal"])
    parser.add_argument("--coins", nargs="+", default=list(COINS))
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 31))
    parser.add_argument("--burn-in", type=int, default=365, help="days walked before the first")
    parser.add_argument("--window", type=int, default=1500, help="days of the rolling window")
    parser.add_argument("--refit-weeks", type=int, default=4)
    parser.add_argument("--target", type=float, default=0.20, help="annualised volatility")
    parser.add_argument("--band", type=float, default=LeveragePolicy.band)
    parser.add_argument("--max-change", type=float, default=LeveragePolicy.max_change)
    parser.add_argument("--cost", type=float, default=DEFAULT_COST, help="per unit of turnover")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep finished fits there and go on from them")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    archive = options.archive or os.environ.get("VOLCAST_TEST_ARCHIVE")
    if not archive:
        raise SystemExit("no archive: name its folder with --archive or VOLCAST_TEST_ARCHIVE")
    started = time.perf_counter()
    coins = tuple(dict.fromkeys(["BTC", *options.coins]))  # market terms need BTC
    bars = archive_bars(Path(archive), coins)
    daily, realized = measured_frames(bars, "archive")
    panel = Panel.from_frames(daily, realized, hourly_frame(bars, "archive"))
    names = list(dict.fromkeys([*options.models, *options.leads]))
    rows = judged(walked(panel, names, options), daily, realized, options.leads)
    found = doubts(rows)
    rows = rows.assign(
        uncertainty=found.score, **{f"part_{name}": getattr(found, name) for name in PARTS}
    )
    evidence, tenths = _evidence(rows[rows["as_of"] >= pd.Timestamp(options.first)])
    backtests, by_coin = _backtests(rows, bars, realized, options)
    rules = _rules(rows[rows["model"] == options.leads[0]], bars, options)
    figures: dict[str, Any] = {
        "coins": list(options.coins),
        "from": str(options.first),
        "to": str(options.last),
        "models": names,
        "target_volatility": options.target,
        "cost": options.cost,
        "band": options.band,
        "max_change": options.max_change,
        "code_version": code_version(),
        "data_version": panel.data_hash()[:12],
        "seconds": time.perf_counter() - started,
        "evidence": evidence,
        "tenths": tenths,
        "backtests": backtests,
        "by_coin": by_coin,
        "rules": rules,
    }
    return figures, _tables(evidence, tenths, backtests, by_coin, rules)


# -- does the score rank errors? -----------------------------------------------------------------------------------


def _evidence(rows: pd.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found, tenths = [], []
    for (model, horizon), own in rows.groupby(["model", "horizon"], sort=True):
        own = own.assign(absolute=own["log_error"].abs())
        grids = {
            name: own.pivot(index="as_of", columns="asset", values=name).to_numpy(np.float64)
            for name in ("absolute", "qlike", "uncertainty", *(f"part_{part}" for part in PARTS))
        }
        for name in ("uncertainty", *(f"part_{part}" for part in PARTS)):
            error, score = grids["absolute"], grids[name]
            pooled = rank_association(score, error, int(horizon))
            within = rank_association(score, error, int(horizon), within_coins=True)
            by_loss = rank_association(score, grids["qlike"], int(horizon))
            found.append(
                {
                    "model": str(model),
                    "horizon": int(horizon),
                    "part": name.removeprefix("part_"),
                    "forecasts": pooled.forecasts,
                    "mean": float(np.nanmean(score)),
                    "rho": pooled.rho,
                    "p": pooled.p_value,
                    "rho_within_coins": within.rho,
                    "p_within_coins": within.p_value,
                    "rho_qlike": by_loss.rho,
                    "p_qlike": by_loss.p_value,
                }
            )
        for name in ("absolute", "qlike"):
            means = means_by_tenth(grids["uncertainty"], grids[name])
            tenths.append({"model": str(model), "horizon": int(horizon), "error": name, "means": means.tolist()})  # fmt: skip
    return found, tenths


# -- what following the advice would have given --------------------------------------------------------------------


def _backtests(
    rows: pd.DataFrame, bars: pd.DataFrame, realized: pd.DataFrame, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    last = options.last - timedelta(days=1)
    coins = list(options.coins)
    returns = returns_of(trade_prices(bars, coins, options.first, last).to_numpy())
    days = pd.date_range(options.first, last - timedelta(days=1))
    complete = realized[realized["complete"]]
    variance = complete.pivot(index="day", columns="asset", values="realized_variance")
    variance = variance.reindex(index=pd.date_range(variance.index.min(), last), columns=coins)
    past = variance[variance.index <= days[0]].iloc[-options.window :]
    constant = [
        constant_leverage(past[coin], options.target, LeveragePolicy.max_leverage) for coin in coins
    ]
    smoothed = ewma_leverage(variance.to_numpy(), options.target, LeveragePolicy.max_leverage)
    fixed = {
        "constant": np.tile(constant, (len(days), 1)),
        "ewma": smoothed[variance.index.get_indexer(days)],
    }
    found, by_coin = [], []
    for (model, horizon), own in rows.groupby(["model", "horizon"], sort=True):
        strategies = {**_advised(own, days, coins, options), **fixed}
        given = np.logical_and.reduce([np.isfinite(values) for values in strategies.values()])
        for name, leverage in strategies.items():
            kept = np.where(given, leverage, np.nan)
            single = [_figures(kept[:, [n]], returns[:, [n]], options) for n in range(len(coins))]
            whole = _figures(kept, returns, options)
            head = {"model": str(model), "horizon": int(horizon), "strategy": name}
            mean = {key: float(np.mean([one[key] for one in single])) for key in whole}
            found.append({**head, "asset": "PORTFOLIO", **whole})
            found.append({**head, "asset": "mean of coins", **mean})
            by_coin += [
                {**head, "asset": coin, **one} for coin, one in zip(coins, single, strict=True)
            ]
    return found, by_coin


def _rules(
    rows: pd.DataFrame, bars: pd.DataFrame, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The portfolio by the advice of one model under other bands and largest changes."""
    last = options.last - timedelta(days=1)
    coins = list(options.coins)
    returns = returns_of(trade_prices(bars, coins, options.first, last).to_numpy())
    days = pd.date_range(options.first, last - timedelta(days=1))
    found = []
    for band, change in RULES:
        ruled = argparse.Namespace(**{**vars(options), "band": band, "max_change": change})
        for horizon, own in rows.groupby("horizon", sort=True):
            leverage = _advised(own, days, coins, ruled)["advised"]
            head = {"band": band, "max_change": change, "horizon": horizon}
            found.append({**head, **_figures(leverage, returns, options)})
    return found


def _advised(
    own: pd.DataFrame, days: pd.DatetimeIndex, coins: list[str], options: argparse.Namespace
) -> dict[str, Floats]:
    """The advice, and what it is without each of its rules."""
    rules = LeveragePolicy(target_volatility=options.target, band=options.band, max_change=options.max_change)  # fmt: skip
    before = own[own["as_of"] < days[0]].groupby("asset")["uncertainty"].mean()
    judged_days = own[(own["as_of"] >= days[0]) & own["es_975"].notna()].sort_values("as_of")
    columns: dict[str, list[float]] = {
        name: [] for name in ("advised", "no path rules", "usual uncertainty", "no uncertainty")
    }
    last: dict[tuple[str, str], LastAdvice] = {}
    for row in judged_days.itertuples(index=False):
        day, coin = row.as_of.date(), str(row.asset)
        for name, doubt in (
            ("advised", row.uncertainty),
            ("usual uncertainty", float(before[coin])),
            ("no uncertainty", 0.0),
        ):
            target = target_leverage(row.volatility, doubt, row.es_975, rules)
            advice = follow(target, day, last.get((name, coin)), rules)
            last[name, coin] = LastAdvice(day, advice.leverage)
            columns[name].append(advice.leverage)
            if name == "advised":
                columns["no path rules"].append(target.leverage)
    made = judged_days[["as_of", "asset"]].assign(**columns)
    return {
        name: held(
            made.pivot(index="as_of", columns="asset", values=name)
            .reindex(index=days, columns=coins)
            .to_numpy(np.float64),
            LONGEST_GAP_DAYS,
        )
        for name in columns
    }


def _figures(leverage: Floats, returns: Floats, options: argparse.Namespace) -> dict[str, float]:
    path = follow_weights(equal_weights(leverage), returns, options.cost)
    found = performance(path)
    squares = pd.Series(path.net_return**2).rolling(MONTH).mean().dropna()
    months = np.sqrt(DAYS_PER_YEAR * squares)
    return {
        "days": found.days,
        "realised_volatility": found.realised_volatility,
        "month_volatility_low": float(months.quantile(0.05)),
        "month_volatility_high": float(months.quantile(0.95)),
        "worst_drawdown": found.worst_drawdown,
        "turnover_per_year": found.turnover_per_year,
        "mean_leverage": found.mean_leverage,
        "sharpe": found.sharpe,
    }


# -- tables --------------------------------------------------------------------------------------------------------


def _tables(
    evidence: list[dict[str, Any]],
    tenths: list[dict[str, Any]],
    backtests: list[dict[str, Any]],
    by_coin: list[dict[str, Any]],
    rules: list[dict[str, Any]],
) -> Tables:
    ranked = [
        [row["model"], row["horizon"], row["part"], f"{row['mean']:.3f}", *_ranked(row)]
        for row in evidence
    ]
    shown = [
        [row["model"], row["horizon"], row["error"], *(f"{value:.2f}" for value in row["means"])]
        for row in tenths
    ]
    header = ["model", "h", "strategy", "volatility", "5-95 % of months", "drawdown", "turnover", "leverage", "Sharpe"]  # fmt: skip
    whole, coins = (
        [
            [row["model"], row["horizon"], row["strategy"], *_printed(row)]
            for row in backtests
            if row["asset"] == asset
        ]
        for asset in ("PORTFOLIO", "mean of coins")
    )
    single = [
        [row["model"], row["asset"], row["strategy"], *_printed(row)]
        for row in by_coin
        if row["horizon"] == HORIZONS[0] and row["strategy"] in ("advised", "constant", "ewma")
    ]
    ruled = [[row["band"], row["max_change"], row["horizon"], *_printed(row)] for row in rules]
    ranks = ["model", "h", "part", "mean", "rho |log error|", "p", "within coins", "p", "rho QLIKE", "p"]  # fmt: skip
    return [
        ("does the uncertainty score rank errors", ranks, ranked),
        ("mean error by tenth of the score", ["model", "h", "error", *map(str, range(1, 11))], shown),
        ("leverage, equal-weight portfolio", header, whole),
        ("leverage, mean of coins", header, coins),
        ("band and largest change, portfolio", ["band", "change", "h", *header[3:]], ruled),
        ("leverage, by coin, one day", ["model", "coin", *header[2:]], single),
    ]  # fmt: skip


def _ranked(row: Mapping[str, Any]) -> list[str]:
    names = ("rho", "p", "rho_within_coins", "p_within_coins", "rho_qlike", "p_qlike")
    return ["" if np.isnan(row[name]) else f"{row[name]:.3f}" for name in names]


def _printed(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['realised_volatility']:.1%}",
        f"{row['month_volatility_low']:.0%} .. {row['month_volatility_high']:.0%}",
        f"{row['worst_drawdown']:.1%}",
        f"{row['turnover_per_year']:.1f}",
        f"{row['mean_leverage']:.2f}",
        f"{row['sharpe']:.2f}",
    ]
