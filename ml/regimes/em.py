r"""Expectation-maximisation of a Gaussian Markov-switching model: from a start to where the likelihood no longer rises.

In: values, NaN where there is none, and starting parameters. Out: parameters and log likelihood. A value that is missing says nothing about its
regime, and the chain moves on over it. Standard deviations are kept above a floor: a regime that shrinks onto one value has infinite likelihood.

Source: Hamilton (1990), "Analysis of time series subject to changes in regime", Journal of Econometrics 45.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True, error_model="numpy")
def expectation(
    y: Floats, initial: Floats, transition: Floats, means: Floats, deviations: Floats
) -> tuple[float, Floats, Floats]:
    """Log likelihood, (T, K) smoothed probabilities and (K, K) expected transitions."""
    count, k = len(y), len(means)
    filtered, predicted = np.empty((count, k)), np.empty((count, k))
    likelihood = 0.0
    for t in range(count):
        for j in range(k):
            if t == 0:
                predicted[t, j] = initial[j]
            else:
                total = 0.0
                for i in range(k):
                    total += filtered[t - 1, i] * transition[i, j]
                predicted[t, j] = total
        if np.isnan(y[t]):
            filtered[t] = predicted[t]
            continue
        largest = -np.inf
        logs = np.empty(k)
        for j in range(k):
            z = (y[t] - means[j]) / deviations[j]
            logs[j] = -0.5 * z * z - np.log(deviations[j]) - 0.5 * np.log(2.0 * np.pi)
            largest = max(largest, logs[j])
        total = 0.0
        for j in range(k):
            filtered[t, j] = predicted[t, j] * np.exp(logs[j] - largest)
            total += filtered[t, j]
        filtered[t] /= total
        likelihood += np.log(total) + largest
    smoothed, moves = np.empty((count, k)), np.zeros((k, k))
    smoothed[count - 1] = filtered[count - 1]
    for t in range(count - 2, -1, -1):
        for i in range(k):
            total = 0.0
            for j in range(k):
                if predicted[t + 1, j] > 0.0:
                    joint = (
                        filtered[t, i] * transition[i, j] * smoothed[t + 1, j] / predicted[t + 1, j]
                    )
                    moves[i, j] += joint
                    total += joint
            smoothed[t, i] = total
    return likelihood, smoothed, moves


@njit(cache=True, nogil=True, error_model="numpy")
def maximise(
    y: Floats,
    transition: Floats,
    means: Floats,
    deviations: Floats,
    floor: float,
    tolerance: float,
    most: int,
) -> tuple[float, Floats, Floats, Floats, int]:
    """Log likelihood, transition (K, K), means, deviations (K,) and the steps taken: `most` where it still rose by more than `tolerance`."""
    before = -np.inf
    for step in range(most):
        likelihood, smoothed, moves = expectation(
            y, stationary(transition), transition, means, deviations
        )
        if likelihood - before < tolerance:
            return likelihood, transition, means, deviations, step
        before = likelihood
        transition, means, deviations = _maximum(y, smoothed, moves, floor)
    return before, transition, means, deviations, most


@njit(cache=True, nogil=True, error_model="numpy")
def _maximum(
    y: Floats, smoothed: Floats, moves: Floats, floor: float
) -> tuple[Floats, Floats, Floats]:
    count, k = smoothed.shape
    transition, means, deviations = np.empty((k, k)), np.zeros(k), np.zeros(k)
    for i in range(k):
        transition[i] = moves[i] / moves[i].sum()
        weight = 0.0
        for t in range(count):
            if not np.isnan(y[t]):
                weight += smoothed[t, i]
                means[i] += smoothed[t, i] * y[t]
        means[i] /= weight
        for t in range(count):
            if not np.isnan(y[t]):
                deviations[i] += smoothed[t, i] * (y[t] - means[i]) ** 2
        deviations[i] = max(np.sqrt(deviations[i] / weight), floor)
    return transition, means, deviations


@njit(cache=True, nogil=True, error_model="numpy")
def stationary(transition: Floats) -> Floats:
    """(K,) the chain's long-run shares."""
    k = len(transition)
    equations = np.eye(k) - transition.T
    equations[k - 1, :] = 1.0
    constants = np.zeros(k)
    constants[k - 1] = 1.0
    return np.linalg.solve(equations, constants)  # type: ignore[return-value]
