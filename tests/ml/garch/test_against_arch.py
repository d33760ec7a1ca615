"""Likelihood, parameters, standard errors and forecasts against `arch` on its own data sets and on the archive."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import arch.data.crude
import arch.data.nasdaq
import arch.data.sp500
import arch.data.wti
import numpy as np
import pandas as pd
import pytest
from arch import arch_model

from ml.forecasts import HORIZONS
from ml.garch.estimation import fit, fit_from_all
from ml.garch.forecasting import conditional, mean_variance, outlook, sample_backcast
from ml.garch.inference import standard_errors
from ml.garch.specification import Density, Mean, Specification, Variance
from ml.garch.windows import Windows

ARCH_VARIANCE: dict[Variance, dict[str, Any]] = {
    "garch": {"vol": "GARCH"},
    "gjr": {"vol": "GARCH", "o": 1},
    "egarch": {"vol": "EGARCH", "o": 1},
    "aparch": {"vol": "APARCH", "o": 1},
    "figarch": {"vol": "FIGARCH"},
}
ARCH_MEAN: dict[Mean, dict[str, Any]] = {
    "zero": {"mean": "Zero"},
    "constant": {"mean": "Constant"},
    "ar": {"mean": "AR", "lags": 2},
}
DAYS = 1500
CASES: list[tuple[Variance, Density, Mean]] = [
    ("garch", "normal", "constant"), ("garch", "t", "constant"), ("garch", "skewt", "ar"), ("garch", "t", "zero"),
    ("gjr", "t", "constant"), ("gjr", "skewt", "constant"), ("gjr", "normal", "ar"), ("gjr", "t", "zero"),
    ("egarch", "normal", "constant"), ("egarch", "t", "constant"), ("egarch", "skewt", "zero"),
    ("aparch", "t", "zero"), ("figarch", "t", "constant"),
]  # fmt: skip


def returns_of(name: str) -> Any:
    """The last 1,500 daily percent returns of a series that arch ships."""
    frames = {
        "sp500": lambda: arch.data.sp500.load()["Adj Close"],
        "nasdaq": lambda: arch.data.nasdaq.load()["Adj Close"],
        "wti": lambda: arch.data.wti.load().iloc[:, 0],
        "crude": lambda: arch.data.crude.load()["Brent"],
    }
    prices = frames[name]().astype(float)
    prices = prices[prices > 0].dropna()
    return 100 * np.diff(np.log(prices.to_numpy()))[-DAYS:]


def arch_of(returns: Any, variance: Variance, density: Density, mean: Mean) -> Any:
    return arch_model(
        returns, dist=density, rescale=False, **ARCH_VARIANCE[variance], **ARCH_MEAN[mean]
    )


def fitted_by_arch(model: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(disp="off", show_warning=False, **options)


@pytest.mark.parametrize(("variance", "density", "mean"), CASES)
def test_a_fit_is_no_worse_than_that_of_arch_and_its_likelihood_is_arch_s(
    variance: Variance, density: Density, mean: Mean
) -> None:
    specification = Specification(variance, density, mean, 2 if mean == "ar" else 0)
    for name in ("sp500",) if variance in ("figarch", "aparch") else ("sp500", "nasdaq", "wti"):
        returns = returns_of(name)
        ours = fit_from_all(specification, Windows.separate([returns]), tolerance=1e-9)
        model = arch_of(returns, variance, density, mean)
        own = model.fix(ours.parameters[0])
        assert ours.log_likelihood[0] == pytest.approx(own.loglikelihood, abs=1e-6), name
        theirs = fitted_by_arch(model)
        assert ours.log_likelihood[0] > theirs.loglikelihood - 0.01, name
        if abs(ours.log_likelihood[0] - theirs.loglikelihood) < 1e-4 and variance != "aparch":
            spread = standard_errors(ours, Windows.separate([returns])).robust[0]
            assert (
                np.abs(ours.parameters[0] - theirs.params.to_numpy()) < 0.05 * spread + 1e-4
            ).all(), name


@pytest.mark.parametrize(
    ("variance", "density", "mean"),
    [
        case
        for case in CASES
        if case[0] not in ("aparch", "figarch") and case != ("egarch", "normal", "constant")
    ],
)
def test_standard_errors_are_those_of_arch(
    variance: Variance, density: Density, mean: Mean
) -> None:
    returns = returns_of("sp500")
    specification = Specification(variance, density, mean, 2 if mean == "ar" else 0)
    windows = Windows.separate([returns])
    ours = fit(specification, windows, tolerance=1e-10)
    errors = standard_errors(ours, windows)
    model = arch_of(returns, variance, density, mean)
    start = ours.parameters[0]
    if errors.binding.any():
        pytest.skip("arch's differences straddle the bound on which this fit ends")
    robust, classic = (
        fitted_by_arch(model, cov_type=kind, starting_values=start)
        for kind in ("robust", "classic")
    )
    kinked = (
        len(specification.mean_parameters) if variance == "egarch" else 0
    )  # arch differences across kinks
    for found, theirs in ((errors.robust[0], robust), (errors.hessian[0], classic)):
        np.testing.assert_allclose(found[kinked:], theirs.std_err.to_numpy()[kinked:], rtol=0.03)


@pytest.mark.parametrize(
    ("variance", "density", "mean"),
    [
        ("garch", "t", "constant"),
        ("gjr", "t", "constant"),
        ("gjr", "normal", "ar"),
        ("figarch", "t", "constant"),
    ],
)
def test_exact_forecasts_are_those_of_arch(
    variance: Variance, density: Density, mean: Mean
) -> None:
    returns = returns_of("nasdaq")
    specification = Specification(variance, density, mean, 2 if mean == "ar" else 0)
    theta = fit(specification, Windows.separate([returns])).parameters[0]
    found = conditional(specification, theta, sample_backcast(specification, returns), returns)
    last = len(returns) - specification.lags
    # arch forecasts with a backcast of its own, which FIGARCH remembers until it leaves the 1,000 lags.
    places = np.array([last] if variance == "figarch" else [200, 900, last])
    ours = mean_variance(found, outlook(found, 22, 0), places, HORIZONS)
    result = arch_of(returns, variance, density, mean).fix(theta)
    np.testing.assert_allclose(
        np.exp(0.5 * found.log_variance[:-1]),
        result.conditional_volatility[specification.lags :],
        rtol=1e-9,
    )
    forecast = result.forecast(horizon=22, start=specification.lags, reindex=False)
    paths = forecast.residual_variance.to_numpy()
    for row, place in enumerate(places):
        expected = [paths[place - 1][:horizon].mean() for horizon in HORIZONS]
        np.testing.assert_allclose(ours[row], expected, rtol=1e-8)


@pytest.mark.parametrize("variance", ["egarch", "aparch"])
def test_simulated_forecasts_are_those_of_arch_s_bootstrap(variance: Variance) -> None:
    returns = returns_of("sp500")
    specification = Specification(variance, "t")
    theta = fit(specification, Windows.separate([returns])).parameters[0]
    found = conditional(specification, theta, sample_backcast(specification, returns), returns)
    ours = mean_variance(found, outlook(found, 22, 0), np.array([DAYS]), HORIZONS)[0]
    forecast = arch_of(returns, variance, "t", "constant").fix(theta).forecast(
        horizon=22, method="bootstrap", simulations=20_000, reindex=False, random_state=np.random.RandomState(1)
    )  # fmt: skip
    daily = forecast.variance.to_numpy()[-1]
    np.testing.assert_allclose(ours, [daily[:h].mean() for h in HORIZONS], rtol=0.04)


@pytest.mark.archive
@pytest.mark.parametrize("variance", ["garch", "gjr"])
def test_no_fit_on_the_archive_is_worse_than_that_of_arch(
    variance: Variance, archive_folder: Path
) -> None:
    bars = pd.read_parquet(
        archive_folder / "ohlcv" / "1h.parquet", columns=["symbol", "ts", "close"]
    )
    close = bars[bars["ts"].dt.hour == 23].pivot_table(index="ts", columns="symbol", values="close")
    coins = [100 * np.diff(np.log(close[name].dropna().to_numpy())) for name in close]
    windows = Windows.rolling([coin for coin in coins if len(coin) > DAYS], DAYS, step=120)
    specification = Specification(variance, "t")
    ours = fit(specification, windows)
    for place in range(0, len(windows), 2):
        offset = windows.offsets[place]
        model = arch_of(windows.values[offset : offset + DAYS], variance, "t", "constant")
        assert ours.log_likelihood[place] > fitted_by_arch(model).loglikelihood - 0.01
