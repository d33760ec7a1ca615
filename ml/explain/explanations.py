"""Explanations of forecasts, by feature group and by token, and their audit, in frames.

In: a `TokenForecaster`, a panel, as_of days and the checks of the version. Out: rows in the layout of forecasts.explanations (a forecast,
horizon and feature group), forecasts.attention_audits (a forecast and horizon: every figure behind the verdict) and
forecasts.token_attributions (a forecast, horizon and token, where the forecast uses its tokens).
Never: a row for a forecast that was refused, or for a group or token that the forecast did not have; a number that depends on which other days were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import date

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ml.explain.attribution import Attribution, ablation_effects, integrated_gradients
from ml.explain.audit import AuditThresholds, Figures, audit, check_verdict
from ml.explain.checks import DATA_RANDOMISATION, SEED_STABILITY, WEIGHT_RANDOMISATION, Check
from ml.explain.curves import Curves, deletion_and_insertion
from ml.explain.fidelity import infidelity, max_sensitivity
from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.ranks import spearman
from ml.explain.removal import (
    BoolArray,
    FloatArray,
    audited_groups,
    present_groups,
    seed_of,
    tokens_of_groups,
)
from ml.explain.rollout import by_group, group_rollout, token_rollout
from ml.panel import Panel

KEY = ("source", "asset", "as_of", "horizon", "model", "model_version")
EXPLANATION_COLUMNS = (
    *KEY,
    "feature_group",
    "attention_rollout",
    "integrated_gradients",
    "ablation_effect",
    "completeness_error",
    "verdict",
    "verdict_reason",
)
TOKEN_COLUMNS = (*KEY, "token", "feature_group", "attention_rollout", "integrated_gradients")
AUDIT_COLUMNS = (
    *KEY,
    "residual_weight",
    "feature_groups",
    "completeness_error",
    "gradient_agreement",
    "ablation_agreement",
    "largest_effect",
    "deletion_area",
    "deletion_area_random",
    "deletion_p",
    "insertion_area",
    "insertion_area_random",
    "insertion_p",
    "order_p",
    "token_deletion_area",
    "token_deletion_area_random",
    "token_insertion_area",
    "token_insertion_area_random",
    "token_order_p",
    "infidelity",
    "infidelity_share",
    "attention_infidelity_share",
    "attention_sensitivity",
    "gradient_sensitivity",
    "weight_randomisation",
    "data_randomisation",
    "seed_stability",
    "thresholds",
    "verdict",
    "verdict_reason",
)


@dataclass(frozen=True)
class ExplainConfig:
    """How much work goes into an explanation."""

    gradient_steps: int = 16  # Gauss-Legendre nodes of integrated gradients
    group_orders: int = 100  # random orders of groups: the least p is 1 / 101
    token_orders: int = 20  # random orders of tokens
    token_steps: int = 10  # points of a token's curve
    removals: int = 32  # random sets of groups of which infidelity is the mean
    radius: float = 0.1  # of max-sensitivity, in training standard deviations
    attention_moves: int = 8  # perturbed inputs of which it is the maximum
    gradient_moves: int = 4  # likewise for integrated gradients,
    gradient_move_steps: int = 4  # with so many nodes
    thresholds: AuditThresholds = field(default_factory=AuditThresholds)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type == "int" and value < 1:
                raise ValueError(f"{item.name} {value}: expected a positive integer")
        for name in ("group_orders", "token_orders"):
            if getattr(self, name) % 2:
                raise ValueError(
                    f"{name} {getattr(self, name)}: expected an even number, orders come with their reverses"
                )
        if not self.radius > 0:
            raise ValueError(f"radius {self.radius}: expected a positive number")


@dataclass(frozen=True)
class Explained:
    """Explanations and audits of the same forecasts."""

    explanations: pd.DataFrame  # EXPLANATION_COLUMNS
    audits: pd.DataFrame  # AUDIT_COLUMNS
    tokens: pd.DataFrame  # TOKEN_COLUMNS


def explain(
    forecaster: TokenForecaster,
    panel: Panel,
    as_of: Sequence[date],
    model_version: str = "",
    config: ExplainConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    checks: Sequence[Check] = (),
) -> Explained:
    """Explain and audit every forecast of those days. progress(done, total) counts forecasts; checks: of the version."""
    config = config or ExplainConfig()
    batch = forecaster.encode(panel, as_of)
    parts = []
    # A day at a time: in a batch of another shape matrix products round otherwise, and a day alone would differ from a block.
    edges = np.flatnonzero(np.diff(batch.days.astype(np.int64), prepend=-1, append=-1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        day = batch.rows(start, stop)
        seeds = _Seeds.of(day, panel, model_version)
        parts.append(_Day(forecaster, day, seeds, config).frames(checks))
        if progress is not None:
            progress(stop, len(batch))
    frames = []
    for index, columns in enumerate((EXPLANATION_COLUMNS, AUDIT_COLUMNS, TOKEN_COLUMNS)):
        own = [c for c in columns if c not in ("source", "model", "model_version")]
        found = [part[index] for part in parts if len(part[index])]
        frame = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=own)
        frame["asset"] = pd.Series([panel.assets[i] for i in frame["asset"]], dtype="str")
        frame["source"], frame["model"] = panel.source, forecaster.name
        frame["model_version"] = model_version
        frames.append(frame[list(columns)])
    return Explained(*frames)


@dataclass(frozen=True)
class _Seeds:
    """Seeds of each forecast, one for each thing that is drawn."""

    group_orders: list[int]
    token_orders: list[int]
    removals: list[int]
    moves: list[int]

    @classmethod
    def of(cls, batch: TokenBatch, panel: Panel, version: str) -> _Seeds:
        days = [day.item() for day in batch.days.astype("datetime64[D]")]
        return cls(
            *(
                [
                    seed_of(panel.assets[asset], day, version, item.name)
                    for asset, day in zip(batch.assets, days, strict=True)
                ]
                for item in fields(cls)
            )
        )


class _Day:
    """The forecasts of one day: what is computed for all horizons at once, then the rows of each."""

    def __init__(
        self,
        forecaster: TokenForecaster,
        batch: TokenBatch,
        seeds: _Seeds,
        config: ExplainConfig,
    ) -> None:
        self.broken = not_numbers(batch)
        self.usable = np.array([not group for group in self.broken])
        # What is no number is reckoned as the training mean here, and its figures are taken out again below.
        self.batch = batch = batch.with_inputs(
            {
                g: torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
                for g, x in batch.inputs.items()
            }
        )
        self.forecaster, self.config = forecaster, config
        self.present, self.audited = present_groups(batch), audited_groups(batch)
        self.rollout = token_rollout(forecaster, batch)  # (B, token)
        self.attention = by_group(self.rollout, batch)  # (B, G)
        self.ablation = ablation_effects(forecaster, batch)  # (B, G, H)
        self.weights = forecaster.residual_weight()
        # Elsewhere the forecast is the anchor: there is nothing to attribute or to audit.
        self.used: list[int] = np.flatnonzero(self.weights).tolist()
        self.gradients = integrated_gradients(forecaster, batch, config.gradient_steps, self.used)
        self.figures = self._figures(seeds) if self.used else {}

    def _figures(self, seeds: _Seeds) -> dict[str, FloatArray]:
        """Columns of the audit that need more passes, (B, H) each."""
        config, batch, forecaster = self.config, self.batch, self.forecaster
        groups = deletion_and_insertion(
            forecaster,
            batch,
            tokens_of_groups(batch),
            self.audited,
            np.where(self.audited, self.attention, 0.0),
            seeds.group_orders,
            config.group_orders,
        )
        others = batch.mask.cpu().numpy().copy()
        others[:, batch.token_slice(batch.forecast_group)] = False
        tokens = deletion_and_insertion(
            forecaster,
            batch,
            np.eye(others.shape[1], dtype=bool),
            others,
            self.rollout,
            seeds.token_orders,
            config.token_orders,
            config.token_steps,
        )
        missed, share, attention_share = infidelity(
            forecaster,
            batch,
            self.gradients.by_group,
            self.attention,
            self.audited,
            seeds.removals,
            config.removals,
        )
        by_attention = max_sensitivity(
            lambda moved: group_rollout(forecaster, moved),
            batch,
            self.audited,
            seeds.moves,
            config.radius,
            config.attention_moves,
        )
        by_gradients = max_sensitivity(
            lambda moved: self._few_gradients(moved).by_group,
            batch,
            self.audited,
            seeds.moves,
            config.radius,
            config.gradient_moves,
        )
        return {
            **_columns(groups, ""),
            "deletion_p": groups.deletion_p,
            "insertion_p": groups.insertion_p,
            **_columns(tokens, "token_"),
            "infidelity": missed,
            "infidelity_share": share,
            "attention_infidelity_share": attention_share,
            "attention_sensitivity": np.repeat(by_attention[:, None], len(self.weights), axis=1),
            "gradient_sensitivity": by_gradients,
        }

    def _few_gradients(self, batch: TokenBatch) -> Attribution:
        return integrated_gradients(
            self.forecaster, batch, self.config.gradient_move_steps, self.used
        )

    def frames(self, checks: Sequence[Check]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Rows of the three tables, all horizons."""
        parts: tuple[list[pd.DataFrame], ...] = ([], [], [])
        for index, horizon in enumerate(self.forecaster.horizons):
            audits = self._audits(index, checks).assign(horizon=horizon)
            parts[0].append(self._groups(index, audits).assign(horizon=horizon))
            parts[1].append(audits)
            if index in self.used:
                parts[2].append(self._tokens(index).assign(horizon=horizon))
        explanations, audits, tokens = (
            pd.concat(part, ignore_index=True) if part else pd.DataFrame() for part in parts
        )
        return explanations, audits, tokens

    def _audits(self, index: int, checks: Sequence[Check]) -> pd.DataFrame:
        attention = np.where(self.audited, self.attention, np.nan)
        effects = np.abs(np.where(self.audited, self.ablation[:, :, index], np.nan))
        nothing = np.full(len(self.batch), np.nan)
        names = [c for c in AUDIT_COLUMNS if c not in (*KEY, "thresholds", "verdict_reason")]
        found: dict[str, NDArray[np.float64]] = dict.fromkeys(names, nothing)
        if index in self.used:
            found |= {name: values[:, index] for name, values in self.figures.items()}
            gradients = np.abs(self.gradients.by_group[:, :, index])
            found["gradient_agreement"] = spearman(attention, gradients)
            found["ablation_agreement"] = spearman(attention, effects)
        found["completeness_error"] = self.gradients.completeness_error[:, index]
        found["largest_effect"] = np.nan_to_num(effects).max(axis=1, initial=0.0)
        found = {name: np.where(self.usable, values, np.nan) for name, values in found.items()}
        groups = self.audited.sum(axis=1)
        figures = Figures(
            groups=groups,
            **{item.name: found[item.name] for item in fields(Figures) if item.name != "groups"},
        )
        weight = float(self.weights[index])
        verdicts = audit(figures, weight, checks, self.config.thresholds, self.broken)
        of_version = {
            name: check_verdict(checks, name)
            for name in (WEIGHT_RANDOMISATION, DATA_RANDOMISATION, SEED_STABILITY)
        }
        return pd.DataFrame(
            {
                "asset": self.batch.assets,
                "as_of": self.batch.days.astype("datetime64[s]"),
                **found,
                "residual_weight": weight,
                "feature_groups": groups,
                **of_version,
                "thresholds": self.config.thresholds.as_json(),
                "verdict": pd.Series(verdicts.verdict, dtype="str"),
                "verdict_reason": pd.Series(verdicts.reason, dtype="str"),
            }
        )

    def _groups(self, index: int, audits: pd.DataFrame) -> pd.DataFrame:
        row, group = np.nonzero(self.present)
        usable = self.usable[row]
        return pd.DataFrame(
            {
                **self._forecasts(row),
                "feature_group": pd.Series(
                    np.array(tuple(self.batch.inputs), dtype=object)[group], dtype="str"
                ),
                "attention_rollout": np.where(usable, self.attention[row, group], np.nan),
                "integrated_gradients": np.where(
                    usable, self.gradients.by_group[row, group, index], np.nan
                ),
                "ablation_effect": np.where(usable, self.ablation[row, group, index], np.nan),
                **{
                    name: audits[name].take(row).reset_index(drop=True)
                    for name in ("completeness_error", "verdict", "verdict_reason")
                },
            }
        )

    def _tokens(self, index: int) -> pd.DataFrame:
        here: BoolArray = self.batch.mask.cpu().numpy() & self.usable[:, None]
        row, token = np.nonzero(here)
        return pd.DataFrame(
            {
                **self._forecasts(row),
                "token": token,
                "feature_group": pd.Series(
                    np.array(self.batch.token_groups, dtype=object)[token], dtype="str"
                ),
                "attention_rollout": self.rollout[row, token],
                "integrated_gradients": self.gradients.by_token[row, token, index],
            }
        )

    def _forecasts(self, row: NDArray[np.int64]) -> dict[str, object]:
        days = self.batch.days.astype("datetime64[s]")
        return {"asset": self.batch.assets[row], "as_of": days[row]}


def _columns(curves: Curves, prefix: str) -> dict[str, FloatArray]:
    return {
        f"{prefix}deletion_area": curves.deletion,
        f"{prefix}deletion_area_random": curves.deletion_random,
        f"{prefix}insertion_area": curves.insertion,
        f"{prefix}insertion_area_random": curves.insertion_random,
        f"{prefix}order_p": curves.gap_p,
    }


def not_numbers(batch: TokenBatch) -> list[str]:
    """(B,): the groups of each forecast that hold a value that is no finite number, '' where none does."""
    bad = {
        group: (~torch.isfinite(values)).flatten(1).any(dim=1).cpu().numpy()
        for group, values in batch.inputs.items()
    }
    return [", ".join(group for group in bad if bad[group][row]) for row in range(len(batch))]
