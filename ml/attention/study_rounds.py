"""A study on several workers: the trials that one process would make, from values that others compute.

In: a study's spec, its finished trials, and a function that has values computed side by side. Out: the same trials, in the same order. Never: a trial that
depends on which worker was faster: each is drawn, judged and given up by the trials before it, as in `ml.attention.study.search`.

What can be computed at once: the first `STARTUP_TRIALS` trials, which are drawn at random, at all origins; after them the origins of one trial. A value at an
origin before which the trial is then given up was computed in vain, and is left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict

from ml.attention import study as one_process
from ml.attention.study import (
    STARTUP_TRIALS,
    StudySpec,
    Trial,
    drawn,
    read_trials,
    search,
    write_trials,
)
from ml.panel import Panel
from ml.snapshot import write_atomically
from ml.worker import Reporter, resolve_device

log = logging.getLogger("ml.attention.study")

FAILURES: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ValueError, FloatingPointError, MemoryError)
}


class Question(BaseModel):
    """A value that a study wants: a config at an origin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: date
    config: dict[str, Any]

    def key(self) -> str:
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Answer(BaseModel):
    """The value, or why there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = None
    failure: str = ""  # name of the exception
    detail: str = ""
    seconds: float = 0.0


class QuestionsSpec(BaseModel):
    """All that a worker of a study is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: StudySpec
    questions: tuple[Question, ...]


def next_questions(spec: StudySpec, trials: Sequence[Trial]) -> list[Question]:
    """The values that the next trials need, known ones included; empty where the study has its trials."""
    finished = sum(trial.state != "failed" for trial in trials)
    count = min(spec.trials - len(trials), max(1, STARTUP_TRIALS - finished))
    found = []
    for number in range(len(trials), len(trials) + max(0, count)):
        parameters = drawn(spec, trials, number)
        found += [Question(origin=origin, config={**spec.config, **parameters}) for origin in spec.origins]  # fmt: skip
    return found


def search_in_rounds(
    spec: StudySpec,
    compute: Callable[[list[Question]], None],
    report: Callable[[Trial], None] = lambda trial: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Go on with a study until its budget is used: ``compute`` has the values of a round written (`answer_all`), trials are made of them and kept.

    Returns the trials so far; a round whose values did not all come is an error of ``compute``.
    """
    trials, begun = read_trials(spec), clock()
    while len(trials) < spec.trials and (not trials or clock() - begun < spec.seconds):
        questions = next_questions(spec, trials)
        missing = [question for question in questions if read_answer(spec, question) is None]
        if missing:
            compute(missing)
        trials = _tell(spec, trials, len(trials) + len(questions) // len(spec.origins), report)
    return trials


def _tell(
    spec: StudySpec, trials: list[Trial], until: int, report: Callable[[Trial], None]
) -> list[Trial]:
    """The trials that a search makes of values that are there."""
    spent = 0.0
    kept = list(trials)

    def value(origin: date, config: Mapping[str, Any]) -> float:
        nonlocal spent
        answer = read_answer(spec, Question(origin=origin, config=dict(config)))
        if answer is None:
            raise RuntimeError(f"no value of {dict(config)} at {origin}: its worker wrote none")
        spent += answer.seconds
        if answer.value is None:
            raise FAILURES.get(answer.failure, ValueError)(answer.detail)
        return answer.value

    def keep(trial: Trial) -> None:
        kept.append(trial)
        write_trials(spec, kept)
        report(trial)

    part = spec.model_copy(update={"trials": until, "seconds": float("inf")})
    return search(part, trials, value, keep, lambda: spent)


def answer_all(spec: QuestionsSpec, reporter: Reporter) -> None:
    """Compute and keep the values that are asked for; one that is there is not computed again."""
    from ml.models import MODELS

    study = spec.study
    panel = Panel.read(study.snapshot, study.snapshot_sha256)
    device = resolve_device(study.device, MODELS["attention"])
    for number, question in enumerate(spec.questions, start=1):
        if read_answer(study, question) is None:
            _write(study, question, _answer(study, question, panel, device))
        answer = read_answer(study, question)
        reporter.line(f"value {number}/{len(spec.questions)} at {question.origin}: {answer}")
        reporter.message({"value": {"key": question.key()}})


def _answer(study: StudySpec, question: Question, panel: Panel, device: str) -> Answer:
    import torch

    begun = time.monotonic()
    try:
        value = one_process.fit_value(panel, question.origin, question.config, study.seed, device)
    except (ValueError, FloatingPointError, MemoryError, torch.OutOfMemoryError) as error:
        log.exception("value at %s failed", question.origin)
        kind = type(error).__name__ if type(error).__name__ in FAILURES else "MemoryError"
        return Answer(failure=kind, detail=str(error), seconds=time.monotonic() - begun)
    return Answer(value=value, seconds=time.monotonic() - begun)


def read_answer(study: StudySpec, question: Question) -> Answer | None:
    """The value that a worker left; None where there is none."""
    fs, path = fsspec.core.url_to_fs(_place(study, question))
    try:
        return Answer.model_validate_json(fs.cat_file(path))
    except FileNotFoundError:
        return None


def _write(study: StudySpec, question: Question, answer: Answer) -> None:
    write_atomically(_place(study, question), answer.model_dump_json(indent=1).encode())


def _place(study: StudySpec, question: Question) -> str:
    return f"{study.output.rstrip('/')}/values/{question.key()}.json"
