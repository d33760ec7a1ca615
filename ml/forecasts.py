"""`Forecasts`: what every model returns, checked on construction.

In: arrays from a model. Out: the same, and frames in the layout of forecasts.volatility.
Never: a NaN, negative or crossing number in `to_frame`; what could not be forecast is in `refused`, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HORIZONS: tuple[int, ...] = (1, 5, 22)
"""Days ahead; horizon h covers as_of+1 .. as_of+h."""
QUANTILE_LEVELS: tuple[float, ...] = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    0.75,
    0.9,
    0.95,
    0.975,
    0.99,
)
QUANTILE_COLUMNS: tuple[str, ...] = (
    "q01", "q025", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q975", "q99",
)  # fmt: skip
DAYS_PER_YEAR = 365
"""Crypto trades every day: volatility = sqrt(365 * daily variance)."""
OK = "ok"

FRAME_COLUMNS: tuple[str, ...] = (
    "asset", "as_of", "horizon", "model", "variance", "volatility", *QUANTILE_COLUMNS, "calibrated", "status",
)  # fmt: skip


def annualised_volatility(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """sqrt(365 * variance): a fraction a year, 0.65 means 65 %; any shape."""
    return np.asarray(np.sqrt(DAYS_PER_YEAR * variance), dtype=np.float64)


@dataclass(frozen=True)
class Forecasts:
    """Variance forecasts of one model for D days, N assets and H horizons.

    `variance` is the conditional mean of the mean daily realised variance over the horizon (squared log-return
    units); `log_quantiles` describe the distribution of its logarithm, so the median lies below the mean.
    NaN variance = refused: then `status` says why. `status` is 'ok', a fallback ('fallback: ...') or a reason.
    """

    model: str
    days: NDArray[np.datetime64]  # (D,) datetime64[D], the as_of days
    assets: tuple[str, ...]  # N
    horizons: tuple[int, ...]  # H
    variance: NDArray[np.float64]  # (D, N, H)
    log_quantiles: NDArray[np.float64]  # (D, N, H, Q), levels QUANTILE_LEVELS
    calibrated: NDArray[np.bool_]  # (N, H): quantiles come from out-of-sample residuals
    status: NDArray[Any]  # (D, N) of str

    def __post_init__(self) -> None:
        shape = (len(self.days), len(self.assets), len(self.horizons))
        for label, array, expected in (
            ("variance", self.variance, shape),
            ("log_quantiles", self.log_quantiles, (*shape, len(QUANTILE_LEVELS))),
            ("calibrated", self.calibrated, shape[1:]),
            ("status", self.status, shape[:2]),
        ):
            if array.shape != expected:
                raise ValueError(
                    f"{self.model}: {label} has shape {array.shape}: expected {expected}"
                )
        given = ~np.isnan(self.variance)
        bad = given & ~(np.isfinite(self.variance) & (self.variance > 0))
        if bad.any():
            raise ValueError(
                f"{self.model}: variance {self.variance[bad][0]} for {self._where(bad)}: expected > 0"
            )
        steps = np.diff(self.log_quantiles, axis=-1)
        crossing = given & ~(
            np.isfinite(self.log_quantiles).all(axis=-1) & (steps >= 0).all(axis=-1)
        )
        if crossing.any():
            values = self.log_quantiles[crossing][0].tolist()
            raise ValueError(
                f"{self.model}: log quantiles {values} for {self._where(crossing)}: expected finite and rising"
            )
        unexplained = ~given & (self.status == OK)[:, :, None]
        if unexplained.any():
            raise ValueError(
                f"{self.model}: no variance for {self._where(unexplained)} but status 'ok'"
            )

    def _where(self, mask: NDArray[np.bool_]) -> str:
        day, asset, horizon = np.argwhere(mask)[0]
        return f"{self.assets[asset]} on {self.days[day]}, horizon {self.horizons[horizon]}"

    @property
    def volatility(self) -> NDArray[np.float64]:
        """(D, N, H) annualised fractions."""
        return annualised_volatility(self.variance)

    def to_frame(self) -> pd.DataFrame:
        """One row per asset, as_of and horizon that has a forecast, columns `FRAME_COLUMNS`.

        Quantile columns are annualised volatility: sqrt(365 * exp(log quantile)).
        """
        frame, given = self._grid(), ~np.isnan(self.variance).ravel()
        frame["variance"] = self.variance.ravel()
        frame["volatility"] = self.volatility.ravel()
        quantiles = annualised_volatility(np.exp(self.log_quantiles)).reshape(
            -1, len(QUANTILE_LEVELS)
        )
        frame[list(QUANTILE_COLUMNS)] = quantiles
        frame["calibrated"] = np.broadcast_to(self.calibrated, self.variance.shape).ravel()
        return frame.loc[given, list(FRAME_COLUMNS)].reset_index(drop=True)

    def refused(self) -> pd.DataFrame:
        """asset, as_of, horizon, model, status: every forecast that was not given, and why."""
        missing = np.isnan(self.variance).ravel()
        columns = ["asset", "as_of", "horizon", "model", "status"]
        return self._grid().loc[missing, columns].reset_index(drop=True)

    def _grid(self) -> pd.DataFrame:
        shape = self.variance.shape
        day, asset, horizon = (index.ravel() for index in np.indices(shape))
        return pd.DataFrame(
            {
                "asset": pd.Series(np.asarray(self.assets, dtype=object)[asset], dtype="str"),
                "as_of": self.days.astype("datetime64[s]")[day],
                "horizon": np.asarray(self.horizons, dtype=np.int64)[horizon],
                "model": pd.Series(np.full(len(day), self.model, dtype=object), dtype="str"),
                "status": pd.Series(self.status[day, asset].astype(object), dtype="str"),
            }
        )


def concatenate(parts: Sequence[Forecasts]) -> Forecasts:
    """Forecasts of one model for successive blocks of days as one; all parts share assets and horizons.

    `calibrated` holds where it holds in every part. Raises ValueError when parts differ in model, assets or horizons.
    """
    if not parts:
        raise ValueError("no forecasts to concatenate: expected at least one part")
    first = parts[0]
    for part in parts[1:]:
        if (part.model, part.assets, part.horizons) != (first.model, first.assets, first.horizons):
            raise ValueError(
                f"cannot concatenate {part.model} {part.assets} {part.horizons} "
                f"with {first.model} {first.assets} {first.horizons}"
            )
    return Forecasts(
        model=first.model,
        days=np.concatenate([part.days for part in parts]),
        assets=first.assets,
        horizons=first.horizons,
        variance=np.concatenate([part.variance for part in parts]),
        log_quantiles=np.concatenate([part.log_quantiles for part in parts]),
        calibrated=np.logical_and.reduce([part.calibrated for part in parts]),
        status=np.concatenate([part.status for part in parts]),
    )
