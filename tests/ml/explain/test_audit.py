"""Verdicts: what each figure and each check does to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from ml.explain.audit import AuditThresholds, Figures, audit, check_verdict
from ml.explain.checks import (
    CHECKS,
    DATA_RANDOMISATION,
    FAIL,
    NOT_JUDGED,
    PASS,
    SEED_STABILITY,
    SUBJECTS,
    WEIGHT_RANDOMISATION,
    Check,
    not_judged,
)
from ml.explain.ranks import spearman

GOOD = {
    "groups": 7,
    "completeness_error": 0.001,
    "gradient_agreement": 0.8,
    "ablation_agreement": 0.9,
    "largest_effect": 0.1,
    "order_p": 0.02,
    "infidelity_share": 0.1,
    "attention_sensitivity": 0.02,
    "gradient_sensitivity": 0.1,
}


def passed(**verdicts: str) -> list[Check]:
    """Every check of every subject; verdicts by check, 'pass' unless given."""
    return [
        Check(check, subject, "", 0.3, 0.5, verdicts.get(check, PASS), f"{subject} by 0.30")
        for check in CHECKS
        for subject in SUBJECTS
    ]


def verdict(
    checks: list[Check] | None = None, weight: float = 1.0, broken: str = "", **figures: Any
) -> tuple[str, str]:
    values = {name: np.array([value]) for name, value in (GOOD | figures).items()}
    found = audit(
        Figures(**values),
        weight,
        passed() if checks is None else checks,
        AuditThresholds(),
        [broken],
    )
    return found.verdict[0], found.reason[0]


def test_spearman_equals_scipy_over_the_groups_that_are_there() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 5, (50, 9)).astype(float), random.standard_normal((50, 9))
    left[random.random(left.shape) < 0.2] = np.nan
    for row, found in enumerate(spearman(left, right)):
        here = np.isfinite(left[row])
        assert found == pytest.approx(spearmanr(left[row, here], right[row, here]).statistic)


def test_a_forecast_of_which_everything_holds_is_valid_and_says_by_which_figures() -> None:
    found, reason = verdict()
    assert found == "valid"
    assert reason == (
        "rank agreement of attention with gradients 0.80, with ablation 0.90;"
        " attention's order against random orders p 0.02; randomisation and seed checks pass"
    )


@pytest.mark.parametrize(
    ("figures", "expected", "said"),
    [
        ({"completeness_error": 0.2}, "invalid", "completeness error 0.2 above 0.05"),
        ({"completeness_error": np.nan}, "invalid", "completeness error nan above 0.05"),
        ({"gradient_agreement": -0.9, "ablation_agreement": 0.5}, "invalid", "mean below 0"),
        ({"gradient_agreement": 0.2, "ablation_agreement": 0.4}, "weak", "mean below 0.5"),
        ({"ablation_agreement": np.nan}, "invalid", "rank agreement is undefined"),
        ({"order_p": 0.6}, "invalid", "p 0.60: above 0.5"),
        ({"order_p": 0.3}, "weak", "p 0.30: above 0.1"),
        ({"order_p": np.nan}, "weak", "p nan: above 0.1"),
        ({"groups": 3}, "weak", "3 feature groups: fewer than 4"),
        ({"largest_effect": 2e-4}, "weak", "by more than 0.0002: below 0.001"),
        ({"infidelity_share": 0.7}, "weak", "share of change that gradients miss 0.70: above 0.5"),
        ({"attention_sensitivity": 0.7}, "weak", "sensitivity of attention 0.70: above 0.5"),
        ({"gradient_sensitivity": 0.7}, "weak", "sensitivity of gradients 0.70: above 0.5"),
        ({"infidelity_share": np.nan}, "weak", "share of change that gradients miss nan: above 0.5"),
        ({"attention_sensitivity": np.nan}, "weak", "sensitivity of attention nan: above 0.5"),
        ({"gradient_sensitivity": np.nan}, "weak", "sensitivity of gradients nan: above 0.5"),
        ({"largest_effect": np.nan}, "weak", "by more than nan: below 0.001"),
    ],
)  # fmt: skip
def test_a_figure_beyond_its_threshold_decides(
    figures: dict[str, float], expected: str, said: str
) -> None:
    found, reason = verdict(**figures)
    assert found == expected
    assert said in reason


def test_a_forecast_that_is_its_anchor_is_not_explained_by_attention() -> None:
    found, reason = verdict(weight=0.0)
    assert found == "invalid"
    assert reason.startswith("attention residual is zero")


def test_input_that_is_no_number_makes_the_verdict_invalid_and_is_named() -> None:
    assert verdict(broken="funding, asset") == (
        "invalid",
        "input that is no number: funding, asset",
    )


@pytest.mark.parametrize("check", [WEIGHT_RANDOMISATION, DATA_RANDOMISATION])
def test_maps_that_do_not_depend_on_what_was_learnt_are_invalid(check: str) -> None:
    found, reason = verdict(passed(**{check: FAIL}))
    assert found == "invalid"
    assert reason.count(check.replace("_", " ")) == 3


def test_maps_that_another_seed_does_not_give_are_weak() -> None:
    assert verdict(passed(**{SEED_STABILITY: FAIL}))[0] == "weak"


@pytest.mark.parametrize("checks", [[], not_judged("switched off")])
def test_without_checks_the_verdict_is_weak_at_best(checks: list[Check]) -> None:
    found, reason = verdict(checks)
    assert found == "weak"
    assert "weight randomisation: " + ("switched off" if checks else "not judged") in reason


def test_checks_of_one_subject_alone_are_not_every_check() -> None:
    checks = [check for check in passed() if check.subject == "attention"]
    found, reason = verdict(checks)
    assert found == "weak"
    assert "seed stability: not judged for integrated gradients, ablation" in reason
    assert check_verdict(checks, SEED_STABILITY) == NOT_JUDGED
    failed = [replace(check, verdict=FAIL) for check in checks]
    assert verdict(failed)[0] == "invalid"


def test_one_failed_subject_fails_a_check_and_stages_on_the_way_do_not_count() -> None:
    checks = passed()
    way = Check(WEIGHT_RANDOMISATION, "attention", "heads", 1.0, None, NOT_JUDGED, "on the way")
    assert check_verdict([*checks, way], WEIGHT_RANDOMISATION) == PASS
    bad = Check(WEIGHT_RANDOMISATION, "attention", "", 0.9, 0.5, FAIL, "by 0.90")
    assert check_verdict([*checks, bad], WEIGHT_RANDOMISATION) == FAIL
    assert check_verdict(checks[1:], DATA_RANDOMISATION) == PASS
    assert check_verdict([], SEED_STABILITY) == NOT_JUDGED


@pytest.mark.parametrize(
    "change",
    [
        {"completeness_error": 0.0},
        {"weak_agreement": 0.9},
        {"valid_agreement": 1.1},
        {"valid_order_p": 0.6},
        {"weak_order_p": 1.1},
        {"sensitivity": -1.0},
    ],
)
def test_a_bad_threshold_is_an_error(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        AuditThresholds(**change)  # type: ignore[arg-type]


def test_thresholds_are_stored_by_name() -> None:
    assert json.loads(AuditThresholds().as_json())["valid_order_p"] == 0.1
