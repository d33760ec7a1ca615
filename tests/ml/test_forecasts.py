"""Forecasts: what is refused on construction, and the frame that others read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml.forecasts import (
    FRAME_COLUMNS,
    HORIZONS,
    QUANTILE_COLUMNS,
    QUANTILE_LEVELS,
    Forecasts,
    concatenate,
)

SHAPE = (2, 2, len(HORIZONS))


def some(**changes: Any) -> Forecasts:
    variance = np.full(SHAPE, 0.0004)
    arguments: dict[str, Any] = {
        "model": "ewma",
        "days": np.array(["2023-01-01", "2023-01-02"], dtype="datetime64[D]"),
        "assets": ("BTC", "ETH"),
        "horizons": HORIZONS,
        "variance": variance,
        "log_quantiles": np.log(variance)[..., None] + np.linspace(-1, 1, len(QUANTILE_LEVELS)),
        "calibrated": np.ones(SHAPE[1:], dtype=bool),
        "status": np.full(SHAPE[:2], "ok", dtype=object),
    }
    return Forecasts(**{**arguments, **changes})


def test_frame_holds_annualised_volatility_and_its_quantiles() -> None:
    frame = some().to_frame()
    assert tuple(frame.columns) == FRAME_COLUMNS
    assert len(frame) == 12
    assert frame["volatility"].to_numpy() == pytest.approx(np.sqrt(365 * 0.0004))
    assert frame["q50"].to_numpy() == pytest.approx(np.sqrt(365 * 0.0004))
    assert frame["q99"].to_numpy() == pytest.approx(np.sqrt(365 * 0.0004 * np.e))
    assert str(frame["as_of"].dtype) == "datetime64[s]"


def test_refused_coins_leave_the_frame_and_say_why() -> None:
    variance, status = np.full(SHAPE, 0.0004), np.full(SHAPE[:2], "ok", dtype=object)
    variance[1, 0] = np.nan
    status[1, 0] = "rv_d is missing"
    refusing = some(variance=variance, status=status)
    assert len(refusing.to_frame()) == 9
    refused = refusing.refused()
    assert refused["asset"].tolist() == ["BTC"] * 3
    assert set(refused["status"]) == {"rv_d is missing"}
    assert refused["horizon"].tolist() == [1, 5, 22]


@pytest.mark.parametrize("value", [0.0, -1e-4, np.inf])
def test_a_variance_that_is_not_positive_is_refused_with_its_place(value: float) -> None:
    variance = np.full(SHAPE, 0.0004)
    variance[1, 0, 2] = value
    with pytest.raises(ValueError, match=r"for BTC on 2023-01-02, horizon 22: expected > 0"):
        some(variance=variance)


def test_crossing_quantiles_and_unexplained_gaps_are_refused() -> None:
    quantiles = some().log_quantiles.copy()
    quantiles[0, 1, 0, 3] = 5.0
    with pytest.raises(
        ValueError, match=r"for ETH on 2023-01-01, horizon 1: expected finite and rising"
    ):
        some(log_quantiles=quantiles)
    variance = np.full(SHAPE, 0.0004)
    variance[0, 0] = np.nan
    with pytest.raises(
        ValueError, match="no variance for BTC on 2023-01-01, horizon 1 but status 'ok'"
    ):
        some(variance=variance)
    with pytest.raises(ValueError, match=r"variance has shape \(2, 2\): expected \(2, 2, 3\)"):
        some(variance=np.ones((2, 2)))


def test_blocks_concatenate_to_one() -> None:
    whole = concatenate([some(), some()])
    assert whole.variance.shape == (4, 2, 3)
    with pytest.raises(ValueError, match="cannot concatenate"):
        concatenate([some(), some(model="garch_t")])
    with pytest.raises(ValueError, match="no forecasts"):
        concatenate([])


@given(
    variance=hnp.arrays(np.float64, SHAPE, elements=st.floats(1e-8, 1.0)),
    residuals=hnp.arrays(np.float64, len(QUANTILE_LEVELS), elements=st.floats(-5, 5)),
)
def test_quantiles_of_any_forecast_rise_in_the_frame(variance: Any, residuals: Any) -> None:
    quantiles = np.log(variance)[..., None] + np.sort(residuals)
    frame = some(variance=variance, log_quantiles=quantiles).to_frame()
    values = frame[list(QUANTILE_COLUMNS)].to_numpy()
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) >= 0).all()
