"""The stages of a daily run, each alone: what a kill is aimed at.

In: a stage's name and a day. Out: the Dagster assets of it, and its run in this process. Imported by the stage server only, where all is loaded already.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

STAGES = (
    "prices",
    "modalities",
    "dbt",
    "training",
    "forecasting",
    "explanation",
    "judging",
    "publishing",
    "report",
)
"""In the order of a run. ``modalities`` are all raw tables but prices; ``judging`` is all that comes between: learning, risk, portfolio, regimes, scores."""
WITH_CHILDREN = frozenset({"dbt", "training"})
_PREFIXES = {
    "prices": ("raw/ohlcv",),
    "training": ("models/registry",),
    "forecasting": ("forecasts/volatility", "forecasts/model_quantiles", "forecasts/refusals"),
    "explanation": (
        "forecasts/attention_weights",
        "models/explanation_checks",
        "forecasts/explanations",
        "forecasts/attention_audits",
        "forecasts/token_attributions",
    ),
    "publishing": ("published/snapshot",),
    "report": ("published/report", "published/model_cards"),
}


def selection(stage: str) -> list[Any]:
    """Asset keys of a stage, or of several joined by '+'."""
    import dagster as dg

    from orchestration.assets.features import dbt_features
    from orchestration.definitions import defs

    everything = {
        key.to_user_string(): key
        for key in defs.resolve_job_def("daily").asset_layer.executable_asset_keys
    }
    dbt = {key.to_user_string() for key in dbt_features.keys}
    named = {
        name: {asset for asset in everything if asset.startswith(prefixes)}
        for name, prefixes in _PREFIXES.items()
    } | {"dbt": dbt}
    named["modalities"] = {asset for asset in everything if asset.startswith("raw/")} - named[
        "prices"
    ]
    named["judging"] = set(everything) - set().union(*named.values())
    wanted = set().union(*(named[name] for name in stage.split("+")))
    return [everything.get(name) or dg.AssetKey(name.split("/")) for name in sorted(wanted)]


def run_stage(home: Path, stage: str, as_of: date) -> list[str]:
    """Run the stage for a day in the home, as a run of the job ``daily``; its errors, none where it succeeded."""
    import dagster as dg

    from orchestration import definitions
    from orchestration.cleaning import settle
    from orchestration.partitions import PARTITION_TAG
    from orchestration.runs import _reasons, prepare_home
    from orchestration.settings import Settings

    os.environ["VOLCAST_HOME"] = str(home)
    settings = Settings.from_env()
    prepare_home(settings)
    definitions.PLATFORM.settings = settings
    for name in ("warehouse", "source"):
        definitions.PLATFORM.__dict__.pop(name, None)
    with dg.DagsterInstance.get() as instance:
        result = definitions.defs.resolve_job_def("daily").execute_in_process(
            instance=instance,
            tags={PARTITION_TAG: as_of.isoformat()},
            asset_selection=selection(stage),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        settle(instance)
        return [] if result.success else [_reasons(instance, result.run_id)]
