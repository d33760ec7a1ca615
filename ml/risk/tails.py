"""The tails of standardised returns: filtered historical simulation.

In: past returns over a horizon, each divided by the volatility that had been forecast for it.
Out: a `TailFit`: the worst of them, for a long and for a short position, from which VaR and ES follow.
Never: a distributional assumption; the forecast carries the scale, history carries the shape.

Source: Barone-Adesi, Giannopoulos and Vosper (1999), "VaR without correlations for portfolios of derivative
securities", Journal of Futures Markets 19. The ES estimator is that of Acerbi and Tasche (2002), "On the coherence
of expected shortfall", Journal of Banking and Finance 26, eq. 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LEVELS: tuple[float, ...] = (0.95, 0.975, 0.99)
MIN_OBSERVATIONS = 60
"""With n < 100 observations the 99 % VaR is the largest loss seen."""

Side = Literal["long", "short"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TailFit:
    """The largest standardised losses of n returns, for each side of a position, largest first."""

    observations: int
    long: tuple[float, ...]  # of -z
    short: tuple[float, ...]  # of +z

    def weights(self, level: float) -> Floats:
        """Weights over the kept losses whose weighted sum is the expected shortfall at `level`.

        With n(1-level) = k + f: 1/(k+f) on the k largest, f/(k+f) on the next.
        """
        beyond, whole = self._beyond(level), self.rank(level)
        weights = np.zeros(len(self.long))
        weights[:whole] = 1.0 / beyond
        weights[whole] = (beyond - whole) / beyond
        return weights

    def value_at_risk(self, level: float, side: Side = "long") -> float:
        """The standardised loss that no more than a share 1 - level of past returns exceeds."""
        return self.losses(side)[self.rank(level)]

    def expected_shortfall(self, level: float, side: Side = "long") -> float:
        """The mean of the share 1 - level of largest standardised losses; never below `value_at_risk`."""
        return float(self.weights(level) @ np.array(self.losses(side)))

    def rank(self, level: float) -> int:
        """Place of the VaR among the losses, 0 the largest: floor(n (1 - level))."""
        return math.floor(self._beyond(level))

    def losses(self, side: Side) -> tuple[float, ...]:
        """The kept losses of one side, largest first."""
        return self.long if side == "long" else self.short

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "observations": self.observations,
            "long": list(self.long),
            "short": list(self.short),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TailFit:
        """From `to_dict`."""
        return cls(int(stored["observations"]), tuple(stored["long"]), tuple(stored["short"]))

    def _beyond(self, level: float) -> float:
        if not LEVELS[0] <= level < 1:
            raise ValueError(
                f"level {level}: expected {LEVELS[0]} to below 1; only that much tail is kept"
            )
        # 1 - 0.95 is 0.0500...04 in binary: without rounding n = 100 would keep a sixth loss at level 0.95.
        return round(self.observations * (1.0 - level), 9)


def fit_tail(standardised_returns: Floats) -> TailFit:
    """The tails of z = return over the horizon / sqrt(horizon * forecast mean daily variance), shape (n,).

    NaN are left out. Raises ValueError with fewer than 60 observations or an infinite one.
    """
    z = np.asarray(standardised_returns, dtype=np.float64).ravel()
    z = np.sort(z[~np.isnan(z)])
    if len(z) < MIN_OBSERVATIONS:
        raise ValueError(f"{len(z)} standardised returns: expected at least {MIN_OBSERVATIONS}")
    if not np.isfinite(z[[0, -1]]).all():
        raise ValueError(f"standardised return {z[~np.isfinite(z)][0]}: expected finite numbers")
    kept = math.floor(round(len(z) * (1.0 - LEVELS[0]), 9)) + 1
    return TailFit(
        observations=len(z),
        long=tuple((-z[:kept]).round(6).tolist()),
        short=tuple(z[::-1][:kept].round(6).tolist()),
    )
