"""`python -m ml.worker spec.json`: fits models where there is room for it, a subprocess, a Ray job or a pod.

In: a spec (`WorkerSpec`) that names a snapshot folder, an output folder and the fits to make, all by URI.
Out: an artefact a fit under <output>/<model>/<version>/, where asked the checks of its explanations beside it
(<version>.checks.json), and <output>/results-<spec hash>.json. Started by Dagster
Pipes, it also streams log lines, progress and each result as the custom message {"fit": result}.
Never: a database, Dagster itself, or a fit twice: a finished artefact of the same version is used again. A fit that
fails is reported with its reason and the others go on; the exit code is then 3. A worker that is killed leaves checkpoints of the
networks that it was training beside the artefact to be, <version>.checkpoint/; the next one goes on from them and makes the same bytes.
A fit may be cut by coins: its part lies under <version>.<8 hex>.part until `ml.coin_parts` puts the model together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    from ml.attention.checkpoints import Checkpoints

log = logging.getLogger("ml.worker")

EXIT_FAILED_FITS = 3


class WarmFrom(BaseModel):
    """The version that a warm start begins with: an artefact, or the fit of that day in the same spec where no `uri` is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trained_as_of: date
    uri: str | None = None
    artifact_hash: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> WarmFrom:
        if (self.uri is None) != (self.artifact_hash is None):
            raise ValueError(f"warm_from {self.uri}: expected uri and artifact_hash, or neither")
        return self


class FitSpec(BaseModel):
    """One fit: which model, on what, with which settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    trained_as_of: date
    window_days: int = Field(gt=0)
    seed: int = Field(ge=0)
    config: dict[str, Any] = Field(default_factory=dict)
    warm_from: WarmFrom | None = None
    check_explanations: bool = False
    """Whether the version's explanations are checked (ml/explain/checks.py) where the model has any; no part of the version."""
    coins: tuple[str, ...] | None = Field(None, min_length=2)
    """The part of a fit that is cut by coins: only these are fitted, of a model that fits each by itself. Two at least: the sums of a coin that is
    alone in a panel are taken in another order, and differ in the last digit."""

    @model_validator(mode="after")
    def _one_window(self) -> FitSpec:
        if self.model not in MODELS:
            raise ValueError(f"model {self.model!r}: expected one of {', '.join(MODELS)}")
        if self.config.get("window_days", self.window_days) != self.window_days:
            raise ValueError(
                f"config has window_days {self.config['window_days']}, the fit {self.window_days}"
            )
        if self.coins is not None and not MODELS[self.model].per_coin:
            raise ValueError(f"coins: a fit of {self.model} cannot be cut by coins")
        if self.warm_from is not None:
            if not MODELS[self.model].resumes:
                raise ValueError(f"warm_from: {self.model} cannot start from an earlier version")
            if self.warm_from.trained_as_of >= self.trained_as_of:
                raise ValueError(
                    f"warm_from {self.warm_from.trained_as_of}: expected a day before {self.trained_as_of}"
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
    snapshot_sha256: str | None = None
    output: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    code_version: str | None = None
    """What `code_version` must be where the worker runs; another machine may have other code, which would make other models."""
    fits: tuple[FitSpec, ...] = Field(min_length=1)

    def spec_hash(self) -> str:
        """16 hex digits of the sha256 of the spec's JSON."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
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
    coins: tuple[str, ...] | None = None
    """Of a part of a fit, the coins that it has."""
    curves: list[list[dict[str, float]]] = Field(default_factory=list)
    """Learning curves: for each network of an ensemble its epochs, from 0."""
    notes: list[str] = Field(default_factory=list)
    """What a reader of the fit should know: batches that were halved, the version that it started from."""
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


def model_version(
    trained_as_of: date,
    data_hash: str,
    config: Mapping[str, Any],
    seed: int,
    warm_hash: str | None = None,
) -> str:
    """'<trained_as_of>-<8 hex>', the same for the same data, settings, seed, code and artefact that a warm start began with."""
    parts: list[Any] = [data_hash, dict(config), seed, code_version()]
    text = json.dumps(parts if warm_hash is None else [*parts, warm_hash], sort_keys=True)
    return f"{trained_as_of.isoformat()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run(spec: WorkerSpec, reporter: Reporter) -> list[FitResult]:
    """Make every fit of the spec and write the list of results; a failing fit does not stop the others."""
    panel = Panel.read(spec.snapshot, spec.snapshot_sha256)
    reporter.line(
        f"snapshot {spec.snapshot}: {len(panel.assets)} coins, {panel.days[0]} to {panel.days[-1]}, "
        f"source {panel.source}; {len(spec.fits)} fits"
    )
    results: list[FitResult] = []
    for number, fit in enumerate(spec.fits, start=1):
        result = _run_fit(fit, spec, panel, reporter, results)
        results.append(result)
        reporter.line(
            f"fit {number}/{len(spec.fits)} {fit.model} {fit.trained_as_of}: {result.status}"
            f"{' (already there)' if result.reused else ''}, {result.seconds:.1f} s"
        )
        reporter.message({"fit": result.model_dump(mode="json")})
    content = json.dumps([result.model_dump(mode="json") for result in results], indent=1)
    write_atomically(spec.results_uri(), content.encode())
    return results


def _run_fit(
    fit: FitSpec,
    spec: WorkerSpec,
    panel: Panel,
    reporter: Reporter,
    earlier: Sequence[FitResult] = (),
) -> FitResult:
    started = time.perf_counter()
    result = FitResult(
        model=fit.model,
        trained_as_of=fit.trained_as_of,
        code_version=code_version(),
        config=fit.full_config,
        seed=fit.seed,
        coins=fit.coins,
        status="failed: not started",
    )
    try:
        _fit_into(result, _with_artifact(fit, earlier), spec, panel, reporter)
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
    if not entry.reads_hourly:  # its version does not depend on what else the snapshot was made for
        readable = readable.without_hours()
    result.data_hash = readable.data_hash()
    warm = fit.warm_from
    result.version = model_version(
        fit.trained_as_of,
        result.data_hash,
        fit.full_config,
        fit.seed,
        None if warm is None else warm.artifact_hash,
    )
    result.uri = f"{spec.output.rstrip('/')}/{fit.model}/{result.version}"
    if fit.coins is not None:
        readable = readable.of_coins(fit.coins)
        part = hashlib.sha256(json.dumps(readable.assets).encode()).hexdigest()[:8]
        result.uri += f".{part}.part"
    state = _finished(result.uri, reporter)
    result.reused = state is not None
    if state is None:
        model = made_by()
        model.device = result.device
        extra: dict[str, Any] = {}
        if entry.uses_torch:
            extra["progress"] = _progress(fit, reporter)
        checkpoints = _checkpoints(result) if entry.resumes else None
        if checkpoints is not None:
            extra["checkpoints"] = checkpoints
            if warm is not None and warm.uri is not None and warm.artifact_hash is not None:
                extra["earlier"] = artifacts.load(warm.uri, warm.artifact_hash)
        model.fit(readable, fit.trained_as_of, fit.full_config, fit.seed, **extra)
        state = model.state()
        artifacts.save(result.uri, state)
        if checkpoints is not None and not fit.check_explanations:
            checkpoints.clear()
    result.artifact_hash = artifacts.stored_hash(result.uri)
    if fit.check_explanations and entry.explains and result.artifact_hash is not None:
        result.notes = _check_explanations(result, state, readable, reporter)
    result.train_start = date.fromisoformat(state.meta["train_start"])
    result.train_end = date.fromisoformat(state.meta["train_end"])
    result.metrics = metrics(state)
    result.curves = state.meta.get("fit", {}).get("histories", [])
    result.notes = [*_notes(state), *result.notes]


def _with_artifact(fit: FitSpec, earlier: Sequence[FitResult]) -> FitSpec:
    """The fit with the address of the artefact that it starts from, where that is an earlier fit of this spec."""
    warm = fit.warm_from
    if warm is None or warm.uri is not None:
        return fit
    for other in earlier:
        if (other.model, other.trained_as_of) == (fit.model, warm.trained_as_of):
            if other.artifact_hash is None:
                raise ValueError(f"warm start from {warm.trained_as_of}, which {other.status}")
            found = warm.model_copy(update={"uri": other.uri, "artifact_hash": other.artifact_hash})
            return fit.model_copy(update={"warm_from": found})
    raise ValueError(
        f"warm start from {warm.trained_as_of}: expected that fit of {fit.model} before it in the spec, or a uri"
    )


def _checkpoints(result: FitResult) -> Checkpoints:
    """Beside the artefact to be; good for this version on this kind of device and this torch only."""
    import torch

    from ml.attention.checkpoints import SUFFIX, Checkpoints

    identity = (
        f"{result.model} {result.version} {result.data_hash} {result.device} {torch.__version__}"
    )
    return Checkpoints(f"{result.uri}{SUFFIX}", identity)


def _check_explanations(
    result: FitResult, state: ModelState, panel: Panel, reporter: Reporter
) -> list[str]:
    """Make and store the checks of this artefact unless they are there; notes on them.

    A check that breaks leaves the fit as it is: the version's explanations then count as not judged.
    """
    from ml.explain.stored_checks import load_checks, save_checks

    uri, artifact_hash = str(result.uri), str(result.artifact_hash)
    checks = load_checks(uri, artifact_hash)
    if checks is not None:
        return []
    started = time.perf_counter()
    model: Any = model_class(result.model).from_state(state)
    model.device = result.device
    checkpoints = _checkpoints(result)
    try:
        checks = model.explanation_checks(panel, reporter.line, checkpoints)
    except Exception as error:
        log.exception("checks of explanations of %s %s failed", result.model, result.version)
        return [f"explanations were not checked: {type(error).__name__}: {error}"]
    save_checks(uri, artifact_hash, checks)
    checkpoints.clear()
    verdicts = Counter(check.verdict for check in checks if not check.stage)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return [f"explanations checked in {time.perf_counter() - started:.0f} s: {counted}"]


def _notes(state: ModelState) -> list[str]:
    record: Mapping[str, Any] = state.meta.get("fit", {})
    warm = record.get("warm_from")
    lines = [] if warm is None else [f"started from the version of {warm}"]
    return lines + [
        line for facts in record.get("trainings", []) for line in facts["out_of_memory"]
    ]


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
            {
                "progress": {
                    "model": fit.model,
                    "trained_as_of": fit.trained_as_of.isoformat(),
                    "epoch": epoch,
                    "metrics": dict(values),
                }
            }
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


class _ToDagster(logging.Handler):
    """Warnings of this package (a halved batch, a checkpoint that is no use) into the run's log."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        self._warn(self.format(record))


@contextmanager
def _heartbeat(message: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Every so many seconds, where VOLCAST_WORKER_HEARTBEAT says how many: the processor time that this process has taken, if it took any.

    Who started a worker on another machine cannot see whether it computes; one that says nothing for long is lost.
    """
    pause = float(os.environ.get("VOLCAST_WORKER_HEARTBEAT") or 0)
    ended = threading.Event()

    def beat() -> None:
        before = 0.0
        while not ended.wait(pause):
            now = time.process_time()
            if now - before > 0.01:  # its own beat takes less
                message({"alive": {"cpu_seconds": round(now, 2)}})
            before = time.process_time()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    if pause > 0:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


@contextmanager
def reporting() -> Iterator[Reporter]:
    """To Dagster when Dagster Pipes started this process, else log lines on standard error."""
    if os.environ.get("DAGSTER_PIPES_CONTEXT"):
        # whole lines, where messages and log lines share a stream: a Ray job's, a pod's
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        with open_dagster_pipes() as context, _heartbeat(context.report_custom_message):
            warnings = _ToDagster(context.log.warning)
            logging.getLogger("ml").addHandler(warnings)
            try:
                yield Reporter(context.log.info, context.report_custom_message)
            finally:
                logging.getLogger("ml").removeHandler(warnings)
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
    if spec.code_version not in (None, code_version()):
        log.error(
            "the code here is %s: expected %s, as where the spec was written; give the workers the same volcast",
            code_version(), spec.code_version,
        )  # fmt: skip
        return 2
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic sums on CUDA
    with reporting() as reporter:
        results = run(spec, reporter)
    failed = [result for result in results if result.status != "ok"]
    return EXIT_FAILED_FITS if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
