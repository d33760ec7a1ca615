"""Hyper-parameter study: a panel, a few origins and a budget go in, trials with their validation losses come out.

A trial is a config; at each origin a model is fitted on what was known there, and its value is the mean over origins and horizons of

    QLIKE of the network's forecast / QLIKE of the anchor, on the fit's own validation block

(below 1: better than the anchor). Nothing after an origin is read, so no forecast that is ever scored plays a part; origins lie so far apart that
their validation blocks, and the targets that reach beyond them, do not overlap. Trial 0 is the config of today; what beats it is proposed,
never adopted. The sampler is Optuna's TPE, seeded anew for every trial: a study that is stopped goes on as if it had not been.

`python -m ml.attention.study spec.json` is what orchestration starts. It keeps every finished trial in <output>/trials.json. On several workers the spec
asks for values only, and `ml.attention.study_rounds` makes the trials of them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import fsspec
from pydantic import BaseModel, ConfigDict, Field

from ml.attention.config import AttentionConfig
from ml.attention.model import AttentionModel
from ml.forecasts import HORIZONS
from ml.panel import Panel
from ml.snapshot import write_atomically
from ml.worker import Reporter, code_version, reporting, resolve_device

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("ml.attention.study")

SPACE: dict[str, tuple[Any, ...]] = {
    "learning_rate": ("log", 2e-4, 5e-3),
    "weight_decay": ("log", 1e-2, 1.0),
    "dropout": ("uniform", 0.0, 0.5),
    "modality_dropout": ("uniform", 0.0, 0.5),
    "residual_cap": ("uniform", 0.15, 0.7),
    "half_life_days": ("log", 180.0, 3000.0),
    "averaging_decay": ("uniform", 0.9, 0.998),
    "d_model": ("choice", 10, 20, 40),
    "n_layers": ("choice", 1, 2),
    "batch_size": ("choice", 64, 128, 256),
}
"""What is searched: ('log' or 'uniform', low, high) or ('choice', ...). A range is widened to hold the value of today."""
STARTUP_TRIALS = 8
"""Trials drawn at random before the sampler learns, and before a trial may be given up after an origin."""


class StudySpec(BaseModel):
    """All that a study is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    snapshot: str
    snapshot_sha256: str | None = None
    output: str  # folder URI of this study
    device: Literal["auto", "cpu", "cuda"] = "auto"
    config: dict[str, Any] = Field(default_factory=dict)  # of today: trial 0
    origins: tuple[date, ...] = Field(min_length=1)
    seed: int = Field(ge=0)
    trials: int = Field(gt=0)  # of the study, those of earlier runs included
    seconds: float = Field(gt=0)  # of this run; a trial that has begun is finished

    def trials_uri(self) -> str:
        return f"{self.output.rstrip('/')}/trials.json"


class Trial(BaseModel):
    """What became of one config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    parameters: dict[str, Any]
    state: Literal["complete", "pruned", "failed"]
    values: tuple[float, ...] = ()  # by origin, as far as it came
    value: float | None = None  # their mean; of complete trials only
    seconds: float = 0.0
    detail: str = ""


class Proposal(BaseModel):
    """The trial that is proposed, if any, and why or why not."""

    number: int | None
    reason: str


def purged_origins(
    newest: date, count: int, window_days: int, validation_share: float
) -> tuple[date, ...]:
    """`count` origins, newest last, so far apart that a validation block and its longest target end before the next block begins."""
    if count < 1:
        raise ValueError(f"{count} origins: expected at least one")
    apart = math.ceil(validation_share * window_days) + max(HORIZONS)
    return tuple(newest - timedelta(days=apart * back) for back in reversed(range(count)))


def space_of(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """`SPACE`, widened where the config of today lies outside; without widths that its heads do not divide, and without a key whose
    value of today has no place on a logarithmic range.
    """
    today = AttentionConfig.from_mapping(config).as_mapping()
    found: dict[str, tuple[Any, ...]] = {}
    for name, (kind, *values) in SPACE.items():
        if kind == "choice":
            if name == "d_model":
                values = [width for width in values if width % today["n_heads"] == 0]
            found[name] = (kind, *sorted({*values, today[name]}))
        elif kind != "log" or today[name] > 0:
            low, high = values
            found[name] = (kind, min(low, today[name]), max(high, today[name]))
    return found


def validation_ratio(record: Mapping[str, Any]) -> float:
    """Mean over horizons of QLIKE of the full residual over the anchor's, from a fit's record. ValueError where nothing was trained."""
    if not record["trained"]:
        raise ValueError("too little data at this origin to train a network: choose later origins")
    blocks = [block for block in record["validation"].values() if block["samples"]]
    return fmean(block["qlike_full_residual"] / block["qlike_anchor"] for block in blocks)


def fit_value(
    panel: Panel, origin: date, config: Mapping[str, Any], seed: int, device: str
) -> float:
    """The value of a config at one origin: a fit on what was known there, judged on its own validation block."""
    model = AttentionModel()
    model.device = device
    model.fit(panel.until(origin), origin, config, seed)
    return validation_ratio(model.state().meta["fit"])


def search(
    spec: StudySpec,
    known: Sequence[Trial],
    value: Callable[[date, Mapping[str, Any]], float],
    report: Callable[[Trial], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Go on after the `known` trials until the budget is used; every finished trial is reported and returned with them.

    value(origin, config) is called origin by origin. A trial whose mean so far is above the median of the others' at that origin is given up; a
    ValueError, FloatingPointError or memory error of a fit makes the trial a failed one.
    """
    space = {name: _distribution(rule) for name, rule in space_of(spec.config).items()}
    trials = sorted(known, key=lambda trial: trial.number)
    study = _study_of(trials, space)
    started = clock()
    while len(trials) < spec.trials and (not trials or clock() - started < spec.seconds):
        trials.append(_run_trial(study, space, spec, len(trials), value, clock))
        report(trials[-1])
    return trials


def _study_of(trials: Sequence[Trial], space: Mapping[str, Any]) -> optuna.Study:
    """A study that knows the finished trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="minimize", pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    )
    for trial in trials:
        study.add_trial(_frozen(trial, space))
    return study


def _ask(
    study: optuna.Study, space: Mapping[str, Any], spec: StudySpec, number: int
) -> optuna.Trial:
    """Draw trial `number`: by a sampler seeded anew, from what the study knows; trial 0 is the config of today."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=1000 * spec.seed + number, n_startup_trials=STARTUP_TRIALS, multivariate=True
    )
    if number == 0:
        today = AttentionConfig.from_mapping(spec.config).as_mapping()
        study.enqueue_trial({name: today[name] for name in space})
    return study.ask(dict(space))


def drawn(spec: StudySpec, known: Sequence[Trial], number: int) -> dict[str, Any]:
    """Parameters of trial `number` after the `known` trials; before the sampler learns, they do not depend on which are known."""
    space = {name: _distribution(rule) for name, rule in space_of(spec.config).items()}
    return dict(_ask(_study_of(known, space), space, spec, number).params)


def _run_trial(
    study: optuna.Study,
    space: Mapping[str, Any],
    spec: StudySpec,
    number: int,
    value: Callable[[date, Mapping[str, Any]], float],
    clock: Callable[[], float],
) -> Trial:
    import optuna
    import torch

    asked, begun = _ask(study, space, spec, number), clock()
    values: list[float] = []
    state: Literal["complete", "pruned", "failed"] = "complete"
    detail = ""
    try:
        for step, origin in enumerate(spec.origins):
            values.append(value(origin, {**spec.config, **asked.params}))
            asked.report(fmean(values), step)
            if number > 0 and step + 1 < len(spec.origins) and asked.should_prune():
                state, detail = "pruned", f"above the median after {step + 1} origins"
                break
    except (ValueError, FloatingPointError, MemoryError, torch.OutOfMemoryError) as error:
        log.exception("trial %d failed", number)
        state, detail = "failed", f"{type(error).__name__}: {error}"
    ends = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    mean = fmean(values) if state == "complete" else None
    study.tell(asked, mean, state=ends[state])
    return Trial(
        number=number,
        parameters=dict(asked.params),
        state=state,
        values=tuple(values),
        value=mean,
        seconds=clock() - begun,
        detail=detail,
    )


def _distribution(rule: tuple[Any, ...]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    kind, *values = rule
    if kind == "choice":
        return CategoricalDistribution(values)
    low, high = values
    return FloatDistribution(low, high, log=kind == "log")


def _frozen(trial: Trial, space: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    """A trial of an earlier run, as Optuna keeps it."""
    import optuna

    states = optuna.trial.TrialState
    state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[
        trial.state
    ]
    means = {step: fmean(trial.values[: step + 1]) for step in range(len(trial.values))}
    return optuna.trial.create_trial(
        state=state,
        params=trial.parameters,
        distributions={name: space[name] for name in trial.parameters},
        value=trial.value,
        intermediate_values=means,
    )


def proposal(trials: Sequence[Trial]) -> Proposal:
    """The best complete trial, if it beats trial 0, the config of today, in the mean and at most origins."""
    complete = [trial for trial in trials if trial.value is not None]
    today = next((trial for trial in complete if trial.number == 0), None)
    if today is None or today.value is None:
        return Proposal(number=None, reason="the config of today has no value yet")
    best = min(complete, key=lambda trial: (trial.value or 0.0, trial.number))
    if best.number == 0 or best.value is None:
        return Proposal(
            number=None,
            reason=f"none of {len(complete)} trials beats today's config ({today.value:.4f} of the anchor)",
        )
    wins = sum(new < old for new, old in zip(best.values, today.values, strict=True))
    figures = (
        f"trial {best.number}: {best.value:.4f} of the anchor's QLIKE, today's config {today.value:.4f};"
        f" better at {wins} of {len(best.values)} origins"
    )
    if 2 * wins <= len(best.values):
        return Proposal(number=None, reason=f"{figures}: not at most of them")
    return Proposal(
        number=best.number,
        reason=f"{figures}. The best of {len(complete)} is luckier than it is good: test before adopting",
    )


def overrides(trial: Trial, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the trial changes in the config of today."""
    today = AttentionConfig.from_mapping(config).as_mapping()
    return {name: value for name, value in trial.parameters.items() if value != today[name]}


def run(spec: StudySpec, reporter: Reporter) -> list[Trial]:
    """The study in this process: trials of earlier runs are read, each new one is kept before the next begins."""
    from ml.models import MODELS

    panel = Panel.read(spec.snapshot, spec.snapshot_sha256)
    device = resolve_device(spec.device, MODELS["attention"])
    kept = read_trials(spec)
    reporter.line(
        f"study {spec.name}: {len(kept)} trials are there, {spec.trials} wanted, {spec.seconds:g} s for this run; "
        f"origins {', '.join(map(str, spec.origins))}; device {device}, code {code_version()}"
    )

    def keep(trial: Trial) -> None:
        kept.append(trial)
        write_trials(spec, kept)
        shown = "" if trial.value is None else f" {trial.value:.4f}"
        reporter.line(
            f"trial {trial.number} {trial.state}{shown}, {trial.seconds:.0f} s {trial.detail}: {trial.parameters}"
        )
        reporter.message({"trial": trial.model_dump(mode="json")})

    return search(
        spec,
        list(kept),
        lambda origin, config: fit_value(panel, origin, config, spec.seed, device),
        keep,
    )


def read_trials(spec: StudySpec) -> list[Trial]:
    """The finished trials of earlier runs of this study, in order."""
    fs, path = fsspec.core.url_to_fs(spec.trials_uri())
    if not fs.exists(path):
        return []
    return [Trial.model_validate(item) for item in json.loads(fs.cat_file(path))]


def write_trials(spec: StudySpec, trials: Sequence[Trial]) -> None:
    """Keep the finished trials."""
    content = json.dumps([item.model_dump(mode="json") for item in trials], indent=1)
    write_atomically(spec.trials_uri(), content.encode())


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 2 for a wrong call or spec."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if len(arguments) != 1:
        log.error("expected one argument, the spec's URI: python -m ml.attention.study spec.json")
        return 2
    try:
        with fsspec.open(arguments[0], "rb") as file:
            content = json.loads(file.read())
        asked = "questions" in content
        spec = StudySpec.model_validate(content["study"] if asked else content)
        AttentionConfig.from_mapping(spec.config)
    except (OSError, ValueError) as error:
        log.error("cannot read the spec %s: %s", arguments[0], error)
        return 2
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with reporting() as reporter:
        if asked:
            from ml.attention.study_rounds import QuestionsSpec, answer_all

            answer_all(QuestionsSpec.model_validate(content), reporter)
        else:
            run(spec, reporter)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
