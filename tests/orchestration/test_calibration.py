"""Quantiles corrected by outcomes: a block of days gives what the days give one by one, and nothing later counts."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS
from orchestration.calibration import calibrated_forecasts
from orchestration.settings import Settings
from orchestration.warehouse import Warehouse, replace_rows

FIRST = date(2024, 1, 1)
DAYS = 100


@pytest.fixture
def warehouse(tmp_path):
    """Realised variance of one coin, known on its own day; twice what the forecasts say."""
    made = Warehouse(Settings(home=tmp_path / "home"))
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    chance = np.random.default_rng(5)
    variance = 2 * 4e-4 * np.exp(0.5 * chance.standard_normal(DAYS))
    realized = pd.DataFrame(
        {
            "source": "simulated", "asset": "BTC", "day": pd.to_datetime(days), "known_on": pd.to_datetime(days),
            "realized_variance": variance, "return": 0.01, "bars_expected": 24, "bars_used": 24, "complete": True, "close": 100.0,
        }
    )  # fmt: skip
    with made.write() as connection:
        connection.register("realized", realized)
        connection.execute(
            "CREATE TABLE features.realized AS SELECT * REPLACE (day::DATE AS day, known_on::DATE AS known_on) FROM realized"
        )
    return made


def own(first: int, last: int) -> pd.DataFrame:
    """Forecasts of a model for days first .. last, horizon 1, with quantiles that are too low."""
    days = pd.to_datetime([FIRST + timedelta(days=n) for n in range(first, last + 1)])
    frame = pd.DataFrame(
        {
            "source": "simulated", "asset": "BTC", "as_of": days.astype("datetime64[s]"), "horizon": 1, "model": "ewma",
            "model_version": "v1", "variance": 4e-4, "volatility": np.sqrt(365 * 4e-4), "calibrated": False, "status": "ok",
        }
    )  # fmt: skip
    for name, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True):
        frame[name] = np.sqrt(365 * 4e-4 * np.exp(level - 0.5))
    return frame


def corrected(warehouse: Warehouse, *blocks: tuple[int, int]) -> pd.DataFrame:
    parts = []
    for first, last in blocks:
        rows = own(first, last)
        day = FIRST + timedelta(days=last)
        with warehouse.write() as connection:
            parts.append(calibrated_forecasts(connection, rows, day))
            replace_rows(
                connection, "forecasts.model_quantiles", rows.assign(run_id="r", created_at=pd.Timestamp(day, tz="UTC")),
                on=["as_of", "model", "model_version"],
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_days_one_by_one_give_what_a_block_gives(warehouse, tmp_path):
    block = corrected(warehouse, (0, DAYS - 1))
    with warehouse.write() as connection:
        connection.execute("DELETE FROM forecasts.model_quantiles")
    daily = corrected(warehouse, (0, 89), *((day, day) for day in range(90, DAYS)))
    pd.testing.assert_frame_equal(daily, block)


def test_outcomes_move_the_quantiles_and_sixty_of_them_count_as_calibration(warehouse):
    rows = corrected(warehouse, (0, DAYS - 1))
    assert rows["outcomes"].tolist() == list(range(DAYS))
    assert rows["calibrated"].tolist() == [count >= 60 for count in range(DAYS)]
    raw = own(0, DAYS - 1)
    assert np.allclose(
        rows.loc[0, list(QUANTILE_COLUMNS)].astype(float),
        raw.loc[0, list(QUANTILE_COLUMNS)].astype(float),
    )
    assert rows["q50"].iloc[-1] > 1.2 * raw["q50"].iloc[-1]  # the truth is twice the forecast
    assert (np.diff(rows[list(QUANTILE_COLUMNS)].to_numpy(float), axis=1) >= 0).all()
    assert rows["variance"].equals(raw["variance"])


def test_an_outcome_that_is_known_later_changes_nothing_before(warehouse):
    before = corrected(warehouse, (0, DAYS - 1))
    late = FIRST + timedelta(days=70)
    with warehouse.write() as connection:
        connection.execute("DELETE FROM forecasts.model_quantiles")
        connection.execute(
            "UPDATE features.realized SET realized_variance = 1.0 WHERE day > ?", [late]
        )
    after = corrected(warehouse, (0, DAYS - 1))
    columns = list(QUANTILE_COLUMNS)
    assert after.loc[:70, columns].equals(before.loc[:70, columns])
    assert not after.loc[71:, columns].equals(before.loc[71:, columns])
