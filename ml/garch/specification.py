"""Which member of the family: variance recursion, innovation density, mean, exogenous terms; and what follows from the choice.

In: a choice in words. Out: parameter names, the optimiser's coordinates and bounds, start values, as arrays for the kernels.
Never: data, other than the mean and variance that start values scale with.

Coordinates u are a linear mixture of the natural parameters theta, some under a logarithm: theta = M u. Bounds are arch's
where arch has the member. Names and signs of parameters are arch's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml.garch import densities, paths

Floats = NDArray[np.float64]

Variance = Literal["garch", "gjr", "egarch", "aparch", "figarch", "component", "realized"]
Density = Literal["normal", "t", "skewt"]
Mean = Literal["zero", "constant", "ar"]

NU_FLOOR, NU_CEILING = 2.05, 500.0
MAX_BETA = 1.0 - 1e-6
MEASUREMENT = ("xi", "phi_u", "tau1", "tau2", "sigma_u")

_VARIANCES: dict[str, tuple[int, tuple[str, ...]]] = {
    "garch": (paths.GARCH, ("omega", "alpha", "beta")),
    "gjr": (paths.GJR, ("omega", "alpha", "gamma", "beta")),
    "egarch": (paths.EGARCH, ("omega", "alpha", "gamma", "beta")),
    "aparch": (paths.APARCH, ("omega", "alpha", "gamma", "beta", "delta")),
    "figarch": (paths.FIGARCH, ("omega", "phi", "d", "beta")),
    "component": (paths.COMPONENT, ("omega", "rho", "phi", "alpha", "beta")),
    "realized": (paths.REALIZED, ("omega", "beta", "gamma")),
}
_DENSITIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "normal": (densities.NORMAL, ()),
    "t": (densities.STUDENT, ("nu",)),
    "skewt": (densities.SKEWED, ("nu", "lambda")),
}
_WITH_TERMS = ("garch", "gjr", "egarch", "realized")


@dataclass(frozen=True)
class Coordinates:
    """How the optimiser sees the parameters: theta = mixing @ u, u = shifts + exp(x) where logs, else x."""

    mixing: Floats  # (k, k)
    logs: Floats  # (k,) 1.0 or 0.0
    shifts: Floats  # (k,)
    normals: Floats  # (m, k)
    limits: Floats  # (m,)
    limit_scales: Floats  # (m,) times the log of the sample variance
    reach: Floats  # (k,) the longest step

    def to_natural(self, points: Floats) -> Floats:
        """(..., k) coordinates -> natural parameters."""
        with np.errstate(over="ignore"):
            u = np.where(
                self.logs > 0, self.shifts + np.exp(np.where(self.logs > 0, points, 0.0)), points
            )
        return np.asarray(u @ self.mixing.T)

    def from_natural(self, theta: Floats) -> Floats:
        """(..., k) natural parameters -> coordinates; logarithms of what is too small end at -18."""
        u = theta @ np.linalg.inv(self.mixing).T
        logs = np.log(np.maximum(u - self.shifts, 1.5e-8))
        return np.asarray(np.where(self.logs > 0, logs, u))


@dataclass(frozen=True)
class Specification:
    """A member of the family, for instance `Specification("gjr", "t")`.

    `lags`: autoregressive lags of the mean, for mean "ar". `terms`: names of exogenous variance terms, known on the day before
    the variance that they explain: non-negative with non-negative coefficients in garch and gjr, free in egarch and realized.
    """

    variance: Variance = "garch"
    density: Density = "t"
    mean: Mean = "constant"
    lags: int = 0
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for label, value, known in (
            ("variance", self.variance, _VARIANCES),
            ("density", self.density, _DENSITIES),
            ("mean", self.mean, ("zero", "constant", "ar")),
        ):
            if value not in known:
                raise ValueError(f"{label} {value!r}: expected one of {', '.join(known)}")
        if (self.lags > 0) != (self.mean == "ar") or self.lags < 0:
            raise ValueError(
                f"{self.lags} lags for mean {self.mean!r}: expected a positive number for 'ar' and none else"
            )
        if self.terms and self.variance not in _WITH_TERMS:
            raise ValueError(
                f"exogenous terms {self.terms} for {self.variance!r}: expected a variance among {', '.join(_WITH_TERMS)}"
            )

    @property
    def name(self) -> str:
        """As in status texts: gjr_t, garch_x_t, ar1_egarch_skewt."""
        mean = {"zero": "zero_", "constant": "", "ar": f"ar{self.lags}_"}[self.mean]
        return f"{mean}{self.variance}{'_x' if self.terms else ''}_{self.density}"

    @property
    def mean_parameters(self) -> tuple[str, ...]:
        return (
            () if self.mean == "zero" else ("mu", *(f"ar{lag}" for lag in range(1, self.lags + 1)))
        )

    @property
    def variance_parameters(self) -> tuple[str, ...]:
        return _VARIANCES[self.variance][1]

    @property
    def term_parameters(self) -> tuple[str, ...]:
        return tuple(f"pi_{term}" for term in self.terms)

    @property
    def measurement_parameters(self) -> tuple[str, ...]:
        return MEASUREMENT if self.variance == "realized" else ()

    @property
    def shape_parameters(self) -> tuple[str, ...]:
        return _DENSITIES[self.density][1]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the natural parameters, in their order."""
        return (
            *self.mean_parameters,
            *self.variance_parameters,
            *self.term_parameters,
            *self.measurement_parameters,
            *self.shape_parameters,
        )

    @cached_property
    def layout(self) -> NDArray[np.int64]:
        """(8,) codes and counts for the kernels."""
        counts = (
            len(self.mean_parameters), self.lags, len(self.variance_parameters), len(self.terms),
            len(self.measurement_parameters), len(self.shape_parameters),
        )  # fmt: skip
        return np.array(
            [_VARIANCES[self.variance][0], _DENSITIES[self.density][0], *counts], dtype=np.int64
        )

    def place(self, name: str) -> int:
        """Index of a parameter."""
        return self.parameters.index(name)

    @cached_property
    def coordinates(self) -> Coordinates:
        """Persistence is a coordinate of its own in GARCH, GJR, APARCH and component GARCH, in place of beta."""
        size = len(self.parameters)
        mixing, logs, shifts = np.eye(size), np.zeros(size), np.zeros(size)
        reach = np.full(size, 1e300)
        rows: list[tuple[dict[str, float], float, float]] = []

        def bound(entries: dict[str, float], limit: float, scale: float = 0.0) -> None:
            rows.append((entries, limit, scale))

        def box(name: str, low: float, high: float, step: float = 0.3) -> None:
            bound({name: 1.0}, low)
            bound({name: -1.0}, -high)
            reach[self.place(name)] = step

        for name in self.mean_parameters[1:]:
            box(name, -0.999, 0.999)
        if self.variance in ("garch", "gjr", "aparch", "figarch", "component"):
            omega = self.place("omega")
            logs[omega], reach[omega] = 1.0, 2.0
            bound({"omega": 1.0}, math.log(1e-8), 1.0)
            bound({"omega": -1.0}, -math.log(10.0), -1.0)
        match self.variance:
            case "garch":
                mixing[self.place("beta"), self.place("alpha")] = -1.0
                box("alpha", 0.0, 1.0)
                box("beta", 0.0, 1.0)  # the coordinate: alpha + beta
                bound({"beta": 1.0, "alpha": -1.0}, 0.0)
            case "gjr":
                mixing[self.place("gamma"), self.place("alpha")] = -1.0
                for name in ("alpha", "gamma"):  # the second coordinate: alpha + gamma
                    mixing[self.place("beta"), self.place(name)] = -0.5
                    box(name, 0.0, 2.0)
                box("beta", 0.0, 1.0)  # the coordinate: alpha + gamma / 2 + beta
                bound({"beta": 1.0, "alpha": -0.5, "gamma": -0.5}, 0.0)
            case "egarch":
                box("beta", 0.0, MAX_BETA)
                for name in ("omega", "alpha", "gamma"):
                    reach[self.place(name)] = 0.5
            case "aparch":
                mixing[self.place("beta"), self.place("alpha")] = -1.0
                box("alpha", 0.0, 1.0)
                box("gamma", -0.9997, 0.9997)
                box("beta", 0.0, 1.0)  # the coordinate: alpha + beta
                bound({"beta": 1.0, "alpha": -1.0}, 0.0)
                box("delta", 0.05, 4.0)
            case "figarch":
                box("phi", 0.0, 0.5)
                box("d", 0.0, 1.0 - 1.5e-8)
                box("beta", 0.0, 1.0 - 1.5e-8)
                bound({"phi": -2.0, "d": -1.0}, -1.0)
                bound({"phi": 1.0, "d": 1.0, "beta": -1.0}, 0.0)
            case "component":
                mixing[self.place("beta"), self.place("alpha")] = -1.0
                for name in ("phi", "alpha"):
                    box(name, 0.0, 1.0)
                box("rho", 0.0, MAX_BETA)
                box("beta", 0.0, 1.0)  # the coordinate: alpha + beta
                bound({"beta": 1.0, "alpha": -1.0, "phi": -1.0}, 0.0)  # beta >= phi
                bound({"rho": 1.0, "beta": -1.0}, 1e-4)
            case "realized":
                box("beta", 0.0, MAX_BETA)
                box("gamma", 0.0, 5.0)
                reach[self.place("omega")] = 0.5
                for name in ("xi", "phi_u", "tau1", "tau2"):
                    reach[self.place(name)] = 1.0
                logs[self.place("sigma_u")], reach[self.place("sigma_u")] = 1.0, 1.0
        if self.variance in ("garch", "gjr"):
            for name in self.term_parameters:
                bound({name: 1.0}, 0.0)
        if self.shape_parameters:
            nu = self.place("nu")
            logs[nu], shifts[nu], reach[nu] = 1.0, NU_FLOOR, 2.0
            bound({"nu": 1.0}, math.log(1e-5))
            bound({"nu": -1.0}, -math.log(NU_CEILING - NU_FLOOR))
        if self.density == "skewt":
            box("lambda", -0.99, 0.99)
        normals = np.zeros((len(rows), size))
        for row, (entries, _, _) in enumerate(rows):
            for name, value in entries.items():
                normals[row, self.place(name)] = value
        return Coordinates(
            mixing,
            logs,
            shifts,
            normals,
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows]),
            reach,
        )

    def starts(self, mean: Floats, variance: Floats, log_measure: Floats | None = None) -> Floats:
        """(P,) sample means and variances (and means of the log realised measure) -> (P, S, k) natural start values."""
        grid = _START_GRIDS[self.variance]
        values = np.zeros((len(mean), len(grid), len(self.parameters)))
        if self.mean != "zero":
            values[:, :, 0] = mean[:, None]
        for number, start in enumerate(grid):
            for name, value in zip(self.variance_parameters[1:], start, strict=True):
                values[:, number, self.place(name)] = value
            values[:, number, self.place("omega")] = self._omega(start, variance, log_measure)
        if self.variance == "realized":
            level = np.zeros(len(mean)) if log_measure is None else log_measure
            values[:, :, self.place("xi")] = (level - np.log(variance))[:, None]
            values[:, :, self.place("phi_u")] = 1.0
            values[:, :, self.place("sigma_u")] = 0.6
        if self.shape_parameters:
            values[:, :, self.place("nu")] = 4.0
        return values

    def _omega(
        self, start: tuple[float, ...], variance: Floats, log_measure: Floats | None
    ) -> Floats:
        match self.variance:
            case "garch":
                return np.asarray(variance * (1 - sum(start)))
            case "gjr":
                return np.asarray(variance * (1 - start[0] - 0.5 * start[1] - start[2]))
            case "egarch":
                return np.asarray((1 - start[2]) * np.log(variance))
            case "aparch":
                return np.asarray(variance ** (0.5 * start[3]) * (1 - start[0] - start[2]) * 0.8)
            case "figarch":
                phi, d, beta = start
                weights = np.empty((4, paths.TRUNCATION))
                paths.figarch_weights(phi, d, beta, weights)
                return np.asarray((1 - beta) * variance * (1 - weights[0].sum()))
            case "component":
                return np.asarray(variance * (1 - start[0]))
            case _:
                level = np.log(variance) if log_measure is None else log_measure
                return np.asarray((1 - start[0]) * np.log(variance) - start[1] * level)


_START_GRIDS: dict[str, tuple[tuple[float, ...], ...]] = {
    "garch": ((0.10, 0.85), (0.05, 0.93), (0.15, 0.70), (0.20, 0.79), (0.02, 0.97), (0.30, 0.30)),
    "gjr": (
        (0.10, 0.0, 0.85), (0.03, 0.06, 0.92), (0.10, 0.10, 0.70), (0.20, 0.0, 0.79), (0.10, -0.08, 0.90), (0.3, 0.0, 0.3),
    ),
    "egarch": (
        (0.20, 0.0, 0.95), (0.15, -0.08, 0.98), (0.30, 0.0, 0.80), (0.10, 0.05, 0.99), (0.40, 0.0, 0.90), (0.3, 0.0, 0.4),
    ),
    "aparch": (
        (0.10, 0.0, 0.87, 1.2), (0.05, 0.3, 0.92, 1.0), (0.10, 0.0, 0.85, 2.0), (0.15, 0.3, 0.80, 1.5),
        (0.12, 0.0, 0.87, 0.6), (0.15, -0.3, 0.80, 1.5), (0.05, 0.0, 0.93, 2.0),
    ),
    "figarch": (
        (0.10, 0.4, 0.30), (0.04, 0.5, 0.45), (0.20, 0.2, 0.30), (0.05, 0.7, 0.65), (0.12, 0.7, 0.40), (0.24, 0.5, 0.37),
        (0.08, 0.2, 0.05), (0.00, 0.5, 0.05),
    ),
    "component": (
        (0.99, 0.03, 0.08, 0.80), (0.995, 0.05, 0.10, 0.60), (0.98, 0.08, 0.05, 0.70), (0.998, 0.02, 0.10, 0.85),
        (0.95, 0.10, 0.10, 0.30),
    ),
    "realized": ((0.60, 0.35), (0.80, 0.15), (0.40, 0.50)),
}  # fmt: skip
"""Variance parameters after omega, in their order; the first is the usual start, all are tried and then retried."""
