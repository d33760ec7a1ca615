"""A fitted model that is asked again while the day is still running.

In: a model and the panel of the last as_of, once; then bars, as often as they come. Out: `Nowcast`. The forecast begins now: horizon h covers the next
24 h hours. Its weekday is that of the hours it covers: with k hours of the day gone, (24 - k) / 24 of the log forecast made with the calendar of
today and k / 24 of the one made with tomorrow's. Never: a fit, or state that an update leaves behind.

An attention model answers through its exported graph; models that read GARCH's long past, or price columns that `ml.nowcast.shifting` does not make,
are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.forecasts import HORIZONS, OK, QUANTILE_COLUMNS, annualised_volatility
from ml.model import VolatilityModel, fitted_lookback_days
from ml.nowcast.bars import NewHours
from ml.nowcast.shifting import WINDOWS, History, relabelled, shifted
from ml.panel import Panel

Floats = NDArray[np.float64]
LONGEST_LOOKBACK_DAYS = 400
"""Of models that can be asked between two days. GARCH's recursions run over years of daily returns."""


@dataclass(frozen=True)
class Nowcast:
    """Forecasts of N coins for the h days from `at` on."""

    at: datetime
    as_of: date  # of the panel that it started from
    assets: tuple[str, ...]
    variance: Floats  # (N, H) mean daily variance; NaN = refused
    log_quantiles: Floats  # (N, H, Q) of it, the levels of ml.forecasts
    status: tuple[str, ...]  # (N,)
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per coin and horizon: asset, at, horizon, variance, volatility (annualised), q01 .. q99 of it, status."""
        rows = []
        for n, asset in enumerate(self.assets):
            for column, horizon in enumerate(HORIZONS):
                quantiles = annualised_volatility(np.exp(self.log_quantiles[n, column]))
                variance = self.variance[n, column]
                rows.append(
                    {
                        "asset": asset,
                        "at": self.at,
                        "horizon": horizon,
                        "variance": variance,
                        "volatility": float(annualised_volatility(variance)),
                        **dict(zip(QUANTILE_COLUMNS, quantiles.tolist(), strict=True)),
                        "status": self.status[n],
                    }
                )
        return pd.DataFrame(rows)


class Nowcaster:
    """Made once after a daily run; `update` is called with all bars since then, whenever there are new ones. Safe between threads.

    Parameters
    ----------
    model : fitted, as `artifacts.load` and `model_from_state` give it
    panel : everything known at the decision time of its last day
    correct : log quantiles (N, H, Q) -> the same, corrected as the published ones are; none by default

    Example
    -------
    >>> nowcaster = Nowcaster(model, panel)
    >>> nowcaster.update(bars).to_frame()  # bars: asset, ts, high, low, close, volume
    """

    def __init__(
        self,
        model: VolatilityModel,
        panel: Panel,
        correct: Callable[[Floats], Floats] | None = None,
    ) -> None:
        lookback = fitted_lookback_days(model)
        if lookback > LONGEST_LOOKBACK_DAYS:
            raise ValueError(
                f"{model.name} reads {lookback} days of daily returns: a nowcast needs a model that reads at most {LONGEST_LOOKBACK_DAYS}"
            )
        self.model = model
        self.assets = panel.assets
        self._correct = correct
        self._panel = panel
        self._history = History.of(panel, lookback + max(WINDOWS) + 2)
        self.as_of: date = panel.days[-1].astype(date)
        self.start = (panel.days[-1] + np.timedelta64(1, "D")).astype("datetime64[us]")
        bars = self._history.panel.feature("bars_expected")[-1]
        self.bars_a_day = np.where(np.isfinite(bars), bars, 24).astype(np.int64)
        self.close = np.where(self._history.complete[-1], panel.feature("close")[-1], np.nan)

    def update(self, bars: pd.DataFrame, until: datetime | None = None) -> Nowcast:
        """The forecast at the end of the newest whole hour of `bars` (see `NewHours.of`); raises BarsError on bars that cannot be used.

        until: an instant that no bar may end after, now by default; a naive one is UTC. A candle that is still running is an error by that.
        """
        instant = until or datetime.now(UTC)
        aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        latest = np.datetime64(aware.astimezone(UTC).replace(tzinfo=None), "us")
        hours = NewHours.of(bars, self.assets, self.close, self.start, self.bars_a_day, latest)
        return self.at(hours)

    def at(self, hours: NewHours) -> Nowcast:
        """The forecast at the end of `hours`."""
        share = len(hours) / 24
        tomorrow = shifted(self._history, hours)
        today = relabelled(tomorrow, -1)
        parts = [self._forecast(panel) for panel in (today, tomorrow)]
        (before, spread, status), (after, later_spread, _) = parts
        log_variance = (1 - share) * before + share * after
        log_quantiles = (1 - share) * spread + share * later_spread
        if self._correct is not None:
            log_quantiles = self._correct(log_quantiles)
        words = [own if own != OK else text for own, text in zip(hours.status, status, strict=True)]
        refused = np.array([own != OK for own in hours.status])
        log_variance[refused] = np.nan
        log_quantiles[refused] = np.nan
        return Nowcast(
            at=pd.Timestamp(hours.end, tz="UTC").to_pydatetime(),
            as_of=self.as_of,
            assets=self.assets,
            variance=np.exp(log_variance),
            log_quantiles=log_quantiles,
            status=tuple(words),
            notes=hours.notes,
        )

    def _forecast(self, panel: Panel) -> tuple[Floats, Floats, list[Any]]:
        """Log variance (N, H), log quantiles (N, H, Q) and status (N,) on the panel's last day."""
        found = self.model.forecast(panel, [panel.days[-1].astype(date)])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(found.variance[0]), found.log_quantiles[0], list(found.status[0])
