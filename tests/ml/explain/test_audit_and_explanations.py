"""The audit's verdicts, and the frame of explanations."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from ml.attention.model import AttentionModel
from ml.explain.audit import Audit, AuditThresholds, audit, spearman
from ml.explain.explanations import EXPLANATION_COLUMNS, ExplainConfig, explain
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL

DAYS = [TRAINED + timedelta(days=k) for k in range(1, 8)]
ROLLOUT = np.array([[0.4, 0.3, 0.2, 0.1]])


def verdict(
    attribution: list[float], ablation: list[float], error: float = 0.0, weight: float = 1.0
) -> tuple[str, str]:
    found: Audit = audit(
        ROLLOUT,
        np.array([attribution]),
        np.array([ablation]),
        np.array([error]),
        weight,
        AuditThresholds(),
    )
    return found.verdict[0], found.reason[0]


def test_spearman_equals_scipy_over_the_groups_that_are_there() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 5, (50, 9)).astype(float), random.standard_normal((50, 9))
    left[random.random(left.shape) < 0.2] = np.nan
    for row, found in enumerate(spearman(left, right)):
        here = np.isfinite(left[row])
        assert found == pytest.approx(spearmanr(left[row, here], right[row, here]).statistic)


def test_attention_that_ranks_groups_as_their_effects_do_is_valid() -> None:
    found, reason = verdict([-0.4, 0.3, -0.2, 0.1], [0.5, -0.2, 0.1, 0.05])
    assert found == "valid"
    assert reason == "rank agreement of attention with gradients 1.00, with ablation 1.00"


def test_attention_that_agrees_loosely_is_weak_and_says_how_loosely() -> None:
    found, reason = verdict([0.4, 0.1, 0.2, 0.3], [0.4, 0.1, 0.2, 0.3])
    assert found == "weak"
    assert "with gradients 0.20, with ablation 0.20: mean below 0.5" in reason


def test_attention_that_ranks_against_the_effects_is_invalid() -> None:
    assert verdict([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])[0] == "invalid"


def test_an_attribution_that_does_not_add_up_is_invalid() -> None:
    found, reason = verdict([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], error=0.2)
    assert (found, reason) == ("invalid", "completeness error 0.2 above 0.05")
    assert verdict([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], error=np.nan)[0] == "invalid"


def test_a_forecast_that_is_its_anchor_is_not_explained_by_attention() -> None:
    found, reason = verdict([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], weight=0.0)
    assert found == "invalid"
    assert reason.startswith("attention residual is zero")


def test_with_few_groups_the_verdict_is_weak_at_best() -> None:
    assert (
        verdict([0.4, 0.3, np.nan, np.nan], [0.4, 0.3, np.nan, np.nan])[0] == "valid"
    )  # rollout has 4
    few = audit(ROLLOUT[:, :3], ROLLOUT[:, :3], ROLLOUT[:, :3], np.zeros(1), 1.0, AuditThresholds())
    assert few.verdict[0] == "weak"
    assert few.reason[0] == "3 feature groups: fewer than 4"


def test_groups_that_move_nothing_make_the_verdict_invalid() -> None:
    assert verdict([0.0] * 4, [0.0] * 4)[1].startswith("no group moves the forecast")


@pytest.mark.parametrize(
    "change", [{"completeness_error": 0.0}, {"weak_agreement": 0.9}, {"valid_agreement": 1.1}]
)
def test_a_bad_threshold_is_an_error(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        AuditThresholds(**change)  # type: ignore[arg-type]


def test_every_forecast_horizon_and_group_has_one_row(
    trained_model: AttentionModel, planted: Panel
) -> None:
    seen: list[tuple[int, int]] = []
    frame = explain(
        trained_model,
        planted,
        DAYS,
        "2022-01-20-abcdef01",
        ExplainConfig(),
        lambda done, total: seen.append((done, total)),
    )
    assert tuple(frame.columns) == EXPLANATION_COLUMNS
    assert not frame.duplicated(["asset", "as_of", "horizon", "feature_group"]).any()
    assert set(frame["feature_group"]) == {
        "calendar", "price_daily", "price_hourly", "price_weekly", "onchain", "sentiment", "asset",
    }  # fmt: skip
    assert len(frame) == 7 * 4 * 3 * 7
    assert seen[-1] == (28, 28)
    sums = frame.groupby(["asset", "as_of", "horizon"])["attention_rollout"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-9)
    assert set(frame["verdict"]) <= {"valid", "weak", "invalid"}
    assert (frame["verdict_reason"].str.len() > 0).all()
    assert frame.notna().all().all()


def test_a_day_explained_alone_equals_the_day_among_others_bit_for_bit(
    trained_model: AttentionModel, planted: Panel
) -> None:
    together = explain(trained_model, planted, DAYS[:3])
    alone = pd.concat(
        [explain(trained_model, planted, [day]) for day in DAYS[:3]], ignore_index=True
    )
    pd.testing.assert_frame_equal(together, alone, check_exact=True)


def test_a_model_that_is_its_anchor_gets_invalid_verdicts(planted: Panel) -> None:
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "min_training_days": 1000}, seed=0)
    frame = explain(model, planted, DAYS[:2])
    assert set(frame["verdict"]) == {"invalid"}
    assert frame["verdict_reason"].str.startswith("attention residual is zero").all()
    assert (frame["ablation_effect"] == 0).all()


def test_days_without_any_forecast_give_an_empty_frame(
    trained_model: AttentionModel, planted: Panel
) -> None:
    frame = explain(trained_model, planted, [planted.days[5].item()])
    assert frame.empty
    assert tuple(frame.columns) == EXPLANATION_COLUMNS


def test_a_bad_amount_of_work_is_an_error() -> None:
    with pytest.raises(ValueError, match="gradient_steps 0: expected a positive integer"):
        ExplainConfig(gradient_steps=0)
