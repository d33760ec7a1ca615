"""Whether a fit may be published: a verdict a window, retries from other starts, and what is left to fall back on.

In: a `Specification` and `Windows`. Out: `Judged` fits; text 'converged' or the reason why not. Never: a verdict on the
optimiser's word alone, or a fit passed over in silence.

A fit is converged when
1. the climb ended: one more step within the bounds would gain less than `MAX_GAIN` in log likelihood (the projected score);
2. every number is finite;
3. the observed information is positive definite along the bounds that bind;
4. persistence is at most 1 (5-11 % of jumpy series truly end at an integrated GARCH; EGARCH and Realized GARCH: below 1);
5. no parameter sits on a bound that only a failed fit reaches (degrees of freedom at 2.05, omega at its limits);
6. t-values are sane: standard errors finite and, of coefficients, below `MAX_ERROR`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.garch.ascent import CONVERGED as ENDED_WELL
from ml.garch.ascent import ENDINGS
from ml.garch.estimation import Fits, fit, fit_from_all
from ml.garch.inference import StandardErrors, standard_errors
from ml.garch.specification import NU_FLOOR, Specification
from ml.garch.windows import Windows

Floats = NDArray[np.float64]

CONVERGED = "converged"
MAX_GAIN = 1e-3
"""Log likelihood units."""
MAX_PERSISTENCE = 1.0
MAX_ERROR = 2.0
"""Standard error of a coefficient that lies between 0 and 1 by nature: above it the data say nothing about it."""
MAX_T_VALUE = 1e6
PUBLISHED_TOLERANCE = 1e-6
RETRY_EVALUATIONS = 1000
RETRY_LOSS = 0.01
"""A retry that converges this much below the failed attempt found a lesser maximum and does not count."""
_COEFFICIENTS = ("alpha", "beta", "phi", "d", "rho")


@dataclass(frozen=True)
class Judged:
    """Fits with what speaks for and against them, P windows."""

    fits: Fits
    errors: StandardErrors
    verdicts: NDArray[np.object_]  # (P,) 'converged' or the reason
    persistence: Floats  # (P,)
    attempts: NDArray[np.int64]  # (P,) starts that were climbed from

    @property
    def converged(self) -> NDArray[np.bool_]:
        return np.asarray(self.verdicts == CONVERGED, dtype=np.bool_)


def persistence(specification: Specification, parameters: Floats) -> Floats:
    """(..., k) -> (...): how much of a variance shock is left a day later; arch's definition where arch has one."""

    def value(name: str) -> Floats:
        return np.asarray(parameters[..., specification.place(name)])

    match specification.variance:
        case "garch" | "aparch":
            return value("alpha") + value("beta")
        case "gjr":
            return value("alpha") + 0.5 * value("gamma") + value("beta")
        case "egarch":
            return value("beta")
        case "figarch":
            return value("d")
        case "component":
            return value("rho")
        case _:
            return value("beta") + value("gamma") * value("phi_u")


def judge(fits: Fits, windows: Windows, threads: int = 1) -> Judged:
    """Standard errors and a verdict for every fit."""
    errors = standard_errors(fits, windows, threads)
    spec = fits.specification
    theta = fits.parameters
    lasting = persistence(spec, theta)
    omega = theta[:, spec.place("omega")]
    verdicts = np.full(len(windows), CONVERGED, dtype=object)
    with np.errstate(all="ignore"):
        ratios = np.abs(theta) / errors.robust
        largest = np.nanmax(np.where(errors.robust > 0, ratios, 0.0), axis=1)
    named = [spec.place(name) for name in _COEFFICIENTS if name in spec.parameters]
    widest = errors.robust[:, named].max(axis=1)
    strict = spec.variance in ("egarch", "realized")
    checks: list[tuple[NDArray[np.bool_], list[str]]] = []

    def check(failed: NDArray[np.bool_], texts: list[str]) -> None:
        checks.append((np.asarray(failed), texts))

    # The first reason that holds is the one that is told.
    check(
        ~(np.isfinite(theta).all(axis=1) & np.isfinite(fits.log_likelihood)),
        [f"parameters or likelihood {value} not finite" for value in fits.log_likelihood],
    )
    if spec.shape_parameters:
        nu = theta[:, spec.place("nu")]
        check(nu <= NU_FLOOR + 1e-4, [f"nu {value:.4f}: at its bound {NU_FLOOR}" for value in nu])
    if (
        spec.variance not in ("egarch", "realized") and not spec.terms
    ):  # with terms zero is a fine intercept
        at_limit = errors.binding[:, _omega_rows(spec)].any(axis=1) | (omega <= 0)
        check(at_limit, [f"omega {value:.3g}: at its bound" for value in omega])
    check(
        (lasting >= MAX_PERSISTENCE - 2e-6) if strict else (lasting > MAX_PERSISTENCE + 1e-9),
        [
            f"persistence {value:.6f}: expected {'below' if strict else 'at most'} 1"
            for value in lasting
        ],
    )
    check(
        ~((fits.endings == ENDED_WELL) & (fits.gain <= MAX_GAIN)),
        [
            f"gradient not zero: another step would gain {gain:.2g} in log likelihood ({ENDINGS[int(ending)]})"
            for gain, ending in zip(fits.gain, fits.endings, strict=True)
        ],
    )
    check(
        ~errors.definite,
        ["the likelihood does not curve down (Hessian not definite)"] * len(windows),
    )
    check(
        ~(
            np.isfinite(errors.robust).all(axis=1)
            & (widest <= MAX_ERROR)
            & (largest <= MAX_T_VALUE)
        ),
        [
            f"standard error {error:.2g} of a coefficient or t-value {ratio:.2g}: not sane"
            for error, ratio in zip(widest, largest, strict=True)
        ],
    )
    for failed, texts in reversed(checks):
        for place in np.flatnonzero(failed):
            verdicts[place] = texts[place]
    return Judged(fits, errors, verdicts, lasting, np.ones(len(windows), dtype=np.int64))


def fit_and_judge(
    specification: Specification,
    windows: Windows,
    starts: Floats | None = None,
    *,
    tolerance: float = PUBLISHED_TOLERANCE,
    threads: int = 1,
) -> Judged:
    """Fit, judge, and fit again with more patience, from each of the member's starts, what did not converge.

    Windows that stand alone are climbed from every start in the first place, windows of a chain from the one before.
    """
    if starts is None and (windows.chain_stop - windows.chain_first <= 1).all():
        first = fit_from_all(specification, windows, tolerance=tolerance, threads=threads)
    else:
        first = fit(specification, windows, starts, tolerance=tolerance, threads=threads)
    judged = judge(first, windows, threads)
    tries = specification.starts(np.zeros(1), np.ones(1), np.zeros(1)).shape[1]
    for number in range(tries):
        failed = np.flatnonzero(~judged.converged)
        if not len(failed):
            break
        part = windows.subset(failed)
        places = np.arange(len(part))
        start = specification.starts(*part.moments(places), part.mean_log_measure(places))[
            :, number
        ]
        again = judge(
            fit(
                specification,
                part,
                start,
                tolerance=tolerance,
                max_evaluations=RETRY_EVALUATIONS,
                threads=threads,
            ),
            part,
            threads,
        )
        attempts = judged.attempts.copy()
        attempts[failed] += 1
        judged = replace(judged, attempts=attempts)
        before = np.nan_to_num(judged.fits.log_likelihood[failed], nan=-np.inf)
        better = again.converged & (again.fits.log_likelihood >= before - RETRY_LOSS)
        better |= ~again.converged & (
            np.nan_to_num(again.fits.log_likelihood, nan=-np.inf) > before + RETRY_LOSS
        )
        judged = _replaced(judged, failed[better], again, np.flatnonzero(better))
    return judged


def _omega_rows(specification: Specification) -> NDArray[np.int64]:
    """Bounds that limit omega: they alone scale with the sample variance."""
    return np.flatnonzero(specification.coordinates.limit_scales != 0)


def _replaced(
    old: Judged, places: NDArray[np.int64], new: Judged, rows: NDArray[np.int64]
) -> Judged:
    """`old` with some windows taken from `new`."""

    def merged(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        taken = ours.copy()
        taken[places] = theirs[rows]
        return taken

    fits = {
        name: merged(getattr(old.fits, name), getattr(new.fits, name))
        for name in ("parameters", "log_likelihood", "gain", "evaluations", "endings")
    }
    errors = {
        name: merged(getattr(old.errors, name), getattr(new.errors, name))
        for name in ("robust", "hessian", "outer", "definite", "binding")
    }
    return Judged(
        Fits(old.fits.specification, **fits),
        StandardErrors(**errors),
        merged(old.verdicts, new.verdicts),
        merged(old.persistence, new.persistence),
        old.attempts,
    )
