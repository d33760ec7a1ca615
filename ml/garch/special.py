"""Digamma and trigamma for compiled kernels, which have only `lgamma`.

In: a positive number. Out: the first and second derivative of log Gamma, to about 1e-13.
Never: negative arguments.

Recurrence up to x >= 8, then the asymptotic series. Source: Abramowitz and Stegun (1964), 6.3.18 and 6.4.12.
"""

from __future__ import annotations

import math

from ml.garch.jit import kernel


@kernel
def digamma(x: float) -> float:
    """psi(x) = d log Gamma(x) / dx."""
    total = 0.0
    while x < 8.0:
        total -= 1.0 / x
        x += 1.0
    inverse = 1.0 / (x * x)
    series = inverse * (
        1.0 / 12
        - inverse
        * (
            1.0 / 120
            - inverse
            * (1.0 / 252 - inverse * (1.0 / 240 - inverse * (1.0 / 132 - inverse * 691.0 / 32760)))
        )
    )
    return total + math.log(x) - 0.5 / x - series


@kernel
def trigamma(x: float) -> float:
    """psi'(x) = d^2 log Gamma(x) / dx^2."""
    total = 0.0
    while x < 8.0:
        total += 1.0 / (x * x)
        x += 1.0
    inverse = 1.0 / (x * x)
    series = inverse * (
        1.0 / 6
        - inverse
        * (
            1.0 / 30
            - inverse
            * (1.0 / 42 - inverse * (1.0 / 30 - inverse * (5.0 / 66 - inverse * 691.0 / 2730)))
        )
    )
    return total + 1.0 / x + 0.5 * inverse + series / x
