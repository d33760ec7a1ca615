"""HAR on variance and its kin against statsmodels and hand computations; jumps; the insanity filter."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from ml import realized
from ml.baselines.jumps import is_jump, jump_statistic, split_variance
from ml.baselines.levels import filtered, held_out_forecasts, weighted_fit
from ml.forecasts import HORIZONS
from ml.models import create
from ml.panel import Panel
from tests.ml.archive_frames import made_up_bars
from tests.ml.baselines.realised_frames import MEASURES, measured_frames


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return made_up_bars(days=420, seed=5)


@pytest.fixture(scope="module")
def whole(bars: pd.DataFrame) -> Panel:
    """Three coins without a gap."""
    return Panel.from_frames(*measured_frames(bars, "simulated"))


def statsmodels_forecast(x: np.ndarray, y: np.ndarray, now: np.ndarray) -> float:
    """Weighted least squares by the inverse of the fitted values of a first regression, and the filter."""
    fitted = np.maximum(sm.OLS(y, x).fit().fittedvalues, y.min())
    value = float(now @ sm.WLS(y, x, weights=1 / fitted).fit().params)
    return value if y.min() <= value <= y.max() else float(y.mean())


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("har", ["rv_d", "rv_5d", "rv_22d"]),
        ("har_j", ["rv_d", "rv_5d", "rv_22d", "jump_d"]),
        ("shar", ["semivariance_pos_d", "semivariance_neg_d", "rv_5d", "rv_22d"]),
        ("harq", ["rv_d", "q", "rv_5d", "rv_22d"]),
    ],
)
def test_the_regression_is_the_weighted_one_of_statsmodels(
    whole: Panel, name: str, columns: list[str]
) -> None:
    model = create(name)
    model.fit(whole, whole.days[400].item(), {"window_days": 300}, seed=0)
    forecast = model.forecast(whole, [whole.days[400].item()])
    feature = {
        **whole.features,
        "q": np.sqrt(whole.feature("quarticity_d")) * whole.feature("rv_d"),
    }
    rv = pd.DataFrame(whole.realized_variance())
    for column, horizon in enumerate(HORIZONS):
        for index in range(3):
            x = np.column_stack([np.ones(len(rv)), *(feature[c][:, index] for c in columns)])
            y = rv[index][::-1].rolling(horizon).mean()[::-1].shift(-1).to_numpy()
            rows = slice(101, 401 - horizon)
            expected = statsmodels_forecast(x[rows], y[rows], x[400])
            assert forecast.variance[0, index, column] == pytest.approx(expected, rel=1e-6)


def test_har_cj_reads_continuous_and_jump_parts(whole: Panel) -> None:
    model = create("har_cj")
    model.fit(whole, whole.days[400].item(), {"window_days": 300}, seed=0)
    x = model._design(whole, np.array([400]))[0, 1]  # type: ignore[attr-defined]
    measures = [whole.feature(c) for c in ("rv_d", "bipower_d", "quarticity_d", "bars_expected")]
    continuous, jump = split_variance(*measures[:2], jump_statistic(*measures))
    for place, part in ((1, continuous), (4, jump)):
        expected = [part[400, 1], part[396:401, 1].mean(), part[379:401, 1].mean()]
        np.testing.assert_allclose(x[place : place + 3], expected, rtol=1e-12)
    np.testing.assert_allclose(x[1] + x[4], whole.feature("rv_d")[400, 1], rtol=1e-12)


def test_the_measures_of_the_tests_are_those_of_ml_realized(
    bars: pd.DataFrame, whole: Panel
) -> None:
    own = bars[bars["asset"] == "ETH"].sort_values("ts")
    returns = np.diff(np.log(own["close"].to_numpy()))[23 + 24 * 50 :][:24]  # day 51
    negative, positive = realized.semivariances(returns)
    expected = dict(
        zip(
            MEASURES,
            [
                realized.bipower_variation(returns), realized.jump_variation(returns),
                realized.realized_quarticity(returns), negative, positive,
            ],
            strict=True,
        )
    )  # fmt: skip
    for name, value in expected.items():
        assert whole.feature(name)[51, 1] == pytest.approx(float(value), rel=1e-9)


def test_jumps_are_found_where_they_were_put_and_seldom_elsewhere() -> None:
    generator = np.random.default_rng(0)
    returns = 0.005 * generator.standard_normal((800, 24))
    jumped = np.arange(800) % 10 == 9
    returns[jumped, 7] += 0.05
    measures = [
        f(returns)[:, None]
        for f in (realized.realized_variance, realized.bipower_variation, realized.realized_quarticity)
    ]  # fmt: skip
    statistic = jump_statistic(*measures, np.full((800, 1), 24.0))
    found = is_jump(statistic)[:, 0]
    assert found[jumped][3:].mean() > 0.75
    assert found[~jumped].mean() < 0.03
    continuous, jump = split_variance(*measures[:2], statistic)
    np.testing.assert_allclose(continuous + jump, measures[0])
    assert (jump[~is_jump(statistic)] == 0).all()
    assert not is_jump(np.array([np.nan]))[0]


def test_insane_forecasts_become_the_mean_of_the_window() -> None:
    sane = np.array([1.0, 5.0, 2.0])
    found = filtered(np.array([-1.0, 0.9, 1.0, 4.0, 5.1, np.nan]), np.tile(sane, (6, 1)))
    np.testing.assert_array_equal(found, [2.0, 2.0, 1.0, 4.0, 2.0, np.nan])


def test_a_column_of_zeros_does_no_harm() -> None:
    generator = np.random.default_rng(1)
    x = np.column_stack([np.ones(300), generator.gamma(2, 1e-4, 300)])
    y = x @ [1e-4, 0.5] * generator.gamma(4, 0.25, 300)
    with_zeros = weighted_fit(np.column_stack([x, np.zeros(300)]), y)[0]
    np.testing.assert_allclose(with_zeros[:2], weighted_fit(x, y)[0], rtol=1e-9)
    assert with_zeros[2] == 0


def test_held_out_blocks_never_see_targets_that_overlap_their_own() -> None:
    generator = np.random.default_rng(1)
    rows, horizon = np.arange(200), 5
    x = np.column_stack([np.ones(200), generator.gamma(2, 1, (200, 2))])
    y = generator.gamma(2, 1, 200)
    predicted = held_out_forecasts(x, y, rows, horizon)
    changed = y.copy()
    changed[80 - 4 : 120 + 4] += 100.0
    again = held_out_forecasts(x, changed, rows, horizon)
    np.testing.assert_array_equal(again[80:120], predicted[80:120])
    changed[75] += 100.0
    assert not np.allclose(held_out_forecasts(x, changed, rows, horizon)[80:120], predicted[80:120])


def test_missing_measures_refuse_har_j_but_not_har(whole: Panel) -> None:
    trained = date(2022, 2, 1)
    features = {**whole.features, "jump_d": np.full_like(whole.feature("jump_d"), np.nan)}
    without = Panel(
        whole.source, whole.days, whole.assets, features, whole.hourly, whole.hourly_fields, whole.realized,
    )  # fmt: skip
    model = create("har_j")
    model.fit(without, trained, {"window_days": 300}, seed=0)
    assert model.forecast(without, [trained]).refused()["status"].unique().tolist() == [
        "needs 180 days with every regressor and a known target, has 0 at 22 days "
        "(jump_d missing on 300 of 300 days)"
    ]
    fitted = create("har_j")
    fitted.fit(whole, trained, {"window_days": 300}, seed=0)
    assert set(fitted.forecast(without, [trained]).status.ravel()) == {"jump_d is missing"}
