"""Traffic lights: the zones that Basel published, coins that fall together, and rows that are not judged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm

from ml.evaluation.traffic_lights import COLUMNS, design_effect, light, traffic_lights


def test_the_zones_are_those_of_the_basel_committee() -> None:
    """Basel Committee (1996), table 2: 250 observations at 99 %: green 0 to 4, yellow 5 to 9, red from 10 on."""
    zones = [light(breaches, 250, 0.99) for breaches in range(13)]
    assert zones == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 3
    assert light(250, 250, 0.99) == "red"


def test_the_light_is_the_binomial_distribution_at_whole_numbers() -> None:
    for periods, level in ((100, 0.95), (400, 0.975), (57, 0.95)):
        for breaches in range(periods // 4):
            share = binom.cdf(breaches, periods, 1 - level)
            expected = "green" if share < 0.95 else "yellow" if share < 0.9999 else "red"
            assert light(breaches, periods, level) == expected


def outcomes(
    days: int, coins: int = 1, horizon: int = 1, together: float = 0.0, scale: float = 1.0
) -> pd.DataFrame:
    """Normal returns with the right VaR and ES (for scale 1) by both methods; `together` is the correlation of coins."""
    generator = np.random.default_rng(days + coins)
    common = generator.standard_normal((days, 1))
    z = np.sqrt(together) * common + np.sqrt(1 - together) * generator.standard_normal((days, coins))  # fmt: skip
    frame = pd.DataFrame(
        {
            "model": "harx_cal",
            "asset": np.tile([f"C{c}" for c in range(coins)], days),
            "as_of": np.repeat(pd.date_range("2022-01-01", periods=days), coins),
            "horizon": horizon,
            "horizon_return": np.log1p(0.02 * z.ravel()),
        }
    )
    for suffix, level in (("95", 0.95), ("975", 0.975), ("99", 0.99)):
        quantile = norm.ppf(level)
        for method in ("", "mixture_"):
            for side in ("", "short_"):
                frame[f"{method}{side}var_{suffix}"] = 0.02 * quantile / scale
                frame[f"{method}{side}es_{suffix}"] = (
                    0.02 * norm.pdf(quantile) / (1 - level) / scale
                )
    return frame


def test_right_forecasts_are_green_by_every_method_side_and_level() -> None:
    rows = traffic_lights(outcomes(600, coins=2))
    assert tuple(rows.columns) == COLUMNS
    assert len(rows) == 2 * 2 * 3 * 3  # methods, sides, levels, two coins and ALL
    assert (rows["light"] == "green").all()
    coins = rows[rows["asset"] != "ALL"]
    assert (coins["periods"] == 600).all()
    assert coins[["kupiec_p", "christoffersen_p", "dq_p", "acerbi_szekely_p"]].notna().all().all()
    assert (coins["expected_breaches"].round(6) == (600 * (1 - coins["level"])).round(6)).all()
    every = rows[rows["asset"] == "ALL"]
    assert (every["periods"] == 1200).all()
    assert every[["christoffersen_p", "dq_p", "acerbi_szekely_z"]].isna().all().all()


def test_understated_risk_is_red_and_the_words_say_what_rejects() -> None:
    rows = traffic_lights(outcomes(600, scale=1.6))
    one = rows[(rows["asset"] == "C0") & (rows["level"] == 0.99)]
    assert (one["light"] == "red").all()
    assert one["verdict"].str.contains("expected; too many").all()
    assert one["verdict"].str.contains("ES understated").all()
    assert (one["acerbi_szekely_z"] < -0.7).all()


def test_one_side_that_is_wrong_does_not_colour_the_other() -> None:
    frame = outcomes(600)
    frame["horizon_return"] -= 0.02
    rows = traffic_lights(frame).set_index(["method", "side", "level", "asset"])["light"]
    assert rows["fhs", "long", 0.99, "C0"] == "red"
    assert rows["mixture", "short", 0.99, "C0"] == "green"


@pytest.mark.parametrize(("days", "judged"), [(49, []), (50, [0.95]), (100, [0.95, 0.975]), (250, [0.95, 0.975, 0.99])])  # fmt: skip
def test_too_few_periods_are_not_judged_never_a_light(days: int, judged: list[float]) -> None:
    rows = traffic_lights(outcomes(days))
    rows = rows[rows["asset"] == "C0"]
    assert sorted(set(rows.loc[rows["light"].notna(), "level"])) == judged
    silent = rows[rows["light"].isna()]
    assert silent["verdict"].str.startswith(f"not judged: {days} periods, expected at least").all()


@pytest.mark.parametrize("column", ["es_975", "mixture_short_es_95"])
def test_a_shortfall_below_its_var_is_an_error_that_names_the_row(column: str) -> None:
    frame = outcomes(60, coins=2)
    var = column.replace("es_", "var_")
    frame[column] = frame[var] * (1 - 5e-10)  # rounding
    assert len(traffic_lights(frame)) > 0
    frame.loc[33, column] = 0.9 * frame.loc[33, var]
    frame.loc[40, [var, column]] = np.nan  # a missing figure is left out
    message = f"^{column} 0.0.* below {var} 0.0.* of harx_cal, C1, 2022-01-17 00:00:00, 1: expected"
    with pytest.raises(ValueError, match=message):
        traffic_lights(frame)


def test_overlapping_horizons_count_once() -> None:
    rows = traffic_lights(outcomes(220, horizon=22))
    assert (rows["periods"] == 10).all()
    assert rows["light"].isna().all()


def test_coins_that_fall_together_are_not_so_many_observations() -> None:
    alone = traffic_lights(outcomes(500, coins=10, together=0.0)).query("asset == 'ALL'")
    joint = traffic_lights(outcomes(500, coins=10, together=0.9)).query("asset == 'ALL'")
    assert (alone["effective_periods"] > 3000).all()
    assert (joint["effective_periods"] < 1500).all()


def test_all_is_seldom_wrong_when_coins_move_together() -> None:
    """Taken for independent, ten coins with a correlation of 0.7 would be yellow or red in a quarter of the samples."""
    generator = np.random.default_rng(8)
    naive = wrong = 0
    for _ in range(200):
        z = np.sqrt(0.7) * generator.standard_normal((400, 1)) + np.sqrt(0.3) * generator.standard_normal((400, 10))  # fmt: skip
        hits = (z > norm.ppf(0.95)).ravel()
        effect = design_effect(hits, np.repeat(np.arange(400), 10))
        naive += light(hits.sum(), 4000, 0.95) != "green"
        wrong += light(hits.sum() / effect, 4000 / effect, 0.95) != "green"
    assert naive > 0.18 * 200
    assert wrong < 0.10 * 200


def test_the_design_effect_by_hand() -> None:
    # 4 days of 2 coins, both breach on one day: p = 1/4, excess (1.5, -0.5, -0.5, -0.5), sum of squares 3
    hits = [1, 1, 0, 0, 0, 0, 0, 0]
    assert design_effect(hits, [0, 0, 1, 1, 2, 2, 3, 3]) == pytest.approx(3 / (8 * 3 / 16) * 4 / 3)
    assert design_effect([0, 0, 0, 0], [0, 0, 1, 1]) == 2.0  # nothing measures it: as one coin
    assert design_effect([1, 0, 0, 1], [0, 1, 2, 3]) >= 1.0


def test_a_portfolio_has_rows_of_its_own() -> None:
    frame = outcomes(300)
    book = frame.assign(
        asset="portfolio:desk", simple_return=np.expm1(frame["horizon_return"])
    ).drop(columns="horizon_return")
    rows = traffic_lights(frame, book)
    mine = rows[rows["asset"] == "portfolio:desk"]
    assert set(mine["side"]) == {"portfolio"}
    assert len(mine) == 2 * 3
    coin = rows[(rows["asset"] == "C0") & (rows["side"] == "long")]
    assert mine["breaches"].tolist() == coin["breaches"].tolist()


def test_missing_figures_are_left_out_and_repeated_keys_refused() -> None:
    frame = outcomes(120)
    frame.loc[:59, "mixture_var_95"] = np.nan
    rows = traffic_lights(frame).query("asset == 'C0' and side == 'long' and level == 0.95")
    assert rows.set_index("method")["periods"].to_dict() == {"fhs": 120, "mixture": 60}
    assert traffic_lights(frame.iloc[:0]).empty
    with pytest.raises(ValueError, match=r"two outcomes for .*C0"):
        traffic_lights(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ValueError, match="11 breaches in 10 periods"):
        light(11, 10, 0.95)
    with pytest.raises(ValueError, match=r"level 0\.05"):
        light(1, 10, 0.05)
