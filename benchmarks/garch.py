"""GARCH-t and GJR-t fits a second against arch, at equal likelihood and in one run, cold and walk-forward; scivol where it installs.

Returns: 10 simulated coins (GJR with t innovations and rare jumps), or with `--archive FOLDER` real ones as well. A fit is worse when its
log likelihood is more than 0.01 below arch's on the same window. Speeds are of one thread, in CPU seconds, so that other work on the
cores does not count: the median of `--repeats` runs for ours, one run for the others. Warm: ours walks 500 days a coin, arch the first
`--refits` of them, each fit from the one before. The last table is wall time on all cores: 10 coins x 10 years of daily windows x 2 models.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.garch.estimation import Fits, fit
from ml.garch.specification import Specification
from ml.garch.verdicts import fit_and_judge, judge
from ml.garch.windows import Windows

WINDOW = 1500
COINS = 10
YEAR = 365
EQUAL = 0.01
MEMBERS = {"GARCH-t": Specification("garch", "t"), "GJR-t": Specification("gjr", "t")}
Floats = NDArray[np.float64]
Tables = list[tuple[str, list[str], list[list[Any]]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--archive",
        type=Path,
        default=os.environ.get("VOLCAST_TEST_ARCHIVE"),
        help="real bars as well",
    )
    parser.add_argument(
        "--fits", type=int, default=200, help="cold fits that arch is timed on, a model"
    )
    parser.add_argument(
        "--refits", type=int, default=40, help="daily refits a coin that arch is timed on, a model"
    )
    parser.add_argument(
        "--years", type=int, default=10, help="years of daily refits of the last table"
    )
    parser.add_argument("--repeats", type=int, default=7)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    simulated = simulate_coins(WINDOW + options.years * YEAR)
    sets = {"simulated": simulated}
    if options.archive:
        sets["archive"] = archive_coins(Path(options.archive))
    figures: dict[str, Any] = {"window": WINDOW}
    rows: list[list[Any]] = []
    for label, coins in sets.items():
        for name, member in MEMBERS.items():
            found = compare(member, coins, options)
            rows.extend([f"{label} {name} {row[0]}", *row[1:]] for row in found["rows"])
            figures[f"{label} {name}"] = found["figures"]
    measured = [figures[f"{label} {name}"] for label in sets for name in MEMBERS]
    figures["ratio_cold"] = min(one["ratio_cold"] for one in measured)
    figures["ratio_warm"] = min(one["ratio_warm"] for one in measured)
    fits = sum(one["compared"] for one in measured)
    figures["share_worse"] = sum(one["worse"] for one in measured) / fits
    figures["share_within"] = sum(one["within"] for one in measured) / fits
    figures["share_better"] = sum(one["better"] for one in measured) / fits
    years, figures["years_seconds"] = walk_years(simulated, options)
    header = [
        "returns, model, fit",
        "ours /s",
        "arch /s",
        "ratio",
        "scivol /s",
        "equal / ours / arch higher",
        "worst",
    ]
    return figures, [
        (f"GARCH fits, one thread, {WINDOW} days a window", header, rows),
        (
            f"{COINS} coins x {options.years} years of daily windows",
            ["what", "fits", "seconds"],
            years,
        ),
    ]


def compare(
    member: Specification, coins: list[Floats], options: argparse.Namespace
) -> dict[str, Any]:
    """One model on one set of coins: cold on windows spread out, warm on consecutive days."""
    longest = sum(len(coin) - WINDOW for coin in coins)
    cold = Windows.rolling(coins, WINDOW, step=max(1, longest // options.fits), chain_length=1)
    heads = [
        coin[: WINDOW + options.refits - 1]
        for coin in coins
        if len(coin) >= WINDOW + options.refits
    ]
    warm = Windows.rolling(heads, WINDOW, step=1, chain_length=options.refits)
    walk = Windows.rolling(
        [coin[: WINDOW + 499] for coin in coins], WINDOW
    )  # 500 refits where there are so many
    fit(member, cold), fit(member, warm)  # compiles
    ours_cold, cold_fits = fastest(member, cold, options.repeats)
    ours_warm, _ = fastest(member, walk, options.repeats)
    warm_fits = fit(member, warm)
    arch_cold, cold_likelihood = arch_fits(member, cold)
    arch_warm, warm_likelihood = arch_fits(member, warm)
    scivol = scivol_rate(member, cold)
    rows, figures = [], {"worse": 0, "within": 0, "better": 0, "compared": 0}
    for kind, ours, theirs, fits, likelihood in (
        ("cold", ours_cold, arch_cold, cold_fits, cold_likelihood),
        ("warm", ours_warm, arch_warm, warm_fits, warm_likelihood),
    ):
        difference = fits.log_likelihood - likelihood
        counts = {
            "worse": int((difference < -EQUAL).sum()),
            "within": int((np.abs(difference) <= EQUAL).sum()),
            "better": int((difference > EQUAL).sum()),
            "compared": len(difference),
        }
        for key, value in counts.items():
            figures[key] += value
        figures[f"ratio_{kind}"] = ours / theirs  # type: ignore[assignment]
        figures[f"rate_{kind}"] = ours  # type: ignore[assignment]
        shares = " / ".join(
            f"{counts[key] / len(difference):.1%}" for key in ("within", "better", "worse")
        )
        peer = scivol if kind == "cold" else ""
        rows.append([kind, ours, theirs, ours / theirs, peer, shares, float(-difference.min())])
    return {"rows": rows, "figures": figures}


def fastest(member: Specification, windows: Windows, repeats: int) -> tuple[float, Fits]:
    """Fits a second, the median of some runs."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        fits = fit(member, windows)
        seconds.append(time.process_time() - started)
    return len(windows) / float(np.median(seconds)), fits


def arch_fits(member: Specification, windows: Windows) -> tuple[float, Floats]:
    """arch's fits a second and log likelihoods; along a chain each fit starts from the one before."""
    from arch import arch_model

    likelihood = np.empty(len(windows))
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for first, stop in zip(windows.chain_first, windows.chain_stop, strict=True):
            start = None
            for place in range(first, stop):
                offset = windows.offsets[place]
                returns = windows.values[offset : offset + windows.lengths[place]]
                model = arch_model(
                    returns, o=int(member.variance == "gjr"), dist="t", rescale=False
                )
                result = model.fit(disp="off", show_warning=False, starting_values=start)
                start = result.params.to_numpy()
                likelihood[place] = result.loglikelihood
    return len(windows) / (time.process_time() - started), likelihood


def scivol_rate(member: Specification, windows: Windows) -> float | str:
    """scivol's cold fits a second (its mean and its start of the variance differ, so likelihoods are not compared)."""
    if importlib.util.find_spec("scivol") is None:
        return "not installed"
    import scivol

    scivol.settings.show_progress = False
    variance = scivol.GARCH(1, 1) if member.variance == "garch" else scivol.GJRGARCH(1, 1)
    model = variance + scivol.StudentT()  # has no constant mean alone: it gets demeaned returns
    places = range(0, len(windows), max(1, len(windows) // 60))
    model.fit(windows.values[:WINDOW] - windows.values[:WINDOW].mean())
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place in places:
            returns = windows.values[windows.offsets[place] : windows.offsets[place] + WINDOW]
            model.fit(returns - returns.mean())
    return len(places) / (time.process_time() - started)


def walk_years(coins: list[Floats], options: argparse.Namespace) -> tuple[list[list[Any]], float]:
    """Every day of some years refitted, both models, all cores: fits alone, then verdicts and robust standard errors on top."""
    windows = Windows.rolling([coin[: WINDOW + options.years * YEAR - 1] for coin in coins], WINDOW)
    threads = os.cpu_count() or 1
    rows: list[list[Any]] = []
    fitted = judged = refused = 0.0
    for member in MEMBERS.values():
        judge(fit(member, windows.subset(np.arange(2))), windows.subset(np.arange(2)))  # compiles
        started = time.perf_counter()
        fit(member, windows, threads=threads)
        fitted += time.perf_counter() - started
        started = time.perf_counter()
        found = fit_and_judge(member, windows, threads=threads)
        judged += time.perf_counter() - started
        refused += float((~found.converged).sum())
    count = len(windows) * len(MEMBERS)
    rows.append([f"fits alone, {threads} threads", count, fitted])
    rows.append(["fits to 1e-6, verdicts, robust standard errors, retries", count, judged])
    rows.append(["of these not converged after all retries", int(refused), ""])
    return rows, judged


def simulate_coins(days: int) -> list[Floats]:
    """Percent returns of GJR-t coins, persistence 0.93 to 0.999, nu 3 to 6, a jump of 5 sigma every 200 days or so."""
    generator = np.random.default_rng(11)
    coins = []
    for _ in range(COINS):
        nu, persistence = generator.uniform(3.0, 6.0), 1 - 10 ** generator.uniform(-3, -1.15)
        alpha, gamma = generator.uniform(0.04, 0.15), generator.uniform(-0.02, 0.08)
        beta = persistence - alpha - 0.5 * gamma
        z = generator.standard_t(nu, days + 500) * np.sqrt((nu - 2) / nu)
        z = np.where(generator.random(days + 500) < 0.005, 5 * np.sign(z), z)
        returns, variance = np.empty(days + 500), 16.0
        for day in range(days + 500):
            shock = np.sqrt(variance) * z[day]
            returns[day] = 0.1 + shock
            variance = (
                16.0 * (1 - persistence)
                + (alpha + gamma * (shock < 0)) * shock**2
                + beta * variance
            )
            variance = min(variance, 2500.0)
        coins.append(returns[500:])
    return coins


def archive_coins(folder: Path) -> list[Floats]:
    """Percent returns, close to close, of days with 20 or more hourly bars."""
    import pandas as pd

    bars = pd.read_parquet(
        folder / "ohlcv" / "1h.parquet", columns=["symbol", "ts", "close"]
    ).sort_values("ts")
    bars["day"] = bars["ts"].dt.tz_convert("UTC").dt.tz_localize(None).dt.floor("D")
    days = bars.groupby(["symbol", "day"])["close"].agg(["last", "size"])
    coins = []
    for _, coin in days[days["size"] >= 20].groupby(level="symbol"):
        returns = 100 * np.diff(np.log(coin["last"].to_numpy()))
        if len(returns) > WINDOW + 60:
            coins.append(returns)
    return coins
