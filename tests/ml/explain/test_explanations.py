"""The frames of explanations, audits and token attributions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import torch

from ml.attention.model import AttentionModel
from ml.attention.twins import STAGES, randomised, with_network
from ml.explain.checks import Check
from ml.explain.explanations import (
    AUDIT_COLUMNS,
    EXPLANATION_COLUMNS,
    TOKEN_COLUMNS,
    ExplainConfig,
    Explained,
    explain,
)
from ml.explain.protocol import TokenBatch
from ml.explain.sanity_checks import run_checks
from ml.panel import Panel
from tests.ml.attention.conftest import TRAINED
from tests.ml.attention.markets import SMALL
from tests.ml.explain.forecasters import Swapped

DAYS = [TRAINED + timedelta(days=k) for k in range(1, 9)]
GROUPS = {
    "calendar", "price_daily", "price_hourly", "price_weekly", "onchain", "sentiment", "asset",
}  # fmt: skip


@pytest.fixture(scope="module")
def explained(plain_model: AttentionModel, planted: Panel, plain_checks: list[Check]) -> Explained:
    return explain(plain_model, planted, DAYS, "2022-01-20-abcdef01", checks=plain_checks)


@dataclass
class Broken:
    """A fitted model of which the first forecast has a NaN among its tokens."""

    model: AttentionModel
    group: str
    name: str = "attention"

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def encode(self, panel: Panel, as_of: Sequence[date]) -> TokenBatch:
        batch = self.model.encode(panel, as_of)
        values = batch.inputs[self.group].clone()
        values[0, 0, 0] = torch.nan
        return batch.with_inputs({**batch.inputs, self.group: values})


def test_every_forecast_horizon_and_group_has_one_row(explained: Explained) -> None:
    frame = explained.explanations
    assert tuple(frame.columns) == EXPLANATION_COLUMNS
    assert not frame.duplicated(["asset", "as_of", "horizon", "feature_group"]).any()
    assert set(frame["feature_group"]) == GROUPS
    assert len(frame) == len(DAYS) * 4 * 3 * len(GROUPS)
    sums = frame.groupby(["asset", "as_of", "horizon"])["attention_rollout"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-9)
    assert (frame["verdict_reason"].str.len() > 0).all()
    assert frame.notna().all().all()


def test_every_forecast_and_horizon_has_an_audit_with_its_figures_and_thresholds(
    explained: Explained,
) -> None:
    frame = explained.audits
    assert tuple(frame.columns) == AUDIT_COLUMNS
    assert not frame.duplicated(["asset", "as_of", "horizon"]).any()
    assert len(frame) == len(DAYS) * 4 * 3
    used = frame[frame["residual_weight"] > 0]
    assert set(used["horizon"]) == {1, 5}
    assert used.notna().all().all()
    assert (used["feature_groups"] == len(GROUPS) - 1).all()
    assert used[["order_p", "token_order_p", "deletion_p", "insertion_p"]].max().max() <= 1
    assert json.loads(frame["thresholds"].iloc[0])["completeness_error"] == 0.05
    verdicts = explained.explanations.drop_duplicates(["asset", "as_of", "horizon"])
    merged = verdicts.merge(frame, on=["asset", "as_of", "horizon"])
    assert (merged["verdict_x"] == merged["verdict_y"]).all()


def test_on_the_planted_market_forecasts_are_found_valid(explained: Explained) -> None:
    frame = explained.audits[explained.audits["residual_weight"] > 0]
    share = frame["verdict"].value_counts(normalize=True)
    assert share["valid"] > 0.2
    assert share.get("invalid", 0) < 0.3


def test_a_horizon_without_weight_is_invalid_and_says_why(explained: Explained) -> None:
    frame = explained.audits[explained.audits["residual_weight"] == 0]
    assert set(frame["horizon"]) == {22}
    assert set(frame["verdict"]) == {"invalid"}
    assert frame["verdict_reason"].str.startswith("attention residual is zero").all()
    assert frame[["order_p", "gradient_agreement", "infidelity"]].isna().all().all()


def test_a_network_with_random_weights_is_never_found_valid(
    plain_model: AttentionModel, planted: Panel
) -> None:
    """Even where its own checks are not held against it, few forecasts look faithful; with them, none is weak."""
    network = randomised(plain_model.forecaster, STAGES[-1][0], 0)
    model = with_network(plain_model, network)
    alone = explain(model, planted, DAYS).audits
    alone = alone[alone["residual_weight"] > 0]
    assert (alone["verdict"] == "invalid").mean() > 0.4
    others = [
        with_network(plain_model, randomised(plain_model.forecaster, STAGES[-1][0], seed))
        for seed in (1, 2, 3)
    ]
    batch = model.encode(planted, DAYS)
    checks = run_checks(model, batch, {STAGES[-1][0]: others}, None, None)
    found = explain(model, planted, DAYS, checks=checks).audits
    assert set(found["verdict"]) == {"invalid"}
    assert found["verdict_reason"].str.contains("weight randomisation: attention resembles").any()


def test_noise_with_high_attention_is_not_called_an_explanation(
    plain_model: AttentionModel,
    planted: Panel,
    plain_checks: list[Check],
    explained: Explained,
) -> None:
    """Sentiment is noise; here it holds the attention that the planted lead had."""
    spurious = Swapped(plain_model, "onchain", "sentiment")
    found = explain(spurious, planted, DAYS, checks=plain_checks)
    one = found.explanations[found.explanations["horizon"] == 1]
    mean = one.groupby("feature_group")["attention_rollout"].mean().drop("calendar")
    assert mean.idxmax() == "sentiment"
    used = found.audits[found.audits["residual_weight"] > 0]
    honest = explained.audits[explained.audits["residual_weight"] > 0]
    assert (used["verdict"] == "valid").mean() < 0.05 < (honest["verdict"] == "valid").mean()
    assert (used["verdict"] == "invalid").mean() > 0.5
    assert used["order_p"].mean() > honest["order_p"].mean() + 0.2


def test_the_planted_modality_is_found_by_ablation_and_gradients(explained: Explained) -> None:
    frame = explained.explanations[explained.explanations["horizon"] == 1]
    size = frame.assign(
        gradients=frame["integrated_gradients"].abs(), ablation=frame["ablation_effect"].abs()
    )
    context = size[size["feature_group"].isin(["onchain", "sentiment", "asset"])]
    mean = context.groupby("feature_group")[["gradients", "ablation"]].mean()
    assert list(mean.idxmax()) == ["onchain", "onchain"]
    assert (mean.loc["onchain"] > 3 * mean.loc["sentiment"]).all()


def test_token_attributions_sum_to_those_of_their_groups(explained: Explained) -> None:
    assert tuple(explained.tokens.columns) == TOKEN_COLUMNS
    key = ["asset", "as_of", "horizon", "feature_group"]
    columns = ["attention_rollout", "integrated_gradients"]
    sums = explained.tokens.groupby(key)[columns].sum()
    groups = explained.explanations.set_index(key)[columns].loc[sums.index]
    pd.testing.assert_frame_equal(sums, groups, atol=1e-12)
    assert set(explained.tokens["horizon"]) == {1, 5}
    assert not explained.tokens.duplicated(["asset", "as_of", "horizon", "token"]).any()


def test_a_day_explained_alone_equals_the_day_among_others_bit_for_bit(
    plain_model: AttentionModel, planted: Panel
) -> None:
    together = explain(plain_model, planted, DAYS[:3], "v")
    alone = [explain(plain_model, planted, [day], "v") for day in DAYS[:3]]
    for name in ("explanations", "audits", "tokens"):
        pd.testing.assert_frame_equal(
            getattr(together, name),
            pd.concat([getattr(one, name) for one in alone], ignore_index=True),
            check_exact=True,
        )


def test_what_is_drawn_hangs_on_the_version(plain_model: AttentionModel, planted: Panel) -> None:
    first, second = (explain(plain_model, planted, DAYS[:1], name).audits for name in "ab")
    assert (first["deletion_area"].dropna() == second["deletion_area"].dropna()).all()
    assert (first["infidelity"].dropna() != second["infidelity"].dropna()).all()


def test_a_model_that_is_its_anchor_gets_invalid_verdicts_and_no_token_rows(planted: Panel) -> None:
    model = AttentionModel()
    model.fit(planted, TRAINED, {**SMALL, "min_training_days": 1000}, seed=0)
    found = explain(model, planted, DAYS[:2])
    assert set(found.explanations["verdict"]) == {"invalid"}
    assert (found.explanations["ablation_effect"] == 0).all()
    assert found.tokens.empty
    assert tuple(found.tokens.columns) == TOKEN_COLUMNS
    assert len(found.audits) == 2 * 4 * 3
    checks = model.explanation_checks(planted.until(TRAINED), lambda line: None)
    assert {check.verdict for check in checks} == {"not judged"}
    assert all("residual weight is 0 at all horizons" in check.reason for check in checks)


def test_a_token_that_is_no_number_spoils_its_own_forecast_alone(
    plain_model: AttentionModel, planted: Panel
) -> None:
    broken = Broken(plain_model, group="price_daily")
    found = explain(broken, planted, DAYS[:1], "v")  # type: ignore[arg-type]
    whole = explain(plain_model, planted, DAYS[:1], "v")
    first = found.audits["asset"] == planted.assets[0]
    assert set(found.audits.loc[first, "verdict_reason"]) == {
        "input that is no number: price_daily"
    }
    assert set(found.audits.loc[first, "verdict"]) == {"invalid"}
    assert found.audits.loc[first, ["completeness_error", "order_p"]].isna().all().all()
    pd.testing.assert_frame_equal(found.audits[~first], whole.audits[~first], rtol=1e-9)
    own = found.explanations[found.explanations["asset"] == planted.assets[0]]
    assert own[["attention_rollout", "integrated_gradients", "ablation_effect"]].isna().all().all()
    assert planted.assets[0] not in set(found.tokens["asset"])


def test_days_without_any_forecast_give_empty_frames(
    plain_model: AttentionModel, planted: Panel
) -> None:
    seen: list[tuple[int, int]] = []
    found = explain(
        plain_model, planted, [planted.days[5].item()], "", None, lambda *n: seen.append(n)
    )
    assert found.explanations.empty
    assert found.audits.empty
    assert found.tokens.empty
    assert tuple(found.audits.columns) == AUDIT_COLUMNS
    assert seen == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradient_steps": 0}, "gradient_steps 0: expected a positive integer"),
        ({"group_orders": 5}, "group_orders 5: expected an even number"),
        ({"radius": 0.0}, "radius 0.0: expected a positive number"),
    ],
)
def test_a_bad_amount_of_work_is_an_error(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExplainConfig(**change)  # type: ignore[arg-type]
