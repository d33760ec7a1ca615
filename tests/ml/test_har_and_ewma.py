"""HAR, HARX-cal and EWMA against independent computations."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from ml.baselines.har import HarxCal, LogHar, cross_fitted_variance, cross_validated
from ml.baselines.regressors import REGRESSORS, design
from ml.forecasts import HORIZONS
from ml.models import create
from ml.panel import Panel
from tests.ml.archive_frames import frames_from_bars, made_up_bars


@pytest.fixture(scope="module")
def whole() -> Panel:
    """Three coins without a gap."""
    return Panel.from_frames(*frames_from_bars(made_up_bars(days=420, seed=5), "simulated"))


def test_log_har_is_the_ridge_regression_with_smearing(whole: Panel) -> None:
    trained = whole.days[400].item()
    model = LogHar()
    model.fit(whole, trained, {"window_days": 300}, seed=0)
    forecast = model.forecast(whole, [trained])
    rv = pd.DataFrame(whole.realized_variance(), whole.days, list(whole.assets))
    for column, horizon in enumerate(HORIZONS):
        for index, asset in enumerate(whole.assets):
            lags = [np.log(rv[asset].rolling(days).mean()) for days in (1, 5, 22)]
            x = np.column_stack([np.ones(len(rv)), *lags])
            y = np.log(rv[asset][::-1].rolling(horizon).mean()[::-1].shift(-1)).to_numpy()
            rows = slice(101, 401 - horizon)
            beta = np.linalg.solve(x[rows].T @ x[rows] + 0.01 * np.eye(4), x[rows].T @ y[rows])
            smearing = np.mean(np.exp(y[rows] - x[rows] @ beta))
            expected = np.exp(x[400] @ beta) * smearing
            assert forecast.variance[0, index, column] == pytest.approx(expected, rel=1e-9)


def test_harx_cal_has_the_25_regressors_of_the_reference(whole: Panel) -> None:
    names = [regressor.name for regressor in REGRESSORS]
    assert names == [
        "d", "w", "m", "q", "d2", "lev", "levw", "abs", "pk", "mk", "mkw", "btc", "btcw", "blev", "vol",
        "l1", "l4", "l8", "l12", *(f"dow{day}" for day in range(6)),
    ]  # fmt: skip
    row = whole.row(date(2021, 12, 3))  # a Friday: its target day is a Saturday
    x = design(whole, REGRESSORS, np.array([row]))[0, 1]
    value = {name: float(x[1 + place]) for place, name in enumerate(names)}
    feature = {name: values[row, 1] for name, values in whole.features.items()}
    assert [value[f"dow{day}"] for day in range(6)] == [0, 0, 0, 0, 0, 1]
    assert value["lev"] == min(feature["return_d"], 0) / np.sqrt(feature["rv_d"])
    assert value["levw"] == pytest.approx(
        min(feature["return_5d"], 0) / np.sqrt(5 * feature["rv_5d"])
    )
    assert value["pk"] == pytest.approx(2 * np.log(feature["high_low_range_d"]))
    assert value["l4"] == pytest.approx(np.log(feature["rv_last_4h"] + 1e-9))
    assert value["btc"] == np.log(feature["btc_rv_d"])


def test_held_out_blocks_never_see_targets_that_overlap_their_own() -> None:
    generator = np.random.default_rng(1)
    rows, horizon = np.arange(200), 5
    x = np.column_stack([np.ones(200), generator.standard_normal((200, 2))])
    y = generator.standard_normal(200)
    predicted = cross_validated(x, y, rows, horizon)
    changed = y.copy()
    changed[80 - 4 : 120 + 4] += 100.0  # block 3 is rows 80..119; targets reach 5 days
    np.testing.assert_allclose(
        cross_validated(x, changed, rows, horizon)[80:120], predicted[80:120], rtol=1e-9
    )
    changed[75] += 100.0
    assert not np.allclose(cross_validated(x, changed, rows, horizon)[80:120], predicted[80:120])


def test_missing_market_terms_refuse_harx_cal_but_not_log_har(whole: Panel) -> None:
    trained = whole.days[400].item()
    features = {**whole.features, "btc_rv_d": np.full_like(whole.feature("btc_rv_d"), np.nan)}
    without = Panel(
        whole.source,
        whole.days,
        whole.assets,
        features,
        whole.hourly,
        whole.hourly_fields,
        whole.realized,
    )
    model = HarxCal()
    model.fit(without, trained, {"window_days": 300}, seed=0)
    reason = model.forecast(without, [trained]).refused()["status"].unique().tolist()
    assert reason == [
        "needs 180 days with every regressor and a known target, has 0 at 22 days "
        "(btc_rv_d missing on 300 of 300 days)"
    ]
    log_har = create("log_har")
    log_har.fit(without, trained, {"window_days": 300}, seed=0)
    assert log_har.forecast(without, [trained]).refused().empty
    fitted = HarxCal()
    fitted.fit(whole, trained, {"window_days": 300}, seed=0)
    assert set(fitted.forecast(without, [trained]).status.ravel()) == {"btc_rv_d is missing or 0"}


def test_rows_within_22_days_of_an_outage_train_no_harx_cal(panel: Panel) -> None:
    trained = date(2022, 4, 1)
    outage = np.datetime64("2021-09-10")
    days, variance = cross_fitted_variance(panel, trained, {"window_days": 400})
    used = np.isfinite(variance[:, 0, 0])
    after = (days >= outage) & (days < outage + 22)
    assert not used[after].any()
    assert used[(days >= outage + 22) & (days < np.datetime64(trained))].all()
    assert np.isfinite(variance[(days >= outage - 30) & (days < outage - 1), 0, 0]).all()


def test_cross_fitted_variance_is_what_harx_cal_was_calibrated_on(panel: Panel) -> None:
    trained = date(2022, 4, 1)
    model = HarxCal()
    model.fit(panel, trained, {"window_days": 400}, seed=0)
    days, variance = cross_fitted_variance(panel, trained, {"window_days": 400})
    known = panel.until(trained)
    target = known.target(5)[known.rows([day.item() for day in days]), 1]
    residuals = np.log(target) - np.log(variance[:, 1, 1])
    expected = np.nanquantile(residuals, [0.05, 0.5, 0.95])
    stored = model.state().tensors["residual_quantiles"][1, 1, [2, 5, 8]]
    np.testing.assert_allclose(stored, expected, rtol=1e-12)


def test_ewma_is_the_exponentially_weighted_mean_of_pandas(panel: Panel) -> None:
    model = create("ewma")
    last = panel.days[-1].item()
    model.fit(panel, last, {}, seed=0)
    series = pd.DataFrame(panel.realized_variance())
    expected = series.ewm(alpha=0.06).mean().iloc[-1].to_numpy()
    variance = model.forecast(panel, [last]).variance[0, :3]
    np.testing.assert_allclose(variance, np.repeat(expected[:3, None], 3, axis=1), rtol=1e-12)
    with pytest.raises(ValueError, match=r"decay 1\.5: expected a number between 0 and 1"):
        create("ewma").fit(panel, last, {"decay": 1.5}, seed=0)


def test_random_walk_repeats_the_past_horizon(whole: Panel) -> None:
    model = create("random_walk")
    last = whole.days[-1].item()
    model.fit(whole, last, {}, seed=0)
    rv = whole.realized_variance()
    expected = [rv[-days:].mean(axis=0) for days in HORIZONS]
    np.testing.assert_allclose(model.forecast(whole, [last]).variance[0].T, expected, rtol=1e-12)


def test_residual_quantiles_cover_what_they_say(whole: Panel) -> None:
    for name in ("random_walk", "ewma", "log_har"):
        model = create(name)
        model.fit(whole, whole.days[-1].item(), {"window_days": 380}, seed=0)
        days = [day.item() for day in whole.days[45:-23]]
        forecast, target = model.forecast(whole, days), np.log(whole.target(1)[45:-23])
        inside = (target > forecast.log_quantiles[:, :, 0, 3]) & (
            target < forecast.log_quantiles[:, :, 0, 7]
        )
        assert inside.mean() == pytest.approx(0.8, abs=0.03)
        assert forecast.calibrated.all()
