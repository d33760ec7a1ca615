r"""The loops of streaming.py, compiled: one token's term in or out of the sums, and the network after its attention.

In: the weights of an ensemble of E networks side by side, and the state of one sequence; all double precision. Out: the state, changed
in place; log variance and quantiles less the anchor. What is computed is that of network.py and tails.py, one forecast at a time;
tests hold the two equal. Never: an allocation that grows with the sequence, or a value from outside its arguments.

Letters: E networks, T tokens, H heads of width K, D = H K the width of a token, P horizons, Q quantile levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ml.attention.kernels.linear import LOG_FLOOR
from ml.attention.tails import DEGREES, LEAST_DEGREES, MOST_SKEW, OUTER, OUTER_LEVELS, SKEWS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])
N_OUTER = len(OUTER_LEVELS)


class Weights(NamedTuple):
    """Parameters; the weights of a LayerNorm are folded into the linear map behind it. Matrices are (E, in, out)."""

    embed: FloatArray  # (E, F) the groups' matrices (width, D), one after the other
    embed_at: IntArray  # (T,) where a token's matrix begins
    input_at: IntArray  # (T,) where a token's values begin
    width: IntArray  # (T,)
    place: FloatArray  # (E, T, D) the embedding's bias and the token's position
    factors: FloatArray  # (E, H, T) what a head multiplies the token's weight with: 0 outside its scale, else a gate or 1
    query: FloatArray
    query_bias: FloatArray
    key_value: FloatArray  # (E, D, 2 D)
    key_value_bias: FloatArray
    mlp_in: FloatArray
    mlp_in_bias: FloatArray
    mlp_out: FloatArray
    mlp_out_bias: FloatArray
    heads: FloatArray  # (E, D, P + P Q + 4 P): residual, quantiles, tails
    heads_bias: FloatArray
    network_tails: FloatArray  # (E, P, 4)
    shrinkage: FloatArray  # (P,)
    share: FloatArray  # (P,)
    base: FloatArray  # (P, Q)
    shift: FloatArray  # (P, Q)
    base_tails: FloatArray  # (P, 4)
    tail_use: FloatArray  # (P,)
    outer: FloatArray  # (SKEWS, N_OUTER * DEGREES) polynomials of the outermost quantiles
    epsilon: float  # of every LayerNorm
    cap: float  # of the residual


class State(NamedTuple):
    """One sequence."""

    inputs: FloatArray  # scaled values of all tokens, one after the other
    mask: NDArray[np.bool_]  # (T,)
    keys: FloatArray  # (T, E, H, K) factor * phi(k)
    values: FloatArray  # (T, E, D)
    sums: FloatArray  # (E, H, K, D) S = sum of keys x values over tokens that are there
    totals: FloatArray  # (E, H, K) z = sum of keys
    peaks: FloatArray  # (E, H, K) largest z since the sums were built
    query: FloatArray  # (E, H, K) phi(q) of the forecast token
    forecast: FloatArray  # (E, D) the forecast token before attention


def compiled(function: Function) -> Function:
    """On the first call; the machine code is kept beside the source, or in the user's cache, or nowhere if neither can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(Function, njit(cache=True, **options)(function))
    except RuntimeError:
        return cast(Function, njit(**options)(function))


@compiled
def _linear(x: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """x (in,), weight (in, out) -> (out,)"""
    y = bias.copy()
    for i in range(x.shape[0]):
        for j in range(y.shape[0]):
            y[j] += x[i] * weight[i, j]
    return y


@compiled
def _standardised(x: FloatArray, epsilon: float) -> FloatArray:
    """LayerNorm without its weights."""
    mean = x.sum() / x.shape[0]
    centred = x - mean
    variance = (centred * centred).sum() / x.shape[0]
    scaled: FloatArray = centred / math.sqrt(variance + epsilon)
    return scaled


@compiled
def _phi(x: float) -> float:
    return 1.0 + x if x > 0 else math.exp(max(x, LOG_FLOOR))


@compiled
def embed(w: Weights, s: State, token: int) -> None:
    """Keys and values of a token from its inputs; the forecast token, token 0, is also the query."""
    heads, width = s.query.shape[1], s.query.shape[2]
    size = heads * width
    for e in range(s.query.shape[0]):
        x = w.place[e, token].copy()
        for i in range(w.width[token]):
            value = s.inputs[w.input_at[token] + i]
            at = w.embed_at[token] + i * size
            for j in range(size):
                x[j] += value * w.embed[e, at + j]
        scaled = _standardised(x, w.epsilon)
        both = _linear(scaled, w.key_value[e], w.key_value_bias[e])
        for h in range(heads):
            for k in range(width):
                s.keys[token, e, h, k] = w.factors[e, h, token] * _phi(both[h * width + k])
        s.values[token, e] = both[size:]
        if token == 0:
            s.forecast[e] = x
            query = _linear(scaled, w.query[e], w.query_bias[e])
            for h in range(heads):
                for k in range(width):
                    s.query[e, h, k] = _phi(query[h * width + k])


@compiled
def _add(s: State, token: int, sign: float) -> None:
    """A token's term into the sums, or out of them with sign -1."""
    for e in range(s.sums.shape[0]):
        for h in range(s.sums.shape[1]):
            for k in range(s.sums.shape[2]):
                key = sign * s.keys[token, e, h, k]
                if key != 0.0:
                    s.totals[e, h, k] += key
                    for j in range(s.sums.shape[3]):
                        s.sums[e, h, k, j] += key * s.values[token, e, j]


@compiled
def build(w: Weights, s: State) -> None:
    """The sums of all tokens that are there."""
    s.sums[:] = 0.0
    s.totals[:] = 0.0
    for token in range(s.mask.shape[0]):
        embed(w, s, token)
        if s.mask[token]:
            _add(s, token, 1.0)
    s.peaks[:] = s.totals


@compiled
def replace(w: Weights, s: State, first: int, present: NDArray[np.bool_], cancelled: float) -> bool:
    """Neighbouring tokens' old terms out, those of their present inputs in; True where a sum fell below the share `cancelled` of its peak."""
    for slot in range(present.shape[0]):
        token = first + slot
        if s.mask[token]:
            _add(s, token, -1.0)
        s.mask[token] = present[slot]
        if present[slot]:
            embed(w, s, token)
            _add(s, token, 1.0)
    fell = False
    for e in range(s.totals.shape[0]):
        for h in range(s.totals.shape[1]):
            for k in range(s.totals.shape[2]):
                total = s.totals[e, h, k]
                s.peaks[e, h, k] = max(s.peaks[e, h, k], total)
                fell = fell or total < cancelled * s.peaks[e, h, k]
    return fell


@compiled
def read(w: Weights, s: State) -> FloatArray:
    """(P, 1 + Q): log variance and log quantiles, less the anchor."""
    horizons, levels = w.base.shape
    networks, heads, width, size = s.sums.shape
    residual = np.zeros(horizons)
    offsets = np.zeros((horizons, levels))
    tails = np.zeros((horizons, 4))
    middle = levels // 2
    for e in range(networks):
        x = s.forecast[e].copy()
        for h in range(heads):
            total = 0.0
            for k in range(width):
                total += s.query[e, h, k] * s.totals[e, h, k]
            if total > 0:
                for k in range(width):
                    share = s.query[e, h, k] / total / heads
                    for j in range(size):
                        x[j] += share * s.sums[e, h, k, j]
        hidden = _linear(_standardised(x, w.epsilon), w.mlp_in[e], w.mlp_in_bias[e])
        for j in range(hidden.shape[0]):
            hidden[j] *= 0.5 * (1.0 + math.erf(hidden[j] * math.sqrt(0.5)))  # GELU
        x += _linear(hidden, w.mlp_out[e], w.mlp_out_bias[e])
        raw = _linear(_standardised(x, w.epsilon), w.heads[e], w.heads_bias[e])
        for p in range(horizons):
            residual[p] += w.cap * math.tanh(raw[p]) / networks
            own = raw[horizons + p * levels : horizons + (p + 1) * levels]
            for k in range(1, levels):  # softplus: the gaps between quantiles
                own[k] = max(own[k], 0.0) + math.log1p(math.exp(-abs(own[k])))
            offsets[p, middle] += own[0] / networks
            below, above = own[0], own[0]
            for k in range(middle):
                below -= own[middle - k]
                above += own[middle + 1 + k]
                offsets[p, middle - 1 - k] += below / networks
                offsets[p, middle + 1 + k] += above / networks
            at = horizons * (1 + levels) + 4 * p
            tails[p] += _moved(w.network_tails[e, p], raw[at : at + 4]) / networks
    found = np.empty((horizons, 1 + levels))
    for p in range(horizons):
        found[p, 0] = w.shrinkage[p] * residual[p]
        spread = w.base[p] + w.share[p] * (offsets[p] - w.base[p])
        if w.tail_use[p] > 0:
            outer = _outer(w.base_tails[p] + w.share[p] * (tails[p] - w.base_tails[p]), w.outer)
            for k in range(OUTER):
                spread[k] = min(outer[k], spread[OUTER])
                spread[levels - OUTER + k] = max(outer[OUTER + k], spread[levels - OUTER - 1])
        highest = -math.inf
        for k in range(levels):
            highest = max(highest, spread[k] + w.shift[p, k])
            found[p, 1 + k] = found[p, 0] + highest
    return found


@compiled
def _moved(base: FloatArray, raw: FloatArray) -> FloatArray:
    """`tails.moved` of one horizon, (4,)."""
    by = np.tanh(raw)
    moved: FloatArray = base + by  # location and log scale
    moved[2] = LEAST_DEGREES + (base[2] - LEAST_DEGREES) * math.exp(1.5 * by[2])
    moved[3] = base[3] + (MOST_SKEW - base[3] if by[3] > 0 else MOST_SKEW + base[3]) * by[3]
    return moved


@compiled
def _outer(tails: FloatArray, coefficients: FloatArray) -> FloatArray:
    """`tails.outer_quantiles` of one horizon, (N_OUTER,)."""
    in_degrees = _chebyshev(2 * LEAST_DEGREES / tails[2] - 1, DEGREES)
    in_skew = _chebyshev(tails[3] / MOST_SKEW, SKEWS)
    scale = math.exp(tails[1]) * math.sqrt(1 - 2 / tails[2])
    found = np.empty(N_OUTER)
    for level in range(N_OUTER):
        z = 0.0
        for j in range(SKEWS):
            for i in range(DEGREES):
                z += in_skew[j] * coefficients[j, level * DEGREES + i] * in_degrees[i]
        found[level] = tails[0] + scale * z
    return found


@compiled
def _chebyshev(x: float, terms: int) -> FloatArray:
    """T_0(x) .. T_{terms-1}(x)."""
    x = min(max(x, -1.0), 1.0)
    found = np.ones(terms)
    found[1] = x
    for k in range(2, terms):
        found[k] = 2 * x * found[k - 1] - found[k - 2]
    return found
