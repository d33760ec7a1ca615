"""All checks of one decision day.

In: explanations, the panel, the features of each modality, releases. Out: rows in a fixed order. Never: a row of the same key twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ml.explain.lead_lag import lead_lag
from ml.explain.spurious.attention import attention_without_effect
from ml.explain.spurious.calendar import calendar_of_effects, calendar_of_features
from ml.explain.spurious.checks import Check, SpuriousPolicy
from ml.explain.spurious.effects import Effects
from ml.explain.spurious.leads import leading_features, leads_by_coin
from ml.explain.spurious.leaks import (
    Releases,
    follows_and_leads,
    informed_revisions,
    late_values,
    revised_values,
)
from ml.explain.spurious.survival import effect_survival
from ml.explain.surprises import prices_of
from ml.panel import Panel


def spurious_checks(
    panel: Panel,
    fields: Mapping[str, Sequence[str]],
    effects: Effects | None,
    releases: Releases | None = None,
    policy: SpuriousPolicy | None = None,
) -> list[Check]:
    """Rows of the last day of `panel` (what was known then), for the modalities of `fields` (name -> features of the panel).

    `effects`: of the forecasts up to that day, None where there are none. Features without a value are left out, and modalities
    without a feature or an explanation.
    """
    policy, releases = policy or SpuriousPolicy(), releases or Releases.none()
    groups = effects.groups if effects is not None else ()
    panel = panel.window(policy.leads.window_days)
    known = {
        modality: [name for name in names if name in panel.features and np.isfinite(panel.features[name]).any()]
        for modality, names in fields.items()
    }  # fmt: skip
    known = {name: values for name, values in known.items() if values or name in groups}
    modalities = tuple(known)
    prices = prices_of(panel)
    profiles = lead_lag(panel, known, policy.leads, prices)
    found: list[Check] = []
    if effects is not None:
        found += attention_without_effect(effects, modalities, policy)
        found += effect_survival(effects, modalities, regime_features(panel), policy)
        found += calendar_of_effects(effects, modalities, policy)
    found += calendar_of_features(panel, known, policy)
    found += revised_values(releases, modalities, policy)
    found += informed_revisions(panel, prices, releases, policy)
    found += late_values(panel, modalities, policy)
    found += follows_and_leads(profiles, policy)
    found += leading_features(panel, prices, profiles, policy)
    found += leads_by_coin(panel, profiles, policy)
    return found


def regime_features(panel: Panel) -> pd.DataFrame | None:
    """asset, as_of, rv_22d of the panel; None where it has none."""
    if "rv_22d" not in panel.features:
        return None
    day, asset = np.indices((len(panel.days), len(panel.assets)))
    return pd.DataFrame(
        {
            "asset": np.asarray(panel.assets, dtype=object)[asset.ravel()],
            "as_of": panel.days.astype("datetime64[s]")[day.ravel()],
            "rv_22d": panel.feature("rv_22d").ravel(),
        }
    )
