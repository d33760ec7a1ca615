"""The study: budget, resumption, seeds, and that it proposes only what is better."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ml.attention import study
from ml.attention.study import (
    SPACE,
    STARTUP_TRIALS,
    Proposal,
    StudySpec,
    Trial,
    fit_value,
    overrides,
    proposal,
    purged_origins,
    read_trials,
    search,
    space_of,
    validation_ratio,
)
from ml.panel import Panel
from ml.worker import Reporter
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL

ORIGINS = (date(2022, 1, 2), date(2022, 9, 11), date(2023, 5, 21))
SPEC = StudySpec(
    name="s", snapshot="none", output="none", origins=ORIGINS, seed=7, trials=14, seconds=3600
)


def valley(origin: date, config: Mapping[str, Any]) -> float:
    """Lowest at dropout 0.1 and a learning rate of 2e-3; the origins differ by a constant."""
    rate = math.log(config.get("learning_rate", 1e-3) / 2e-3)
    return float(1 + 0.05 * rate**2 + (config.get("dropout", 0.3) - 0.1) ** 2 + 0.01 * origin.month)


def searched(spec: StudySpec = SPEC, known: list[Trial] | None = None) -> list[Trial]:
    ticks = iter(range(10**6))
    return search(spec, known or [], valley, lambda trial: None, clock=lambda: float(next(ticks)))


def test_trial_0_is_the_config_of_today_and_later_trials_are_better() -> None:
    trials = searched(SPEC.model_copy(update={"trials": 30}))
    assert [trial.number for trial in trials] == list(range(30))
    assert trials[0].parameters["learning_rate"] == 1e-3
    assert trials[0].parameters["d_model"] == 20
    found = proposal(trials)
    assert found.number is not None
    best = trials[found.number]
    assert best.value is not None
    assert trials[0].value is not None
    assert best.value < trials[0].value
    assert "better at 3 of 3 origins" in found.reason
    assert overrides(best, {}) == {
        name: value
        for name, value in best.parameters.items()
        if value != trials[0].parameters[name]
    }


def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    whole = searched()
    assert searched() == whole
    first = searched(SPEC.model_copy(update={"trials": 10}))
    assert first == whole[:10]
    went_on = searched(known=[Trial.model_validate_json(item.model_dump_json()) for item in first])
    ignoring = {"seconds"}
    assert [t.model_dump(exclude=ignoring) for t in went_on] == [
        t.model_dump(exclude=ignoring) for t in whole
    ]
    other = searched(SPEC.model_copy(update={"seed": 8}))
    assert other[1].parameters != whole[1].parameters


def test_no_trial_begins_when_the_seconds_are_used() -> None:
    times = iter([0.0, 0.0, 50.0, 50.0, 50.0, 101.0, 101.0, 999.0])
    trials = search(
        SPEC.model_copy(update={"seconds": 100}), [], valley, lambda t: None, lambda: next(times)
    )
    assert [trial.seconds for trial in trials] == [50.0, 51.0]


def test_a_fit_that_fails_is_a_failed_trial_and_the_study_goes_on() -> None:
    def fails(origin: date, config: Mapping[str, Any]) -> float:
        if config["learning_rate"] != 1e-3:
            raise FloatingPointError("validation loss nan in epoch 1")
        return 1.0

    trials = search(SPEC.model_copy(update={"trials": 3}), [], fails, lambda trial: None)
    assert [trial.state for trial in trials] == ["complete", "failed", "failed"]
    assert trials[1].detail == "FloatingPointError: validation loss nan in epoch 1"
    assert trials[1].value is None
    assert proposal(trials).number is None


def test_hopeless_trials_are_given_up_after_an_origin() -> None:
    trials = searched(SPEC.model_copy(update={"trials": 30}))
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert min(trial.number for trial in pruned) >= STARTUP_TRIALS
    assert all(len(trial.values) < 3 and trial.value is None for trial in pruned)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (((1.0, 1.0, 1.0), (0.9, 0.99, 1.01)), 1),
        (((1.0, 1.0, 1.0), (0.7, 1.01, 1.01)), None),  # better in the mean, at one origin only
        (((1.0, 1.0, 1.0), (1.1, 1.0, 1.0)), None),
    ],
)
def test_only_what_beats_today_s_config_at_most_origins_is_proposed(
    values: tuple[tuple[float, ...], ...], expected: int | None
) -> None:
    trials = [
        Trial(number=n, parameters={}, state="complete", values=row, value=sum(row) / 3)
        for n, row in enumerate(values)
    ]
    assert proposal(trials).number == expected
    assert proposal([]) == Proposal(number=None, reason="the config of today has no value yet")


def test_validation_blocks_of_the_origins_do_not_touch() -> None:
    first, second, third = purged_origins(date(2023, 6, 4), 3, 1500, 0.15)
    assert third == date(2023, 6, 4)
    assert (third - second).days == (second - first).days == 225 + 22
    with pytest.raises(ValueError, match="0 origins"):
        purged_origins(date(2023, 6, 4), 0, 1500, 0.15)


def test_the_space_holds_the_config_of_today_whatever_it_is() -> None:
    space = space_of({"d_model": 15, "learning_rate": 0.5})
    assert space["d_model"] == ("choice", 10, 15, 20, 40)
    assert space["learning_rate"] == ("log", 2e-4, 0.5)
    assert space.keys() == SPACE.keys()


def test_the_value_is_the_fit_s_own_validation_loss(planted: Panel) -> None:
    config = {**SMALL, "epochs": 6}
    value = fit_value(planted, TRAINED, config, 3, "cpu")
    assert 0.3 < value < 0.98  # the planted lead is found
    later = planted.features["rv_d"].copy()
    later[planted.row(TRAINED) + 1 :] = 1e6
    poisoned = Panel(
        planted.source, planted.days, planted.assets, {**planted.features, "rv_d": later},
        planted.hourly, planted.hourly_fields, planted.realized,
    )  # fmt: skip
    assert fit_value(poisoned, TRAINED, config, 3, "cpu") == value
    with pytest.raises(ValueError, match="too little data"):
        validation_ratio({"trained": False})


def test_every_trial_is_kept_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Panel
) -> None:
    spec = SPEC.model_copy(update={"output": str(tmp_path), "trials": 4})
    monkeypatch.setattr(Panel, "read", lambda uri, sha256="": planted)
    calls: list[date] = []

    def killed(panel: Panel, origin: date, config: Mapping[str, Any], *rest: object) -> float:
        calls.append(origin)
        if len(calls) == 8:  # in the third trial
            raise KeyboardInterrupt
        return valley(origin, config)

    monkeypatch.setattr(study, "fit_value", killed)
    lines: list[str] = []
    sent: list[dict[str, Any]] = []
    reporter = Reporter(lines.append, sent.append)
    with pytest.raises(KeyboardInterrupt):
        study.run(spec, reporter)
    assert [trial.number for trial in read_trials(spec)] == [0, 1]
    trials = study.run(spec, reporter)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert json.loads((tmp_path / "trials.json").read_text()) == [
        trial.model_dump(mode="json") for trial in trials
    ]
    assert [message["trial"]["number"] for message in sent] == [0, 1, 2, 3]
    assert "2 trials are there, 4 wanted" in lines[3]


def test_a_wrong_spec_ends_with_2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spec.json"
    path.write_text(SPEC.model_copy(update={"config": {"dmodel": 3}}).model_dump_json())
    assert study.main([str(path)]) == 2
    assert "did you mean 'd_model'" in caplog.text
    assert study.main([]) == 2
