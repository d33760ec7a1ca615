"""GARCH-t and GJR-t by maximum likelihood, eight series a register, thousands of windows a call.

In: one array of returns with a window per problem, in chains that start each window from the one before.
Out: natural parameters, log likelihood and how each fit ended. Never: a result that depends on which series shared a
register, on the number of threads, or on the order of chains.

A lane takes the next window of its chain, or the next chain, as soon as its fit ends. Coordinates are (mu, log omega, a, b,
persistence, log(nu - 2.05)) with a = alpha, b = alpha + gamma (GARCH: without b) under plain bounds; logistic or softmax
coordinates get stuck as persistence nears 1. Each series is scaled to unit variance, and the variance before its first day is
arch's backcast, computed once: weights 0.94 ** k over the first 75 squared demeaned returns.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ml.garch.ascent import (
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
from ml.garch.lanes import INPUTS, STATE, advance_garch, advance_gjr
from ml.garch.simd import LANES
from ml.garch.small import assign
from ml.garch.special import digamma, trigamma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

work_shape = kernel(work_size)

NU_FLOOR = 2.05
"""arch's lower bound for the degrees of freedom; the coordinate is log(nu - NU_FLOOR)."""
NATURAL = 6
"""mu, omega, alpha, gamma, beta, nu: the columns of starts and results."""
BACKCAST_DAYS = 75


def bounds_of(tied: bool) -> tuple[Floats, Floats, Floats]:
    """Normals A and limits c of A x >= c, and the reach of a step, in the coordinates of the module's docstring."""
    a, p = 2, 3 if tied else 4
    size = p + 2
    rows: list[tuple[dict[int, float], float]] = [
        ({1: 1.0}, math.log(1e-8)),
        ({1: -1.0}, -math.log(10.0)),
        ({a: 1.0}, 0.0),
        ({p: -1.0}, -1.0),
        ({p: 1.0, a: -1.0} if tied else {p: 1.0, a: -0.5, a + 1: -0.5}, 0.0),
        ({p + 1: 1.0}, math.log(1e-5)),
        ({p + 1: -1.0}, -math.log(500.0 - NU_FLOOR)),
    ]
    if not tied:
        rows.append(({a + 1: 1.0}, 0.0))
    normals = np.zeros((len(rows), size))
    for row, (entries, _) in enumerate(rows):
        for place, value in entries.items():
            normals[row, place] = value
    reach = np.array([1.0, 2.0, *([0.3] * (p - a)), 0.3, 2.0])
    return normals, np.array([limit for _, limit in rows]), reach


@kernel
def lane_result(
    state: Floats,
    inputs: Floats,
    lane: int,
    width: int,
    days: int,
    tied: bool,
    free_mean: bool,
    score: Floats,
    information: Floats,
) -> float:
    """Log likelihood of one lane, and its score (k,) and expected information (k, k) in the engine's coordinates."""
    omega = inputs[width + lane]
    nu = inputs[6 * width + lane] - 1.0
    g = np.empty(6)
    full = np.empty((6, 6))
    per_h = nu / (2.0 * (nu + 3.0))
    cross = 3.0 / ((nu + 1.0) * (nu - 2.0) * (nu + 3.0))
    place = 11
    for i in range(5):
        g[i] = state[(6 + i) * width + lane]
        full[i, 5] = full[5, i] = cross * state[(26 + i) * width + lane]
        for j in range(i, 5):
            full[i, j] = full[j, i] = per_h * state[place * width + lane]
            place += 1
    g[0] += (nu + 1.0) / (nu - 2.0) * state[32 * width + lane]
    full[0, 0] += (nu + 1.0) * nu / ((nu - 2.0) * (nu + 3.0)) * state[31 * width + lane]
    log_h = state[34 * width + lane] * math.log(2.0) + math.log(state[35 * width + lane])
    log_q = state[36 * width + lane] * math.log(2.0) + math.log(state[37 * width + lane])
    constant = (
        math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * (nu - 2.0))
    )
    slope = 0.5 * (digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu)) - 0.5 / (nu - 2.0)
    g[5] = (
        days * slope
        - 0.5 * (log_q - log_h)
        + 0.5 * (nu + 1.0) / (nu - 2.0) * state[33 * width + lane]
    )
    full[5, 5] = days * (
        0.25 * (trigamma(0.5 * nu) - trigamma(0.5 * (nu + 1.0)))
        - 1.0 / ((nu + 1.0) * (nu - 2.0))
        + nu / (2.0 * (nu - 2.0) ** 2 * (nu + 3.0))
    )
    # To (mu, log omega, a, b, persistence, log(nu - floor)): beta = persistence - (a + b) / 2.
    share = 1.0 if tied else 0.5
    for column in range(6):
        full[2, column] -= share * full[4, column]
        full[3, column] -= share * full[4, column]
        full[1, column] *= omega
        full[5, column] *= nu - NU_FLOOR
    for row in range(6):
        full[row, 2] -= share * full[row, 4]
        full[row, 3] -= share * full[row, 4]
        full[row, 1] *= omega
        full[row, 5] *= nu - NU_FLOOR
    g[2] -= share * g[4]
    g[3] -= share * g[4]
    g[1] *= omega
    g[5] *= nu - NU_FLOOR
    if not free_mean:
        g[0] = 0.0
        for column in range(6):
            full[0, column] = 0.0
            full[column, 0] = 0.0
        full[0, 0] = 1.0
    size = len(score)
    for i in range(size):
        source = i if not tied or i < 3 else i + 1
        score[i] = g[source]
        for j in range(size):
            information[i, j] = full[source, j if not tied or j < 3 else j + 1]
    return float(days * constant + 0.5 * nu * log_h - 0.5 * (nu + 1.0) * log_q)


@kernel
def to_coordinates(natural: Floats, scale: float, tied: bool, point: Floats) -> None:
    """Natural parameters of the unscaled series -> coordinates of the series divided by `scale`, inside the bounds."""
    a = max(natural[2], 0.0)
    b = a if tied else max(natural[2] + natural[3], 0.0)
    beta = max(natural[4], 0.0)
    persistence = 0.5 * (a + b) + beta
    if persistence > 1.0:
        a, b, persistence = a / persistence, b / persistence, 1.0
    point[0] = natural[0] / scale
    point[1] = min(
        max(math.log(max(natural[1] / (scale * scale), 1e-8)), math.log(1e-8)), math.log(10.0)
    )
    point[2] = a
    place = 3
    if not tied:
        point[3] = b
        place = 4
    point[place] = persistence
    point[place + 1] = math.log(min(max(natural[5] - NU_FLOOR, 1e-5), 500.0 - NU_FLOOR))


@kernel
def to_natural(point: Floats, scale: float, tied: bool, natural: Floats) -> None:
    """The way back."""
    place = 3 if tied else 4
    a, b = point[2], point[2] if tied else point[3]
    natural[0] = point[0] * scale
    natural[1] = math.exp(point[1]) * scale * scale
    natural[2] = a
    natural[3] = b - a
    natural[4] = max(point[place] - 0.5 * (a + b), 0.0)
    natural[5] = NU_FLOOR + math.exp(point[place + 1])


@kernel
def load_series(
    values: Floats,
    offset: int,
    days: int,
    series: Floats,
    lane: int,
    width: int,
    free_mean: bool,
    facts: Floats,
) -> None:
    """Copy a window into its lane at unit variance; facts become (scale, mean, backcast) with the last two scaled."""
    total, squares = 0.0, 0.0
    for t in range(days):
        total += values[offset + t]
    mean = total / days if free_mean else 0.0
    for t in range(days):
        squares += (values[offset + t] - mean) ** 2
    scale = math.sqrt(squares / days)
    if not scale > 0.0:
        scale = 1.0
    weight, weights, backcast = 1.0, 0.0, 0.0
    for t in range(min(BACKCAST_DAYS, days)):
        backcast += weight * (values[offset + t] - mean) ** 2
        weights += weight
        weight *= 0.94
    inverse = 1.0 / scale
    for t in range(days):
        series[width * t + lane] = values[offset + t] * inverse
    facts[0] = scale
    facts[1] = mean * inverse
    facts[2] = backcast / weights * inverse * inverse


@kernel
def set_inputs(
    point: Floats, tied: bool, inputs: Floats, state: Floats, lane: int, width: int, backcast: float
) -> None:
    """Parameters of a lane and its state before the first day."""
    place = 3 if tied else 4
    omega, a, b = math.exp(point[1]), point[2], point[2] if tied else point[3]
    persistence, nu = point[place], NU_FLOOR + math.exp(point[place + 1])
    inputs[lane] = point[0]
    inputs[width + lane] = omega
    inputs[2 * width + lane] = a
    inputs[3 * width + lane] = b
    inputs[4 * width + lane] = persistence - 0.5 * (a + b)
    inputs[5 * width + lane] = 1.0 / (nu - 2.0)
    inputs[6 * width + lane] = nu + 1.0
    for row in range(STATE):
        state[row * width + lane] = 0.0
    state[lane] = omega + persistence * backcast
    state[2 * width + lane] = 1.0
    state[3 * width + lane] = backcast if tied else 0.5 * backcast
    state[4 * width + lane] = 0.5 * backcast
    state[5 * width + lane] = backcast
    state[35 * width + lane] = 1.0
    state[37 * width + lane] = 1.0


@kernel
def fit_chains(
    values: Floats,
    offsets: Ints,
    lengths: Ints,
    starts: Floats,
    chain_first: Ints,
    chain_stop: Ints,
    tied: bool,
    free_mean: bool,
    normals: Floats,
    limits: Floats,
    reach: Floats,
    tolerance: float,
    max_evaluations: int,
    found: Floats,
    facts_found: Floats,
    endings: Ints,
) -> None:
    """Fit problems chain_first[c] .. chain_stop[c] - 1 of each chain in order.

    `starts` (P, 6): natural start values; where the first is NaN, the solution before it in its chain.
    Writes `found` (P, 6), `facts_found` (P, 3): log likelihood, gain left, evaluations, and `endings` (P,).
    """
    size = len(reach)
    longest = 0
    for problem in range(len(lengths)):
        longest = max(longest, lengths[problem])
    series = np.zeros(LANES * longest)
    inputs, state = np.zeros(INPUTS * LANES), np.zeros(STATE * LANES)
    points, scores = np.zeros((LANES, size)), np.zeros((LANES, size))
    trials, informations = np.zeros((LANES, size)), np.zeros((LANES, size, size))
    memos, facts = np.zeros((LANES, 5)), np.ones((LANES, 3))
    trial_score, trial_information = np.zeros(size), np.zeros((size, size))
    rows, columns = work_shape(size, len(limits))
    work = np.zeros((rows, columns))
    chain_of, problem_of = np.full(LANES, -1), np.full(LANES, -1)
    running = 0
    next_chain = 0
    previous = np.empty(NATURAL)
    for lane in range(LANES):
        benign = np.array([0.0, -3.0, 0.05, 0.05, 0.9, 1.0])
        set_inputs(benign, False, inputs, state, lane, LANES, 1.0)
    fresh = np.ones(LANES, np.bool_)
    while True:
        for lane in range(LANES):
            if not fresh[lane]:
                continue
            fresh[lane] = False
            problem = problem_of[lane] + 1
            if chain_of[lane] < 0 or problem >= chain_stop[chain_of[lane]]:
                if chain_of[lane] >= 0:
                    running -= 1
                chain_of[lane] = -1
                while (
                    next_chain < len(chain_first)
                    and chain_first[next_chain] >= chain_stop[next_chain]
                ):
                    next_chain += 1
                if next_chain >= len(chain_first):
                    continue
                chain_of[lane] = next_chain
                problem = chain_first[next_chain]
                next_chain += 1
                running += 1
            problem_of[lane] = problem
            load_series(
                values,
                offsets[problem],
                lengths[problem],
                series,
                lane,
                LANES,
                free_mean,
                facts[lane],
            )
            if np.isnan(starts[problem, 0]):
                assign(previous, found[problem - 1])
            else:
                assign(previous, starts[problem])
            if not free_mean:
                previous[0] = 0.0
            to_coordinates(previous, facts[lane, 0], tied, trials[lane])
            begin(memos[lane])
        if running == 0:
            return
        for lane in range(LANES):
            if chain_of[lane] >= 0:
                set_inputs(trials[lane], tied, inputs, state, lane, LANES, facts[lane, 2])
        position = longest - longest  # not a constant: it would compile the pass twice
        while True:
            stop = longest + 1
            for lane in range(LANES):
                if chain_of[lane] >= 0 and position < lengths[problem_of[lane]] < stop:
                    stop = lengths[problem_of[lane]]
            if stop > longest:
                break
            if tied:
                advance_garch(series, inputs, state, position, stop)
            else:
                advance_gjr(series, inputs, state, position, stop)
            position = stop
            for lane in range(LANES):
                problem = problem_of[lane]
                if chain_of[lane] < 0 or lengths[problem] != stop:
                    continue
                likelihood = lane_result(
                    state,
                    inputs,
                    lane,
                    LANES,
                    stop,
                    tied,
                    free_mean,
                    trial_score,
                    trial_information,
                )
                ending = advance(
                    likelihood, trial_score, trial_information, points[lane], scores[lane],
                    informations[lane], trials[lane], memos[lane], normals, limits, reach,
                    tolerance, max_evaluations, work,
                )  # fmt: skip
                if ending == RUNNING:
                    continue
                if ending == NOT_FINITE:
                    assign(points[lane], trials[lane])
                to_natural(points[lane], facts[lane, 0], tied, found[problem])
                facts_found[problem, 0] = memos[lane, LIKELIHOOD] - stop * math.log(facts[lane, 0])
                facts_found[problem, 1] = memos[lane, GAIN]
                facts_found[problem, 2] = memos[lane, EVALUATIONS]
                endings[problem] = ending
                fresh[lane] = True
