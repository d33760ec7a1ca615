r"""A Markov-switching model of log realised variance, fitted: its parameters and its filter.

.. math:: \log RV_t - w_{d(t)} = \mu_{s_t} + \sigma_{s_t} e_t,\quad e_t \sim N(0, 1),\quad P(s_{t+1} = j \mid s_t = i) = p_{ij}

s the regime, calm to turbulent by rising mean; w the effect of the weekday d, which sums to 0 over a week (without it the calm regime
is the weekend). Source: Hamilton (1989), Econometrica 57; the filter is that of Hamilton (1994), Time Series Analysis, section 22.4.

In: log variance by day, NaN where it is not known. Out: filtered probabilities, which know nothing of later days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Days = NDArray[np.datetime64]

REGIMES: tuple[str, ...] = ("calm", "normal", "turbulent")
_MONDAY = np.datetime64("1970-01-05", "D")


@dataclass(frozen=True)
class RegimeModel:
    """Parameters of one series with K regimes, in order of rising mean."""

    first_day: np.datetime64  # the filter starts here, from the stationary distribution
    means: Floats  # (K,) of log variance, less the weekday effect
    deviations: Floats  # (K,)
    transition: Floats  # (K, K): row from, column to; rows sum to 1
    weekday: Floats  # (7,) Monday first

    @property
    def stationary(self) -> Floats:
        """(K,) long-run share of each regime: pi = pi P."""
        k = len(self.means)
        equations = np.vstack([np.eye(k) - self.transition.T, np.ones(k)])
        return np.asarray(np.linalg.lstsq(equations, np.append(np.zeros(k), 1.0), rcond=None)[0])

    @property
    def expected_days(self) -> Floats:
        """(K,) 1 / (1 - p_ii): days that a regime lasts on average, and, as it has no memory, days left."""
        return np.asarray(1.0 / np.maximum(1.0 - np.diag(self.transition), 1e-12))

    def adjusted(self, days: Days, log_variance: Floats) -> Floats:
        """(T,) log variance less the effect of its weekday."""
        return np.asarray(log_variance - self.weekday[weekdays(days)])

    def filtered(self, days: Days, log_variance: Floats) -> Floats:
        """(T, K) probability of each regime on each day, given the values up to it; `days` begin at `first_day`.

        A day without a value has the probabilities of the day before, moved on by the transition matrix.
        Raises ValueError when the days do not start where the model's filter starts.
        """
        if days[0] != self.first_day:
            raise ValueError(f"days from {days[0]}: expected from {self.first_day} on")
        return self.continued(self.stationary, self.adjusted(days, log_variance), first=True)

    def continued(self, probability: Floats, adjusted: Floats, *, first: bool = False) -> Floats:
        """(T, K) the filter over further days from `probability` (K,) of the day before; `first`: it is a prior of the first day itself."""
        density = self.log_density(adjusted)
        states = np.empty((len(adjusted), len(self.means)))
        for row in range(len(adjusted)):
            prior = probability if first and row == 0 else self.ahead(probability)
            probability = prior if np.isnan(adjusted[row]) else updated(prior, density[row])
            states[row] = probability
        return states

    def ahead(self, probability: Floats) -> Floats:
        """(K,) probabilities a day on. Not a matrix product: BLAS may round otherwise in another place."""
        return np.asarray((probability[:, None] * self.transition).sum(axis=0))

    def log_density(self, adjusted: Floats) -> Floats:
        """(T, K) log of the normal density of each value in each regime."""
        z = (adjusted[:, None] - self.means) / self.deviations
        return np.asarray(-0.5 * z**2 - np.log(self.deviations) - 0.5 * np.log(2.0 * np.pi))

    def to_json(self) -> str:
        """For storage; `from_json` gives the same model, bit for bit."""
        return json.dumps(
            {
                "first_day": str(self.first_day),
                "regimes": list(REGIMES),
                "means": self.means.tolist(),
                "deviations": self.deviations.tolist(),
                "transition": self.transition.tolist(),
                "weekday": self.weekday.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> RegimeModel:
        """From `to_json`."""
        stored: Mapping[str, Any] = json.loads(text)
        arrays = (
            np.array(stored[name], dtype=np.float64)
            for name in ("means", "deviations", "transition", "weekday")
        )
        return cls(np.datetime64(stored["first_day"], "D"), *arrays)


def updated(prior: Floats, log_density: Floats) -> Floats:
    """(K,) Bayes: prior times density, scaled to 1; in logs, so that no value is too far out."""
    weight = prior * np.exp(log_density - log_density.max())
    total = weight.sum()
    if not total > 0:  # the only regimes that are possible before have density 0 beside the others
        return np.asarray((log_density == log_density.max()).astype(np.float64))
    return np.asarray(weight / total)


def weekdays(days: Days) -> NDArray[np.int64]:
    """(T,) 0 is Monday."""
    since = (days.astype("datetime64[D]") - _MONDAY) / np.timedelta64(1, "D")
    return np.asarray(since.astype(np.int64) % 7)
