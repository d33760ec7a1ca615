"""Scores: each forecast beside what followed.

In: rows of forecasts.volatility (with the VaR and ES columns of forecasts.risk, where there are any) and of
features.realized. Out: the rows of evaluation.scores for the forecasts whose horizon is over.
Never: a score for a horizon that is not over or whose days are too few; such a forecast has no row yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ml.evaluation import losses
from ml.forecasts import DAYS_PER_YEAR, QUANTILE_COLUMNS, QUANTILE_LEVELS
from ml.panel import Panel

KEYS: tuple[str, ...] = ("source", "asset", "as_of", "horizon", "model", "model_version")
RISK_COLUMNS: tuple[str, ...] = ("var_95", "var_975", "var_99", "es_975")
BREACHES: dict[str, str] = {
    "var_95_breach": "var_95",
    "var_975_breach": "var_975",
    "var_99_breach": "var_99",
}
SCORE_COLUMNS: tuple[str, ...] = (
    *KEYS, "variance", "realized_variance", "qlike", "squared_error", "absolute_error", "log_error", "pinball",
    "covered_80", "covered_98", "horizon_return", *RISK_COLUMNS, *BREACHES, "crps", "width_80", "width_98", "pit", "fz_975",
)  # fmt: skip


def realized_outcomes(realized: pd.DataFrame, horizons: tuple[int, ...]) -> pd.DataFrame:
    """asset, as_of, horizon, realized_variance, horizon_return from rows of features.realized.

    The mean of the newest known versions of days as_of+1 .. as_of+h, 80 % of which must be known, and the log return
    between the closes at both ends (NaN when one is missing); only horizons that are over and have a variance above 0.
    """
    empty = pd.DataFrame(
        columns=["asset", "as_of", "horizon", "realized_variance", "horizon_return"]
    )
    if realized.empty:
        return empty
    days = realized[["source", "asset", "day"]].drop_duplicates().rename(columns={"day": "as_of"})
    panel = Panel.from_frames(days, realized)
    parts = []
    for horizon in horizons:
        variance, log_return = panel.target(horizon), panel.horizon_return(horizon)
        day, asset = np.nonzero(variance > 0)
        parts.append(
            pd.DataFrame(
                {
                    "asset": pd.Series(np.asarray(panel.assets, dtype=object)[asset], dtype="str"),
                    "as_of": panel.days.astype("datetime64[s]")[day],
                    "horizon": horizon,
                    "realized_variance": variance[day, asset],
                    "horizon_return": log_return[day, asset],
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else empty


def score_frame(forecasts: pd.DataFrame, realized: pd.DataFrame) -> pd.DataFrame:
    """Rows of evaluation.scores, columns `SCORE_COLUMNS`, in order of the keys.

    `pinball` is the mean quantile loss of log mean daily variance over the 11 levels, a number without a unit.
    `crps`, `width_80`, `width_98` (of the intervals) and `pit` are on that scale too. `fz_975` is the joint loss of VaR
    and ES of the long position at 97.5 %; missing where there are none, or where VaR is 0.
    A breach is a loss of the long position, 1 - exp(horizon_return), above its VaR; missing where there is no VaR.
    Raises ValueError on missing columns or a repeated key.
    """
    needed = [*KEYS, "variance", *QUANTILE_COLUMNS]
    missing = sorted(set(needed) - set(forecasts.columns))
    if missing:
        raise ValueError(f"forecasts have no column {missing[0]!r}: expected {', '.join(needed)}")
    frame = forecasts.reindex(columns=[*needed, *RISK_COLUMNS])
    frame = frame.assign(as_of=_days(frame["as_of"]), asset=frame["asset"].astype("str"))
    repeated = frame.duplicated(list(KEYS))
    if repeated.any():
        raise ValueError(
            f"two forecasts for {tuple(frame.loc[repeated, list(KEYS)].iloc[0])}: expected one"
        )
    horizons = tuple(sorted({int(horizon) for horizon in frame["horizon"]}))
    outcomes = realized_outcomes(realized, horizons)
    outcomes = outcomes.assign(
        as_of=_days(outcomes["as_of"]), asset=outcomes["asset"].astype("str")
    )
    frame = frame.merge(
        outcomes, on=["asset", "as_of", "horizon"], how="inner", validate="many_to_one"
    )
    y, f = (frame[name].to_numpy(dtype=np.float64) for name in ("realized_variance", "variance"))
    volatility = frame[list(QUANTILE_COLUMNS)].to_numpy(dtype=np.float64)
    log_quantiles = 2.0 * np.log(volatility) - np.log(DAYS_PER_YEAR)  # (rows, Q)
    level = dict(zip(QUANTILE_COLUMNS, log_quantiles.T, strict=True))
    frame["qlike"] = losses.qlike(y, f)
    frame["squared_error"] = losses.squared_error(y, f)
    frame["absolute_error"] = losses.absolute_error(y, f)
    frame["log_error"] = losses.log_error(y, f)
    frame["pinball"] = losses.pinball(np.log(y), log_quantiles, QUANTILE_LEVELS)
    frame["covered_80"] = losses.covered(np.log(y), level["q10"], level["q90"])
    frame["covered_98"] = losses.covered(np.log(y), level["q01"], level["q99"])
    loss = -np.expm1(frame["horizon_return"].to_numpy(dtype=np.float64))
    for name, column in BREACHES.items():
        risk = frame[column].to_numpy(dtype=np.float64)
        breach = pd.array(loss > risk, dtype="boolean")
        breach[np.isnan(loss) | np.isnan(risk)] = pd.NA
        frame[name] = breach
    frame["crps"] = losses.crps_of_quantiles(np.log(y), log_quantiles, QUANTILE_LEVELS)
    frame["width_80"] = losses.interval_width(level["q10"], level["q90"])
    frame["width_98"] = losses.interval_width(level["q01"], level["q99"])
    frame["pit"] = losses.pit(np.log(y), log_quantiles, QUANTILE_LEVELS)
    risk, shortfall = (frame[name].to_numpy(dtype=np.float64) for name in ("var_975", "es_975"))
    usable = np.isfinite(loss) & (risk > 0) & (shortfall >= risk)
    frame["fz_975"] = np.nan
    frame.loc[usable, "fz_975"] = losses.fissler_ziegel(
        -loss[usable], risk[usable], shortfall[usable], 0.975
    )
    return frame[list(SCORE_COLUMNS)].sort_values(list(KEYS), ignore_index=True)


def _days(values: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(values, utc=True).dt.tz_localize(None).astype("datetime64[s]")
