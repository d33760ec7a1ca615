"""Which model version serves which day, and loading it.

In: the registry and a range of days. Out: blocks of days that share a version, and the fitted model, its hash verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from ml import models
from ml.model import ModelState, VolatilityModel
from orchestration.artifact_store import load_state
from orchestration.settings import Settings

Retrains = Mapping[str, Sequence[date]]
"""Days on which drift had a model trained again, beside its grid; by model, in order."""


def read_retrains(connection: duckdb.DuckDBPyConnection) -> Retrains:
    """The retrains decided so far."""
    found: dict[str, list[date]] = {}
    for model, day in connection.execute(
        "SELECT model, as_of FROM models.decisions WHERE kind = 'retrain' ORDER BY model, as_of"
    ).fetchall():
        found.setdefault(str(model), []).append(day)
    return found


def trained_on(settings: Settings, retrains: Retrains, model: str, as_of: date) -> date:
    """The training day of the version that serves ``as_of``: of the grid, or of a retrain decided since, strictly before it."""
    grid = settings.trained_as_of(model, as_of)
    return max([grid, *(day for day in retrains.get(model, ()) if day < as_of)])


@dataclass(frozen=True)
class ServedDays:
    """Days that one model version forecasts."""

    model: str
    model_version: str
    artifact_uri: str
    artifact_hash: str
    days: tuple[date, ...]

    def load(self, settings: Settings) -> VolatilityModel:
        """The fitted model. Raises ``ml.artifacts.ArtifactError`` when the artefact is not what the registry says."""
        return models.from_state(self.state(settings))

    def state(self, settings: Settings) -> ModelState:
        """What was stored of the fit, its hash verified. Raises as ``load`` does."""
        return load_state(settings, self.artifact_uri, self.artifact_hash)


def served_days(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    first: date,
    last: date,
    *,
    without: str | None = None,
) -> list[ServedDays]:
    """Blocks of first .. last by model version, in the order of ``settings.models``.

    ``without`` names an output table: days that it holds for the version already are left out.
    """
    rows = connection.execute(
        "SELECT model, trained_as_of, model_version, artifact_uri, artifact_hash FROM models.registry "
        "QUALIFY row_number() OVER (PARTITION BY model, trained_as_of ORDER BY created_at DESC, model_version) = 1"
    ).fetchall()
    newest = {
        (str(model), trained): (str(v), str(uri), str(sha)) for model, trained, v, uri, sha in rows
    }
    done: set[tuple[str, str, date]] = set()
    if without is not None:
        found = connection.execute(
            f"SELECT DISTINCT model, model_version, as_of FROM {without} WHERE as_of BETWEEN ? AND ?",
            [first, last],
        )
        done = {(str(model), str(version), day) for model, version, day in found.fetchall()}
    retrains = read_retrains(connection)
    blocks: list[ServedDays] = []
    for model in settings.models:
        by_version: dict[tuple[str, str, str], list[date]] = {}
        for step in range((last - first).days + 1):
            day = first + timedelta(days=step)
            version = newest.get((model, trained_on(settings, retrains, model, day)))
            if version is not None and (model, version[0], day) not in done:
                by_version.setdefault(version, []).append(day)
        blocks += [ServedDays(model, *version, tuple(days)) for version, days in by_version.items()]
    return blocks
