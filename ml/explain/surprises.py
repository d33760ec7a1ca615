r"""What prices did not tell: the variance surprise of the next day, and what is new in a feature.

In: a panel of the days up to a decision day. Out: residuals (T, N), in standard deviations of their coin, clipped at 4.
Never: a value from after the panel's last day. The regressions are fitted on the whole window: they take a known part out
of both sides before these are compared, and forecast nothing.

.. math:: e_{t} = \log RV_{t+1} - x_t' \hat\beta, \qquad \tilde f_t = f_t - \sum_{k \in \{1, 2, 7\}} \hat a_k f_{t-k} - x_t' \hat b

x_t: what a HARX forecast reads of prices on day t. Partial regression (Frisch and Waugh 1933, Econometrica 1) by coin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.panel import Panel

Floats = NDArray[np.float64]
CLIP = 4.0
OWN_LAGS = (1, 2, 7)
"""Days; 7 because many features are changes over a week."""
FEWEST_ROWS = 120
LEAST_SHARE = 0.9
"""A control that is missing on more than a tenth of the days is left out, so that it costs no days."""
_RIDGE = 1e-6
_LOGS = ("rv_d", "rv_5d", "rv_22d", "rv_66d", "rv_2d", "rv_last_12h", "rv_last_4h", "btc_rv_d", "btc_rv_5d")  # fmt: skip
_LEVELS = ("market_log_rv_d", "market_log_rv_5d", "log_volume_ratio_22d")
_REQUIRED = ("rv_d", "rv_5d", "rv_22d")


@dataclass(frozen=True)
class Prices:
    """What is known of prices on each day, and what they did not tell of the next."""

    controls: Floats  # (T, N, K): intercept, HARX terms, weekday of the next day; NaN = missing
    weekdays: Floats  # (T, N, 7): intercept and weekday alone
    log_variance: Floats  # (T, N) log RV of day t+1; NaN = not known
    surprise: Floats  # (T, N)


def prices_of(panel: Panel) -> Prices:
    """KeyError that names the column where the panel has no rv_d, rv_5d or rv_22d."""
    target = panel.target(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_variance = np.log(np.where(target > 0, target, np.nan))
    weekdays = _weekdays(panel)
    controls = _controls(panel, weekdays)
    return Prices(controls, weekdays, log_variance, standardised(residual(log_variance, controls)))


def innovation(values: Floats, controls: Floats) -> Floats:
    """(T, N): what the feature's own last values and `controls` (T, N, K) did not tell, standardised."""
    own = np.stack([_earlier(values, lag) for lag in OWN_LAGS], axis=-1)
    return standardised(residual(values, np.concatenate([controls, own], axis=-1)))


def residual(y: Floats, x: Floats) -> Floats:
    """(T, N) of y on x (T, N, K) by coin; NaN where either is missing, and for a coin with fewer than 120 rows."""
    known = np.isfinite(y) & np.isfinite(x).all(axis=-1)
    rows = known.sum(axis=0)
    held = np.where(known[..., None], x, 0.0).transpose(1, 0, 2)  # (N, T, K)
    scale = np.sqrt((held**2).sum(axis=1, keepdims=True))
    held = held / np.where(scale > 0, scale, 1.0)
    wanted = np.where(known, y, 0.0).T[..., None]  # (N, T, 1)
    gram = held.transpose(0, 2, 1) @ held
    moment = held.transpose(0, 2, 1) @ wanted
    beta = np.linalg.solve(gram + _RIDGE * np.eye(x.shape[-1]), moment)  # (N, K, 1)
    fitted = (held @ beta)[..., 0].T
    return np.where(known & (rows >= FEWEST_ROWS), y - fitted, np.nan)


def standardised(values: Floats) -> Floats:
    """In standard deviations of each column, clipped at 4; NaN for a column that does not vary."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    centred = np.where(known, values - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    size = np.maximum(np.abs(np.where(known, values, 0.0)).max(axis=0, initial=0.0), 1e-300)
    varies = deviation > 1e-9 * size
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known & varies, np.clip(centred / deviation, -CLIP, CLIP), np.nan)


def _earlier(values: Floats, days: int) -> Floats:
    moved = np.full_like(values, np.nan)
    moved[days:] = values[:-days]
    return moved


def _weekdays(panel: Panel) -> Floats:
    """(T, N, 7): intercept and dummies of the next day, Sunday left out."""
    number = panel.days.astype("datetime64[D]").astype(np.int64)
    dummies = (number[:, None] + 4) % 7 == np.arange(6)  # 1970-01-01 was a Thursday; 0 = Monday
    alone = np.column_stack([np.ones(len(number)), dummies])
    return np.ascontiguousarray(
        np.broadcast_to(alone[:, None], (len(number), len(panel.assets), 7))
    )


def _controls(panel: Panel, weekdays: Floats) -> Floats:
    columns = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in _LOGS:
            if name in _REQUIRED or name in panel.features:
                columns[name] = np.log(panel.feature(name) + (1e-9 if "last" in name else 0.0))
        for name in _LEVELS:
            if name in panel.features:
                columns[name] = panel.feature(name)
        if "high_low_range_d" in panel.features:
            columns["range"] = np.log(np.maximum(panel.feature("high_low_range_d") ** 2, 1e-8))
        for name, rv in (("return_d", "rv_d"), ("return_5d", "rv_5d"), ("btc_return_d", "btc_rv_d")):  # fmt: skip
            if name in panel.features and rv in panel.features:
                days = 5.0 if name == "return_5d" else 1.0
                in_sd = panel.feature(name) / np.sqrt(days * panel.feature(rv))
                columns[f"{name} fall"] = np.minimum(in_sd, 0.0)
                columns[f"{name} size"] = np.abs(in_sd)
    columns = {n: np.where(np.isfinite(v), v, np.nan) for n, v in columns.items()}
    base = np.all([np.isfinite(columns[name]) for name in _REQUIRED], axis=0)
    kept = [
        values
        for name, values in columns.items()
        if name in _REQUIRED or np.isfinite(values[base]).mean() >= LEAST_SHARE
    ]
    return np.concatenate([weekdays, np.stack(kept, axis=-1)], axis=-1)
