r"""How likely at least one rare day is in the next h days: a pooled, self-exciting logistic regression.

.. math:: \log\frac{p_{it}}{1 - p_{it}} = \log\frac{b_i}{1 - b_i} + \alpha + \gamma' x_{it}

b_i the coin's own share of such horizons in the training window, drawn to that of all coins; x: decayed counts of the coin's and of all coins' past
rare days (half-lives of 3 and 22 days), variance of the day and the month against longer means, and the weekend days in the horizon. Past jumps that
raise the odds of further ones, within a coin and across coins, are those of Ait-Sahalia, Cacho-Diaz and Laeven (2015), "Modeling financial contagion
using mutually exciting jump processes", Journal of Financial Economics 117, in discrete time.

In: rare days and measures, by day and coin, up to the training day. Out: a `RareRisk`. Never: a probability without its base rate and its skill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.tails.rare_days import LOOKBACK_DAYS, any_ahead

Floats = NDArray[np.float64]

HALF_LIVES: tuple[int, ...] = (3, 22)
MEMORY_DAYS = 110
"""Days that a decayed count goes back, five half-lives of the longer: what is dropped weighs 3 %."""
NEEDED_DAYS = MEMORY_DAYS + LOOKBACK_DAYS + 2
"""Rows up to a day that its probability is made from; more change nothing."""
COVARIATES: tuple[str, ...] = (
    "own_3", "own_22", "market_3", "market_22", "day_over_month", "month_over_quarter", "weekend_share",
)  # fmt: skip
SHRINK_DAYS = 100.0
"""Coin-days of the average coin that each coin's base rate is mixed with."""
FEWEST_EVENTS = 30
"""Horizons with a rare day that a fit needs; seven coefficients want four events each at least."""
FEWEST_COIN_DAYS = 500
RIDGE = 1.0
"""Penalty on coefficients of standardised covariates: a prior of variance 1, a factor of e in the odds a deviation."""
HELD_OUT = 0.25
"""Last share of the window, that the skill is measured on by a fit on what came before it."""
_BOOTSTRAPS, _SEED = 500, 20240101


@dataclass(frozen=True)
class RareRisk:
    """A fit. `coefficients` follow `COVARIATES`; `skill` is 1 - Brier / Brier of the base rate, on the held-out end of the window."""

    horizon: int
    centre: Floats
    scale: Floats
    intercept: float
    coefficients: Floats
    pooled_rate: float
    base_rates: dict[str, float]
    coin_days: int
    events: int
    skill: float
    skill_low_95: float
    skill_high_95: float
    brier: float
    brier_base: float
    held_out_days: int

    def base_rate(self, asset: str) -> float:
        """The coin's share of horizons with such a day in the window; that of all coins for a coin it has not seen."""
        return self.base_rates.get(asset, self.pooled_rate)

    def probability(self, asset: str, covariates: Floats) -> float:
        """What is published, from covariates (P,) of one coin and day: the base rate where the skill is not above 0."""
        return self.regression(asset, covariates) if self.has_skill else self.base_rate(asset)

    def regression(self, asset: str, covariates: Floats) -> float:
        """The regression's probability; the base rate where a covariate is missing."""
        base = self.base_rate(asset)
        if not np.isfinite(covariates).all():
            return base
        z = (covariates - self.centre) / self.scale
        total = _logit(base) + self.intercept
        for value, coefficient in zip(z, self.coefficients, strict=True):
            total += value * coefficient
        return float(1.0 / (1.0 + np.exp(-total)))

    @property
    def has_skill(self) -> bool:
        """Whether it did better than the base rate on days that it had not seen."""
        return self.skill > 0

    def to_json(self) -> str:
        """What `from_json` needs."""
        return json.dumps(
            {
                "covariates": list(COVARIATES),
                "centre": self.centre.tolist(),
                "scale": self.scale.tolist(),
                "intercept": self.intercept,
                "coefficients": self.coefficients.tolist(),
                "pooled_rate": self.pooled_rate,
                "base_rates": self.base_rates,
            }
        )

    @classmethod
    def from_json(cls, text: str, horizon: int, figures: Mapping[str, float]) -> RareRisk:
        """From `to_json` and the figures that are stored beside it, by name."""
        stored = json.loads(text)
        return cls(
            horizon=horizon,
            centre=np.array(stored["centre"]),
            scale=np.array(stored["scale"]),
            intercept=float(stored["intercept"]),
            coefficients=np.array(stored["coefficients"]),
            pooled_rate=float(stored["pooled_rate"]),
            base_rates={str(name): float(rate) for name, rate in stored["base_rates"].items()},
            coin_days=int(figures["coin_days"]),
            events=int(figures["events"]),
            held_out_days=int(figures["held_out_days"]),
            **{
                name: float(figures[name])
                for name in ("skill", "skill_low_95", "skill_high_95", "brier", "brier_base")
            },
        )


def covariates(measures: Mapping[str, Floats], rare: Floats, horizon: int) -> Floats:
    """(T, N, P) in the order of `COVARIATES`; each row reads itself and the `NEEDED_DAYS` before it."""
    own = {half: _decayed(rare, half) for half in HALF_LIVES}
    market = {
        half: np.broadcast_to(_mean_of_known(values, rare)[:, None], rare.shape)
        for half, values in own.items()
    }
    if horizon == 1:
        weekend = np.where(
            np.isnan(measures["target_weekday"]), np.nan, measures["target_weekday"] >= 5
        )
    else:
        weekend = measures[f"target_weekend_share_{horizon}"]
    with np.errstate(divide="ignore", invalid="ignore"):
        day = np.log(measures["rv_d"] / measures["rv_22d"])
        month = np.log(measures["rv_22d"] / measures["rv_66d"])
    parts = [*own.values(), *market.values(), day, month, weekend]
    return np.stack([np.where(np.isfinite(part), part, np.nan) for part in parts], axis=-1)


def fit_rare_risk(assets: tuple[str, ...], x: Floats, rare: Floats, horizon: int) -> RareRisk | str:
    """A fit on covariates (T, N, P) and rare days (T, N) up to the training day, or the reason why there is none.

    No target ends after the last row. Deterministic: the same rows give the same fit.
    """
    target = any_ahead(rare, horizon)
    given = np.isfinite(target) & np.isfinite(x).all(axis=-1)
    coin_days, events = int(given.sum()), int(target[given].sum())
    if coin_days < FEWEST_COIN_DAYS or events < FEWEST_EVENTS or coin_days - events < FEWEST_EVENTS:
        return (
            f"{events} of {coin_days} coin-days were followed by one: expected at least {FEWEST_EVENTS} with, "
            f"{FEWEST_EVENTS} without, and {FEWEST_COIN_DAYS} in all"
        )
    skill = _held_out(x, target, given, horizon)
    if isinstance(skill, str):
        return skill
    pooled, rates = _base_rates(target, given)
    centre, scale, intercept, coefficients = _fit(x, target, given, rates)
    return RareRisk(
        horizon, centre, scale, intercept, coefficients, pooled,
        dict(zip(assets, rates.tolist(), strict=True)), coin_days, events, **skill,
    )  # fmt: skip


def logistic(x: Floats, y: Floats, offset: Floats, ridge: float) -> tuple[float, Floats]:
    """Intercept and coefficients (P,) of y (n,) in {0, 1} on x (n, P), by Newton steps that are halved
    until the likelihood rises; the intercept is not penalised."""
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.append(0.0, np.full(x.shape[1], ridge))
    beta = np.zeros(design.shape[1])
    value = _penalised(design, y, offset, penalty, beta)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-(design @ beta + offset)))
        gradient = design.T @ (y - p) - penalty * beta
        hessian = (design * (p * (1.0 - p))[:, None]).T @ design + np.diag(penalty)
        step, after = np.linalg.lstsq(hessian, gradient, rcond=None)[0], value
        while np.abs(step).max() > 1e-12:  # halved until the likelihood does not fall
            after = _penalised(design, y, offset, penalty, beta + step)
            if after >= value:
                break
            step = 0.5 * step
        beta, before, value = beta + step, value, after
        if np.abs(step).max() < 1e-9 or value - before < 1e-12 * abs(value):
            break
    return float(beta[0]), np.asarray(beta[1:])


def _penalised(design: Floats, y: Floats, offset: Floats, penalty: Floats, beta: Floats) -> float:
    """Log likelihood less the penalty."""
    odds = design @ beta + offset
    return float((y * odds - np.logaddexp(0.0, odds)).sum() - 0.5 * penalty @ beta**2)


def _fit(
    x: Floats, target: Floats, given: NDArray[np.bool_], rates: Floats
) -> tuple[Floats, Floats, float, Floats]:
    rows, columns = np.nonzero(given)
    known = x[rows, columns]
    centre, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    offset = np.array([_logit(rate) for rate in rates])[columns]
    intercept, beta = logistic((known - centre) / scale, target[rows, columns], offset, RIDGE)
    return centre, scale, intercept, beta


def _held_out(
    x: Floats, target: Floats, given: NDArray[np.bool_], horizon: int
) -> dict[str, Any] | str:
    """Brier scores on the last quarter of the rows by a fit on the rows before it whose targets had ended."""
    days = np.flatnonzero(given.any(axis=1))
    first = days[0] + int((1.0 - HELD_OUT) * (days[-1] - days[0] + 1))
    before, after = given.copy(), given.copy()
    before[max(first - horizon, 0) :] = False
    after[:first] = False
    if min(target[before].sum(), (1 - target[before]).sum()) < FEWEST_EVENTS / 2 or not after.any():
        return f"{int(target[before].sum())} rare horizons before the held-out quarter: expected at least {FEWEST_EVENTS // 2}"
    _, rates = _base_rates(target, before)
    centre, scale, intercept, beta = _fit(x, target, before, rates)
    rows, columns = np.nonzero(after)
    base = rates[columns]
    odds = np.log(base / (1.0 - base)) + intercept + (x[rows, columns] - centre) / scale @ beta
    y = target[rows, columns]
    own = (1.0 / (1.0 + np.exp(-odds)) - y) ** 2
    flat = (base - y) ** 2
    by_day = np.zeros((2, len(given)))
    np.add.at(by_day[0], rows, own)
    np.add.at(by_day[1], rows, flat)
    low, high = _skill_interval(by_day[:, first:], horizon)
    return {
        "skill": float(1.0 - own.sum() / flat.sum()),
        "skill_low_95": low,
        "skill_high_95": high,
        "brier": float(own.mean()),
        "brier_base": float(flat.mean()),
        "held_out_days": int(after.any(axis=1).sum()),
    }


def _skill_interval(by_day: Floats, horizon: int) -> tuple[float, float]:
    """2.5 and 97.5 % of the skill over resampled blocks of days (all coins of a day together), as long as twice the horizon or 10 days."""
    days, block = by_day.shape[1], max(10, 2 * horizon)
    if days < 3 * block:
        return np.nan, np.nan
    generator = np.random.default_rng(_SEED)
    starts = generator.integers(0, days, size=(_BOOTSTRAPS, -(-days // block)))
    at = (starts[..., None] + np.arange(block)) % days
    sums = by_day[:, at.reshape(_BOOTSTRAPS, -1)[:, :days]].sum(axis=-1)  # (2, bootstraps)
    low, high = np.quantile(1.0 - sums[0] / sums[1], [0.025, 0.975])
    return float(low), float(high)


def _base_rates(target: Floats, given: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Share of all coins, and (N,) of each, mixed with `SHRINK_DAYS` days of the average coin."""
    hits, count = np.where(given, target, 0.0).sum(axis=0), given.sum(axis=0)
    pooled = float(hits.sum() / count.sum())
    return pooled, np.asarray((hits + SHRINK_DAYS * pooled) / (count + SHRINK_DAYS))


def _decayed(rare: Floats, half_life: int) -> Floats:
    """(T, N) sum of 2^(-k/half-life) over rare days k days ago, k = 0 .. `MEMORY_DAYS`; an unknown day counts as none."""
    known = np.nan_to_num(rare)
    total = np.zeros(rare.shape)
    for lag in range(min(MEMORY_DAYS, len(rare) - 1) + 1):
        total[lag:] += 0.5 ** (lag / half_life) * known[: len(known) - lag]
    return total


def _mean_of_known(values: Floats, rare: Floats) -> Floats:
    """(T,) mean over the coins that the day is known of; coins are added in order, so that a day alone gives the same digits."""
    known = np.isfinite(rare)
    total = np.zeros(len(values))
    for column in range(values.shape[1]):
        total += np.where(known[:, column], values[:, column], 0.0)
    count = known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _logit(rate: float) -> float:
    return float(np.log(rate / (1.0 - rate)))
