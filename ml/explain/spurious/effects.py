"""Attention and ablation effects of a model's forecasts as arrays by day and coin.

In: rows of forecasts.explanations with the forecast and, where it is known, its outcome. Out: `Effects`.
Never: an outcome that was not known on the decision day; who makes the rows sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COLUMNS = ("asset", "as_of", "horizon", "feature_group", "attention_rollout", "ablation_effect", "variance", "realized_variance")  # fmt: skip


@dataclass(frozen=True)
class Effects:
    """D days (those with explanations, in order), N coins, G groups, H horizons; NaN = none."""

    days: NDArray[np.datetime64]  # (D,)
    assets: tuple[str, ...]
    groups: tuple[str, ...]
    horizons: tuple[int, ...]
    attention: Floats  # (D, N, G, H) rollout: share of what the forecast token reads
    effect: Floats  # (D, N, G, H) log variance without the group less that with it
    variance: Floats  # (D, N, H)
    realized: Floats  # (D, N, H); NaN where it was not known

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Effects:
        """From rows with `COLUMNS`, in any order. Raises ValueError that names a column that is missing, or on a repeated key."""
        missing = [name for name in COLUMNS if name not in rows]
        if missing:
            raise ValueError(f"explanations without {', '.join(missing)}: expected {COLUMNS}")
        key = ["as_of", "asset", "feature_group", "horizon"]
        if rows.duplicated(key).any():
            first = rows.loc[rows.duplicated(key), key].iloc[0].tolist()
            raise ValueError(f"explanations have two rows for {first}: expected one version's")
        days, day = np.unique(
            np.asarray(pd.to_datetime(rows["as_of"]), dtype="datetime64[D]"), return_inverse=True
        )
        names, codes = [], []
        for name in ("asset", "feature_group", "horizon"):
            values, code = np.unique(np.asarray(rows[name].tolist()), return_inverse=True)
            names.append(values.tolist())
            codes.append(code)
        shape = (len(days), *(len(values) for values in names))
        arrays = []
        for name in COLUMNS[4:]:
            table = np.full(shape, np.nan)
            table[day, codes[0], codes[1], codes[2]] = rows[name].to_numpy(np.float64)
            arrays.append(table)
        attention, effect, variance, realized = arrays
        once = [_of_any_group(values) for values in (variance, realized)]
        assets, groups, horizons = (tuple(values) for values in names)
        return cls(days, assets, groups, horizons, attention, effect, *once)

    def used(self, horizon: int) -> bool:
        """Whether any group moves the forecast: where none does, the forecast is its anchor."""
        effect = self.effect[..., horizon]
        return bool((np.abs(np.where(np.isfinite(effect), effect, 0.0)) > 0).any())

    def newest(self, days: int) -> Effects:
        """The last `days` calendar days."""
        if len(self.days) == 0:
            return self
        kept = self.days > self.days[-1] - np.timedelta64(days, "D")
        return Effects(self.days[kept], self.assets, self.groups, self.horizons,
            self.attention[kept], self.effect[kept], self.variance[kept], self.realized[kept])  # fmt: skip


def mean_of_known(values: Floats, axis: int) -> Floats:
    """Mean of the finite values; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _of_any_group(values: Floats) -> Floats:
    """(D, N, G, H) -> (D, N, H): the same for every group that is there."""
    known = np.isfinite(values)
    place = known.argmax(axis=2)[:, :, None]
    return np.take_along_axis(values, place, axis=2)[:, :, 0]
