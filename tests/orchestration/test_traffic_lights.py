"""Traffic lights over stored rows: which sets are kept, what is read for them, and rows that were made before there were two methods."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestration.assets import evaluation
from orchestration.assets.evaluation import light_rows
from orchestration.leverage_backtest import backtest_rows
from orchestration.platform import Platform
from orchestration.risk import stored_advice
from orchestration.settings import Settings
from tests.orchestration.test_risk import store

COINS = ("BTC", "ETH")
DAYS = pd.date_range("2024-01-01", periods=80)
SATURDAY = date(2024, 3, 16)
SUNDAY, MONDAY, TUESDAY = (SATURDAY + timedelta(days=n) for n in (1, 2, 3))
LATER_COLUMNS = (
    *(f"mixture_{side}{measure}_{level}" for side in ("", "short_") for measure in ("var", "es") for level in ("95", "975", "99")),
    *(f"uncertainty_{part}" for part in ("disagreement", "interval", "age", "drift", "audit")),
    "target_leverage", "leverage_limit", "binding", "previous_leverage", "previous_as_of",
)  # fmt: skip


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """80 days of two coins by one model, with scores and a portfolio."""
    made = Platform(Settings(home=tmp_path, models=("harx_cal",)))
    chance = np.random.default_rng(2)
    keys = pd.DataFrame(
        [
            {"asset": coin, "as_of": day.date(), "horizon": 1, "model": "harx_cal", "model_version": "v-1"}
            for day in DAYS for coin in COINS
        ]
    )  # fmt: skip
    figures = {
        f"{prefix}{side}{measure}_{level}": size * (1.0 if measure == "var" else 1.2)
        for prefix in ("", "mixture_")
        for side in ("", "short_")
        for measure in ("var", "es")
        for level, size in (("95", 0.033), ("975", 0.039), ("99", 0.047))
    }
    moves = 0.02 * chance.standard_normal(len(keys))
    books = keys[keys["asset"] == "BTC"].drop(columns="asset").assign(portfolio="desk", **{k: v for k, v in figures.items() if "short" not in k})  # fmt: skip
    parts = keys.assign(portfolio="desk", weight=0.5)
    known = pd.date_range(DAYS[0] - timedelta(days=150), DAYS[-1]).date
    price = {
        "source": "simulated",
        "day": known,
        "known_on": known,
        "complete": True,
        "close": 100.0,
    }
    prices = pd.concat([pd.DataFrame({**price, "asset": coin, "realized_variance": 4e-4}) for coin in COINS])  # fmt: skip
    with made.warehouse.write() as connection:
        store(connection, "models.registry", pd.DataFrame([{"model": "harx_cal", "model_version": "v-1"}]))  # fmt: skip
        store(connection, "evaluation.scores", keys.assign(horizon_return=moves))
        store(connection, "forecasts.risk", keys.assign(**figures, uncertainty=0.3, advised_leverage=0.8))  # fmt: skip
        store(connection, "forecasts.portfolio_risk", books)
        store(connection, "forecasts.portfolio_components", parts)
        connection.register("frame", prices)
        connection.execute("CREATE TABLE features.realized AS SELECT * FROM frame")
        connection.execute(
            """
            CREATE TABLE features.hourly AS
            SELECT DISTINCT asset, day::TIMESTAMPTZ + to_hours(hour::INTEGER) AS ts, day::DATE AS known_on, 0.0 AS log_return
            FROM frame CROSS JOIN (VALUES (0), (23)) AS hours (hour)
            """
        )
    return made


def kept(platform: Platform) -> dict[date, list[str]]:
    with platform.warehouse.read() as connection:
        return dict(
            connection.execute(
                "SELECT as_of, list_sort(list(DISTINCT asset)) FROM evaluation.traffic_lights GROUP BY as_of ORDER BY as_of"
            ).fetchall()
        )


def test_coins_are_kept_of_sundays_and_the_newest_day(platform: Platform) -> None:
    everything = ["ALL", "BTC", "ETH", "portfolio:desk"]
    whole = ["ALL", "portfolio:desk"]
    light_rows(platform, SATURDAY)
    assert kept(platform) == {SATURDAY: everything}
    for day in (SUNDAY, MONDAY, TUESDAY):
        light_rows(platform, day)
    wanted = {SATURDAY: whole, SUNDAY: everything, MONDAY: whole, TUESDAY: everything}
    assert kept(platform) == wanted
    for day in (SATURDAY, SUNDAY, MONDAY, TUESDAY):
        light_rows(platform, day)
    assert kept(platform) == wanted


def test_losses_are_not_read_and_nothing_known_gives_no_rows(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> pd.DataFrame:
        raise AssertionError("lights rest on returns and risk alone")

    monkeypatch.setattr(evaluation, "live_scores", refuse)
    assert light_rows(platform, DAYS[0].date()).empty
    assert len(light_rows(platform, SUNDAY)) == 2 * 2 * 3 * 3 + 2 * 3


def test_rows_from_before_the_second_method_are_left_out_of_it_alone(platform: Platform) -> None:
    """A home that was upgraded after 40 days."""
    upgrade = DAYS[40].date()
    with platform.warehouse.write() as connection:
        for table in ("forecasts.risk", "forecasts.portfolio_risk"):
            columns = {row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
            nulls = ", ".join(f"{name} = NULL" for name in LATER_COLUMNS if name in columns)
            connection.execute(f"UPDATE {table} SET {nulls} WHERE as_of < ?", [upgrade])
    rows = light_rows(platform, SUNDAY).set_index(["method", "side", "level", "asset"])["periods"]
    assert rows["fhs", "long", 0.95, "BTC"] == 76
    assert rows["mixture", "long", 0.95, "BTC"] == 36
    assert rows["mixture", "short", 0.99, "ALL"] == 72
    assert rows["mixture", "portfolio", 0.95, "portfolio:desk"] == 36
    with platform.warehouse.read() as connection:
        advice = stored_advice(connection, upgrade, SUNDAY)
        assert advice["as_of"].min() == pd.Timestamp(upgrade - timedelta(days=7))
        assert (advice["advised_leverage"] == 0.8).all()
        followed = backtest_rows(connection, platform.settings, SUNDAY)
    assert set(followed["strategy"]) == {"advised", "constant", "ewma"}


def test_without_any_row_of_the_second_method_the_first_is_judged(platform: Platform) -> None:
    with platform.warehouse.write() as connection:
        nulls = ", ".join(f"{name} = NULL" for name in LATER_COLUMNS)
        connection.execute(f"UPDATE forecasts.risk SET {nulls}, advised_leverage = NULL")
        assert stored_advice(connection, DAYS[0].date(), SUNDAY).empty
    rows = light_rows(platform, SUNDAY)
    assert set(rows.loc[rows["asset"] == "ALL", "method"]) == {"fhs"}
