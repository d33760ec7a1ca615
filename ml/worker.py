"""`python -m ml.worker spec.json`: fits models where there is room for it, a subprocess, a Ray job or a pod.

In: a spec (`WorkerSpec`) that names a snapshot folder, an output folder and the fits to make, all by URI.
Out: an artefact a fit under <output>/<model>/<version>/, and <output>/results-<spec hash>.json. Started by Dagster
Pipes, it also streams log lines, progress and each result as the custom message {"fit": result}.
Never: a database, Dagster itself, or a fit twice: a finished artefact of the same version is used again. A fit that
fails is reported with its reason and the others go on; the exit code is then 3.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
from dagster_pipes import open_dagster_pipes
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml import artifacts
from ml.calibration import gives_forecasts
from ml.model import ModelState, lookback_days
from ml.models import MODELS, Entry, model_class
from ml.panel import Panel
from ml.snapshot import write_atomically

log = logging.getLogger("ml.worker")

EXIT_FAILED_FITS = 3


class FitSpec(BaseModel):
    """One fit: which model, on what, with which settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    trained_as_of: date
    window_days: int = Field(gt=0)
    seed: int = Field(ge=0)
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_window(self) -> FitSpec:
        if self.model not in MODELS:
            raise ValueError(f"model {self.model!r}: expected one of {', '.join(MODELS)}")
        if self.config.get("window_days", self.window_days) != self.window_days:
            raise ValueError(
                f"config has window_days {self.config['window_days']}, the fit {self.window_days}"
            )
        return self

    @property
    def full_config(self) -> dict[str, Any]:
        """What the model's `fit` gets."""
        return {**self.config, "window_days": self.window_days}


class WorkerSpec(BaseModel):
    """All that a worker is told; the content of spec.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snapshot: str
    output: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fits: tuple[FitSpec, ...] = Field(min_length=1)

    def spec_hash(self) -> str:
        """16 hex digits of the sha256 of the spec's JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def results_uri(self) -> str:
        """Where the worker leaves the list of results."""
        return f"{self.output.rstrip('/')}/results-{self.spec_hash()}.json"


class FitResult(BaseModel):
    """What became of one fit; None where it failed before the value was known."""

    model: str
    version: str | None = None
    trained_as_of: date
    train_start: date | None = None
    train_end: date | None = None
    uri: str | None = None
    artifact_hash: str | None = None
    data_hash: str | None = None
    code_version: str
    config: dict[str, Any]
    seed: int
    device: str | None = None
    status: str  # 'ok' or 'failed: ...'
    metrics: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class Reporter:
    """Where news go while the worker runs."""

    line: Callable[[str], None]
    message: Callable[[dict[str, Any]], None]


@cache
def code_version() -> str:
    """12 hex digits of the sha256 over the sources of this package: another version may fit otherwise."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(
            path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()[:12]


def model_version(trained_as_of: date, data_hash: str, config: Mapping[str, Any], seed: int) -> str:
    """'<trained_as_of>-<8 hex>', the same for the same data, settings, seed and code."""
    text = json.dumps([data_hash, dict(config), seed, code_version()], sort_keys=True)
    return f"{trained_as_of.isoformat()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run(spec: WorkerSpec, reporter: Reporter) -> list[FitResult]:
    """Make every fit of the spec and write the list of results; a failing fit does not stop the others."""
    panel = Panel.read(spec.snapshot)
    reporter.line(
        f"snapshot {spec.snapshot}: {len(panel.assets)} coins, {panel.days[0]} to {panel.days[-1]}, "
        f"source {panel.source}; {len(spec.fits)} fits"
    )
    results = []
    for number, fit in enumerate(spec.fits, start=1):
        result = _run_fit(fit, spec, panel, reporter)
        results.append(result)
        reporter.line(
            f"fit {number}/{len(spec.fits)} {fit.model} {fit.trained_as_of}: {result.status}"
            f"{' (already there)' if result.reused else ''}, {result.seconds:.1f} s"
        )
        reporter.message({"fit": result.model_dump(mode="json")})
    content = json.dumps([result.model_dump(mode="json") for result in results], indent=1)
    write_atomically(spec.results_uri(), content.encode())
    return results


def _run_fit(fit: FitSpec, spec: WorkerSpec, panel: Panel, reporter: Reporter) -> FitResult:
    started = time.perf_counter()
    result = FitResult(
        model=fit.model,
        trained_as_of=fit.trained_as_of,
        code_version=code_version(),
        config=fit.full_config,
        seed=fit.seed,
        status="failed: not started",
    )
    try:
        _fit_into(result, fit, spec, panel, reporter)
        result.status = "ok"
    except Exception as error:
        log.exception("fit of %s as of %s failed", fit.model, fit.trained_as_of)
        result.status = f"failed: {type(error).__name__}: {error}"
    result.seconds = time.perf_counter() - started
    return result


def _fit_into(
    result: FitResult, fit: FitSpec, spec: WorkerSpec, panel: Panel, reporter: Reporter
) -> None:
    """Fill the result as the facts become known, so that a failure reports those before it."""
    entry = MODELS[fit.model]
    result.device = resolve_device(spec.device, entry)
    made_by = model_class(fit.model)
    lookback = lookback_days(made_by, fit.full_config)
    readable = panel.until(fit.trained_as_of).window(fit.window_days + lookback)
    result.data_hash = readable.data_hash()
    result.version = model_version(fit.trained_as_of, result.data_hash, fit.full_config, fit.seed)
    result.uri = f"{spec.output.rstrip('/')}/{fit.model}/{result.version}"
    state = _finished(result.uri, reporter)
    result.reused = state is not None
    if state is None:
        model = made_by()
        model.device = result.device
        extra = {"progress": _progress(fit, reporter)} if entry.uses_torch else {}
        model.fit(readable, fit.trained_as_of, fit.full_config, fit.seed, **extra)
        state = model.state()
        artifacts.save(result.uri, state)
    result.artifact_hash = artifacts.stored_hash(result.uri)
    result.train_start = date.fromisoformat(state.meta["train_start"])
    result.train_end = date.fromisoformat(state.meta["train_end"])
    result.metrics = metrics(state)


def _finished(uri: str, reporter: Reporter) -> ModelState | None:
    """The artefact that an earlier run finished; one that is damaged is removed and fitted again."""
    stored = artifacts.stored_hash(uri)
    if stored is None:
        return None
    try:
        return artifacts.load(uri, stored)
    except artifacts.ArtifactError as error:
        reporter.line(f"{error}; fitting it again")
        artifacts.remove(uri)
        return None


def _progress(fit: FitSpec, reporter: Reporter) -> Callable[[int, Mapping[str, float]], None]:
    def report(epoch: int, values: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        reporter.line(f"{fit.model} {fit.trained_as_of} epoch {epoch}: {shown}")
        reporter.message(
            {"progress": {"model": fit.model, "epoch": epoch, "metrics": dict(values)}}
        )

    return report


def resolve_device(wanted: str, entry: Entry) -> str:
    """'cuda' or 'cpu' for this model; torch is imported only when the model uses it."""
    if not entry.uses_torch or wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ValueError("device 'cuda': no CUDA device here; ask for 'auto' or 'cpu'")
    return "cpu"


def metrics(state: ModelState) -> dict[str, float]:
    """In-window QLIKE by horizon (mean over coins), and how many coins are forecast and refused."""
    in_window: Mapping[str, Mapping[str, Mapping[str, float]]] = state.meta["in_window"]
    found = {}
    for horizon in state.meta["horizons"]:
        values = [
            coin[str(horizon)]["qlike"] for coin in in_window.values() if str(horizon) in coin
        ]
        if values:
            found[f"in_window_qlike_{horizon}"] = float(np.mean(values))
    given = sum(gives_forecasts(status) for status in state.meta["status"].values())
    return {
        **found,
        "coins_forecast": float(given),
        "coins_refused": float(len(state.meta["status"]) - given),
    }


@contextmanager
def reporting() -> Iterator[Reporter]:
    """To Dagster when Dagster Pipes started this process, else log lines on standard error."""
    if os.environ.get("DAGSTER_PIPES_CONTEXT"):
        with open_dagster_pipes() as context:
            yield Reporter(context.log.info, context.report_custom_message)
    else:
        yield Reporter(log.info, lambda message: log.debug("%s", message))


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 2 for a wrong call or spec, 3 when a fit failed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if len(arguments) != 1:
        log.error(
            "expected one argument, the spec's URI, not %d: python -m ml.worker spec.json",
            len(arguments),
        )
        return 2
    try:
        with fsspec.open(arguments[0], "rb") as file:
            spec = WorkerSpec.model_validate_json(file.read())
    except (OSError, ValueError) as error:
        log.error("cannot read the spec %s: %s", arguments[0], error)
        return 2
    with reporting() as reporter:
        results = run(spec, reporter)
    failed = [result for result in results if result.status != "ok"]
    return EXIT_FAILED_FITS if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
