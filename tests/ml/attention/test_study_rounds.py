"""A study on several workers makes the trials of one process, whichever values come first."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ml.attention import study_rounds
from ml.attention.study import STARTUP_TRIALS, StudySpec, Trial, read_trials, search
from ml.attention.study_rounds import Answer, Question, next_questions, search_in_rounds

ORIGINS = (date(2023, 1, 1), date(2023, 6, 4), date(2023, 11, 5))


def spec_of(folder: Path, trials: int = 13) -> StudySpec:
    return StudySpec(name="s", snapshot="none", output=str(folder), origins=ORIGINS, seed=5, trials=trials, seconds=1e9)  # fmt: skip


def value(origin: date, config: Any) -> float:
    """A made-up loss with a best learning rate; some configs fail."""
    if config["dropout"] > 0.47:
        raise ValueError(f"dropout {config['dropout']:.3f} is too much")
    steep = abs(config["learning_rate"] - 0.0012) * 300
    return 0.9 + steep + 0.2 * config["dropout"] * (origin.month / 12)


def compute(spec: StudySpec, rounds: list[int]) -> Any:
    """What workers do, in any order."""

    def answer(questions: list[Question]) -> None:
        rounds.append(len(questions))
        for question in random.Random(len(rounds)).sample(questions, len(questions)):
            try:
                found = Answer(value=value(question.origin, question.config), seconds=2.0)
            except ValueError as error:
                found = Answer(failure="ValueError", detail=str(error), seconds=1.0)
            study_rounds._write(spec, question, found)

    return answer


def plain(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.model_dump(exclude={"seconds"}) for trial in trials]


def test_rounds_make_the_trials_of_one_process(tmp_path: Path) -> None:
    alone = search(spec_of(tmp_path / "alone"), [], value, lambda trial: None)
    spec, rounds = spec_of(tmp_path / "rounds"), list[int]()
    told: list[Trial] = []
    found = search_in_rounds(spec, compute(spec, rounds), told.append)
    assert plain(found) == plain(alone) == plain(told) == plain(read_trials(spec))
    assert {trial.state for trial in found} == {"complete", "pruned", "failed"}
    assert rounds[0] == STARTUP_TRIALS * len(ORIGINS)  # all that chance decides, at once
    assert set(rounds[2:]) == {len(ORIGINS)}
    assert all(trial.seconds > 0 for trial in found)


def test_a_study_that_was_stopped_goes_on_with_the_values_it_has(tmp_path: Path) -> None:
    whole, rounds = spec_of(tmp_path / "whole"), list[int]()
    expected = search_in_rounds(whole, compute(whole, rounds))
    spec = spec_of(tmp_path / "stopped")
    asked = list[int]()

    def stops(questions: list[Question]) -> None:
        if len(asked) == 2:
            raise RuntimeError("the run was stopped")
        compute(spec, asked)(questions)

    with pytest.raises(RuntimeError, match="the run was stopped"):
        search_in_rounds(spec, stops)
    assert 0 < len(read_trials(spec)) < spec.trials
    found = search_in_rounds(spec, compute(spec, asked))
    assert plain(found) == plain(expected)
    assert asked == rounds
    assert next_questions(spec, found) == []


def test_values_that_no_worker_wrote_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="its worker wrote none"):
        search_in_rounds(spec_of(tmp_path), lambda questions: None)
