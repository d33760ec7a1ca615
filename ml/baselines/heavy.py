"""HEAVY: realised variance drives both its own expectation and the variance of returns.

In: rv_d and return_d of features.daily on the days that were complete. Out: forecasts. Never: a daily squared return as
the driver; the gain over GARCH is that the driver is measured within the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import expit, logit

from ml.baselines.ewma import MAX_AGE_DAYS, daily_values, days_since_value
from ml.calibration import Floats, PointFit, PointForecastModel
from ml.forecasts import HORIZONS
from ml.panel import Panel

MIN_OBSERVATIONS = 180
LOOKBACK_DAYS = 250
LARGEST_DECAY = 0.95
"""Bound of beta: 0.95 ** 250 < 3e-6, so that a longer history would change nothing that matters."""
LARGEST_PERSISTENCE = 0.999
TARGETS = ("realized", "returns")


class Heavy(PointForecastModel):
    r"""HEAVY(1,1) by Gaussian quasi-likelihood, each coin's two equations one after the other.

    .. math:: \mu_{t+1} = \omega_R + \alpha_R RV_t + \beta_R \mu_t, \qquad
        h_{t+1} = \omega + \alpha RV_t + \beta h_t

    mu is the expectation of RV, h the variance of the daily return; both are fitted by minimising
    sum(log s + v/s) with v = RV or r^2. Ahead, RV is replaced by its expectation:

    .. math:: E\mu_{t+k} = m + (\alpha_R + \beta_R)^{k-1} (\mu_{t+1} - m), \quad m = \omega_R / (1 - \alpha_R - \beta_R)

    A day without complete bars takes the RV of the last one that had. Config: `target`, 'realized' (default: the mean of
    E mu, as the scores are of RV) or 'returns' (the mean of E h). Residuals are in-sample: not calibrated.

    Source: Shephard and Sheppard (2010), "Realising the future: forecasting with high-frequency-based volatility (HEAVY)
    models", Journal of Applied Econometrics 25, eq. 1 to 5.
    """

    name = "heavy"
    lookback_days = LOOKBACK_DAYS
    out_of_sample_residuals = False
    config_keys = ("target",)

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        target = config.get("target", TARGETS[0])
        if target not in TARGETS:
            raise ValueError(f"target {target!r}: expected one of {', '.join(TARGETS)}")
        variance, returns = daily_values(panel, "rv_d"), daily_values(panel, "return_d")
        parameters = np.full((len(panel.assets), 2, 3), np.nan)
        status: dict[str, str] = {}
        for index, asset in enumerate(panel.assets):
            own, squared = variance[first:, index], returns[first:, index] ** 2
            known = int(np.isfinite(own).sum())
            if known < MIN_OBSERVATIONS:
                status[asset] = f"needs {MIN_OBSERVATIONS} days of realised variance, has {known}"
                continue
            parameters[index, 0] = fit_equation(own, own)
            parameters[index, 1] = fit_equation(squared, own)
        found = _ahead(variance, np.arange(len(panel.days)), parameters, target)
        return PointFit(found, {"parameters": parameters}, {"target": target}, status)

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        values = daily_values(panel, "rv_d")
        parameters = self._aligned(panel, "parameters")
        variance = _ahead(values, rows, parameters, self.state().meta["target"])
        stale = days_since_value(values)[rows] > MAX_AGE_DAYS
        reason = np.full(stale.shape, "", dtype=object)
        reason[stale] = f"no complete price day within {MAX_AGE_DAYS} days"
        return np.where(stale[..., None], np.nan, variance), reason


def filter_path(driver: Floats, omega: float, alpha: float, beta: float, start: float) -> Floats:
    """(T,) s_1 = start, s_{t+1} = omega + alpha x_t + beta s_t for the driver x (T,)."""
    inputs = np.concatenate([[start], omega + alpha * driver[:-1]])
    return np.asarray(lfilter([1.0], [1.0, -beta], inputs))


def quasi_likelihood(
    observed: Floats, driver: Floats, omega: float, alpha: float, beta: float
) -> float:
    """Mean of log s + v/s over the days where v is known; the path starts at the mean of v."""
    known = np.isfinite(observed)
    path = filter_path(driver, omega, alpha, beta, float(observed[known].mean()))
    return float(np.mean(np.log(path[known]) + observed[known] / path[known]))


def fit_equation(observed: Floats, realized: Floats) -> Floats:
    """(3,) omega, alpha, beta of one equation for v (T,), driven by realised variance (T,); NaN = not known.

    Targeted: omega = (1 - alpha - beta) times the mean of v, the driver in units of its own mean, so that forecasts far
    ahead return to what the window saw. A free omega near a unit root implies means of up to 20 times that. Minimised
    over alpha and beta in a form that keeps alpha >= 0 and beta <= 0.95 whatever the optimiser tries; three starts.
    Source: Shephard and Sheppard (2010), on targeting; Engle and Mezrich (1996).
    """
    level, scale = float(np.nanmean(observed)), float(np.nanmean(realized))
    driver = _filled(realized, scale) / scale
    value = observed / level

    def unpack(free: Floats) -> tuple[float, float, float]:
        beta = float(LARGEST_DECAY * expit(free[0]))
        alpha = float((LARGEST_PERSISTENCE - beta) * expit(free[1]))
        return 1.0 - alpha - beta, alpha, beta

    def objective(free: Floats) -> float:
        return quasi_likelihood(value, driver, *unpack(free))

    starts = [np.array([logit(beta / LARGEST_DECAY), 1.0]) for beta in (0.3, 0.6, 0.85)]
    bounds = [(-8.0, 8.0)] * 2
    fits = [minimize(objective, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    omega, alpha, beta = unpack(min(fits, key=lambda fit: float(fit.fun)).x)
    return np.array([omega * level, alpha * level / scale, beta])


def _filled(values: Floats, otherwise: float) -> Floats:
    """(T,) missing values replaced by the last known one; those before the first by `otherwise`."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], otherwise)


def _ahead(values: Floats, rows: NDArray[np.int64], parameters: Floats, target: str) -> Floats:
    """(D, N, H) mean expected variance ahead of each row, from the 250 days up to it; parameters (N, 2, 3)."""
    (omega_r, alpha_r, beta_r), (omega, alpha, beta) = np.moveaxis(parameters, (1, 2), (0, 1))
    persistence = alpha_r + beta_r
    mean = omega_r / (1.0 - persistence)
    padded = np.concatenate([np.full((LOOKBACK_DAYS - 1, values.shape[1]), np.nan), values])
    mu = np.broadcast_to(mean, (len(rows), values.shape[1]))
    level = (omega + alpha * mean) / (1.0 - beta)
    h = np.broadcast_to(level, mu.shape)
    last = mu
    for day in range(LOOKBACK_DAYS):  # elementwise: a day is filtered alike alone and in a block
        own = padded[rows + day]
        last = np.where(np.isfinite(own), own, last)
        mu, h = omega_r + alpha_r * last + beta_r * mu, omega + alpha * last + beta * h
    total, means = np.zeros_like(mu), []
    for step in range(1, max(HORIZONS) + 1):
        total = total + (mu if target == "realized" else h)
        if step in HORIZONS:
            means.append(total / step)
        mu, h = mean + persistence * (mu - mean), omega + alpha * mu + beta * h
    return np.stack(means, axis=-1)
