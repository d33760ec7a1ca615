"""Stages of tenths of seconds on a warehouse of one table, without Dagster: what eight kills in every test run are aimed at.

In: a stage's name, a home and a day. Out: its work done in this process.
"""

from __future__ import annotations

import os
import uuid
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ENVIRONMENT = {
    "VOLCAST_SOURCE": "simulated",
    "VOLCAST_ASSETS": "BTC,ETH",
    "VOLCAST_SIMULATED_START": "2024-01-01",
}


def run_small(home: Path, stage: str, as_of: date) -> None:
    from orchestration.cleaning import running, settle
    from orchestration.platform import Platform
    from orchestration.settings import Settings

    os.environ["VOLCAST_HOME"] = str(home)
    platform = Platform(Settings.from_env())
    with running(platform.settings, _NoDagster(), uuid.uuid4().hex, "daily"):
        _STAGES[stage](platform, as_of)
    settle(_NoDagster())


class _NoDagster:
    """An instance without pools, whose runs have all ended."""

    event_log_storage = SimpleNamespace(supports_global_concurrency_limits=False)

    def get_run_by_id(self, run_id: str) -> Any:
        return SimpleNamespace(is_finished=True)


def _append(platform: Any, as_of: date) -> None:
    from orchestration.ingest import ingest_window

    for table in ("funding_rates", "headlines"):
        ingest_window(platform.warehouse, platform.source, table, as_of, as_of)


def _publish(platform: Any, as_of: date) -> None:
    platform.warehouse.publish()


def _artefact(platform: Any, as_of: date) -> None:
    import numpy as np

    from ml.artifacts import save
    from ml.model import ModelState

    weights = {"weights": np.arange(200_000, dtype=np.float64)}
    uri = platform.settings.artifacts_dir / "models" / "har" / "v1"
    save(str(uri), ModelState(weights, {"day": str(as_of)}))


_STAGES = {"append": _append, "publish": _publish, "artefact": _artefact}
SMALL = tuple(_STAGES)
