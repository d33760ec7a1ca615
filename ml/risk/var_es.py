"""Value at risk and expected shortfall of a position, long and short, by filtered historical simulation.

In: forecast variances, a horizon, and the standardised tail of the model that made them. Out: fractions of the
position, named as the columns of forecasts.risk. Never: a negative risk, or an ES below its VaR.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.risk.tails import LEVELS, TailFit

Floats = NDArray[np.float64]

SUFFIXES: dict[float, str] = dict(zip(LEVELS, ("95", "975", "99"), strict=True))
RISK_COLUMNS: tuple[str, ...] = tuple(
    f"{side}{measure}_{suffix}"
    for side in ("", "short_")
    for measure in ("var", "es")
    for suffix in SUFFIXES.values()
)
"""var_95 .. es_99 of a long position, then short_var_95 .. short_es_99."""


def var_es(variance: ArrayLike, horizon: int, tail: TailFit) -> dict[str, Floats]:
    r"""VaR and ES at 95, 97.5 and 99 % for mean daily variances of any shape, as fractions of the position.

    Past standardised returns z are scaled by the forecast, x = z sqrt(h * variance), and turned into the simple loss
    of the position: 1 - exp(x) long (at most 1), exp(x) - 1 short (without bound). VaR is an order statistic of these
    losses, ES the mean of those beyond it (see `ml.risk.tails`), taken after the transformation, not before. A loss
    below 0 counts as 0.

    Source: Barone-Adesi, Giannopoulos and Vosper (1999). Raises ValueError on a variance or horizon that is not positive.
    """
    values = np.asarray(variance, dtype=np.float64)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        raise ValueError(f"variance {values[wrong].flat[0]}: expected a positive finite number")
    if horizon < 1:
        raise ValueError(f"horizon {horizon}: expected a positive number of days")
    scale = np.sqrt(horizon * values)[..., None]  # (..., 1)
    losses = {
        "": -np.expm1(-np.array(tail.long) * scale),  # (..., kept), largest first
        "short_": np.expm1(np.array(tail.short) * scale),
    }
    measures: dict[str, Floats] = {}
    for side, sorted_losses in losses.items():
        bounded = np.maximum(sorted_losses, 0.0)
        for level, suffix in SUFFIXES.items():
            measures[f"{side}var_{suffix}"] = bounded[..., tail.rank(level)]
            measures[f"{side}es_{suffix}"] = (bounded * tail.weights(level)).sum(axis=-1)
    return {name: measures[name] for name in RISK_COLUMNS}
