"""Each check of the spurious-correlation report finds what it is for, and leaves alone what is sound."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from ml.explain.dependence import t_statistics, two_sided
from ml.explain.lead_lag import LeadLag, lead_lag
from ml.explain.spurious import CLEAR, FLAGGED, NOT_JUDGED, Check, Effects, Releases, SpuriousPolicy
from ml.explain.spurious.attention import attention_without_effect, rank_agreement
from ml.explain.spurious.calendar import calendar_of_features, calendar_share
from ml.explain.spurious.leads import leads_by_coin
from ml.explain.spurious.leaks import informed_revisions, late_values, revised_values
from ml.explain.spurious.survival import effect_survival, loss_difference
from ml.explain.surprises import prices_of
from ml.panel import Panel
from tests.ml.attention.markets import planted_market
from tests.ml.explain.explained_days import autoregression, explained

POLICY = SpuriousPolicy()
GROUPS = ("good", "bad")
DAYS, COINS = 240, 4


def verdicts(checks: list[Check], modality: str, asset: str = "ALL") -> dict[str, str]:
    return {
        row.segment: row.verdict
        for row in checks
        if row.modality == modality and row.asset == asset
    }


@pytest.fixture(scope="module")
def attended() -> Effects:
    """'good' is attended to where it moves the forecast; 'bad' takes most of the attention, as it likes, and moves nothing."""
    chance = np.random.default_rng(1)
    size = np.exp(0.4 * autoregression(chance, DAYS, 0.7, COINS))
    sign = chance.choice([-1.0, 1.0], size=(DAYS, COINS))
    effect = {"good": 0.05 * size * sign, "bad": 0.001 * chance.standard_normal((DAYS, COINS))}
    attention = {
        "good": 0.10 * size,
        "bad": 0.25 * np.exp(0.4 * autoregression(chance, DAYS, 0.7, COINS)),
    }
    return Effects.of(explained(effect, attention, np.ones((DAYS, COINS))))


def test_attention_without_effect_is_flagged_and_attention_that_follows_is_not(
    attended: Effects,
) -> None:
    checks = attention_without_effect(attended, GROUPS, POLICY)
    assert verdicts(checks, "good") == {"by day": CLEAR, "on average": CLEAR}
    assert verdicts(checks, "bad") == {"by day": FLAGGED, "on average": FLAGGED}
    assert verdicts(checks, "bad", "C2")["on average"] == FLAGGED
    assert verdicts(checks, "good", "C2") == {"by day": CLEAR, "on average": CLEAR}


def test_an_anchor_and_a_short_history_are_not_judged(attended: Effects) -> None:
    nothing = Effects.of(
        explained({"good": np.zeros((90, 2))}, {"good": np.full((90, 2), 0.1)}, np.ones((90, 2)))
    )
    (row,) = attention_without_effect(nothing, ("good",), POLICY)
    assert (row.verdict, "it is the anchor" in row.reason) == (NOT_JUDGED, True)
    few = attention_without_effect(attended.newest(20), ("good",), POLICY)
    assert {row.verdict for row in few} == {NOT_JUDGED}
    (row,) = attention_without_effect(attended, ("funding",), POLICY)
    assert row.verdict == NOT_JUDGED


def test_rank_agreement_is_spearmans() -> None:
    from scipy.stats import spearmanr

    chance = np.random.default_rng(2)
    a, b = chance.standard_normal((2, 100))
    assert rank_agreement(a, b, 0.25)[0] == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(rank_agreement(a, np.ones(100), 0.25)[0])


def survival(effect: np.ndarray, log_rv: np.ndarray, features: pd.DataFrame | None = None):
    shares = np.full(effect.shape, 0.1)
    made = explained({"onchain": effect}, {"onchain": shares}, np.exp(log_rv))
    return effect_survival(Effects.of(made), ("onchain",), features, POLICY)


def test_an_effect_that_hurts_is_flagged_and_one_that_helps_everywhere_is_clear() -> None:
    chance = np.random.default_rng(3)
    signal = 0.3 * chance.standard_normal((600, COINS))
    noise = 0.3 * chance.standard_normal((600, COINS))
    # effect: log variance without the group less that with it; where it helps, outcomes lie away from 'without'
    helps = survival(-signal, noise)
    assert {row.verdict for row in helps} == {CLEAR}
    assert "it helps" in helps[0].reason
    hurts = survival(-signal, noise - signal)  # without it the forecast would be unbiased
    assert hurts[0].verdict == FLAGGED
    assert "it hurts" in hurts[0].reason
    assert {row.segment for row in hurts if row.asset == "ALL"} == {"all", "2022", "2023"}
    assert {row.asset for row in hurts} == {"ALL", "C0", "C1", "C2", "C3"}


def test_help_in_one_year_or_one_coin_only_is_flagged() -> None:
    chance = np.random.default_rng(4)
    signal = 0.5 * chance.standard_normal((600, COINS))
    noise = 0.2 * chance.standard_normal((600, COINS))
    one_year = noise.copy()
    one_year[363:] -= 0.55 * signal[363:]  # from 2023 on it hurts a little
    row = survival(-signal, one_year)[0]
    assert (row.verdict, "only in 2022 (year)" in row.reason) == (FLAGGED, True)
    one_coin = noise - 0.52 * signal
    one_coin[:, 1] = noise[:, 1]
    row = survival(-signal, one_coin)[0]
    assert (row.verdict, "only in C1 (coin)" in row.reason) == (FLAGGED, True)


def test_regimes_are_those_known_in_advance() -> None:
    chance = np.random.default_rng(5)
    signal = 0.5 * chance.standard_normal((600, 2))
    days = np.datetime64("2022-01-03") + np.arange(600)
    swing = np.sin(np.arange(600) / 40)
    features = pd.concat(
        [pd.DataFrame({"asset": c, "as_of": days.astype("datetime64[s]"), "rv_22d": np.exp(swing)}) for c in ("C0", "C1")]
    )  # fmt: skip
    checks = survival(-signal, 0.2 * chance.standard_normal((600, 2)), features)
    assert {"calm", "turbulent"} <= {row.segment for row in checks}


def test_the_loss_difference_is_qlike_with_less_without() -> None:
    y, f, a = np.array([[2e-4]]), np.array([[1e-4]]), np.array([[0.5]])
    ratio, without = 2.0, 2.0 / np.exp(0.5)
    expected = (ratio - np.log(ratio) - 1) - (without - np.log(without) - 1)
    assert loss_difference(y, f, a)[0, 0] == pytest.approx(expected)
    assert np.isnan(loss_difference(np.array([[np.nan]]), f, a)[0, 0])


def panel_with(values: dict[str, np.ndarray], days: int = 800) -> Panel:
    panel = planted_market(days, 3, seed=6)
    panel.features.update(
        {name: np.broadcast_to(v, (days, 3)).copy() for name, v in values.items()}
    )
    return panel


def test_a_weekly_a_yearly_and_a_trending_series_are_proxies_a_persistent_one_is_not() -> None:
    chance = np.random.default_rng(7)
    day = np.arange(800)[:, None]
    noise = chance.standard_normal((800, 1))
    panel = panel_with(
        {
            "weekly": 2.0 * (day % 7 >= 5) + noise,
            "yearly": 2.0 * np.sin(2 * np.pi * day / 365.25) + noise,
            "trend": 0.005 * day + noise,
            "persistent": autoregression(chance, 800, 0.97),
            "noise": noise,
        }
    )
    names = ("weekly", "yearly", "trend", "persistent", "noise")
    found = verdicts(calendar_of_features(panel, {"onchain": names}, POLICY), "onchain")
    assert found == {
        "weekly": FLAGGED,
        "yearly": FLAGGED,
        "trend": FLAGGED,
        "persistent": CLEAR,
        "noise": CLEAR,
    }


def test_calendar_shares_are_those_of_the_regression_and_repeat() -> None:
    chance = np.random.default_rng(8)
    days = np.datetime64("2022-01-03") + np.arange(200)
    values = chance.standard_normal(200)
    weekday = np.arange(200) % 7
    x = np.column_stack([np.ones(200), weekday[:, None] == np.arange(6), np.arange(200)])
    fitted = x @ np.linalg.lstsq(x, values, rcond=None)[0]
    share, usual = calendar_share(days, values, 120, 3)
    assert share == pytest.approx(fitted.var() / values.var())
    assert np.array_equal(usual, calendar_share(days, values, 120, 3)[1])


def test_revised_values_are_flagged_unless_the_model_leaves_them_out() -> None:
    read = pd.DataFrame(
        [
            {"modality": "onchain", "signal": "exchange_inflow", "asset": "BTC", "values": 1000, "revised": 900},
            {"modality": "onchain", "signal": "fees", "asset": "BTC", "values": 1000, "revised": 10},
        ]
    )  # fmt: skip
    open_to = Releases(read, Releases.none().changed)
    guarded = Releases(read, Releases.none().changed, frozenset({"exchange_inflow"}))
    assert verdicts(revised_values(open_to, ["onchain"], POLICY), "onchain") == {
        "exchange_inflow": FLAGGED,
        "fees": CLEAR,
    }
    assert verdicts(revised_values(open_to, ["onchain"], POLICY), "onchain", "BTC") == {"all": FLAGGED}  # fmt: skip
    assert set(verdicts(revised_values(guarded, ["onchain"], POLICY), "onchain").values()) == {CLEAR}  # fmt: skip
    assert verdicts(revised_values(guarded, ["onchain"], POLICY), "onchain", "BTC") == {"all": CLEAR}  # fmt: skip
    (row,) = revised_values(Releases.none(), ["funding"], POLICY)
    assert row.verdict == NOT_JUDGED


def test_a_provider_whose_revisions_know_the_outcome_is_flagged() -> None:
    panel = panel_with({})
    surprise = prices_of(panel).surprise
    chance = np.random.default_rng(9)
    day, coin = np.nonzero(np.isfinite(surprise))
    first = np.exp(chance.standard_normal(len(day)))
    noise = 0.1 * chance.standard_normal(len(day))

    def changed(revision: np.ndarray, asset: np.ndarray) -> Releases:
        frame = pd.DataFrame(
            {
                "modality": "onchain",
                "signal": "exchange_inflow",
                "asset": asset,
                "first_known_on": panel.days[day].astype("datetime64[s]"),
                "first": first,
                "newest": first * np.exp(revision),
            }
        )
        return Releases(Releases.none().read, frame)

    coins = np.array(panel.assets, dtype=object)[coin]
    prices = prices_of(panel)
    honest = informed_revisions(panel, prices, changed(noise, coins), POLICY)
    knowing = informed_revisions(
        panel, prices, changed(noise + 0.03 * surprise[day, coin], coins), POLICY
    )
    assert [row.verdict for row in honest] == [CLEAR]
    assert [row.verdict for row in knowing] == [FLAGGED]
    assert "knows the outcome" in knowing[0].reason


def test_values_older_or_younger_than_they_ever_were_are_flagged() -> None:
    usual = 1.0 + 0.1 * np.random.default_rng(10).random((800, 3))
    late, young = usual.copy(), usual.copy()
    late[-10:] += 3.0
    young[-10:] = 0.02
    ages = {"onchain_age_days": usual, "sentiment_age_days": late, "stablecoin_age_days": young}
    checks = late_values(
        panel_with(ages), ("onchain", "sentiment", "stablecoin", "funding"), POLICY
    )
    assert [verdicts(checks, m)["age"] for m in ("onchain", "sentiment", "stablecoin")] == [CLEAR, FLAGGED, FLAGGED]  # fmt: skip
    assert "36% older" in next(c for c in checks if c.modality == "sentiment").reason
    assert verdicts(checks, "funding") == {"all": NOT_JUDGED}


def test_rows_that_cannot_be_read_are_refused() -> None:
    rows = explained({"a": np.ones((9, 1))}, {"a": np.ones((9, 1))}, np.ones((9, 1)), first=date(2022, 1, 1))  # fmt: skip
    with pytest.raises(ValueError, match="explanations without variance"):
        Effects.of(rows.drop(columns="variance"))
    with pytest.raises(ValueError, match="two rows"):
        Effects.of(pd.concat([rows, rows]))
    with pytest.raises(ValueError, match="agreement 2: expected"):
        SpuriousPolicy(agreement=2)


def lead_of(by_coin: np.ndarray, degrees: int) -> LeadLag:
    """A feature that leads at lag 0, with the statistics (N,) of the coins."""
    one = np.array([1.0])
    return LeadLag("onchain", "flows", np.array([0]), 0.2 * one, 6.0 * one, 1e-6 * one, 1.0, 250,
        by_coin[:, None], degrees=degrees)  # fmt: skip


def many_coins(number: int) -> Panel:
    market = planted_market(30, 4)
    return replace(market, assets=tuple(f"C{n:02}" for n in range(number)))


def test_a_coins_lead_is_held_against_student_of_its_own_degrees() -> None:
    (row,) = leads_by_coin(many_coins(1), [lead_of(np.array([-2.5]), 15)], POLICY)
    assert row.p_value == pytest.approx(student.cdf(-2.5, 15), rel=1e-12)


def test_coins_without_a_lead_are_called_contrary_no_more_often_than_promised() -> None:
    """800 draws of 20 coins over 250 days: 5 % family-wise within 2.5 standard errors. Normal critical values give over 10 %."""
    chance, panel, wrong = np.random.default_rng(2), many_coins(20), 0
    for _ in range(800):
        statistic, degrees = t_statistics(chance.standard_normal((250, 20)))
        rows = leads_by_coin(panel, [lead_of(statistic, degrees)], POLICY)
        wrong += any(row.verdict == FLAGGED for row in rows)
    assert wrong / 800 < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 800)


def test_a_profile_knows_the_degrees_of_its_statistics() -> None:
    panel = planted_market(420, 4)
    (item,) = lead_lag(panel, {"onchain": ("mvrv",)})
    assert 15 <= item.degrees <= int(0.4 * 420 ** (2 / 3))
    assert item.adjusted_p[item.best] == pytest.approx(
        min(1.0, 12 * two_sided(item.statistic, item.degrees)[item.best]), rel=1e-9
    )  # 11 honest lags and the level; mvrv is planted, so the best is the first of Holm's steps
    (short,) = lead_lag(panel.window(100), {"onchain": ("mvrv",)})
    assert short.degrees == 0
