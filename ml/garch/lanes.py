r"""One pass over eight series at once: log likelihood, score and information of GARCH-t and GJR-t.

In: returns laid out with a lane a series, and each lane's parameters. Out: sums from which `ml.garch.fast` makes the
likelihood, its gradient and the expected information. Never: iterating; `ml.garch.ascent` decides the next point.

With :math:`e_t = y_t - \mu`, :math:`a = \alpha`, :math:`b = \alpha + \gamma` (GARCH: a = b) and :math:`q = e^2 / (\nu - 2)`:

.. math::
    h_{t+1} &= \omega + (a 1\{e_t \ge 0\} + b 1\{e_t < 0\}) e_t^2 + \beta h_t \\
    \ell_t  &= c(\nu) + \tfrac{\nu}{2} \log h_t - \tfrac{\nu + 1}{2} \log (h_t + q_t)

Sensitivities :math:`\partial h_t / \partial\theta` run forward beside h. One division a step serves 1/h and 1/(h + q), and the
logarithms become a running product whose exponent is peeled off every few steps: one logarithm a pass.

Sources: Bollerslev (1987); Glosten, Jagannathan and Runkle (1993); the information of the standardised Student t is that of
Fiorentini, Sentana and Calzolari (2003), Journal of Business and Economic Statistics 21, 532-546.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.garch.jit import kernel
from ml.garch.simd import LANES, exponent, fma, load, mantissa, splat, store, where_negative

Floats = NDArray[np.float64]

INPUTS = 7
"""Rows of lane parameters: mu, omega, a, b, beta, 1 / (nu - 2), nu + 1."""
STATE = 38
"""Rows of state: h, 5 sensitivities, 5 scores, 15 informations, 5 sums of d, 3 sums, 4 of the products."""
STEPS = 8
"""Steps between two peelings of the exponent: variances in units of the series' own are far from 2 ** 128."""


def _make_pass(tied: bool) -> Any:
    """The kernel; with `tied` a = b, and its sensitivity takes the place of both."""

    def advance(series: Floats, inputs: Floats, state: Floats, first: int, stop: int) -> None:
        mu, omega = load(inputs, 0), load(inputs, LANES)
        a, b, beta = load(inputs, 2 * LANES), load(inputs, 3 * LANES), load(inputs, 4 * LANES)
        inverse, nu1 = load(inputs, 5 * LANES), load(inputs, 6 * LANES)
        zero, one, minus_half, minus_two = splat(0.0), splat(1.0), splat(-0.5), splat(-2.0)
        half_nu1 = splat(0.5) * nu1
        h = load(state, 0)
        s0, s1, s2 = load(state, LANES), load(state, 2 * LANES), load(state, 3 * LANES)
        s3, s4 = load(state, 4 * LANES), load(state, 5 * LANES)
        g0, g1, g2 = load(state, 6 * LANES), load(state, 7 * LANES), load(state, 8 * LANES)
        g3, g4 = load(state, 9 * LANES), load(state, 10 * LANES)
        i00, i01, i02 = load(state, 11 * LANES), load(state, 12 * LANES), load(state, 13 * LANES)
        i03, i04, i11 = load(state, 14 * LANES), load(state, 15 * LANES), load(state, 16 * LANES)
        i12, i13, i14 = load(state, 17 * LANES), load(state, 18 * LANES), load(state, 19 * LANES)
        i22, i23, i24 = load(state, 20 * LANES), load(state, 21 * LANES), load(state, 22 * LANES)
        i33, i34, i44 = load(state, 23 * LANES), load(state, 24 * LANES), load(state, 25 * LANES)
        n0, n1, n2 = load(state, 26 * LANES), load(state, 27 * LANES), load(state, 28 * LANES)
        n3, n4 = load(state, 29 * LANES), load(state, 30 * LANES)
        inverses, direct = load(state, 31 * LANES), load(state, 32 * LANES)
        weights = load(state, 33 * LANES)
        exponents_h, product_h = load(state, 34 * LANES), load(state, 35 * LANES)
        exponents_q, product_q = load(state, 36 * LANES), load(state, 37 * LANES)
        t = first
        while t < stop:
            block = min(t + STEPS, stop)
            while t < block:
                e = load(series, LANES * t) - mu
                e2 = e * e
                hq = fma(e2, inverse, h)
                product_h = product_h * h
                product_q = product_q * hq
                r = one / (h * hq)
                inverse_h = r * hq
                inverse_q = r * h
                w = e2 * inverse * inverse_q
                s = fma(half_nu1, w, minus_half)
                d0, d1, d2, d4 = s0 * inverse_h, s1 * inverse_h, s2 * inverse_h, s4 * inverse_h
                inverses = inverses + inverse_h
                direct = fma(e, inverse_q, direct)
                weights = weights + w
                g0, g1, g2, g4 = fma(s, d0, g0), fma(s, d1, g1), fma(s, d2, g2), fma(s, d4, g4)
                n0, n1, n2, n4 = n0 + d0, n1 + d1, n2 + d2, n4 + d4
                i00, i01, i02 = fma(d0, d0, i00), fma(d0, d1, i01), fma(d0, d2, i02)
                i04, i11, i12 = fma(d0, d4, i04), fma(d1, d1, i11), fma(d1, d2, i12)
                i14, i22, i24 = fma(d1, d4, i14), fma(d2, d2, i22), fma(d2, d4, i24)
                i44 = fma(d4, d4, i44)
                if tied:
                    c = a
                    s2 = fma(beta, s2, e2)
                else:
                    c = where_negative(e, b, a)
                    d3 = s3 * inverse_h
                    g3, n3 = fma(s, d3, g3), n3 + d3
                    i03, i13, i23 = fma(d0, d3, i03), fma(d1, d3, i13), fma(d2, d3, i23)
                    i33, i34 = fma(d3, d3, i33), fma(d3, d4, i34)
                    s2 = fma(beta, s2, where_negative(e, zero, e2))
                    s3 = fma(beta, s3, where_negative(e, e2, zero))
                ce = c * e
                s0 = fma(beta, s0, minus_two * ce)
                s1 = fma(beta, s1, one)
                s4 = fma(beta, s4, h)
                h = fma(beta, h, fma(ce, e, omega))
                t += 1
            exponents_h = exponents_h + exponent(product_h)
            product_h = mantissa(product_h)
            exponents_q = exponents_q + exponent(product_q)
            product_q = mantissa(product_q)
        store(state, 0, h)
        store(state, LANES, s0)
        store(state, 2 * LANES, s1)
        store(state, 3 * LANES, s2)
        store(state, 4 * LANES, s3)
        store(state, 5 * LANES, s4)
        store(state, 6 * LANES, g0)
        store(state, 7 * LANES, g1)
        store(state, 8 * LANES, g2)
        store(state, 9 * LANES, g3)
        store(state, 10 * LANES, g4)
        store(state, 11 * LANES, i00)
        store(state, 12 * LANES, i01)
        store(state, 13 * LANES, i02)
        store(state, 14 * LANES, i03)
        store(state, 15 * LANES, i04)
        store(state, 16 * LANES, i11)
        store(state, 17 * LANES, i12)
        store(state, 18 * LANES, i13)
        store(state, 19 * LANES, i14)
        store(state, 20 * LANES, i22)
        store(state, 21 * LANES, i23)
        store(state, 22 * LANES, i24)
        store(state, 23 * LANES, i33)
        store(state, 24 * LANES, i34)
        store(state, 25 * LANES, i44)
        store(state, 26 * LANES, n0)
        store(state, 27 * LANES, n1)
        store(state, 28 * LANES, n2)
        store(state, 29 * LANES, n3)
        store(state, 30 * LANES, n4)
        store(state, 31 * LANES, inverses)
        store(state, 32 * LANES, direct)
        store(state, 33 * LANES, weights)
        store(state, 34 * LANES, exponents_h)
        store(state, 35 * LANES, product_h)
        store(state, 36 * LANES, exponents_q)
        store(state, 37 * LANES, product_q)

    return kernel(advance)


advance_garch = _make_pass(tied=True)
advance_gjr = _make_pass(tied=False)
