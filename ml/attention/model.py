r"""The attention model as the platform calls it: fit, forecast, state; and what explanations need of it.

    log variance_{D,h} = anchor_{D,h} + lambda_h * cap * tanh(w_h' x_D)

x_D is the forecast token after attention over daily and hourly price tokens and one context token per modality; lambda_h
in [0, 1] is chosen on a validation block and is 0 where the network did not help: then the forecast is the anchor's
(anchors/; the panel HAR by default). Where a
modality is missing that the coin usually has, the quantiles move away from their median by the factor that the validation block
asked for (widening.py).

`forecast` runs the exported graph (export.py, runtime.py); maps and attributions run the eager network, in double precision.

In: a `Panel`. Out: `Forecasts` with its own quantiles, `AttentionMaps`, `ModelState`.
Never: a row after the as_of day, a forecast without its anchor, or a number that belongs to one coin
outside the anchor: a coin that training never saw is forecast wherever the anchor gives a forecast for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.attention.anchors import Anchor, anchor_class, gives_anchor
from ml.attention.checkpoints import Checkpoints
from ml.attention.config import AttentionConfig
from ml.attention.execution import deterministic, one_thread
from ml.attention.export import arrays, export_graph, graph_refusal
from ml.attention.fitting import Fitted, fit
from ml.attention.loop import Progress
from ml.attention.maps import AttentionMaps, context_ages, token_providers, token_table
from ml.attention.network import ResidualForecaster
from ml.attention.runtime import FORMAT, GraphRunner
from ml.attention.scaling import encode
from ml.attention.stored import NAME, FittedModel, earlier_version, from_state, to_state
from ml.attention.streaming import StreamingForecaster
from ml.attention.tokens import (
    MAX_LOOKBACK_DAYS,
    PRICE_GROUPS,
    price_share,
    unread_venues,
)
from ml.attention.widening import NEW_COIN, widen
from ml.calibration import calibrate
from ml.explain.checks import Check
from ml.explain.protocol import TokenBatch
from ml.forecasts import HORIZONS, QUANTILE_LEVELS, Forecasts
from ml.model import ModelState
from ml.panel import Panel

FloatArray = NDArray[np.float64]
log = logging.getLogger(__name__)
CHECKED_DAYS, CHECKED_FORECASTS = 66, 64
"""A graph is checked on the newest forecasts of these last days of the training panel, so many at most."""


class AttentionModel:
    """An anchor plus a bounded attention residual, for all coins by shared weights.

    Example
    -------
    >>> model = AttentionModel()
    >>> model.fit(panel, date(2023, 6, 30), {"epochs": 10}, seed=0)
    >>> model.forecast(panel, [date(2023, 7, 1)]).to_frame()
    """

    name = NAME
    lookback_days: ClassVar[int] = MAX_LOOKBACK_DAYS

    @classmethod
    def lookback_of(cls, config: Mapping[str, Any]) -> int:
        """Days that tokens and anchor of this config read, the as_of day included; ValueError on a bad config."""
        return _lookback_days(AttentionConfig.from_mapping(config))

    def __init__(self) -> None:
        self.device = "cpu"
        self._fitted: FittedModel | None = None
        self._told: set[str] = set()
        self._runner: GraphRunner | None = None

    def fit(
        self,
        panel: Panel,
        trained_as_of: date,
        config: Mapping[str, Any],
        seed: int,
        progress: Progress | None = None,
        checkpoints: Checkpoints | None = None,
        earlier: ModelState | None = None,
    ) -> None:
        """See `VolatilityModel.fit`. progress(epoch, metrics) is called after every epoch.

        checkpoints: where the training is kept, and what a killed fit goes on from with the same result. earlier: the state of an earlier
        version of the same config, to start from where the config says `warm_start`; ValueError for any other.
        Raises ExportError where the exported graph does not reproduce the network (ml/attention/export.py).
        """
        settings = AttentionConfig.from_mapping(config)
        lookback = _lookback_days(settings)
        known = panel.until(trained_as_of).window(settings.window_days + lookback)
        first = max(0, len(known.days) - settings.window_days)
        anchor = anchor_class(settings.anchor)()
        anchor.fit(panel, trained_as_of, settings.window_days, seed)
        before = (
            None if earlier is None else earlier_version(earlier, settings, str(known.days[-1]))
        )
        with one_thread(), deterministic(self.device):
            found = fit(known, first, settings, seed, self.device, progress, checkpoints, before)
        self._fitted = FittedModel(
            config=settings,
            anchor=anchor,
            slots=found.slots,
            scaler=found.scaler,
            forecaster=found.forecaster,
            calibrated=found.selection.calibrated,
            widening=found.widening,
            graph=None,
            meta=self._meta(known, first, settings, seed, anchor, found),
        )
        self._runner = None
        with one_thread():
            self._export(known)

    def _export(self, known: Panel) -> None:
        """Add the graph, checked on the newest forecasts of the training panel, to what was fitted."""
        fitted = self._fit()
        refusal = graph_refusal(fitted.config.network.kernel)
        graph = None
        if refusal is None:
            examples = self.encode(known, known.days[-CHECKED_DAYS:].tolist())
            examples = examples.rows(max(0, len(examples) - CHECKED_FORECASTS), len(examples))
            if len(examples):
                graph = export_graph(fitted.forecaster, examples)
            else:
                refusal = f"the last {CHECKED_DAYS} days give no forecast to check a graph on"
        inference = {"runtime": FORMAT} if graph else {"runtime": "eager", "reason": str(refusal)}
        self._fitted = replace(fitted, graph=graph, meta=fitted.meta | {"inference": inference})

    def _meta(
        self,
        known: Panel,
        first: int,
        settings: AttentionConfig,
        seed: int,
        anchor: Anchor,
        found: Fitted,
    ) -> dict[str, Any]:
        calibration = calibrate(known, found.window_variance)
        anchor_meta = {key: value for key, value in anchor.state().meta.items() if key != "tail"}
        return {
            "model": self.name,
            "assets": list(known.assets),
            "horizons": list(HORIZONS),
            "config": settings.as_mapping(),
            "seed": seed,
            "trained_as_of": str(known.days[-1]),
            "train_start": str(known.days[first]),
            "train_end": str(known.days[-1]),
            "observations": calibration.observations,
            "status": dict(anchor_meta["status"]),
            "in_window": calibration.in_window,
            "tail": calibration.tail,
            "networks": len(found.forecaster.networks),
            "token_slots": found.slots.as_mapping(),
            "fit": found.record,
            "anchor": anchor_meta,
        }

    def forecast(self, panel: Panel, as_of: Sequence[date]) -> Forecasts:
        """See `VolatilityModel.forecast`."""
        rows = panel.rows(as_of)
        self._tell_unread(panel)
        shape = (len(rows), len(panel.assets), len(HORIZONS))
        log_variance = np.full(shape, np.nan)
        log_quantiles = np.full((*shape, len(QUANTILE_LEVELS)), np.nan)
        anchor, status = self._anchor(panel, as_of)
        for position, column, batch in self._batches(panel, rows, anchor):
            point, quantiles = self._predict(batch)
            log_variance[position, column] = point
            log_quantiles[position, column] = widen(quantiles, self._widening(panel, batch))
        return Forecasts(
            model=self.name,
            days=panel.days[rows],
            assets=panel.assets,
            horizons=HORIZONS,
            variance=np.exp(log_variance),
            log_quantiles=log_quantiles,
            calibrated=self._calibrated(panel),
            status=status,
        )

    def _predict(self, batch: TokenBatch) -> tuple[FloatArray, FloatArray]:
        """Log variance (B, H) and log quantiles (B, H, Q) by the exported graph; eagerly, in double precision, where there is none.

        Raises RuntimeMissingError where there is a graph and nothing to run it with.
        """
        graph = self._fit().graph
        if graph is not None:
            self._runner = self._runner or GraphRunner(graph)
            return self._runner.run_all(*arrays(batch))
        with torch.no_grad():
            point, quantiles = self.forecaster(batch.inputs, batch.mask, batch.anchor)
        return point.cpu().numpy(), quantiles.cpu().numpy()

    def attention(self, panel: Panel, as_of: Sequence[date]) -> AttentionMaps:
        """Exact weights of the forecast token for every forecast that is not refused."""
        rows = panel.rows(as_of)
        config = self._fit().config
        table = token_table(config.tokens, self._fit().slots)
        heads = config.network.n_heads * len(self.forecaster.networks)
        grid = (len(rows), len(panel.assets))
        weights = np.full((*grid, config.network.n_layers, heads, len(table.scale)), np.nan)
        present = np.zeros((*grid, len(table.scale)), dtype=bool)
        anchor, _ = self._anchor(panel, as_of)
        with torch.no_grad():
            for position, column, batch in self._batches(panel, rows, anchor):
                layers = [layer[:, :, 0] for layer in self.attention_layers(batch)]
                # (batch, layer, head, token)
                weights[position, column] = torch.stack(layers, dim=1).cpu().numpy()
                present[position, column] = batch.mask.cpu().numpy()
        provider_names, provider = token_providers(panel, rows, table)
        return AttentionMaps(
            model=self.name,
            source=panel.source,
            days=panel.days[rows],
            assets=panel.assets,
            weights=weights,
            present=present,
            tokens=table,
            head_scales=config.network.head_scales * len(self.forecaster.networks),
            context_age_days=context_ages(panel, rows, table),
            provider_names=provider_names,
            provider=provider,
        )

    def streaming(self, panel: Panel, as_of: date, asset: str) -> StreamingForecaster:
        """One coin's forecast as of a day, kept up to date as its tokens change, with the same widening of its quantiles.

        Raises ValueError for a coin that the panel lacks or whose forecast is refused, and unless the model has one layer and
        kernel 'linear'. The anchor stays that of the day.
        """
        if asset not in panel.assets:
            raise ValueError(f"asset {asset!r}: expected one of {', '.join(panel.assets)}")
        column = panel.assets.index(asset)
        anchor, status = self._anchor(panel, [as_of])
        if not np.isfinite(anchor[0, column]).all():
            raise ValueError(f"{asset} has no forecast as of {as_of}: {status[0, column]}")
        columns = np.array([column])
        batch = self._encode(panel, panel.rows([as_of]), columns, anchor[0, columns])

        def widening(mask: NDArray[np.bool_]) -> FloatArray:
            own: FloatArray = self._widening(panel, batch.with_mask(torch.tensor(mask[None])))[0]
            return own

        inputs, mask, _ = arrays(batch)
        tokens = {group: values[0] for group, values in inputs.items()}
        return StreamingForecaster(self.forecaster, tokens, mask[0], anchor[0, column], widening)

    @property
    def horizons(self) -> tuple[int, ...]:
        return HORIZONS

    @property
    def always_present(self) -> tuple[str, ...]:
        return ("calendar", *PRICE_GROUPS)

    @property
    def forecaster(self) -> ResidualForecaster:
        """The fitted function of tokens and anchor, in double precision, on this model's device."""
        return self._fit().forecaster.to(self.device)

    def encode(self, panel: Panel, as_of: Sequence[date]) -> TokenBatch:
        """Tokens of every forecast that is not refused, day by day in the panel's order of coins."""
        rows = panel.rows(as_of)
        anchor, _ = self._anchor(panel, as_of)
        position, column = np.nonzero(np.isfinite(anchor).all(axis=-1))
        return self._encode(panel, rows[position], column, anchor[position, column])

    def forward_tokens(self, batch: TokenBatch) -> Tensor:
        """Log variance (B, H), differentiable in the tokens; the anchor is held fixed."""
        point: Tensor = self.forecaster(batch.inputs, batch.mask, batch.anchor)[0]
        return point

    def attention_layers(self, batch: TokenBatch) -> list[Tensor]:
        """Weights per layer, (B, head, query, token); the last layer has the forecast token's row only."""
        return self.forecaster.attention(batch.inputs, batch.mask)

    def residual_weight(self) -> FloatArray:
        """(H,) the shrinkage factors; all 0 when no network was trained."""
        return np.asarray(self.forecaster.shrinkage.cpu().numpy(), dtype=np.float64)

    @property
    def fitted(self) -> FittedModel:
        """The fitted parts; RuntimeError before `fit`."""
        return self._fit()

    def of(self, fitted: FittedModel) -> AttentionModel:
        """Another model of those parts, on this one's device."""
        other = AttentionModel()
        other.device, other._fitted = self.device, fitted
        return other

    def explanation_checks(
        self,
        panel: Panel,
        report: Callable[[str], None],
        checkpoints: Checkpoints | None = None,
    ) -> list[Check]:
        """Whether explanations depend on what was learnt and would come out again; panel: what the model was fitted on.

        Trains two networks (twins.py); the fitted model stays as it is.
        """
        from ml.attention.twins import explanation_checks

        return explanation_checks(self, panel, report, checkpoints)

    def _fit(self) -> FittedModel:
        if self._fitted is None:
            raise RuntimeError("attention has no state yet: call fit first")
        return self._fitted

    def _anchor(self, panel: Panel, as_of: Sequence[date]) -> tuple[FloatArray, NDArray[Any]]:
        """Log anchor (D, N, H), NaN where the forecast is refused, and status (D, N)."""
        fitted = self._fit()
        anchor, status = fitted.anchor.forecast(panel, as_of)
        tokens = fitted.config.tokens
        share = price_share(panel, tokens)[panel.rows(as_of)]
        few = (share < tokens.min_price_share) & gives_anchor(status)
        for day, column in np.argwhere(few):
            found = round(share[day, column] * tokens.daily_days)
            status[day, column] = (
                f"{found} of the last {tokens.daily_days} days have complete prices:"
                f" expected a share of {tokens.min_price_share:g}"
            )
        anchor[~gives_anchor(status)] = np.nan
        return anchor, status

    def _batches(
        self, panel: Panel, rows: NDArray[np.int64], anchor: FloatArray
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], TokenBatch]]:
        """(day positions, coin columns, tokens) of the forecasts that are not refused, a day at a time.

        Matrix products round otherwise in a batch of another shape: with the same batch, a day's numbers are bit for bit
        the same whether it is asked for alone or among others.
        """
        for day in range(len(rows)):
            (columns,) = np.nonzero(np.isfinite(anchor[day]).all(axis=-1))
            if len(columns):
                place = np.full(len(columns), day)
                yield (
                    place,
                    columns,
                    self._encode(panel, rows[place], columns, anchor[day, columns]),
                )

    def _encode(
        self, panel: Panel, rows: NDArray[np.int64], columns: NDArray[np.int64], anchor: FloatArray
    ) -> TokenBatch:
        fitted = self._fit()
        tokens = fitted.config.tokens
        inputs, mask = encode(panel, rows, columns, tokens, fitted.slots, fitted.scaler)
        return TokenBatch(
            inputs={
                group: torch.from_numpy(values).to(self.device, torch.float64)
                for group, values in inputs.items()
            },
            mask=torch.from_numpy(mask).to(self.device),
            anchor=torch.tensor(anchor, dtype=torch.float64, device=self.device),
            days=panel.days[rows],
            assets=columns,
        )

    def _widening(self, panel: Panel, batch: TokenBatch) -> FloatArray:
        """(B, H) factor of each forecast's quantiles: 1 where no modality is missing that its coin usually has."""
        fitted = self._fit()
        known: list[str] = fitted.meta["assets"]
        names = [panel.assets[column] for column in batch.assets]
        own = np.array([known.index(a) if a in known else NEW_COIN for a in names], np.int64)
        present = fitted.config.tokens.context_presence(batch.mask.cpu().numpy())
        return fitted.widening.of(present, own)

    def _tell_unread(self, panel: Panel) -> None:
        """Log once which venues have no slot: they came after training, or training had more than slots."""
        unread = set(unread_venues(panel, self._fit().slots)) - self._told
        if unread and self._fit().config.tokens.funding_venues:
            log.info("funding venues without a slot are not read: %s", ", ".join(sorted(unread)))
        self._told |= unread

    def _calibrated(self, panel: Panel) -> NDArray[np.bool_]:
        fitted = self._fit()
        known: list[str] = fitted.meta["assets"]
        none = np.zeros(len(HORIZONS), dtype=bool)
        rows = [fitted.calibrated[known.index(a)] if a in known else none for a in panel.assets]
        return np.array(rows, dtype=bool).reshape(len(panel.assets), len(HORIZONS))

    def state(self) -> ModelState:
        """See `VolatilityModel.state`."""
        return to_state(self._fit())

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `VolatilityModel.from_state`; on the CPU."""
        if state.meta["model"] != cls.name:
            raise ValueError(f"state of model {state.meta['model']!r}: expected {cls.name!r}")
        model = cls()
        model._fitted = from_state(state)
        return model


def _lookback_days(config: AttentionConfig) -> int:
    return max(config.tokens.lookback_days, anchor_class(config.anchor).lookback_days)
