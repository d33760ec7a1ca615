"""Scores, leaderboard and verdicts from frames as the warehouse holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ml.evaluation.comparison import diebold_mariano
from ml.evaluation.leaderboard import COLUMNS as LEADERBOARD_COLUMNS
from ml.evaluation.leaderboard import leaderboard
from ml.evaluation.scores import KEYS, SCORE_COLUMNS, score_frame
from ml.evaluation.verdicts import COLUMNS as TEST_COLUMNS
from ml.evaluation.verdicts import comparison_tests
from ml.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS

DAYS = pd.date_range("2022-01-01", periods=260, freq="D")
COINS = ("BTC", "ETH", "XRP")
SD = 0.5  # of log RV around its median


def realized_frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    parts = []
    for asset in COINS:
        median = 4e-4 * np.exp(0.3 * np.sin(np.arange(len(DAYS)) / 20))
        variance = median * np.exp(SD * generator.standard_normal(len(DAYS)))
        log_return = np.sqrt(variance) * generator.standard_normal(len(DAYS))
        parts.append(
            pd.DataFrame(
                {
                    "source": "simulated", "asset": asset, "day": DAYS, "known_on": DAYS, "complete": True,
                    "realized_variance": variance, "return": log_return, "close": 50 * np.exp(np.cumsum(log_return)),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def forecast_frame(
    realized: pd.DataFrame, model: str, factor: float, with_risk: bool = True
) -> pd.DataFrame:
    """A model that knows the median of each day and multiplies it by `factor`; horizon 1 and 5."""
    index = (realized["day"] - DAYS[0]).dt.days
    rows = []
    for horizon in (1, 5):
        median = factor * 4e-4 * np.exp(0.3 * np.sin((index + (horizon + 1) / 2) / 20))
        frame = pd.DataFrame(
            {
                "source": "simulated", "asset": realized["asset"], "as_of": realized["day"], "horizon": horizon,
                "model": model, "model_version": "v1", "variance": median * np.exp(SD**2 / 2),
            }
        )  # fmt: skip
        spread = np.outer(np.ones(len(frame)), norm.ppf(QUANTILE_LEVELS)) * SD / np.sqrt(horizon)
        quantiles = np.sqrt(365 * median.to_numpy()[:, None] * np.exp(spread))
        frame[list(QUANTILE_COLUMNS)] = quantiles
        if with_risk:
            scale = np.sqrt(horizon * frame["variance"])
            for suffix, z in (("95", 1.65), ("975", 2.0), ("99", 2.5)):
                frame[f"var_{suffix}"] = z * scale
            frame["es_975"] = 2.5 * scale
        rows.append(frame)
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def realized() -> pd.DataFrame:
    return realized_frame()


@pytest.fixture(scope="module")
def scores(realized: pd.DataFrame) -> pd.DataFrame:
    forecasts = [
        forecast_frame(realized, "harx_cal", 1.0),
        forecast_frame(realized, "ewma", 2.0),
        forecast_frame(realized, "garch_t", 1.02, with_risk=False),
    ]
    return score_frame(pd.concat(forecasts), realized)


def test_scores_by_hand(scores: pd.DataFrame, realized: pd.DataFrame) -> None:
    assert tuple(scores.columns) == SCORE_COLUMNS
    row = scores[
        (scores["model"] == "ewma") & (scores["asset"] == "ETH") & (scores["horizon"] == 5)
    ].iloc[10]
    own = realized[realized["asset"] == "ETH"].reset_index(drop=True)
    assert row["as_of"] == DAYS[10]
    y = own["realized_variance"].iloc[11:16].mean()
    assert row["realized_variance"] == pytest.approx(y)
    assert row["qlike"] == pytest.approx(y / row["variance"] - np.log(y / row["variance"]) - 1)
    assert row["horizon_return"] == pytest.approx(own["return"].iloc[11:16].sum())
    assert row["var_95_breach"] == (-np.expm1(row["horizon_return"]) > row["var_95"])


def test_horizons_that_are_not_over_have_no_score(scores: pd.DataFrame) -> None:
    last = scores.groupby("horizon")["as_of"].max()
    assert last[1] == DAYS[-2]
    assert last[5] == DAYS[-6]


def test_breaches_are_missing_without_a_var(scores: pd.DataFrame) -> None:
    without = scores[scores["model"] == "garch_t"]
    assert without["var_99_breach"].isna().all()
    assert scores.loc[scores["model"] == "ewma", "var_99_breach"].notna().all()


def test_quantiles_that_are_right_cover_what_they_say(scores: pd.DataFrame) -> None:
    right = scores[(scores["model"] == "harx_cal") & (scores["horizon"] == 1)]
    assert right["covered_80"].mean() == pytest.approx(0.8, abs=0.05)
    assert right["covered_98"].mean() == pytest.approx(0.98, abs=0.02)


def test_missing_columns_and_repeated_keys_are_named(realized: pd.DataFrame) -> None:
    forecasts = forecast_frame(realized, "ewma", 1.0)
    with pytest.raises(ValueError, match="forecasts have no column 'model_version'"):
        score_frame(forecasts.drop(columns="model_version"), realized)
    with pytest.raises(ValueError, match=r"two forecasts for \('simulated', 'BTC'"):
        score_frame(pd.concat([forecasts, forecasts.iloc[:1]]), realized)
    assert score_frame(forecasts, realized.iloc[:0]).empty
    assert score_frame(forecasts.iloc[:0], realized).empty


def test_leaderboard_ranks_and_compares_with_the_benchmark(scores: pd.DataFrame) -> None:
    board = leaderboard(scores)
    assert tuple(board.columns) == LEADERBOARD_COLUMNS
    one = board[board["horizon"] == 1].set_index("model")
    assert one.index[-1] == "ewma"
    assert one.loc["harx_cal", "qlike_ratio_harx_cal"] == 1.0
    assert np.isnan(one.loc["harx_cal", "dm_p_value"])
    assert one.loc["ewma", "qlike_ratio_harx_cal"] > 1.3
    assert one.loc["ewma", "dm_statistic"] > 5
    assert one["in_mcs_90"].to_dict() == {"harx_cal": True, "garch_t": True, "ewma": False}
    own = scores[(scores["model"] == "ewma") & (scores["horizon"] == 1)]
    assert one.loc["ewma", "qlike"] == pytest.approx(own.groupby("asset")["qlike"].mean().mean())
    assert one.loc["ewma", "forecasts"] == len(own) == 3 * 259
    assert (one["as_of"] == DAYS[-2]).all()


def test_diebold_mariano_takes_a_day_as_one_observation(scores: pd.DataFrame) -> None:
    tests = comparison_tests(scores)
    found = tests[
        (tests["test"] == "diebold_mariano") & (tests["horizon"] == 5) & (tests["asset"] == "ALL")
    ]
    row = found.set_index("model").loc["ewma"]
    group = scores[scores["horizon"] == 5]
    daily = group.groupby(["model", "as_of"])["qlike"].mean()
    expected = diebold_mariano(daily["ewma"], daily["harx_cal"], 5)
    assert row["statistic"] == pytest.approx(expected.statistic)
    assert row["forecasts"] == 255
    assert row["verdict"] == "worse"


def test_models_are_compared_on_the_days_that_both_forecast(scores: pd.DataFrame) -> None:
    short = scores[(scores["model"] != "ewma") | (scores["as_of"] < DAYS[100])]
    board = leaderboard(short).set_index(["horizon", "model"])
    common = scores[(scores["as_of"] < DAYS[100]) & (scores["horizon"] == 1)]
    means = common.groupby(["model", "asset"])["qlike"].mean().groupby("model").mean()
    ratio = board.loc[(1, "ewma"), "qlike_ratio_harx_cal"]
    assert ratio == pytest.approx(means["ewma"] / means["harx_cal"])
    assert board.loc[(1, "ewma"), "in_mcs_90"] is pd.NA
    assert board.loc[(1, "garch_t"), "in_mcs_90"] == True  # noqa: E712
    without = leaderboard(scores[scores["model"] != "harx_cal"])
    assert without["qlike_ratio_harx_cal"].isna().all()


def test_every_test_is_there_with_a_verdict(scores: pd.DataFrame) -> None:
    tests = comparison_tests(scores)
    assert tuple(tests.columns) == TEST_COLUMNS
    assert set(tests["test"]) == {
        "diebold_mariano", "mcs_90", "spa", "mincer_zarnowitz", "kupiec_95", "kupiec_975", "kupiec_99",
        "christoffersen_95", "christoffersen_975", "christoffersen_99", "dynamic_quantile_95",
        "dynamic_quantile_975", "dynamic_quantile_99", "acerbi_szekely_975",
    }  # fmt: skip
    assert tests["verdict"].notna().all()
    assert not tests.duplicated(["test", "horizon", "asset", "model"]).any()
    by_key = tests.set_index(["test", "horizon", "asset", "model"])
    assert by_key.loc[("mincer_zarnowitz", 1, "BTC", "ewma"), "verdict"] == "biased"
    assert by_key.loc[("mcs_90", 1, "ALL", "ewma"), "verdict"] == "not in the set"
    assert by_key.loc[("spa", 1, "ALL", "harx_cal"), "verdict"] == "beaten by none"
    assert by_key.loc[("kupiec_95", 5, "BTC", "ewma"), "forecasts"] == 51  # every fifth of 255 days
    assert by_key.loc[("kupiec_95", 1, "BTC", "ewma"), "verdict"] == "too few breaches"


def test_few_rows_give_no_p_values_but_say_how_many(realized: pd.DataFrame) -> None:
    few = realized[realized["day"] < DAYS[8]]
    forecasts = pd.concat([forecast_frame(few, "harx_cal", 1.0), forecast_frame(few, "ewma", 2.0)])
    scores = score_frame(forecasts, few)
    tests = comparison_tests(scores)
    assert tests["p_value"].isna().all()
    ours = tests[(tests["test"] == "diebold_mariano") & (tests["horizon"] == 1)]
    assert set(ours["verdict"]) == {"too few forecasts (7)"}
    board = leaderboard(scores)
    assert board["in_mcs_90"].isna().all()
    assert board["qlike"].notna().all()
    one = scores[scores["model"] == "ewma"].iloc[:1]
    assert leaderboard(one)["forecasts"].tolist() == [1]
    assert comparison_tests(one)["p_value"].isna().all()
    assert leaderboard(scores.iloc[:0]).empty
    assert comparison_tests(scores.iloc[:0]).empty


def test_mixed_sources_and_versions_are_refused(scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"scores mix sources \['archive', 'simulated'\]"):
        leaderboard(pd.concat([scores, scores.iloc[:1].assign(source="archive")]))
    with pytest.raises(
        ValueError, match=r"two scores for \('BTC', .*'ewma'\): keep one model version"
    ):
        comparison_tests(
            pd.concat(
                [scores, scores[scores["model"] == "ewma"].iloc[:1].assign(model_version="v2")]
            )
        )


def test_scores_do_not_depend_on_row_order(scores: pd.DataFrame, realized: pd.DataFrame) -> None:
    forecasts = pd.concat(
        [forecast_frame(realized, "harx_cal", 1.0), forecast_frame(realized, "ewma", 2.0)]
    )
    shuffled = score_frame(
        forecasts.sample(frac=1, random_state=1), realized.sample(frac=1, random_state=2)
    )
    expected = scores[scores["model"] != "garch_t"].sort_values(list(KEYS), ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, expected)
