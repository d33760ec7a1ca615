"""Checks of a version's explanations: do they depend on what the network learnt, and would another training tell the same story?

    weight randomisation   the network with its weights redrawn, layer by layer from the output: its maps must not resemble the served ones
                           (Adebayo et al. 2018, "Sanity checks for saliency maps", cascading randomisation)
    data randomisation     a network trained on permuted targets: likewise (same paper, section 4)
    seed stability         a network trained on the same data from another seed: its maps must resemble them

Maps are compared per forecast, by Spearman's rank correlation over feature groups without the forecast token's own, for three subjects: attention (rollout),
|integrated gradients| and |ablation effects|; the statistic is the mean over forecasts and used horizons. A network that moves nothing resembles nothing: 0.
A map whose ranks random weights give as well (wide groups get much attention from any network of this architecture) fails.

In: forecasters that differ in their weights alone, and a batch. Out: `Check` rows. Never: training, or a network's parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml.explain.attribution import ablation_effects, integrated_gradients
from ml.explain.checks import (
    DATA_RANDOMISATION,
    NOT_JUDGED,
    SEED_STABILITY,
    SUBJECTS,
    WEIGHT_RANDOMISATION,
    Check,
    CheckThresholds,
    alike,
    not_judged,
    unlike,
)
from ml.explain.protocol import TokenBatch, TokenForecaster
from ml.explain.ranks import spearman
from ml.explain.removal import BoolArray, FloatArray, audited_groups
from ml.explain.rollout import group_rollout


@dataclass(frozen=True)
class Maps:
    """What a forecaster says of B forecasts, over G groups and H horizons."""

    attention: FloatArray  # (B, G)
    gradients: FloatArray  # (B, G, H) |integrated gradients|
    ablation: FloatArray  # (B, G, H) |effect|


def maps_of(
    forecaster: TokenForecaster, batch: TokenBatch, horizons: Sequence[int], steps: int
) -> Maps:
    """The maps at those horizons (indices)."""
    return Maps(
        group_rollout(forecaster, batch),
        np.abs(integrated_gradients(forecaster, batch, steps, horizons).by_group),
        np.abs(ablation_effects(forecaster, batch)),
    )


def similarity(
    left: Maps, right: Maps, groups: BoolArray, horizons: Sequence[int]
) -> dict[str, float]:
    """Mean rank correlation by subject; an undefined one (a map without two different values) counts 0."""
    found = {"attention": _mean_ranks(left.attention, right.attention, groups)}
    for subject, name in (("integrated_gradients", "gradients"), ("ablation", "ablation")):
        own = [
            _mean_ranks(getattr(left, name)[..., h], getattr(right, name)[..., h], groups)
            for h in horizons
        ]
        found[subject] = float(np.mean(own))
    return found


def _mean_ranks(left: FloatArray, right: FloatArray, groups: BoolArray) -> float:
    ranks = spearman(np.where(groups, left, np.nan), np.where(groups, right, np.nan))
    return float(np.nan_to_num(ranks).mean())


def run_checks(
    served: TokenForecaster,
    batch: TokenBatch,
    randomised: Mapping[str, Sequence[TokenForecaster]],
    permuted: TokenForecaster | None,
    other_seed: TokenForecaster | None,
    thresholds: CheckThresholds | None = None,
) -> list[Check]:
    """All checks of a version.

    randomised: by stage, from the output inwards, networks whose weights are random up to there; the last stage has all of them random and is
    judged. permuted, other_seed: None where no such network was trained. Where the version uses its network at no horizon, or the batch
    is empty, everything is 'not judged'.
    """
    limits = thresholds or CheckThresholds()
    horizons = np.flatnonzero(served.residual_weight()).tolist()
    if not horizons:
        return not_judged("residual weight is 0 at all horizons: there is nothing to check")
    if len(batch) == 0:
        return not_judged("the newest days of the training window give no forecast to check on")
    groups = audited_groups(batch)
    own = maps_of(served, batch, horizons, limits.gradient_steps)

    def resemblance(others: Sequence[TokenForecaster]) -> dict[str, float]:
        each = [
            similarity(own, maps_of(o, batch, horizons, limits.gradient_steps), groups, horizons)
            for o in others
        ]
        return {subject: float(np.mean([one[subject] for one in each])) for subject in SUBJECTS}

    found: list[Check] = []
    stages = list(randomised)
    for stage in stages:
        for subject, value in resemblance(randomised[stage]).items():
            if stage == stages[-1]:
                found.append(unlike(WEIGHT_RANDOMISATION, subject, value, "random weights", limits))
            else:
                found.append(
                    Check(
                        WEIGHT_RANDOMISATION,
                        subject,
                        stage,
                        value,
                        None,
                        NOT_JUDGED,
                        f"weights random from the output to {stage.replace('_', ' ')}: judged where all are",
                    )
                )
    if not stages:
        found += not_judged("no network with random weights", WEIGHT_RANDOMISATION)
    if permuted is None:
        found += not_judged("no network was trained on permuted targets", DATA_RANDOMISATION)
    else:
        for subject, value in resemblance([permuted]).items():
            found.append(unlike(DATA_RANDOMISATION, subject, value, "permuted targets", limits))
    if other_seed is None:
        found += not_judged("no network was trained from another seed", SEED_STABILITY)
    else:
        for subject, value in resemblance([other_seed]).items():
            found.append(alike(subject, value, limits))
    return found
