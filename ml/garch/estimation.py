"""Maximum likelihood by `arch`, and a verdict on whether it ended at a maximum.

In: one coin's returns in percent. Out: parameters with a verdict in words.
Never: trusting the optimiser's own flag alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from arch import arch_model
from numpy.typing import NDArray
from scipy.optimize import nnls

from ml.garch.recursions import PARAMETERS, backcast, log_likelihoods

Floats = NDArray[np.float64]
Specification = Literal["garch_t", "gjr_t", "egarch_t"]

CONVERGED = "converged"
MIN_NU = 2.05
"""Lower bound of arch for the degrees of freedom: below 2 there is no variance."""
MAX_PERSISTENCE = 1.0
"""Closed bound: 5-11 % of jumpy series truly end at an integrated GARCH, whose forecasts are finite at any horizon."""
MAX_EXPECTED_GAIN = 0.01
"""Log likelihood units that one more Newton step would gain at most."""
_ARCH: dict[Specification, dict[str, Any]] = {
    "garch_t": {"vol": "GARCH", "p": 1, "o": 0, "q": 1},
    "gjr_t": {"vol": "GARCH", "p": 1, "o": 1, "q": 1},
    "egarch_t": {"vol": "EGARCH", "p": 1, "o": 1, "q": 1},
}
_STARTS = ((0.05, 0.93, 6.0), (0.15, 0.80, 4.0), (0.10, 0.60, 10.0), (0.02, 0.97, 3.5))
"""alpha, beta, nu of the retries, after arch's own start values."""


@dataclass(frozen=True)
class GarchFit:
    """One coin's fit; usable when `verdict` is 'converged'."""

    specification: Specification
    parameters: Floats  # (6,) in the order of PARAMETERS, percent units
    backcast: float
    log_likelihood: float
    expected_gain: float
    attempts: int
    verdict: str


def fit_garch(returns: Floats, specification: Specification) -> GarchFit:
    """Fit (n,) returns in percent, from arch's start values and, while that does not converge, four others.

    Returns the first converged fit, else the attempt of highest likelihood with its verdict.
    """
    attempts: list[GarchFit] = []
    for number, start in enumerate((None, *_STARTS), start=1):
        attempts.append(_attempt(returns, specification, start, number))
        if attempts[-1].verdict == CONVERGED:
            return attempts[-1]
    return max(attempts, key=lambda fit: np.nan_to_num(fit.log_likelihood, nan=-np.inf))


def _attempt(
    returns: Floats,
    specification: Specification,
    start: tuple[float, float, float] | None,
    attempt: int,
) -> GarchFit:
    model = arch_model(returns, mean="Constant", dist="t", rescale=False, **_ARCH[specification])
    initial = backcast(returns)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # arch's convergence warning: the verdict below says it
        result = model.fit(
            disp="off",
            show_warning=False,
            starting_values=None if start is None else _start(returns, specification, start),
            options={"maxiter": 500},
        )
    names = {
        "mu": "mu",
        "omega": "omega",
        "alpha[1]": "alpha",
        "gamma[1]": "gamma",
        "beta[1]": "beta",
    }
    found = {names.get(str(name), str(name)): float(value) for name, value in result.params.items()}
    parameters = np.array([found.get(name, 0.0) for name in PARAMETERS])
    with np.errstate(all="ignore"):
        gain = expected_gain(returns, parameters, specification, initial)
    return GarchFit(
        specification=specification,
        parameters=parameters,
        backcast=initial,
        log_likelihood=float(result.loglikelihood),
        expected_gain=gain,
        attempts=attempt,
        verdict=_verdict(
            result.convergence_flag, parameters, specification, result.loglikelihood, gain
        ),
    )


def _verdict(
    flag: int, parameters: Floats, specification: Specification, likelihood: float, gain: float
) -> str:
    _, omega, alpha, gamma, beta, nu = parameters
    if flag != 0:
        return f"optimiser ended with flag {flag}"
    if not (np.isfinite(parameters).all() and np.isfinite(likelihood)):
        return f"parameters {parameters.tolist()} or likelihood {likelihood} not finite"
    if nu <= MIN_NU:
        return f"nu {nu:.4f}: at most {MIN_NU}"
    if specification == "egarch_t":
        if not abs(beta) < 1:
            return f"beta {beta:.6f}: not inside (-1, 1)"
    elif alpha + 0.5 * gamma + beta > MAX_PERSISTENCE + 1e-9:
        return f"persistence {alpha + 0.5 * gamma + beta:.6f}: above {MAX_PERSISTENCE}"
    elif omega <= 0:
        return f"omega {omega:.3g}: not positive"
    if not gain <= MAX_EXPECTED_GAIN:
        return f"gradient not zero: another step would gain {gain:.2g} in log likelihood"
    return CONVERGED


def expected_gain(
    returns: Floats, parameters: Floats, specification: Specification, initial: float
) -> float:
    """Log likelihood that a Newton step would gain: half the squared norm of the score in the information metric.

    Scores by central differences, information as their outer product. Where the estimate lies on a bound, the score's
    part against that bound counts for nothing (Kuhn-Tucker, by non-negative least squares).
    """
    free = [i for i, name in enumerate(PARAMETERS) if name != "gamma" or specification != "garch_t"]
    steps = 1e-4 * np.maximum(np.abs(parameters[free]), 1e-3)
    lanes = np.repeat(parameters[:, None], 2 * len(free), axis=1)
    for lane, (index, step) in enumerate(zip(free, steps, strict=True)):
        lanes[index, 2 * lane] += step
        lanes[index, 2 * lane + 1] -= step
    likelihoods = log_likelihoods(returns, lanes, initial, specification == "egarch_t")
    scores = (likelihoods[:, 0::2] - likelihoods[:, 1::2]) / (2 * steps)  # (n, free)
    if not np.isfinite(scores).all():
        return float("inf")
    scale = np.sqrt(np.square(scores).sum(axis=0)) + 1e-300
    information = (scores / scale).T @ (scores / scale) + 1e-10 * np.eye(len(free))
    root = np.linalg.cholesky(information)
    whitened = np.linalg.solve(root, scores.sum(axis=0) / scale)
    normals = _active_bounds(parameters, specification)[:, free] / scale
    if not len(normals):
        return float(0.5 * whitened @ whitened)
    _, residual = nnls(np.linalg.solve(root, -normals.T), whitened)
    return float(0.5 * residual**2)


def _active_bounds(parameters: Floats, specification: Specification) -> Floats:
    """(A, 6) inward normals of the bounds that the estimate lies on."""
    _, omega, alpha, gamma, beta, nu = parameters
    bounds: list[tuple[float, list[float]]] = [
        (nu - MIN_NU, [0, 0, 0, 0, 0, 1]),
        (500.0 - nu, [0, 0, 0, 0, 0, -1]),
    ]
    if specification != "egarch_t":
        bounds += [
            (omega, [0, 1, 0, 0, 0, 0]),
            (alpha, [0, 0, 1, 0, 0, 0]),
            (beta, [0, 0, 0, 0, 1, 0]),
            (alpha + gamma, [0, 0, 1, 1, 0, 0]),
            (1.0 - alpha - 0.5 * gamma - beta, [0, 0, -1, -0.5, -1, 0]),
        ]
    active = [normal for slack, normal in bounds if slack < 1e-4]
    return np.array(active, dtype=np.float64).reshape(-1, len(PARAMETERS))


def _start(
    returns: Floats, specification: Specification, start: tuple[float, float, float]
) -> Floats:
    alpha, beta, nu = start
    mean, variance = returns.mean(), returns.var()
    if specification == "egarch_t":
        return np.array([mean, (1 - beta) * np.log(variance), 2 * alpha, 0.0, beta, nu])
    if specification == "gjr_t":
        return np.array([mean, (1 - alpha - beta) * variance, 0.5 * alpha, alpha, beta, nu])
    return np.array([mean, (1 - alpha - beta) * variance, alpha, beta, nu])
