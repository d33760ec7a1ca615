"""Every member of the family as its paper writes it, a day a line: what the compiled kernels are tested against.

In: a specification, natural parameters, returns. Out: conditional variances and the log likelihood. Never: used to forecast;
it is slow on purpose and knows no sensitivities.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from ml.garch.specification import Specification

Floats = NDArray[np.float64]
Parameters = dict[str, float]


def residuals(specification: Specification, parameters: Parameters, returns: Floats) -> Floats:
    """(n,) returns -> (n - lags,) departures from the mean."""
    lags = specification.lags
    found = []
    for day in range(lags, len(returns)):
        mean = parameters.get("mu", 0.0)
        for lag in range(1, lags + 1):
            mean += parameters[f"ar{lag}"] * returns[day - lag]
        found.append(returns[day] - mean)
    return np.array(found)


def backcast(departures: Floats) -> float:
    """Weights 0.94 ** k over the first 75 squares."""
    weights = [0.94**k for k in range(min(75, len(departures)))]
    return float(sum(w * e**2 for w, e in zip(weights, departures, strict=False)) / sum(weights))


def variances(
    specification: Specification,
    parameters: Parameters,
    departures: Floats,
    initial: float,
    terms: Floats | None = None,
    measure: Floats | None = None,
) -> Floats:
    """(n,) residuals -> (n + 1,) conditional variances; row n is the day after. `terms` (n, x), `measure` (n,)."""
    days = len(departures)
    names = specification.term_parameters
    rows = np.zeros((days, 0)) if terms is None else terms
    extra = [
        sum(parameters[name] * rows[day, i] for i, name in enumerate(names)) for day in range(days)
    ]
    logs = np.zeros(days) if measure is None else np.log(measure)
    member = _MEMBERS[specification.variance]
    return member(parameters, departures, initial, extra, logs)


def log_likelihood(
    specification: Specification,
    parameters: Parameters,
    returns: Floats,
    initial: float,
    terms: Floats | None = None,
    measure: Floats | None = None,
) -> float:
    """Sum of log densities; of returns and realised measure jointly in Realized GARCH."""
    departures = residuals(specification, parameters, returns)
    lags = specification.lags
    rows = None if terms is None else terms[lags:]
    observed = None if measure is None else measure[lags:]
    h = variances(specification, parameters, departures, initial, rows, observed)[:-1]
    z = departures / np.sqrt(h)
    total = float(np.sum(log_density(specification, parameters, z) - 0.5 * np.log(h)))
    if specification.variance == "realized" and observed is not None:
        fitted = (
            parameters["xi"]
            + parameters["phi_u"] * np.log(h)
            + parameters["tau1"] * z
            + parameters["tau2"] * (z**2 - 1)
        )
        total += float(np.sum(stats.norm.logpdf(np.log(observed), fitted, parameters["sigma_u"])))
    return total


def log_density(specification: Specification, parameters: Parameters, z: Floats) -> Floats:
    """Log density of innovations of unit variance."""
    if specification.density == "normal":
        return np.asarray(stats.norm.logpdf(z))
    nu = parameters["nu"]
    if specification.density == "t":
        scale = math.sqrt((nu - 2) / nu)
        return np.asarray(stats.t.logpdf(z, nu, scale=scale))
    skew = parameters["lambda"]
    c = math.exp(gammaln((nu + 1) / 2) - gammaln(nu / 2)) / math.sqrt(math.pi * (nu - 2))
    a = 4 * skew * c * (nu - 2) / (nu - 1)
    b = math.sqrt(1 + 3 * skew**2 - a**2)
    width = np.where(z < -a / b, 1 - skew, 1 + skew)
    return np.asarray(
        np.log(b * c) - (nu + 1) / 2 * np.log1p(((b * z + a) / width) ** 2 / (nu - 2))
    )


def _garch(p: Parameters, e: Floats, initial: float, extra: list[float], _: Floats) -> Floats:
    gamma = p.get("gamma", 0.0)
    h = [
        p["omega"] + (p["alpha"] + 0.5 * gamma + p["beta"]) * initial + (extra[0] if extra else 0.0)
    ]
    for day, shock in enumerate(e):
        arch = p["alpha"] + (gamma if shock < 0 else 0.0)
        h.append(p["omega"] + arch * shock**2 + p["beta"] * h[-1] + extra[day])
    return np.array(h)


def _egarch(p: Parameters, e: Floats, initial: float, extra: list[float], _: Floats) -> Floats:
    logs = [p["omega"] + p["beta"] * math.log(initial) + extra[0]]
    for day, shock in enumerate(e):
        z = shock / math.exp(logs[-1] / 2)
        news = p["alpha"] * (abs(z) - math.sqrt(2 / math.pi)) + p["gamma"] * z
        logs.append(p["omega"] + news + p["beta"] * logs[-1] + extra[day])
    return np.exp(logs)


def _aparch(p: Parameters, e: Floats, initial: float, extra: list[float], _: Floats) -> Floats:
    delta = p["delta"]
    power = [p["omega"] + (p["alpha"] + p["beta"]) * initial ** (delta / 2)]
    for shock in e:
        news = abs(shock) - p["gamma"] * shock
        power.append(p["omega"] + p["alpha"] * news**delta + p["beta"] * power[-1])
    return np.array(power) ** (2 / delta)


def _figarch(p: Parameters, e: Floats, initial: float, extra: list[float], _: Floats) -> Floats:
    lags, phi, d, beta = 1000, p["phi"], p["d"], p["beta"]
    delta, weights = [d], [phi - beta + d]
    for i in range(1, lags):
        delta.append((i - d) / (i + 1) * delta[-1])
        weights.append(beta * weights[-1] + delta[i] - phi * delta[i - 1])
    h = []
    for day in range(len(e) + 1):
        before = [e[day - 1 - i] ** 2 if day - 1 - i >= 0 else initial for i in range(lags)]
        h.append(
            p["omega"] / (1 - beta)
            + sum(w * square for w, square in zip(weights, before, strict=True))
        )
    return np.array(h)


def _component(p: Parameters, e: Floats, initial: float, extra: list[float], _: Floats) -> Floats:
    q = [p["omega"] + p["rho"] * initial]
    h = [q[0]]
    for shock in e:
        q.append(p["omega"] + p["rho"] * q[-1] + p["phi"] * (shock**2 - h[-1]))
        h.append(q[-1] + p["alpha"] * (shock**2 - q[-2]) + p["beta"] * (h[-1] - q[-2]))
    return np.array(h)


def _realized(
    p: Parameters, e: Floats, initial: float, extra: list[float], log_measure: Floats
) -> Floats:
    logs = [
        p["omega"] + (p["beta"] + p["gamma"]) * math.log(initial) + (extra[0] if extra else 0.0)
    ]
    for day in range(len(e)):
        logs.append(p["omega"] + p["beta"] * logs[-1] + p["gamma"] * log_measure[day] + extra[day])
    return np.exp(logs)


_MEMBERS: dict[str, Callable[[Parameters, Floats, float, list[float], Floats], Floats]] = {
    "garch": _garch,
    "gjr": _garch,
    "egarch": _egarch,
    "aparch": _aparch,
    "figarch": _figarch,
    "component": _component,
    "realized": _realized,
}
