"""Fitting the regimes of one series: EM from a fixed start, finished and judged by statsmodels, refused where it is no model of regimes.

In: log variance of the days of a training window. Out: a `RegimeFit`: a `RegimeModel`, or the reason why there is none.
Never: a fit that did not converge, or whose regimes are single days, one another, or noise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from ml.regimes.em import maximise
from ml.regimes.model import REGIMES, Days, Floats, RegimeModel, weekdays

FEWEST_DAYS = 365
"""Known days: a year, so that each weekday has 52 and a regime of 3 % of the days more than ten."""
FEWEST_SHARE = 0.03
"""Least share of days in a regime: fewer are outliers, not a regime."""
SHORTEST_STAY = 2.0
"""Least expected days of a stay; 1 / (1 - p_ii) of independent days is below it for a regime of less than half of them."""
CLOSEST = 0.5
"""Least distance of neighbouring means in root mean variances of the two: below it they are one regime in two parts."""
NARROWEST = 0.1
"""Floor of a regime's standard deviation, in standard deviations of the series: on it the regime clings to single values."""
START_STAY = 0.95
_KEEP = len(REGIMES)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EM_TOLERANCE, _EM_STEPS = 1e-9, 3000


@dataclass(frozen=True)
class RegimeFit:
    """What a fit gave; `model` is None where it is refused, and `reason` says why ('' where it is not)."""

    model: RegimeModel | None
    log_likelihood: float
    converged: bool
    days: int  # known days that it was fitted on
    reason: str


def fit_regimes(days: Days, log_variance: Floats) -> RegimeFit:
    """Three regimes of `log_variance` (T,) on consecutive `days` (T,), NaN where it is not known.

    The start is fixed (thirds of the sorted values, stays of 20 days), so the same values give the same fit. EM climbs from it,
    then BFGS of statsmodels' MarkovRegression, whose likelihood and verdict of convergence count. Raises ValueError on an infinite value.
    """
    values = np.asarray(log_variance, dtype=np.float64)
    if np.isinf(values).any():
        raise ValueError(f"log variance {values[np.isinf(values)][0]}: expected finite numbers")
    known = np.isfinite(values)
    if known.sum() < FEWEST_DAYS:
        reason = f"{int(known.sum())} known days in the window: expected at least {FEWEST_DAYS}"
        return RegimeFit(None, np.nan, False, int(known.sum()), reason)
    first, last = np.flatnonzero(known)[[0, -1]]
    days, values = days[first : last + 1], values[first : last + 1]
    if absent := _weekdays_without_value(days, values):
        reason = f"no known value on any {' or '.join(absent)}: expected some of each weekday"
        return RegimeFit(None, np.nan, False, int(known.sum()), reason)
    effects = _weekday_effects(days, values)
    y = values - effects[weekdays(days)]
    spread = float(np.nanstd(y))
    if not spread > 0:
        reason = f"log variance is {np.nanmean(y):g} on every day: expected it to vary"
        return RegimeFit(None, np.nan, False, int(known.sum()), reason)
    transition, means, deviations = _start(y)
    _, transition, means, deviations, steps = maximise(
        y, transition, means, deviations, NARROWEST * spread, _EM_TOLERANCE, _EM_STEPS
    )
    order = np.argsort(means, kind="stable")
    found = RegimeModel(
        days[0], means[order], deviations[order], transition[np.ix_(order, order)], effects
    )
    fit = RegimeFit(found, np.nan, steps < _EM_STEPS, int(known.sum()), "")
    if reason := _degenerate(found, spread):
        return replace(fit, model=None, reason=reason)
    return _judged(_finished(found, y, fit), y, spread)


def masked_regression(y: Floats) -> MarkovRegression:
    """statsmodels' model of y (T,) with switching mean and variance, for which a NaN in y says nothing."""
    missing = np.isnan(y)

    filled = np.where(missing, np.nanmean(y), y)
    regression = MarkovRegression(filled, k_regimes=_KEEP, trend="c", switching_variance=True)
    density = regression._conditional_loglikelihoods

    def masked(params: Floats) -> Floats:
        given = np.array(density(params))
        given[..., missing] = 0.0
        return given

    regression._conditional_loglikelihoods = masked
    return regression


def as_parameters(model: RegimeModel) -> Floats:
    """In statsmodels' order: transition to each regime but the last, by column; means; variances."""
    return np.concatenate(
        [model.transition[:, :-1].T.ravel(), model.means, np.square(model.deviations)]
    )


def _finished(found: RegimeModel, y: Floats, fit: RegimeFit) -> RegimeFit:
    regression = masked_regression(y)
    k = _KEEP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = regression.fit(
                start_params=as_parameters(_inside(found)), em_iter=0, disp=False, cov_type="none"
            )
        except (ValueError, np.linalg.LinAlgError) as error:
            return replace(fit, model=None, converged=False, reason=f"statsmodels: {error}")
    params = np.asarray(result.params)
    to_all_but_last = params[: k * (k - 1)].reshape(k - 1, k).T
    transition = np.column_stack([to_all_but_last, 1.0 - to_all_but_last.sum(axis=1)])
    means, deviations = params[-2 * k : -k], np.sqrt(params[-k:])
    order = np.argsort(means, kind="stable")
    model = replace(
        found,
        means=means[order],
        deviations=deviations[order],
        transition=transition[np.ix_(order, order)],
    )
    converged = bool(result.mle_retvals["converged"])
    return replace(fit, model=model, log_likelihood=float(result.llf), converged=converged)


def _inside(model: RegimeModel) -> RegimeModel:
    """With probabilities off 0 and 1, where BFGS's scale ends."""
    transition = np.clip(model.transition, 1e-6, None)
    return replace(model, transition=transition / transition.sum(axis=1, keepdims=True))


def _judged(fit: RegimeFit, y: Floats, spread: float) -> RegimeFit:
    """The fit, or its refusal."""
    if fit.model is None:
        return fit
    reason = _degenerate(fit.model, spread)
    known = y[np.isfinite(y)]
    single = -0.5 * len(known) * (np.log(2.0 * np.pi * known.var()) + 1.0)
    more = _KEEP * (_KEEP - 1) + 2 * _KEEP - 2
    gain = 2.0 * (fit.log_likelihood - single) - more * np.log(len(known))
    if not np.isfinite(fit.log_likelihood) or not fit.converged:
        reason = f"no maximum found: log likelihood {fit.log_likelihood:.2f} after EM and BFGS"
    elif not reason and not gain > 0:
        reason = f"no better than one regime: BIC {-gain:.1f} above it"
    return replace(fit, model=None, reason=reason) if reason else fit


def _degenerate(model: RegimeModel, spread: float) -> str:
    """Why these are not three regimes; '' where they are."""
    numbers = (model.means, model.deviations, model.transition)
    if not all(np.isfinite(values).all() for values in numbers):
        return "degenerate: a parameter is not a number"
    shares, stays = model.stationary, model.expected_days
    for name, deviation, share, stay in zip(REGIMES, model.deviations, shares, stays, strict=True):
        if deviation <= 1.01 * NARROWEST * spread:
            return (
                f"degenerate: the {name} regime's deviation {deviation:.3g} clings to single values"
            )
        if share < FEWEST_SHARE:
            return f"degenerate: {100 * share:.1f} % of days are {name}, expected at least {100 * FEWEST_SHARE:g} %"
        if stay < SHORTEST_STAY:
            return f"degenerate: a {name} stay lasts {stay:.1f} days, expected at least {SHORTEST_STAY:g}"
    apart = np.diff(model.means) / np.sqrt(
        0.5 * (model.deviations[1:] ** 2 + model.deviations[:-1] ** 2)
    )
    if apart.min() < CLOSEST:
        at = int(apart.argmin())
        return (
            f"degenerate: {REGIMES[at]} and {REGIMES[at + 1]} lie {apart[at]:.2f} deviations apart, "
            f"expected at least {CLOSEST:g}"
        )
    return ""


def _start(y: Floats) -> tuple[Floats, Floats, Floats]:
    known = np.sort(y[np.isfinite(y)])
    thirds: list[NDArray[np.float64]] = np.array_split(known, _KEEP)
    transition = np.full((_KEEP, _KEEP), (1.0 - START_STAY) / (_KEEP - 1))
    np.fill_diagonal(transition, START_STAY)
    means = np.array([third.mean() for third in thirds])
    return transition, means, np.full(_KEEP, np.sqrt(0.5 * known.var()))


def _weekdays_without_value(days: Days, values: Floats) -> list[str]:
    """Names of the weekdays whose effect cannot be told."""
    count = np.bincount(weekdays(days)[np.isfinite(values)], minlength=7)
    return [name for name, known in zip(_WEEKDAYS, count, strict=True) if not known]


def _weekday_effects(days: Days, values: Floats) -> Floats:
    """(7,) mean of each weekday less the mean of the seven."""
    place = weekdays(days)
    means = np.array([np.nanmean(values[place == weekday]) for weekday in range(7)])
    return np.asarray(means - means.mean())
