"""A better model is promoted, on evidence of the day alone; worse, young, unexplained and lucky ones are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.promotion import (
    AuditRecord,
    PromotionPolicy,
    Verdict,
    decide,
)

FIRST = date(2023, 1, 1)
DAY = date(2023, 7, 2)
HORIZONS = (1, 5, 22)


def scores(noise: dict[str, float], days: int = 182, seed: int = 0) -> pd.DataFrame:
    """QLIKE of forecasts that miss log variance by that standard deviation; outcomes are known when they end."""
    chance = np.random.default_rng(seed)
    as_of = pd.date_range(FIRST, periods=days)
    parts = []
    for horizon in HORIZONS:
        for asset in ("BTC", "ETH"):
            for model, deviation in noise.items():
                error = deviation * chance.standard_normal(days)
                parts.append(
                    pd.DataFrame(
                        {
                            "asset": asset, "as_of": as_of, "horizon": horizon, "model": model,
                            "qlike": np.exp(error) - error - 1, "known_on": as_of + pd.Timedelta(days=horizon),
                        }
                    )
                )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def verdict_on(model: str, verdicts: list[Verdict]) -> Verdict:
    return next(item for item in verdicts if item.model == model)


def test_a_better_model_is_promoted_and_a_worse_one_is_refused():
    found = decide(scores({"base": 0.5, "good": 0.3, "bad": 0.9}), "base", DAY)
    assert [(item.kind, item.model) for item in found] == [("promote", "good"), ("refuse", "bad")]
    assert found[0].statistic < 0.6
    assert "not applicable" in found[0].reason
    assert "worse than base" in found[1].reason
    assert found[1].horizon == 1
    assert found[0].evidence_to == DAY - timedelta(days=1)


def test_of_two_that_pass_the_better_one_is_promoted():
    found = decide(scores({"base": 0.8, "good": 0.3, "fair": 0.305}, seed=3), "base", DAY)
    assert (found[0].kind, found[0].model) == ("promote", "good")
    assert verdict_on("fair", found).kind == "refuse"


def test_an_equal_model_does_not_take_the_lead():
    rows = scores({"base": 0.5})
    found = decide(pd.concat([rows, rows.assign(model="twin")]), "base", DAY)
    assert [item.kind for item in found] == ["keep", "refuse"]
    assert "not better enough" in found[1].reason


def test_one_bad_horizon_is_enough_to_refuse():
    rows = scores({"base": 0.5, "good": 0.2})
    long = (rows["horizon"] == 22) & (rows["model"] == "good")
    rows.loc[long, "qlike"] *= 10
    refused = verdict_on("good", decide(rows, "base", DAY))
    assert (refused.kind, refused.horizon) == ("refuse", 22)
    assert refused.reason.startswith("22 days: worse")


def test_a_failed_audit_blocks_and_says_so():
    rows = scores({"base": 0.5, "good": 0.3})
    found = decide(rows, "base", DAY, audits={"good": AuditRecord(100, 60, 150)})
    assert [item.kind for item in found] == ["keep", "refuse"]
    assert "60 of 100 forecasts valid or weak (60%), at least 80%" in found[1].reason
    assert found[1].statistic == pytest.approx(0.6)
    none = decide(rows, "base", DAY, audits={"good": AuditRecord(0, 0, 0)})
    assert "no forecast was audited" in none[1].reason
    for record in (AuditRecord(100, 90, 150), AuditRecord(0, 0, 150)):
        assert decide(rows, "base", DAY, audits={"good": record})[0].kind == "promote"


def test_an_audit_record_counts_the_forecasts_that_use_their_residual():
    rows = pd.DataFrame(
        {
            "verdict": ["valid", "weak", "invalid", "invalid"],
            "residual_used": [True, True, True, False],
        }
    )
    assert AuditRecord.of(rows) == AuditRecord(used=3, passed=2, audited=4)


def test_a_young_challenger_waits():
    rows = scores({"base": 0.5, "good": 0.3})
    young = rows[(rows["model"] == "base") | (rows["as_of"] >= pd.Timestamp(2023, 4, 15))]
    refused = verdict_on("good", decide(young, "base", DAY))
    assert "days of evidence" in refused.reason
    assert refused.threshold == 90


def test_a_target_that_ends_after_the_decision_day_does_not_count():
    rows = scores({"base": 0.5, "good": 0.3})
    before = decide(rows, "base", DAY)
    later = pd.to_datetime(rows["known_on"]) > pd.Timestamp(DAY)
    assert later.any()
    poisoned = rows.copy()
    poisoned.loc[later, "qlike"] = np.where(poisoned.loc[later, "model"] == "good", 1e6, 0.0)
    assert decide(poisoned, "base", DAY) == before
    claimed = poisoned.assign(
        known_on=pd.Timestamp(FIRST)
    )  # a wrong date of knowledge is no way in
    assert decide(claimed[later], "base", DAY)[0].reason == "no outcome of a forecast of base is known yet"  # fmt: skip


def test_two_promotions_lie_some_time_apart():
    rows = scores({"base": 0.5, "good": 0.3})
    recent = decide(rows, "base", DAY, reigning_since=DAY - timedelta(days=28))
    assert [item.kind for item in recent] == ["keep"]
    assert "28 days ago" in recent[0].reason
    assert decide(rows, "base", DAY, reigning_since=DAY - timedelta(days=63))[0].kind == "promote"


def test_a_challenger_outside_the_confidence_set_is_refused():
    rows = scores({"base": 0.5, "good": 0.4, "best": 0.1})
    audits = {"best": AuditRecord(10, 0, 10)}  # the best may not lead, and shuts the second out
    found = decide(rows, "base", DAY, audits=audits)
    assert found[0].kind == "keep"
    assert "model confidence set" in verdict_on("good", found).reason


def test_horizons_weigh_as_the_policy_says():
    rows = scores({"base": 0.5, "good": 0.5}, seed=1)
    near = rows["model"].eq("good") & rows["horizon"].eq(1)
    rows.loc[near, "qlike"] *= 0.5
    others = rows["model"].eq("good") & rows["horizon"].ne(1)
    twin = rows[rows["model"] == "base"].set_index(["asset", "as_of", "horizon"])["qlike"]
    rows.loc[others, "qlike"] = [
        twin[key] for key in zip(*(rows.loc[others, k] for k in ("asset", "as_of", "horizon")), strict=True)
    ]  # fmt: skip
    assert decide(rows, "base", DAY)[0].kind == "promote"
    policy = replace(PromotionPolicy(), weights={5: 1.0, 22: 1.0})
    assert decide(rows, "base", DAY, policy=policy)[0].kind == "keep"


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="known_on"):
        decide(scores({"base": 0.5}).drop(columns="known_on"), "base", DAY)
