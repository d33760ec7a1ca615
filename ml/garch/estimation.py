"""Maximum likelihood for a batch of windows: chooses the engine, spreads chains over threads, warm-starts along chains.

In: a `Specification` and `Windows`. Out: `Fits`, a row a window. Never: a judgement of the fits (`ml.garch.verdicts`), or numbers
that depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml.garch import fast, generic
from ml.garch.likelihood import EWMA_BACKCAST, SAMPLE_BACKCAST
from ml.garch.specification import Specification
from ml.garch.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Engine = Literal["auto", "fast", "generic"]

TOLERANCE = 1e-4
"""Log likelihood units that one more step may promise when the climb ends."""
MAX_EVALUATIONS = 300
FAST_ORDER = ("mu", "omega", "alpha", "gamma", "beta", "nu")


@dataclass(frozen=True)
class Fits:
    """What was found for P windows."""

    specification: Specification
    parameters: Floats  # (P, k) natural, in the order of specification.parameters
    log_likelihood: Floats  # (P,)
    gain: Floats  # (P,) log likelihood that one more step promises
    evaluations: Ints  # (P,)
    endings: Ints  # (P,) see ml.garch.ascent.ENDINGS


def has_fast_engine(specification: Specification) -> bool:
    """GARCH-t and GJR-t with constant or no mean have an engine of their own."""
    return (
        specification.variance in ("garch", "gjr")
        and specification.density == "t"
        and specification.mean != "ar"
        and not specification.terms
    )


def fit(
    specification: Specification,
    windows: Windows,
    starts: Floats | None = None,
    *,
    tolerance: float = TOLERANCE,
    max_evaluations: int = MAX_EVALUATIONS,
    threads: int = 1,
    engine: Engine = "auto",
    initial: Literal["ewma", "sample"] = "ewma",
) -> Fits:
    """Fit every window; `starts` (P, k) or (P, S, k) natural start values, by default the member's own for heads of chains.

    A row of NaN in `starts` starts from the solution before it in its chain. `initial` 'sample' takes the mean squared residual
    of the current parameters as variance before the sample, as Fiorentini, Calzolari and Panattoni (1996) do (GARCH and GJR).
    """
    if engine == "auto":
        engine = "fast" if has_fast_engine(specification) and initial == "ewma" else "generic"
    if engine == "fast" and (not has_fast_engine(specification) or initial != "ewma"):
        raise ValueError(
            f"engine 'fast' for {specification.name}: expected GARCH-t or GJR-t without lags or terms"
        )
    if initial == "sample" and specification.variance not in ("garch", "gjr"):
        raise ValueError(f"initial 'sample' for {specification.variance!r}: expected garch or gjr")
    _check(specification, windows)
    if starts is None:
        starts = cold_starts(specification, windows, all_of_them=engine == "generic")
    if starts.ndim == 2:
        starts = starts[:, None, :]
    expected = (len(windows), len(specification.parameters))
    if (starts.shape[0], starts.shape[2]) != expected:
        raise ValueError(
            f"starts of shape {starts.shape}: expected {expected} or {(expected[0], 'S', expected[1])}"
        )
    if engine == "fast":
        return _fit_fast(specification, windows, starts[:, 0], tolerance, max_evaluations, threads)
    mode = EWMA_BACKCAST if initial == "ewma" else SAMPLE_BACKCAST
    return _fit_generic(specification, windows, starts, mode, tolerance, max_evaluations, threads)


def fit_from_all(
    specification: Specification,
    windows: Windows,
    *,
    tolerance: float = TOLERANCE,
    max_evaluations: int = MAX_EVALUATIONS,
    threads: int = 1,
) -> Fits:
    """Climb from every start of the member and keep the highest end: for windows that stand alone.

    At 1,500 days GARCH-t and GJR-t end at one maximum from wherever they start; at 400 days some 3 % have several.
    """
    starts = cold_starts(specification, windows)
    fits = [
        fit(
            specification,
            windows,
            starts[:, number],
            tolerance=tolerance,
            max_evaluations=max_evaluations,
            threads=threads,
        )
        for number in range(starts.shape[1])
    ]
    best = np.argmax([np.nan_to_num(one.log_likelihood, nan=-np.inf) for one in fits], axis=0)
    places = np.arange(len(windows))

    def chosen(name: str) -> NDArray[Any]:
        return np.asarray(np.stack([getattr(one, name) for one in fits])[best, places])

    return Fits(
        specification,
        chosen("parameters"),
        chosen("log_likelihood"),
        chosen("gain"),
        np.sum([one.evaluations for one in fits], axis=0),
        chosen("endings"),
    )


def cold_starts(specification: Specification, windows: Windows, all_of_them: bool = True) -> Floats:
    """(P, S, k) natural start values for the heads of chains, NaN for the windows that follow."""
    heads = windows.heads()
    values = specification.starts(*windows.moments(heads), windows.mean_log_measure(heads))
    if not all_of_them:
        values = values[:, :1]
    starts = np.full((len(windows), *values.shape[1:]), np.nan)
    starts[heads] = values
    return starts


def arrays(specification: Specification, windows: Windows) -> tuple[Floats, Floats]:
    """Terms (total, x) and log measure (total,) as the kernels want them: empty where the member has none."""
    terms = np.empty((len(windows.values), 0)) if windows.terms is None else windows.terms
    measure = np.empty(0) if windows.measure is None else np.log(windows.measure)
    return np.ascontiguousarray(terms, dtype=np.float64), measure


def over_chains(run: Callable[[Ints, Ints], None], windows: Windows, threads: int) -> None:
    """Call `run(chain_first, chain_stop)` on `threads` shares of about as many windows each."""
    if threads < 1:
        raise ValueError(f"threads {threads}: expected a positive number")
    first, stop = windows.chain_first, windows.chain_stop
    if threads == 1 or len(first) < 2:
        run(first, stop)
        return
    done = np.cumsum(stop - first)
    cuts = np.searchsorted(done, done[-1] * np.arange(1, threads) / threads) + 1
    with ThreadPoolExecutor(threads) as pool:
        for job in [
            pool.submit(run, *share)
            for share in zip(np.split(first, cuts), np.split(stop, cuts), strict=True)
            if len(share[0])
        ]:
            job.result()


def fast_parameters(specification: Specification, parameters: Floats) -> Floats:
    """(P, k) natural parameters -> (P, 6) in the order of the fast engine, 0 for what the member lacks, rows of NaN kept."""
    natural = np.zeros((len(parameters), fast.NATURAL))
    natural[:, [FAST_ORDER.index(name) for name in specification.parameters]] = parameters
    natural[np.isnan(parameters[:, 0])] = np.nan
    return natural


def _check(specification: Specification, windows: Windows) -> None:
    columns = 0 if windows.terms is None else windows.terms.shape[1]
    if columns != len(specification.terms):
        raise ValueError(
            f"{columns} columns of terms for {specification.name}: expected {len(specification.terms)}"
        )
    if (
        specification.variance in ("garch", "gjr")
        and windows.terms is not None
        and (windows.terms < 0).any()
    ):
        raise ValueError(
            f"term {windows.terms.min()} in {specification.name}: expected non-negative values (use the absolute value, "
            f"the square or one side of a signed series)"
        )
    if specification.variance == "realized":
        if windows.measure is None:
            raise ValueError(
                f"{specification.name} without a realised measure: expected one value a return"
            )
        if (windows.measure <= 0).any():
            raise ValueError(f"realised measure {windows.measure.min()}: expected positive values")


def _fit_fast(
    specification: Specification,
    windows: Windows,
    starts: Floats,
    tolerance: float,
    max_evaluations: int,
    threads: int,
) -> Fits:
    tied, free_mean = specification.variance == "garch", specification.mean == "constant"
    natural = fast_parameters(specification, starts)
    found, facts = np.full(natural.shape, np.nan), np.full((len(windows), 3), np.nan)
    endings = np.zeros(len(windows), dtype=np.int64)
    normals, limits, reach = fast.bounds_of(tied)

    def run(first: Ints, stop: Ints) -> None:
        fast.fit_chains(
            windows.values, windows.offsets, windows.lengths, natural, first, stop, tied, free_mean,
            normals, limits, reach, tolerance, max_evaluations, found, facts, endings,
        )  # fmt: skip

    over_chains(run, windows, threads)
    columns = [FAST_ORDER.index(name) for name in specification.parameters]
    return Fits(
        specification,
        found[:, columns],
        facts[:, 0],
        facts[:, 1],
        facts[:, 2].astype(np.int64),
        endings,
    )


def _fit_generic(
    specification: Specification,
    windows: Windows,
    starts: Floats,
    mode: int,
    tolerance: float,
    max_evaluations: int,
    threads: int,
) -> Fits:
    coordinates = specification.coordinates
    points = np.ascontiguousarray(coordinates.from_natural(starts))
    found, facts = (
        np.full((len(windows), starts.shape[2]), np.nan),
        np.full((len(windows), 4), np.nan),
    )
    endings = np.zeros(len(windows), dtype=np.int64)
    terms, measure = arrays(specification, windows)

    def run(first: Ints, stop: Ints) -> None:
        generic.fit_windows(
            specification.layout, windows.values, terms, measure, windows.offsets, windows.lengths, points, first, stop,
            coordinates.mixing, coordinates.logs, coordinates.shifts, coordinates.normals, coordinates.limits,
            coordinates.limit_scales, coordinates.reach, mode, tolerance, max_evaluations, found, facts, endings,
        )  # fmt: skip

    over_chains(run, windows, threads)
    return Fits(
        specification,
        coordinates.to_natural(found),
        facts[:, 0],
        facts[:, 1],
        facts[:, 2].astype(np.int64),
        endings,
    )
