r"""LSTM and GRU: the recurrent networks that attention has to beat, on the same anchor and with the same means.

    log variance_{D,h} = anchor_{D,h} + lambda_h * w_h' s_D

s_D is the last state of a small recurrent network over the last 22 days of HARX-cal's regressors, shared by all coins.
The anchor is HARX-cal's forecast (config `anchor`: 'none' takes log rv_22d, so that the network has to find all of it).
lambda_h in [0, 1] is chosen on a validation block, the newest part of the window, and is 0 where the network did not help.

In: a panel. Out: forecasts. Never: a training target that reaches into the validation block, a scale fitted on it, or a
draw from the global random generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.baselines.har import HarxCal, cross_fitted_variance
from ml.baselines.recurrent_training import (
    Kind,
    Network,
    Progress,
    RecurrentConfig,
    Samples,
    choose_shrinkage,
    one_thread,
    predict,
    train,
)
from ml.baselines.regressors import REGRESSORS, design
from ml.calibration import Floats, PointFit, PointForecastModel, gives_forecasts
from ml.forecasts import HORIZONS
from ml.model import ModelState, window_days
from ml.panel import Panel

SEQUENCE_DAYS = 22
CLIP = 5.0
"""Standard deviations at which inputs are cut."""


class Recurrent(PointForecastModel):
    """A recurrent residual on an anchor, all coins by shared weights; QLIKE loss, early stopping, one seed.

    Sources: Hochreiter and Schmidhuber (1997), Neural Computation 9 (LSTM); Cho et al. (2014), EMNLP (GRU); for
    volatility Bucci (2020), "Realized volatility forecasting with neural networks", Journal of Financial Econometrics 18.
    Config: the fields of `RecurrentConfig`.
    """

    kind: ClassVar[Kind]
    lookback_days = SEQUENCE_DAYS
    out_of_sample_residuals = True
    config_keys = tuple(field.name for field in fields(RecurrentConfig))

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._loaded: tuple[Network, HarxCal | None] | None = None

    def fit(
        self,
        panel: Panel,
        trained_as_of: date,
        config: Mapping[str, Any],
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        """See `VolatilityModel.fit`. progress(epoch, metrics) is called after every epoch."""
        self._progress, self._loaded = progress, None
        super().fit(panel, trained_as_of, config, seed)

    def _fit(self, panel: Panel, first: int, config: Mapping[str, Any], seed: int) -> PointFit:
        chosen = {key: value for key, value in config.items() if key != "window_days"}
        settings = RecurrentConfig(**chosen)
        last, days = panel.days[-1].item(), {"window_days": window_days(config, self.config_keys)}
        tensors: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {}
        status: dict[str, str] = {}
        if settings.anchor == "none":
            anchor = _own_anchor(panel, np.arange(first, len(panel.days)))
        else:
            served = HarxCal()
            served.fit(panel, last, days, seed)
            state = served.state()
            tensors |= {f"anchor.{key}": value for key, value in state.tensors.items()}
            meta["anchor"] = {key: value for key, value in state.meta.items() if key != "tail"}
            texts = state.meta["status"].items()
            status = {asset: text for asset, text in texts if not gives_forecasts(text)}
            with np.errstate(invalid="ignore"):
                anchor = np.log(cross_fitted_variance(panel, last, days)[1])  # (W, N, H)
        validation = _validation_days(len(anchor), settings)
        boundary = len(anchor) - validation  # first validation row of the window
        inputs = _inputs(panel)
        mean, sd = _scale(inputs[first : first + boundary])
        with one_thread():
            samples, blocks = _samples(panel, first, anchor, _scaled(inputs, mean, sd), boundary)
            network, record = train(
                self.kind, samples, blocks, settings, seed, self.device, self._progress
            )
            shrinkage = choose_shrinkage(network, samples.take(blocks["validation"]), self.device)
        variance = np.full((len(panel.days), len(panel.assets), len(HORIZONS)), np.nan)
        held_out = samples.take(blocks["validation"])
        residual = predict(network, held_out.sequence, self.device) * shrinkage
        variance[blocks["validation_rows"], blocks["validation_coins"]] = np.exp(
            held_out.anchor.numpy() + residual
        )
        tensors |= {"mean": mean, "sd": sd, "shrinkage": shrinkage}
        tensors |= {
            f"network.{key}": value.cpu().numpy() for key, value in network.state_dict().items()
        }
        meta |= {"hidden": settings.hidden, "anchor_name": settings.anchor, "training": record}
        return PointFit(variance, tensors, meta, status)

    def _variance(self, panel: Panel, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[Any]]:
        network, served = self._network()
        tensors = self.state().tensors
        reason = np.full((len(rows), len(panel.assets)), "", dtype=object)
        if served is None:
            anchor = _own_anchor(panel, rows)
            reason[~np.isfinite(anchor).all(axis=-1)] = "rv_22d is missing or 0"
        else:
            forecasts = served.forecast(panel, [panel.days[row].item() for row in rows])
            anchor = np.log(forecasts.variance)
            refused = ~np.isfinite(anchor).all(axis=-1)
            reason[refused] = forecasts.status[refused]
        scaled = _scaled(_inputs(panel), tensors["mean"], tensors["sd"])
        variance = np.full_like(anchor, np.nan)
        with one_thread():
            for position, row in enumerate(rows):  # a day at a time: the same batch, the same bits
                residual = predict(network, _sequences(scaled, np.array([row])), self.device)
                variance[position] = np.exp(anchor[position] + residual * tensors["shrinkage"])
        return variance, reason

    def _network(self) -> tuple[Network, HarxCal | None]:
        if self._loaded is None:
            state = self.state()
            own = _with_prefix(state.tensors, "network.")
            with torch.random.fork_rng(devices=[]):
                network = Network(self.kind, len(state.tensors["mean"]) + 1, state.meta["hidden"])
            network.load_state_dict({key: torch.tensor(value) for key, value in own.items()})
            anchor = None
            if "anchor" in state.meta:
                held = ModelState(_with_prefix(state.tensors, "anchor."), state.meta["anchor"])
                anchor = HarxCal.from_state(held)
            self._loaded = network, anchor
        return self._loaded


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    name = "lstm"
    kind = "lstm"


class Gru(Recurrent):
    """Gated recurrent unit (Cho et al. 2014)."""

    name = "gru"
    kind = "gru"


def _with_prefix(tensors: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _validation_days(days: int, settings: RecurrentConfig) -> int:
    wanted = max(settings.validation_days, round(settings.validation_share * days))
    return min(wanted, days // 2)


def _own_anchor(panel: Panel, rows: NDArray[np.int64]) -> Floats:
    """(D, N, H) log of the mean variance of the last 22 days, at every horizon."""
    values = panel.feature("rv_22d")[rows]
    logs = np.log(np.where(values > 0, values, np.nan))
    return np.repeat(logs[..., None], len(HORIZONS), axis=-1)


def _inputs(panel: Panel) -> Floats:
    """(T, N, P) HARX-cal's regressors without the intercept."""
    return design(panel, REGRESSORS)[..., 1:]


def _scale(inputs: Floats) -> tuple[Floats, Floats]:
    """Mean and sd (P,) over the days and coins of the training block; 0 and 1 where nothing is known or varies."""
    flat = inputs.reshape(-1, inputs.shape[-1])
    known = np.isfinite(flat)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, flat, 0.0).sum(axis=0) / count
    sd = np.sqrt(np.where(known, (flat - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(sd > 0, sd, 1.0)


def _scaled(inputs: Floats, mean: Floats, sd: Floats) -> NDArray[np.float32]:
    """(T, N, P + 1): standardised and cut, 0 for what is missing, and the share that is missing."""
    known = np.isfinite(inputs)
    values = np.where(known, np.clip((inputs - mean) / sd, -CLIP, CLIP), 0.0)
    missing = 1.0 - known.mean(axis=-1, keepdims=True)
    return np.concatenate([values, missing], axis=-1).astype(np.float32)


def _sequences(
    scaled: NDArray[np.float32], rows: NDArray[np.int64], coins: NDArray[np.int64] | None = None
) -> Tensor:
    """(S, 22, P + 1): the days up to each row, of the coin beside it or, without coins, of every coin of one row.

    Days before the panel are as missing ones.
    """
    empty = np.zeros((SEQUENCE_DAYS - 1, *scaled.shape[1:]), dtype=np.float32)
    empty[..., -1] = 1.0
    padded = np.concatenate([empty, scaled])
    if coins is None:
        coins, rows = np.arange(scaled.shape[1]), np.repeat(rows, scaled.shape[1])
    days = rows[:, None] + np.arange(SEQUENCE_DAYS)
    return torch.from_numpy(padded[days, coins[:, None]])


def _samples(
    panel: Panel, first: int, anchor: Floats, scaled: NDArray[np.float32], boundary: int
) -> tuple[Samples, dict[str, Any]]:
    """All usable rows of the window, and which are for training and for validation."""
    target = np.stack([panel.target(horizon)[first:] for horizon in HORIZONS], axis=-1)
    logs = np.log(np.where(target > 0, target, np.nan))  # (W, N, H)
    row = np.arange(len(logs))[:, None]
    for column, horizon in enumerate(HORIZONS):  # the purge
        reaches = (row < boundary) & (row + horizon >= boundary)
        logs[..., column] = np.where(reaches, np.nan, logs[..., column])
    usable = np.isfinite(anchor).all(axis=-1) & np.isfinite(logs).any(axis=-1)
    rows, coins = np.nonzero(usable)
    samples = Samples(
        _sequences(scaled, first + rows, coins),
        torch.tensor(anchor[rows, coins], dtype=torch.float32),
        torch.tensor(logs[rows, coins], dtype=torch.float32),
    )
    later = rows >= boundary
    return samples, {
        "training": torch.from_numpy(np.flatnonzero(~later)),
        "validation": torch.from_numpy(np.flatnonzero(later)),
        "validation_rows": first + rows[later],
        "validation_coins": coins[later],
    }
