"""Any member of the family by maximum likelihood, one window at a time: the readable engine beside `ml.garch.fast`.

In: windows of returns (and of exogenous terms and realised measures), start values, a member's layout.
Out: parameters, log likelihood and how each fit ended. Never: more than one thread.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.ascent import (
    CONVERGED,
    EVALUATIONS,
    GAIN,
    LIKELIHOOD,
    NOT_FINITE,
    RUNNING,
    advance,
    begin,
    work_size,
)
from ml.garch.jit import kernel
from ml.garch.likelihood import (
    LAGS,
    MEAN,
    OWN,
    TERMS,
    VARIANCE,
    chain_rule,
    likelihood,
    prepare,
    to_natural,
)
from ml.garch.paths import APARCH, EGARCH
from ml.garch.small import assign, variance_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

scratch = kernel(work_size)

KINK_ROUNDS, KINK_PATIENCE = 12, 60
KINK_PROBES = np.array(
    [sign * size for size in (0.01, 0.03, 0.06, *np.arange(0.125, 2.01, 0.125)) for sign in (-1, 1)]
)
"""Moves of the mean, in its standard deviations, that are tried where the climb is stuck on a kink."""


@kernel
def climb(
    layout: Ints,
    returns: Floats,
    slopes: Floats,
    terms: Floats,
    measure: Floats,
    backcast: float,
    initial: int,
    hold_mean: bool,
    mixing: Floats,
    logs: Floats,
    shifts: Floats,
    normals: Floats,
    limits: Floats,
    reach: Floats,
    tolerance: float,
    max_evaluations: int,
    trial: Floats,
    point: Floats,
    score: Floats,
    information: Floats,
    memo: Floats,
) -> int:
    """From `trial` to a maximum: fills `point` and `memo`; with `hold_mean` the mean's parameters stay where they are."""
    size, days, mean = len(trial), len(returns), layout[MEAN]
    path = np.empty(days + 1)
    sensitivity = np.empty((days + 1, mean + layout[OWN] + layout[TERMS]))
    trial_score, trial_information = np.zeros(size), np.zeros((size, size))
    theta, jacobian, daily = np.zeros(size), np.zeros((size, size)), np.zeros((0, size))
    rows, columns = scratch(size, len(limits))
    work = np.zeros((rows, columns))
    begin(memo)
    ending = RUNNING
    while ending == RUNNING:
        to_natural(mixing, logs, shifts, trial, theta)
        value = likelihood(
            layout, returns, slopes, terms, measure, theta, backcast, initial,
            path, sensitivity, trial_score, trial_information, daily,
        )  # fmt: skip
        chain_rule(mixing, logs, trial, trial_score, trial_information, jacobian)
        if hold_mean:
            for j in range(mean):
                trial_score[j] = 0.0
                for i in range(size):
                    trial_information[i, j] = 0.0
                    trial_information[j, i] = 0.0
                trial_information[j, j] = 1.0
        ending = advance(
            value, trial_score, trial_information, point, score, information, trial, memo,
            normals, limits, reach, tolerance, max_evaluations, work,
        )  # fmt: skip
    return ending


@kernel
def fit_windows(
    layout: Ints,
    values: Floats,
    all_terms: Floats,
    all_measure: Floats,
    offsets: Ints,
    lengths: Ints,
    starts: Floats,
    chain_first: Ints,
    chain_stop: Ints,
    mixing: Floats,
    logs: Floats,
    shifts: Floats,
    normals: Floats,
    limits: Floats,
    limit_scales: Floats,
    reach: Floats,
    initial: int,
    tolerance: float,
    max_evaluations: int,
    found: Floats,
    facts: Floats,
    endings: Ints,
) -> None:
    """Fit the windows of each chain in order.

    `starts` (P, S, k): coordinates; the best of the S is climbed from; NaN = the solution before it in the chain.
    Bounds are normals @ x >= limits + limit_scales * log(variance). Writes `found` (P, k) coordinates, `facts` (P, 4):
    log likelihood, gain left, evaluations, backcast, and `endings` (P,).
    """
    size = starts.shape[2]
    free, held = layout[MEAN] < 0, layout[MEAN] >= 0  # constants would compile the climb twice
    kinked = layout[MEAN] > 0 and (layout[VARIANCE] == EGARCH or layout[VARIANCE] == APARCH)
    nothing = np.zeros((0, size))
    point, score, information = np.zeros(size), np.zeros(size), np.zeros((size, size))
    trial, trial_score, trial_information = np.zeros(size), np.zeros(size), np.zeros((size, size))
    theta, memo, daily, bounds = (
        np.zeros(size),
        np.zeros(5),
        np.zeros((0, size)),
        np.zeros(len(limits)),
    )
    for chain in range(len(chain_first)):
        for problem in range(chain_first[chain], chain_stop[chain]):
            days = lengths[problem] - layout[LAGS]
            returns, slopes = np.empty(days), np.empty((days, layout[MEAN]))
            terms, measure = np.empty((days, layout[TERMS])), np.zeros(days)
            path = np.empty(days + 1)
            sensitivity = np.empty((days + 1, layout[MEAN] + layout[OWN] + layout[TERMS]))
            backcast = prepare(
                layout, values, all_terms, all_measure, offsets[problem], lengths[problem],
                returns, slopes, terms, measure,
            )  # fmt: skip
            scale = math.log(max(variance_of(returns), 1e-300))
            for row in range(len(limits)):
                bounds[row] = limits[row] + limit_scales[row] * scale
            best, evaluations = -np.inf, 0.0
            if np.isnan(starts[problem, 0, 0]):
                assign(trial, found[problem - 1])
            else:
                assign(trial, starts[problem, 0])
            if starts.shape[1] > 1:
                for number in range(starts.shape[1]):
                    if np.isnan(starts[problem, number, 0]):
                        break
                    to_natural(mixing, logs, shifts, starts[problem, number], theta)
                    value = likelihood(
                        layout, returns, slopes, terms, measure, theta, backcast, initial,
                        path, sensitivity, trial_score, trial_information, daily,
                    )  # fmt: skip
                    evaluations += 1.0
                    if value > best:
                        best = value
                        assign(trial, starts[problem, number])
            ending = climb(
                layout, returns, slopes, terms, measure, backcast, initial, free, mixing, logs, shifts, normals, bounds,
                reach, tolerance, min(max_evaluations, KINK_PATIENCE) if kinked else max_evaluations,
                trial, point, score, information, memo,
            )  # fmt: skip
            evaluations += memo[EVALUATIONS]
            cusped = layout[VARIANCE] == APARCH and layout[MEAN] > 0
            if (kinked and ending != CONVERGED and ending != NOT_FINITE) or cusped:
                # The likelihood has a kink in the mean at every return: search the mean, climb in all else.
                for _ in range(KINK_ROUNDS):
                    assign(trial, point)
                    ending = climb(
                        layout, returns, slopes, terms, measure, backcast, initial, held, mixing, logs, shifts,
                        normals, bounds, reach, tolerance, max_evaluations, trial, point, score, information, memo,
                    )  # fmt: skip
                    evaluations += memo[EVALUATIONS]
                    if ending != CONVERGED:
                        break
                    before = memo[LIKELIHOOD]
                    for j in range(layout[MEAN]):
                        deviation = (math.exp(0.5 * scale) if j == 0 else 1.0) / math.sqrt(days)
                        centre = point[j]
                        for probe in KINK_PROBES:
                            assign(trial, point)
                            trial[j] = centre + probe * deviation
                            to_natural(mixing, logs, shifts, trial, theta)
                            value = likelihood(
                                layout, returns, slopes, terms, measure, theta, backcast, initial,
                                path, sensitivity, trial_score, nothing, nothing,
                            )  # fmt: skip
                            evaluations += 1.0
                            if value > memo[LIKELIHOOD]:
                                memo[LIKELIHOOD] = value
                                point[j] = trial[j]
                    if memo[LIKELIHOOD] < before + 1e-4:
                        break
            if ending == NOT_FINITE:
                assign(found[problem], trial)
            else:
                assign(found[problem], point)
            facts[problem, 0], facts[problem, 1] = memo[LIKELIHOOD], memo[GAIN]
            facts[problem, 2], facts[problem, 3] = evaluations, backcast
            endings[problem] = ending
