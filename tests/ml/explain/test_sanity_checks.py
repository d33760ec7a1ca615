"""Checks of a version's explanations: what passes, what fails, what is not judged, and how they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.explain.checks import CHECKS, SUBJECTS, Check, CheckThresholds, not_judged
from ml.explain.sanity_checks import run_checks
from ml.explain.stored_checks import load_checks, save_checks
from tests.ml.explain.forecasters import GROUPS, Stated, batch

OWN = {"calendar": 1.0, "price": 5.0, "funding": 2.0, "onchain": 1.0, "sentiment": 0.5, "asset": 0.2}  # fmt: skip
TOKENS = {group: OWN[group] / tokens for group, tokens in GROUPS.items()}
SERVED = Stated(OWN, attention=TOKENS)
REVERSE = Stated(
    {g: 1 / weight for g, weight in OWN.items()},
    attention={g: 1 / OWN[g] / n for g, n in GROUPS.items()},
)
STILL = Stated({"calendar": 0.0})


def found(**changes: object) -> dict[tuple[str, str], Check]:
    arguments: dict[str, object] = {
        "randomised": {"heads": [SERVED], "embedding": [REVERSE]},
        "permuted": REVERSE,
        "other_seed": SERVED,
    } | changes
    checks = run_checks(SERVED, batch(), **arguments)  # type: ignore[arg-type]
    return {(check.check, check.subject): check for check in checks if not check.stage}


def test_maps_that_depend_on_weights_and_data_and_come_out_again_pass() -> None:
    checks = found()
    assert set(checks) == {(check, subject) for check in CHECKS for subject in SUBJECTS}
    assert {check.verdict for check in checks.values()} == {"pass"}
    assert checks["seed_stability", "attention"].statistic == pytest.approx(1)
    assert checks["weight_randomisation", "ablation"].statistic == pytest.approx(-1)


def test_maps_that_random_weights_give_as_well_fail() -> None:
    checks = found(randomised={"embedding": [SERVED]}, permuted=SERVED, other_seed=REVERSE)
    assert {check.verdict for check in checks.values()} == {"fail"}
    reason = checks["weight_randomisation", "attention"].reason
    assert reason == "attention resembles that of a network with random weights by 1.00: above 0.5"


def test_attention_alone_may_fail() -> None:
    blind = Stated(REVERSE.weights, attention=TOKENS)
    checks = found(randomised={"embedding": [blind]})
    verdicts = [checks["weight_randomisation", subject].verdict for subject in SUBJECTS]
    assert verdicts == ["fail", "pass", "pass"]


def test_a_network_that_moves_nothing_resembles_nothing() -> None:
    checks = found(permuted=STILL, other_seed=STILL)
    for subject in SUBJECTS[1:]:
        assert checks["data_randomisation", subject].statistic == 0
        assert checks["data_randomisation", subject].verdict == "pass"
        assert checks["seed_stability", subject].verdict == "fail"


def test_stages_before_the_last_are_stored_and_not_judged() -> None:
    checks = run_checks(SERVED, batch(), {"heads": [SERVED], "embedding": [REVERSE]}, None, None)
    stages = [check for check in checks if check.stage]
    assert {(check.stage, check.verdict) for check in stages} == {("heads", "not judged")}
    assert [check.statistic for check in stages] == pytest.approx([1.0] * 3)


def test_what_was_not_trained_is_not_judged() -> None:
    checks = found(permuted=None, other_seed=None)
    assert checks["data_randomisation", "attention"].verdict == "not judged"
    assert checks["seed_stability", "ablation"].reason == "no network was trained from another seed"


@pytest.mark.parametrize(
    ("served", "size", "said"),
    [
        (Stated(OWN, residual=(0.0, 0.0)), 3, "residual weight is 0 at all horizons"),
        (SERVED, 0, "no forecast to check on"),
    ],
)
def test_where_there_is_nothing_to_check_that_is_said(served: Stated, size: int, said: str) -> None:
    checks = run_checks(served, batch(max(size, 1)).rows(0, size), {}, SERVED, SERVED)
    assert len(checks) == len(CHECKS) * len(SUBJECTS)
    assert all(check.verdict == "not judged" and said in check.reason for check in checks)


def test_horizons_without_weight_are_left_out() -> None:
    served = Stated(OWN, attention=TOKENS, residual=(1.0, 0.0))
    checks = run_checks(served, batch(), {"embedding": [REVERSE]}, None, SERVED)
    own = {(c.check, c.subject): c.statistic for c in checks}
    assert own["seed_stability", "ablation"] == pytest.approx(1)
    assert not np.isnan(own["weight_randomisation", "integrated_gradients"] or 0)


@pytest.mark.parametrize("change", [{"similarity": 1.5}, {"stability": -2}, {"gradient_steps": 0}])
def test_a_bad_limit_is_an_error(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CheckThresholds(**change)  # type: ignore[arg-type]


def test_checks_come_back_for_their_own_artefact_alone(tmp_path: Path) -> None:
    uri = str(tmp_path / "version")
    checks = list(found().values())
    assert load_checks(uri, "hash") is None
    save_checks(uri, "hash", checks)
    assert load_checks(uri, "hash") == checks
    assert load_checks(uri, "another") is None
    before = (tmp_path / "version.checks.json").read_bytes()
    save_checks(uri, "hash", checks)
    assert (tmp_path / "version.checks.json").read_bytes() == before


@pytest.mark.parametrize("change", [("pass", "fail"), ("{", "["), ("sha256", "sha1")])
def test_damaged_checks_count_as_not_made(tmp_path: Path, change: tuple[str, str]) -> None:
    uri = str(tmp_path / "version")
    save_checks(uri, "hash", not_judged("for a test") + list(found().values()))
    path = tmp_path / "version.checks.json"
    path.write_text(path.read_text().replace(*change, 1))
    assert load_checks(uri, "hash") is None
