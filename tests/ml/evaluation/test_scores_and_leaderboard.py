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
from ml.evaluation.segments import KINDS, segments
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
        "diebold_mariano", "giacomini_white", "encompassing", "fissler_ziegel_975", "mcs_90", "spa", "step_m", "mincer_zarnowitz", "kupiec_95", "kupiec_975", "kupiec_99",
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


def test_tests_beyond_averages_compare_with_the_benchmark(scores: pd.DataFrame) -> None:
    by_key = comparison_tests(scores).set_index(["test", "horizon", "asset", "model"])
    assert by_key.loc[("giacomini_white", 1, "ALL", "ewma"), "verdict"] == "foreseeable difference"
    assert by_key.loc[("encompassing", 1, "ALL", "ewma"), "verdict"] == "adds nothing"
    assert by_key.loc[("step_m", 1, "ALL", "ewma"), "verdict"] == "does not beat it"
    assert np.isnan(by_key.loc[("step_m", 1, "ALL", "ewma"), "p_value"])
    assert by_key.loc[("fissler_ziegel_975", 1, "ALL", "ewma"), "benchmark"] == "harx_cal"
    assert by_key.loc[("fissler_ziegel_975", 5, "ALL", "ewma"), "forecasts"] == 51
    assert ("fissler_ziegel_975", 1, "ALL", "garch_t") not in by_key.index  # it has no VaR
    against_ewma = comparison_tests(scores, benchmark="ewma")
    steps = against_ewma[(against_ewma["test"] == "step_m") & (against_ewma["horizon"] == 1)]
    assert set(steps["model"]) == {"harx_cal", "garch_t"}
    assert set(steps["verdict"]) == {"beats the benchmark"}


def test_a_leaderboard_row_splits_its_log_error_and_explains_itself(scores: pd.DataFrame) -> None:
    board = leaderboard(scores)
    parts = board["log_bias_squared"] + board["log_error_variance"]
    np.testing.assert_allclose(parts, board["log_mse"], rtol=1e-12)
    one = board[board["horizon"] == 1].set_index("model")
    assert one.loc["ewma", "log_bias_squared"] > 10 * one.loc["harx_cal", "log_bias_squared"] > 0
    assert one.loc["ewma", "log_error_variance"] == pytest.approx(
        one.loc["harx_cal", "log_error_variance"]
    )
    assert one.loc["harx_cal", "r2_log"] > 0 > one.loc["ewma", "r2_log"]
    assert one["crps"].idxmin() == "harx_cal"
    assert np.isnan(one.loc["garch_t", "fz_975"])
    stored = scores.drop(columns=["crps", "width_80", "width_98", "pit", "fz_975"])
    pd.testing.assert_frame_equal(
        leaderboard(stored).drop(columns=["crps", "width_80", "fz_975"]),
        board.drop(columns=["crps", "width_80", "fz_975"]),
    )


def test_the_ledger_says_from_what_a_row_was_made(scores: pd.DataFrame) -> None:
    board = leaderboard(scores)
    assert (board["model_versions"] == 1).all()
    assert (board["code_version"] == "").all()
    assert board.groupby("horizon")["data_version"].nunique().tolist() == [1, 1]
    assert board["data_version"].nunique() == 2
    late = scores["as_of"] > DAYS[100]
    known = scores.assign(code_version=np.where(late, "bbb", "aaa"), data_version="first")
    named = leaderboard(known)
    assert (named["code_version"] == "aaa, bbb").all()
    assert (named["data_version"] != board["data_version"]).all()
    revised = known.copy()
    revised.loc[revised.index[revised["horizon"] == 5], "realized_variance"] *= 1.0 + 1e-9
    changed = leaderboard(revised)["data_version"] != named["data_version"]
    assert changed.tolist() == (named["horizon"] == 5).tolist()
    many = known.assign(code_version=(known.index % 5).astype(str))
    assert leaderboard(many)["code_version"].str.match(r"5 versions, [0-9a-f]{8}").all()


def features_frame() -> pd.DataFrame:
    """BTC turbulent from day 150 on with jumps on days 50 and 200; ETH calm throughout; XRP without features."""
    parts = []
    for asset in ("BTC", "ETH"):
        late = (np.arange(260) >= 150) & (asset == "BTC")
        parts.append(
            pd.DataFrame(
                {
                    "asset": asset, "as_of": DAYS, "rv_22d": np.where(late, 3.0, 1.0) - 1e-3 * np.arange(260),
                    "jump": np.isin(np.arange(260), [50, 200]) & (asset == "BTC"),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_segments_by_hand(scores: pd.DataFrame) -> None:
    found = segments(scores, features_frame(), {"XRP": "small"})
    label = found.set_index(["segment_kind", "horizon", "asset", "as_of"])["segment"].sort_index()
    assert set(found["segment_kind"]) == set(KINDS)
    assert label.loc[("coin_group", 5, "XRP")].unique().tolist() == ["small"]
    assert label.loc[("coin_group", 5, "BTC")].unique().tolist() == ["other coins"]
    assert label.loc[("year", 1, "BTC", DAYS[3])] == "2022"
    assert set(found.loc[found["segment_kind"] == "target_day", "horizon"]) == {1}
    days = label.loc[("target_day", 1, "BTC")]
    assert days[pd.Timestamp("2022-01-07")] == "weekend"  # a Friday forecasts Saturday
    assert days[pd.Timestamp("2022-01-09")] == "weekday"  # a Sunday forecasts Monday
    regime = label.loc[("regime", 1, "BTC")]
    assert regime.index.min() == DAYS[89]
    assert regime[DAYS[149]] == "calm"
    assert regime[DAYS[150]] == "turbulent"
    assert set(label.loc[("regime", 1, "ETH")]) == {"calm"}
    assert "XRP" not in label.loc[("regime", 1)].index.get_level_values("asset")
    jump = label.loc[("jump", 5, "BTC")]
    expected = {44: "no jump near", 45: "before a jump", 49: "before a jump", 50: "after a jump", 54: "after a jump", 55: "no jump near"}  # fmt: skip
    assert {day: jump[DAYS[day]] for day in expected} == expected
    assert label.loc[("jump", 1, "BTC", DAYS[48])] == "no jump near"
    assert label.loc[("jump", 1, "BTC", DAYS[49])] == "before a jump"
    without = segments(scores)
    assert set(without["segment_kind"]) == {"coin_group", "year", "target_day"}
    assert segments(scores.iloc[:0]).empty
    twice = pd.concat([features_frame(), features_frame()])
    with pytest.raises(ValueError, match="features have two rows for BTC on 2022-01-01"):
        segments(scores, twice)


def test_a_regime_reads_nothing_after_its_day(scores: pd.DataFrame) -> None:
    features = features_frame()
    poisoned = features.copy()
    poisoned.loc[poisoned["as_of"] > DAYS[120], "rv_22d"] = 1e6
    one, other = (
        segments(scores, frame[["asset", "as_of", "rv_22d"]]) for frame in (features, poisoned)
    )
    past = [frame[frame["as_of"] <= DAYS[120]].reset_index(drop=True) for frame in (one, other)]
    pd.testing.assert_frame_equal(*past)


def test_segment_rows_stand_beside_those_of_all_and_add_up(scores: pd.DataFrame) -> None:
    found = segments(scores, features_frame())
    board = leaderboard(scores, segments=found)
    whole = leaderboard(scores)
    everything = board[board["segment_kind"] == "all"].reset_index(drop=True)
    pd.testing.assert_frame_equal(everything, whole)
    assert not board.duplicated(["segment_kind", "segment", "horizon", "model"]).any()
    for kind in ("coin_group", "year", "jump"):
        own = board[board["segment_kind"] == kind]
        total = own.groupby(["horizon", "model"])["forecasts"].sum()
        known = 1.0 if kind != "jump" else 2 / 3  # XRP has no features
        expected = known * whole.set_index(["horizon", "model"])["forecasts"]
        pd.testing.assert_series_equal(total, expected.sort_index(), check_dtype=False)
    majors = board[(board["segment"] == "majors") & (board["horizon"] == 1)].set_index("model")
    own = scores[scores["asset"].isin(["BTC", "ETH"]) & (scores["horizon"] == 1)]
    expected = leaderboard(own).set_index("model")
    assert majors["qlike"].to_dict() == expected["qlike"].to_dict()
    assert majors["in_mcs_90"].to_dict() == expected["in_mcs_90"].to_dict()
    assert majors["data_version"].to_dict() == expected["data_version"].to_dict()


def test_scores_do_not_depend_on_row_order(scores: pd.DataFrame, realized: pd.DataFrame) -> None:
    forecasts = pd.concat(
        [forecast_frame(realized, "harx_cal", 1.0), forecast_frame(realized, "ewma", 2.0)]
    )
    shuffled = score_frame(
        forecasts.sample(frac=1, random_state=1), realized.sample(frac=1, random_state=2)
    )
    expected = scores[scores["model"] != "garch_t"].sort_values(list(KEYS), ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, expected)
