"""On the simulated market the planted lead is found with its modality and its lag; the planted spurious series is flagged; the rest is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ml.explain.lead_lag import LeadLag, LeadLagPolicy, lead_lag
from ml.explain.spurious import CLEAR, FLAGGED, NOT_JUDGED, Check, spurious_checks
from ml.explain.surprises import prices_of, residual
from ml.panel import Panel
from orchestration.sources.market.truth import TRUTH
from tests.ml.explain.simulated_features import (
    CLEAN,
    END,
    FIELDS,
    PLANTED,
    SPURIOUS,
    simulated_panel,
)

SEEDS = (7, 8, 21)


@pytest.fixture(scope="module")
def panels() -> dict[int, Panel]:
    return {seed: simulated_panel(seed) for seed in SEEDS}


@pytest.fixture(scope="module")
def found(panels: dict[int, Panel]) -> dict[int, list[Check]]:
    return {seed: spurious_checks(panel, FIELDS, None) for seed, panel in panels.items()}


def profile(panel: Panel, feature: str) -> LeadLag:
    return next(item for item in lead_lag(panel, FIELDS) if item.feature == feature)


def of(checks: list[Check], check: str, segment: str, asset: str = "ALL") -> Check:
    (row,) = [c for c in checks if (c.check, c.segment, c.asset) == (check, segment, asset)]
    return row


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_lead_has_the_right_modality_and_lag(
    found: dict[int, list[Check]], seed: int
) -> None:
    rows = [row for row in found[seed] if row.check == "lead_lag" and row.asset == "ALL"]
    strongest = max(rows, key=lambda row: abs(row.statistic))
    assert (strongest.modality, strongest.segment) == ("onchain", PLANTED)
    assert strongest.lead_days == TRUTH.planted_lead.lead_days
    assert strongest.verdict == CLEAR
    assert strongest.statistic > 5  # the sign too: more inflow than outflow raises variance
    assert [row.segment for row in rows if np.isfinite(row.lead_days)] == [PLANTED]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_spurious_series_is_flagged_and_a_clean_one_is_not(
    found: dict[int, list[Check]], seed: int
) -> None:
    spurious = of(found[seed], "lead_lag", SPURIOUS)
    assert (spurious.modality, spurious.verdict) == ("sentiment", FLAGGED)
    assert "may be spurious" in spurious.reason
    clean = of(found[seed], "lead_lag", CLEAN)
    assert (clean.verdict, np.isnan(clean.lead_days)) == (CLEAR, True)
    flagged = {row.segment for row in found[seed] if row.verdict == FLAGGED and row.asset == "ALL"}
    assert flagged == {SPURIOUS}


def test_the_lead_of_an_older_value_is_longer(panels: dict[int, Panel]) -> None:
    panel = panels[7]
    late = np.full_like(panel.feature(PLANTED), np.nan)
    late[1:] = panel.feature(PLANTED)[:-1]  # known a day later, and its age says so
    older = replace(
        panel,
        features={
            **panel.features,
            PLANTED: late,
            "onchain_age_days": panel.feature("onchain_age_days") + 1.0,
        },
    )
    now, then = profile(panel, PLANTED), profile(older, PLANTED)
    assert now.lead_days(now.best) == 2.0
    assert then.lags[then.best] == 0
    assert then.lead_days(then.best) == 3.0
    assert abs(then.statistic[then.best]) < 0.6 * abs(now.statistic[now.best])


def test_a_value_that_is_stored_a_day_late_peaks_a_lag_earlier_than_known(
    panels: dict[int, Panel],
) -> None:
    panel = panels[7]
    early = np.full_like(panel.feature(PLANTED), np.nan)
    early[:-1] = panel.feature(PLANTED)[1:]  # a value of tomorrow's row in today's: a leak
    leaking = replace(panel, features={**panel.features, PLANTED: early})
    item = profile(leaking, PLANTED)
    assert item.lags[item.best] == 1


def test_a_series_that_follows_and_a_series_that_knows_too_much_are_flagged(
    panels: dict[int, Panel],
) -> None:
    panel = panels[7]
    chance = np.random.default_rng(4)
    target = prices_of(panel).log_variance  # of the next day
    noise = chance.standard_normal(target.shape)
    reaction = np.full_like(target, np.nan)
    reaction[1:] = target[:-1]  # of the day itself
    features = {
        "tomorrow": target + 0.2 * noise,
        "reaction": reaction + 0.4 * noise,
        "follows_and_leads": reaction + 0.05 * np.nan_to_num(target) + 0.4 * noise,
    }
    made = replace(panel, features={**panel.features, **features})
    checks = spurious_checks(made, {"onchain": tuple(features)}, None)
    assert "more than a lead explains" in of(checks, "lead_lag", "tomorrow").reason
    assert of(checks, "lead_lag", "tomorrow").verdict == FLAGGED
    assert np.isnan(of(checks, "lead_lag", "reaction").lead_days)
    row = of(checks, "leak_late", "follows_and_leads")
    assert (row.verdict, row.statistic > 1) == (FLAGGED, True)
    assert not [c for c in checks if c.check == "leak_late" and c.segment == "reaction"]


def test_nothing_after_the_decision_day_matters(panels: dict[int, Panel]) -> None:
    panel, day = panels[8], END - timedelta(days=60)
    known = panel.until(day)
    late = panel.realized.known_on > np.datetime64(day)
    poisoned = replace(
        panel,
        features={
            name: np.where(
                np.arange(len(values))[:, None] < len(known.days), values, values * 3 + 1
            )
            for name, values in panel.features.items()
        },
        realized=replace(
            panel.realized,
            variance=np.where(late, panel.realized.variance * 9, panel.realized.variance),
        ),
    )
    clean, changed = (spurious_checks(item, FIELDS, None) for item in (known, poisoned.until(day)))
    assert repr(clean) == repr(changed)  # NaN is NaN
    assert repr(clean) != repr(spurious_checks(poisoned, FIELDS, None))


def test_residuals_are_those_of_least_squares() -> None:
    chance = np.random.default_rng(5)
    x = chance.standard_normal((300, 2, 4))
    y = chance.standard_normal((300, 2))
    y[::7, 0] = np.nan
    kept = np.isfinite(y[:, 0])
    beta = np.linalg.lstsq(x[kept, 0], y[kept, 0], rcond=None)[0]
    found = residual(y, x)
    assert np.allclose(found[kept, 0], y[kept, 0] - x[kept, 0] @ beta, atol=1e-4)
    assert np.isnan(found[~kept, 0]).all()


def test_too_few_days_are_not_judged(panels: dict[int, Panel]) -> None:
    checks = spurious_checks(panels[7].window(200), FIELDS, None)
    rows = [row for row in checks if row.check == "lead_lag"]
    assert {row.verdict for row in rows} == {NOT_JUDGED}
    assert "at least 250" in rows[0].reason


def test_a_policy_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="level 0: expected a number between 0 and 1"):
        LeadLagPolicy(level=0)
