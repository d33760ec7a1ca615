"""Explanations of made-up forecasts whose truth is known: which modality helps, where, and what attention does with it.

In: for each modality the effect and attention by day and coin. Out: rows as `ml.explain.spurious.Effects` reads them.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST = date(2022, 1, 3)


def autoregression(
    chance: np.random.Generator, days: int, coefficient: float, coins: int = 1
) -> Floats:
    """(days, coins), standard normal at every day."""
    found = chance.standard_normal((days, coins))
    for day in range(1, days):
        found[day] = coefficient * found[day - 1] + np.sqrt(1 - coefficient**2) * found[day]
    return found


def explained(
    effect: dict[str, Floats],
    attention: dict[str, Floats],
    realized_over_forecast: Floats,
    horizon: int = 1,
    first: date = FIRST,
) -> pd.DataFrame:
    """All arrays (days, coins); the forecast is 1e-3 on every day."""
    days, coins = realized_over_forecast.shape
    day, coin = (index.ravel() for index in np.indices((days, coins)))
    names = np.array([f"C{n}" for n in range(coins)], dtype=object)
    parts = [
        pd.DataFrame(
            {
                "asset": names[coin],
                "as_of": (np.datetime64(first, "D") + day).astype("datetime64[s]"),
                "horizon": horizon,
                "feature_group": group,
                "attention_rollout": attention[group].ravel(),
                "ablation_effect": effect[group].ravel(),
                "variance": 1e-3,
                "realized_variance": 1e-3 * realized_over_forecast.ravel(),
            }
        )
        for group in effect
    ]
    return pd.concat(parts, ignore_index=True)
