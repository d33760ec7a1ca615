r"""Adaptive conformal intervals: quantiles of any model moved so that they cover what they say, day after day.

In: a model's forecasts with their own quantiles, from a fixed first day on, and outcomes with the day each became known.
Out: the same rows with adjusted, rising quantiles, the number of outcomes behind them and the coverage they had so far.
Never: an outcome that was not known at the forecast's decision time, a look at the variance forecast itself, or a state
that is kept anywhere: row D is a function of the forecasts and outcomes up to D alone, so a backfill equals daily runs.

Each quantile level of each model, coin and horizon is tracked by itself, on log variance in units of the model's own
spread s (its 10 % to 90 % range over 2.563). Expert k moves the quantile by c_k s and, when an outcome becomes known,

.. math:: c_k \leftarrow c_k + \gamma_k (p - 1\{y \le q_p + c_k s\}),

which is adaptive conformal inference (Gibbs and Candes 2021, NeurIPS) in the form of a quantile tracker (Angelopoulos,
Candes and Tibshirani 2023, "Conformal PID control for time series prediction", NeurIPS): the long-run share of outcomes
below the quantile tends to p whatever the data do. The error is that of the quantile as it was issued, so a longer
horizon only delays it. No step size is right in calm and in turmoil, so the experts are averaged by exponential weights
of their pinball losses with a fixed share, as in DtACI (Gibbs and Candes 2024, JMLR 25) and AgACI (Zaffran et al. 2022,
ICML). Step 0 is the model's own quantile. Crossing quantiles are sorted (Chernozhukov, Fernandez-Val and Galichon 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.forecasts import DAYS_PER_YEAR, QUANTILE_COLUMNS, QUANTILE_LEVELS

KEY: tuple[str, ...] = ("model", "asset", "as_of", "horizon")
ADDED_COLUMNS: tuple[str, ...] = ("calibrated", "outcomes", "coverage_80", "coverage_98")
NORMAL_RANGE = 2.5631031310892007
"""Distance of the 10 % and 90 % quantiles of a standard normal."""

Floats = NDArray[np.float64]
_LOW, _HIGH = QUANTILE_COLUMNS.index("q10"), QUANTILE_COLUMNS.index("q90")
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class ConformalSettings:
    """How fast quantiles move, and when they count as calibrated."""

    step_sizes: tuple[float, ...] = (0.0, 0.005, 0.02, 0.05, 0.12)
    """Of the experts at one day, in spreads for one miss; divided by sqrt(h) at h days, where h misses in a row may be one
    and the same event."""
    memory: int = 250
    """Outcomes over which experts are compared and live coverage is taken."""
    min_outcomes: int = 60
    """Outcomes of a model, coin and horizon from which its quantiles count as calibrated."""
    least_spread: float = 0.05
    """Floor of s, so that a model that is sure of itself can be corrected."""

    def __post_init__(self) -> None:
        if not self.step_sizes or min(self.step_sizes) < 0:
            raise ValueError(f"step_sizes {self.step_sizes}: expected at least one, none negative")
        for name in ("memory", "min_outcomes", "least_spread"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")


def adjust(
    forecasts: pd.DataFrame,
    outcomes: pd.DataFrame,
    settings: ConformalSettings | None = None,
) -> pd.DataFrame:
    """The rows of `forecasts`, in their order, with the quantile columns adjusted and `ADDED_COLUMNS`.

    `forecasts`: model, asset, as_of, horizon, q01 .. q99 (annualised volatility) as the model gave them, of all days
    from the first on: a later start is another state. `outcomes`: as `ml.evaluation.outcomes.first_known_outcomes`.
    `outcomes` counts those known by the row's as_of, `calibrated` says that they are enough, `coverage_80` and
    `coverage_98` are the shares of the last 250 of them inside the intervals that this function gave (NaN without any).
    A row with a missing quantile stays as it is, not calibrated.

    Raises ValueError on a missing column, a repeated key, or an outcome known before its horizon was over.
    """
    settings = settings or ConformalSettings()
    _require(forecasts, [*KEY, *QUANTILE_COLUMNS], "forecasts")
    _require(outcomes, ["asset", "as_of", "horizon", "realized_variance", "known_on"], "outcomes")
    _refuse_repeated(forecasts, list(KEY), "forecasts")
    _refuse_repeated(outcomes, ["asset", "as_of", "horizon"], "outcomes")
    adjusted = forecasts.drop(columns=[c for c in ADDED_COLUMNS if c in forecasts]).copy()
    quantiles = adjusted[list(QUANTILE_COLUMNS)].to_numpy(np.float64, copy=True)
    count = np.zeros(len(adjusted), dtype=np.int64)
    coverage = np.full((len(adjusted), 2), np.nan)
    known = _known_outcomes(outcomes)
    position = np.arange(len(adjusted))
    for _, rows in adjusted.assign(_row=position).groupby("model", sort=True, observed=True):
        places = rows["_row"].to_numpy()
        result = _adjust_model(rows, known, settings)
        quantiles[places], count[places], coverage[places] = result
    adjusted[list(QUANTILE_COLUMNS)] = quantiles
    complete = np.isfinite(quantiles).all(axis=1)
    adjusted["calibrated"] = complete & (count >= settings.min_outcomes)
    adjusted["outcomes"] = count
    adjusted["coverage_80"], adjusted["coverage_98"] = coverage.T
    return adjusted


class _Tracker:
    """State of S series (asset and horizon), Q levels and K experts."""

    def __init__(self, horizons: NDArray[np.int64], settings: ConformalSettings) -> None:
        series, experts = len(horizons), len(settings.step_sizes)
        self.settings = settings
        self.steps = np.array(settings.step_sizes) / np.sqrt(horizons)[:, None, None]  # (S, 1, K)
        self.levels = np.array(QUANTILE_LEVELS)[:, None]  # (Q, 1)
        self.offset = np.zeros((series, len(QUANTILE_LEVELS), experts))
        self.weight = np.full_like(self.offset, 1.0 / experts)
        self.loss_scale = np.zeros(self.offset.shape[:2])
        self.count = np.zeros(series, dtype=np.int64)
        self.inside = np.full((series, settings.memory, 2), np.nan)  # ring of the newest outcomes

    def moves(self) -> Floats:
        """(S, Q) the averaged expert's offset."""
        return np.asarray((self.weight * self.offset).sum(axis=-1))

    def learn(
        self, which: NDArray[np.int64], excess: Floats, issued: Floats, inside: NDArray[np.bool_]
    ) -> None:
        """Outcomes of series `which` (E,), none twice.

        excess (E, Q): (y - q_p) / s; issued (E, Q, K): offsets when the forecast was made; inside (E, 2): whether y lay
        in the 80 % and the 98 % interval that were issued.
        """
        beyond = excess[..., None] - issued  # (E, Q, K)
        loss = np.maximum(self.levels * beyond, (self.levels - 1.0) * beyond)
        forget = 1.0 / self.settings.memory
        weight, scale = self.weight[which], self.loss_scale[which]
        scale = (1.0 - forget) * scale + (weight * loss**2).sum(axis=-1)
        rate = np.sqrt(np.log(2.0 * loss.shape[-1]) / np.maximum(scale, 1e-12))
        best = loss.min(axis=-1, keepdims=True)
        weight = weight * np.exp(-rate[..., None] * (loss - best))
        weight = weight / weight.sum(axis=-1, keepdims=True)
        share = 0.5 * forget
        self.weight[which] = (1.0 - share) * weight + share / loss.shape[-1]
        self.loss_scale[which] = scale
        self.offset[which] += self.steps[which] * (self.levels - (beyond <= 0))
        self.inside[which, self.count[which] % self.settings.memory] = inside
        self.count[which] += 1

    def coverage(self) -> Floats:
        """(S, 2) of the newest outcomes; NaN without any."""
        seen = np.minimum(self.count, self.settings.memory)
        total = np.nansum(self.inside, axis=1)
        return np.where(seen[:, None] > 0, total / np.maximum(seen, 1)[:, None], np.nan)


def _adjust_model(
    rows: pd.DataFrame, known: pd.DataFrame, settings: ConformalSettings
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Quantiles (R, Q), outcomes (R,) and coverage (R, 2) of one model's rows."""
    as_of = _days(rows["as_of"])
    days = np.unique(as_of)
    series = pd.MultiIndex.from_frame(rows[["asset", "horizon"]].astype({"asset": "str"}))
    kinds = series.unique().sort_values()
    at = (np.searchsorted(days, as_of), kinds.get_indexer(series))
    shape = (len(days), len(kinds), len(QUANTILE_LEVELS))
    raw = np.full(shape, np.nan)
    volatility = rows[list(QUANTILE_COLUMNS)].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw[at] = 2.0 * np.log(volatility) - np.log(DAYS_PER_YEAR)
    raw[~np.isfinite(raw).all(axis=-1)] = np.nan
    spread = np.maximum((raw[..., _HIGH] - raw[..., _LOW]) / NORMAL_RANGE, settings.least_spread)
    adjusted = np.full(shape, np.nan)
    issued = np.zeros((*shape, len(settings.step_sizes)))
    count = np.zeros(shape[:2], dtype=np.int64)
    coverage = np.full((*shape[:2], 2), np.nan)
    tracker = _Tracker(kinds.get_level_values(1).to_numpy(np.int64), settings)
    outcomes = _Outcomes(known, days, kinds)
    for now in range(len(days)):
        for made, which, value in outcomes.known_on_row(now):
            given = np.isfinite(
                raw[made, which, 0]
            )  # an outcome without a forecast teaches nothing
            made, which, value = made[given], which[given], value[given]
            excess = (value[:, None] - raw[made, which]) / spread[made, which, None]
            final = adjusted[made, which]  # (E, Q)
            inside = [(final[:, a] <= value) & (value <= final[:, -1 - a]) for a in (_LOW, 0)]
            tracker.learn(which, excess, issued[made, which], np.stack(inside, axis=-1))
        moved = raw[now] + tracker.moves() * spread[now, :, None]
        adjusted[now] = np.sort(moved, axis=-1)  # NaN rows are NaN throughout
        issued[now], count[now], coverage[now] = tracker.offset, tracker.count, tracker.coverage()
    back = np.sqrt(DAYS_PER_YEAR * np.exp(adjusted[at]))
    kept = np.isfinite(back).all(axis=1)
    return np.where(kept[:, None], back, volatility), count[at], coverage[at]


class _Outcomes:
    """Outcomes by the forecast day on which they first count."""

    def __init__(
        self, known: pd.DataFrame, days: NDArray[np.datetime64], kinds: pd.MultiIndex
    ) -> None:
        made = _days(known["as_of"])
        row = np.searchsorted(days, made)
        forecast = np.isin(made, days)
        which = kinds.get_indexer(pd.MultiIndex.from_frame(known[["asset", "horizon"]]))
        learnt = np.searchsorted(days, _days(known["known_on"]))  # first forecast day on or after
        kept = forecast & (which >= 0) & (learnt < len(days))
        order = np.flatnonzero(kept)
        order = order[np.lexsort((which[order], row[order], learnt[order]))]
        self.made, self.which, self.learnt = row[order], which[order], learnt[order]
        self.value = np.log(known["realized_variance"].to_numpy(np.float64)[order])
        self.starts = np.searchsorted(self.learnt, np.arange(len(days) + 1))

    def known_on_row(
        self, now: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
        """(rows of the forecasts, series, log variance), oldest forecasts first, a series at most once in each."""
        found = slice(self.starts[now], self.starts[now + 1])
        made, which, value = self.made[found], self.which[found], self.value[found]
        if len(np.unique(which)) == len(which):
            yield made, which, value
            return
        for row in np.unique(made):
            same = made == row
            yield made[same], which[same], value[same]


def _known_outcomes(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The usable outcomes, their keys in one type; ValueError on one that was known too early."""
    usable = outcomes[outcomes["realized_variance"] > 0].astype({"asset": "str"})
    over = _days(usable["as_of"]) + usable["horizon"].to_numpy(np.int64) * _DAY
    early = _days(usable["known_on"]) < over
    if early.any():
        row = usable[early].iloc[0]
        raise ValueError(
            f"outcome of {row['asset']} on {row['as_of']}, horizon {row['horizon']}: known_on {row['known_on']} is "
            "before the horizon was over"
        )
    return usable


def _days(values: pd.Series[pd.Timestamp]) -> NDArray[np.datetime64]:
    stamps = pd.to_datetime(values, utc=True).dt.tz_localize(None)
    return np.asarray(stamps.to_numpy(), dtype="datetime64[D]")


def _require(frame: pd.DataFrame, columns: list[str], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"{what} have no column {missing[0]!r}: expected {', '.join(columns)}")


def _refuse_repeated(frame: pd.DataFrame, key: list[str], what: str) -> None:
    repeated = frame.duplicated(key)
    if repeated.any():
        raise ValueError(f"two {what} for {tuple(frame.loc[repeated, key].iloc[0])}: expected one")
