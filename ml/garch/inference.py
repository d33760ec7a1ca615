r"""Standard errors of fitted windows, and whether the likelihood curves down at what was found.

In: windows and their fitted parameters. Out: robust, Hessian and outer-product standard errors; a definite flag.
Never: a standard error from a curvature that is not that of a maximum (NaN then).

With H the observed information (central differences of the analytic score) and J the outer product of the daily scores:

.. math:: V_{robust} = H^{-1} J H^{-1},\quad V_{hessian} = H^{-1},\quad V_{outer} = J^{-1}

in the optimiser's coordinates, then by the delta method in natural ones. A bound that binds takes its direction out: no
curvature is asked along it and its variance is zero. Source of the sandwich: Bollerslev and Wooldridge (1992), Econometric
Reviews 11, 143-172.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.garch.curvature import fast_curvatures, generic_curvatures
from ml.garch.estimation import Engine, Fits, arrays, fast_parameters, has_fast_engine, over_chains
from ml.garch.likelihood import EWMA_BACKCAST, SAMPLE_BACKCAST
from ml.garch.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StandardErrors:
    """Of P windows and k natural parameters; NaN where the curvature is not definite, 0 where a bound binds."""

    robust: Floats  # (P, k)
    hessian: Floats  # (P, k)
    outer: Floats  # (P, k)
    definite: NDArray[np.bool_]  # (P,)
    binding: NDArray[np.bool_]  # (P, m) bounds of specification.coordinates that bind


def standard_errors(
    fits: Fits, windows: Windows, threads: int = 1, initial: str = "ewma", engine: Engine = "auto"
) -> StandardErrors:
    """Standard errors of all windows; `initial` and `engine` as they were given to `fit`."""
    specification = fits.specification
    coordinates = specification.coordinates
    count, size = fits.parameters.shape
    points = np.ascontiguousarray(coordinates.from_natural(fits.parameters))
    terms, measure = arrays(specification, windows)
    found = np.full((3, count, size), np.nan)
    definite = np.zeros(count, dtype=np.bool_)
    binding = np.zeros((count, len(coordinates.limits)), dtype=np.bool_)
    if engine != "generic" and has_fast_engine(specification) and initial == "ewma":
        return _fast_errors(fits, windows, points, threads)
    mode = EWMA_BACKCAST if initial == "ewma" else SAMPLE_BACKCAST

    def run(first: Ints, stop: Ints) -> None:
        generic_curvatures(
            specification.layout, windows.values, terms, measure, windows.offsets, windows.lengths, points, first, stop,
            coordinates.mixing, coordinates.logs, coordinates.shifts, coordinates.normals, coordinates.limits,
            coordinates.limit_scales, mode, found, definite, binding,
        )  # fmt: skip

    over_chains(run, windows, threads)
    return StandardErrors(found[0], found[1], found[2], definite, binding)


def _fast_errors(fits: Fits, windows: Windows, points: Floats, threads: int) -> StandardErrors:
    """The same for GARCH-t and GJR-t, ten times as fast."""
    specification = fits.specification
    coordinates = specification.coordinates
    count, size = fits.parameters.shape
    natural = fast_parameters(specification, fits.parameters)
    found = np.full((3, count, size), np.nan)
    definite = np.zeros(count, dtype=np.bool_)
    binding = np.zeros((count, len(coordinates.limits)), dtype=np.bool_)

    def run(first: Ints, stop: Ints) -> None:
        fast_curvatures(
            windows.values, windows.offsets, windows.lengths, natural, points, specification.variance == "garch",
            specification.mean == "constant", first, stop, coordinates.mixing, coordinates.logs, coordinates.normals,
            coordinates.limits, coordinates.limit_scales, found, definite, binding,
        )  # fmt: skip

    over_chains(run, windows, threads)
    return StandardErrors(found[0], found[1], found[2], definite, binding)
