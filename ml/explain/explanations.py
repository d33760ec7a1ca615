"""Explanations of forecasts: rollout, integrated gradients, ablation and the audit's verdict, in one frame.

In: a `TokenForecaster`, a panel and as_of days. Out: rows in the layout of forecasts.explanations, one per forecast, horizon
and feature group. Never: a row for a forecast that was refused, or for a group that the forecast did not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ml.explain.attribution import ablation_effects, integrated_gradients, present_groups
from ml.explain.audit import AuditThresholds, audit
from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.rollout import attention_rollout
from ml.panel import Panel

FloatArray = NDArray[np.float64]
EXPLANATION_COLUMNS = (
    "source",
    "asset",
    "as_of",
    "horizon",
    "model",
    "model_version",
    "feature_group",
    "attention_rollout",
    "integrated_gradients",
    "ablation_effect",
    "completeness_error",
    "verdict",
    "verdict_reason",
)


@dataclass(frozen=True)
class ExplainConfig:
    """How much work goes into an explanation."""

    gradient_steps: int = 16  # Gauss-Legendre nodes of integrated gradients
    thresholds: AuditThresholds = field(default_factory=AuditThresholds)

    def __post_init__(self) -> None:
        if self.gradient_steps < 1:
            raise ValueError(f"gradient_steps {self.gradient_steps}: expected a positive integer")


def explain(
    forecaster: TokenForecaster,
    panel: Panel,
    as_of: Sequence[date],
    model_version: str = "",
    config: ExplainConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Explain every forecast of those days; columns `EXPLANATION_COLUMNS`. progress(done, total) counts forecasts."""
    config = config or ExplainConfig()
    batch = forecaster.encode(panel, as_of)
    parts = []
    # A day at a time: in a batch of another shape matrix products round otherwise, and a day alone would differ from a block.
    edges = np.flatnonzero(np.diff(batch.days.astype(np.int64), prepend=-1, append=-1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        parts.append(_explain_batch(forecaster, batch.rows(start, stop), config))
        if progress is not None:
            progress(stop, len(batch))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_PART_COLUMNS)
    frame["asset"] = pd.Series([panel.assets[i] for i in frame["asset"]], dtype="str")
    frame["source"], frame["model"] = panel.source, forecaster.name
    frame["model_version"] = model_version
    return frame[list(EXPLANATION_COLUMNS)]


_PART_COLUMNS = [c for c in EXPLANATION_COLUMNS if c not in ("source", "model", "model_version")]


def group_rollout(forecaster: TokenForecaster, batch: TokenBatch) -> FloatArray:
    """(B, G) rollout summed over the tokens of each group; NaN for groups that are not there."""
    with torch.no_grad():
        rollout = attention_rollout(forecaster.attention_layers(batch))  # (B, token)
    sums = [rollout[:, batch.token_slice(group)].sum(dim=1) for group in batch.inputs]
    found = np.asarray(torch.stack(sums, dim=1).cpu().numpy(), dtype=np.float64)
    return np.where(present_groups(batch), found, np.nan)


def _explain_batch(
    forecaster: TokenForecaster, batch: TokenBatch, config: ExplainConfig
) -> pd.DataFrame:
    present = present_groups(batch)
    rollout = group_rollout(forecaster, batch)
    ablation = ablation_effects(forecaster, batch)  # (B, G, H)
    weights = forecaster.residual_weight()
    used = np.flatnonzero(
        weights
    ).tolist()  # elsewhere the forecast is the anchor: nothing to attribute
    found = integrated_gradients(forecaster, batch, config.gradient_steps, used)
    frames = []
    for index, horizon in enumerate(forecaster.horizons):
        gradients = np.where(present, found.by_group[:, :, index], np.nan)
        error = found.completeness_error[:, index]
        verdicts = audit(
            rollout,
            gradients,
            ablation[:, :, index],
            error,
            float(weights[index]),
            config.thresholds,
        )
        row, group = np.nonzero(present)
        frames.append(
            pd.DataFrame(
                {
                    "asset": batch.assets[row],
                    "as_of": batch.days.astype("datetime64[s]")[row],
                    "horizon": horizon,
                    "feature_group": pd.Series(
                        np.array(tuple(batch.inputs), dtype=object)[group], dtype="str"
                    ),
                    "attention_rollout": rollout[row, group],
                    "integrated_gradients": gradients[row, group],
                    "ablation_effect": ablation[row, group, index],
                    "completeness_error": error[row],
                    "verdict": pd.Series(verdicts.verdict[row], dtype="str"),
                    "verdict_reason": pd.Series(verdicts.reason[row], dtype="str"),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
