"""Weekly walk-forward fits of log-HAR's regression against statsmodels' OLS on the same rows, in one run, with the largest difference."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from ml.baselines.har import ridge_with_smearing

WINDOW, REGRESSORS = 1500, 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fits", type=int, default=300)


def run(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[tuple[str, list[str], list[list[Any]]]]]:
    import statsmodels.api as sm

    generator = np.random.default_rng(7)
    rows = WINDOW + 7 * options.fits
    x = np.column_stack([np.ones(rows), generator.standard_normal((rows, REGRESSORS))])
    y = x @ generator.standard_normal(REGRESSORS + 1) + generator.standard_normal(rows)
    windows = [slice(7 * step, 7 * step + WINDOW) for step in range(options.fits)]
    started = time.perf_counter()
    ours = [ridge_with_smearing(x[rows_], y[rows_])[0] for rows_ in windows]
    ours_seconds = time.perf_counter() - started
    started = time.perf_counter()
    theirs = [sm.OLS(y[rows_], x[rows_]).fit().params for rows_ in windows]
    theirs_seconds = time.perf_counter() - started
    difference = float(np.max(np.abs(np.array(ours) - np.array(theirs))))
    figures = {
        "fits": options.fits,
        "ratio": theirs_seconds / ours_seconds,
        "max_coefficient_difference": difference,
    }
    table = [
        ["volcast", options.fits / ours_seconds],
        ["statsmodels OLS", options.fits / theirs_seconds],
        ["ratio", theirs_seconds / ours_seconds],
        ["largest difference of a coefficient (ours has a ridge of 0.01)", difference],
    ]
    return figures, [
        (f"HARX fits per second, {WINDOW} rows, {REGRESSORS} regressors", ["", "value"], table)
    ]
