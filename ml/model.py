"""The one protocol at which every model meets the platform: fit, forecast, state.

In: a `Panel` and the last day that the fit may use. Out: `Forecasts`, and a `ModelState` that `ml.artifacts` stores.
Never: reading rows after the as_of day that is being forecast, or targets that end after `trained_as_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ml.forecasts import Forecasts
from ml.panel import Panel

DEFAULT_WINDOW_DAYS = 1500
"""Length of the rolling training window in days, when the config names none."""


@dataclass(frozen=True)
class ModelState:
    """What a fitted model is: named arrays and JSON facts about them, nothing executable.

    `meta` holds at least, for every model:
    - `model`, `assets`, `horizons`, `config`, `seed`;
    - `trained_as_of`, `train_start`, `train_end` (ISO dates of the training rows);
    - `observations`: {asset: {horizon: n}};
    - `status`: {asset: 'ok' or why the coin has no forecast, or which fallback it has};
    - `in_window`: {asset: {horizon: {'qlike': mean zero-centred QLIKE, 'n': n}}};
    - `tail`: {asset: {horizon: TailFit as dict}} (see ml.risk.tails).

    Horizon keys are strings, as JSON has no others. No clock time, host or device goes in: the same inputs and seed
    must give the same bytes.
    """

    tensors: dict[str, NDArray[Any]]
    meta: dict[str, Any]


@runtime_checkable
class VolatilityModel(Protocol):
    """A forecaster of mean daily variance over each horizon, for all assets of a panel at once."""

    name: str
    """Its key in `ml.models`."""
    lookback_days: ClassVar[int]
    """Days of history up to and including an as_of that a forecast for it reads (a fit reads so many before the window). A
    model whose config decides has the most that any config may ask for, and a class method `lookback_of(config)`."""
    device: str
    """'cpu' or 'cuda'; the worker sets it before `fit`. Models without torch ignore it."""

    def fit(self, panel: Panel, trained_as_of: date, config: Mapping[str, Any], seed: int) -> None:
        """Fit on `panel.until(trained_as_of)`; `config['window_days']` (default 1500) is the rolling window.

        A coin with too little data is refused with a reason in the state, never an exception; an unknown config key or
        a bad value is a ValueError that quotes it.
        """
        ...

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> Forecasts:
        """Forecast each day of `as_of`, from rows up to that day only.

        A day gives the same numbers alone and in a block, and with or without later rows in the panel.
        """
        ...

    def state(self) -> ModelState:
        """The fitted state; RuntimeError before `fit`."""
        ...

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """The model again, so that its forecasts equal those of the model that gave `state`."""
        ...


def lookback_days(model: type[VolatilityModel], config: Mapping[str, Any]) -> int:
    """Days that a model of this class and config reads before an as_of (itself included), or before the window of a fit."""
    lookback_of = getattr(model, "lookback_of", None)
    return model.lookback_days if lookback_of is None else int(lookback_of(config))


def fitted_lookback_days(model: VolatilityModel) -> int:
    """Days that a fitted model reads before an as_of, itself included."""
    return lookback_days(type(model), model.state().meta["config"])


def window_days(config: Mapping[str, Any], known: Sequence[str] = ()) -> int:
    """`config['window_days']`, checked; ValueError on keys that are neither it nor in `known`."""
    unknown = sorted(set(config) - {"window_days", *known})
    if unknown:
        allowed = ", ".join(sorted({"window_days", *known}))
        raise ValueError(f"config key {unknown[0]!r}: expected one of {allowed}")
    days = config.get("window_days", DEFAULT_WINDOW_DAYS)
    if isinstance(days, bool) or not isinstance(days, int | np.integer) or days < 1:
        raise ValueError(f"window_days {days!r}: expected a positive whole number of days")
    return int(days)
