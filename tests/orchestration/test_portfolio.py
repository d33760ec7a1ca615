"""Correlations and portfolio risk in a warehouse: point in time, history, refusals, and a bad file that stops nothing else."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml.forecasts import QUANTILE_COLUMNS
from ml.risk.holdings import PortfolioError, read_portfolio
from orchestration.assets.portfolio import PORTFOLIO_ASSETS
from orchestration.correlations import (
    correlation_rows,
    days_without_correlations,
    last_sunday_before,
)
from orchestration.platform import Platform
from orchestration.portfolio import portfolio_rows, problem_of
from orchestration.portfolio_view import show_portfolio
from orchestration.settings import Settings
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import Warehouse, WarehouseError, replace_rows, set_json_state

LAST = date(2024, 3, 20)
DAYS = 400
FORECAST_DAYS = 90
COINS = ("BTC", "ETH", "SOL")


def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """features.hourly and features.realized of three coins; SOL lacks the hours of the day before LAST."""
    generator = np.random.default_rng(5)
    days = pd.date_range(end=LAST, periods=DAYS)
    returns = 0.006 * (
        generator.standard_normal((DAYS, 24, 1)) + generator.standard_normal((DAYS, 24, 3))
    )
    hourly, realized = [], []
    for place, asset in enumerate(COINS):
        stamps = (days.to_numpy()[:, None] + np.arange(24) * np.timedelta64(1, "h")).ravel()
        frame = pd.DataFrame(
            {"asset": asset, "ts": stamps, "log_return": returns[:, :, place].ravel()}
        )
        frame["known_on"] = frame["ts"].dt.normalize()
        if asset == "SOL":
            late = frame["known_on"] == pd.Timestamp(LAST - timedelta(days=1))
            frame.loc[late, "known_on"] += pd.Timedelta(days=1)
        hourly.append(frame)
        realized.append(
            pd.DataFrame(
                {
                    "source": "simulated", "asset": asset, "day": days, "known_on": days, "complete": True,
                    "realized_variance": (returns[:, :, place] ** 2).sum(axis=1), "return": returns[:, :, place].sum(axis=1),
                    "close": 100 * np.exp(np.cumsum(returns[:, :, place].sum(axis=1))),
                }
            )
        )  # fmt: skip
    return pd.concat(hourly), pd.concat(realized)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with 90 days of forecasts by one model; SOL is refused on LAST - 2."""
    home = tmp_path_factory.mktemp("book")
    (home / "desk.csv").write_text("asset,weight\nBTC,0.6\nETH,-0.2\n")
    settings = Settings(home=home, portfolio=home / "desk.csv")
    hourly, realized = market()
    days = pd.date_range(end=LAST, periods=FORECAST_DAYS)
    grid = pd.MultiIndex.from_product([COINS, days, (1, 5, 22)], names=["asset", "as_of", "horizon"])  # fmt: skip
    forecasts = grid.to_frame(index=False).assign(
        source="simulated", model="harx_cal", model_version="v1", variance=24 * 2 * 0.006**2
    )
    forecasts["volatility"] = np.sqrt(365 * forecasts["variance"])
    for name, factor in zip(QUANTILE_COLUMNS, np.linspace(0.5, 1.8, 11), strict=True):
        forecasts[name] = factor * forecasts["volatility"]
    gone = (forecasts["asset"] == "SOL") & (forecasts["as_of"] == pd.Timestamp(LAST - timedelta(days=2)))  # fmt: skip
    refusals = forecasts[gone].assign(reason="no price day within 3 days")
    with Warehouse(settings).write() as connection:
        for name, frame in (
            ("hourly", hourly),
            ("realized", realized),
            ("daily", forecasts[["asset", "as_of"]].drop_duplicates()),
        ):
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE features.{name} AS FROM frame")
            connection.unregister("frame")
        for table, rows in (
            ("models.registry", pd.DataFrame([{"model": "harx_cal", "model_version": "v1"}])),
            ("forecasts.volatility", forecasts[~gone]),
            ("forecasts.refusals", refusals),
        ):
            replace_rows(
                connection, table, rows.reindex(columns=list(OUTPUT_TABLES[table].columns)), on=["model"]
            )  # fmt: skip
        set_json_state(connection, "champion", {"pin": "harx_cal", "start": "harx_cal", "models": ["harx_cal"]})  # fmt: skip
    return settings


@pytest.fixture(scope="module")
def finished(settings: Settings) -> Settings:
    assert run(settings).success
    return settings


def run(settings: Settings, day: date = LAST) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        PORTFOLIO_ASSETS,
        partition_key=day.isoformat(),
        resources={"platform": Platform(settings)},
        raise_on_error=False,
    )


def rows_of(settings: Settings, query: str) -> list[tuple]:
    with Warehouse(settings).read() as connection:
        return connection.execute(query).fetchall()


def test_the_sunday_of_a_fit_is_strictly_before_the_day() -> None:
    assert last_sunday_before(date(2024, 3, 20)) == date(2024, 3, 17)
    assert last_sunday_before(date(2024, 3, 17)) == date(2024, 3, 10)
    assert last_sunday_before(date(2024, 3, 18)) == date(2024, 3, 17)


def test_a_day_has_the_same_rows_alone_in_a_block_and_without_what_came_later(
    settings: Settings,
) -> None:
    days = [LAST - timedelta(days=back) for back in range(9, -1, -1)]
    with Warehouse(settings).read() as connection:
        block = correlation_rows(connection, days)
        for day in (days[0], days[5], days[8]):
            alone = correlation_rows(connection, [day])
            mine = block[block["as_of"] == pd.Timestamp(day)].reset_index(drop=True)
            pd.testing.assert_frame_equal(alone, mine, check_exact=True)
    with Warehouse(settings).read() as connection:
        connection.execute("CREATE SCHEMA memory.features")
        connection.execute("CREATE TABLE memory.features.hourly AS FROM features.hourly")
        connection.execute("USE memory")
        connection.execute(
            "UPDATE features.hourly SET log_return = 5 * random() WHERE ts::DATE > ? OR known_on > ?",
            [days[5], days[5]],
        )
        poisoned = correlation_rows(connection, [days[5]])
    mine = block[block["as_of"] == pd.Timestamp(days[5])].reset_index(drop=True)
    pd.testing.assert_frame_equal(poisoned, mine, check_exact=True)


def test_a_coin_whose_hours_came_late_is_refused_by_name_on_that_day_alone(
    finished: Settings,
) -> None:
    query = "SELECT as_of, asset, other_asset, status FROM forecasts.correlations WHERE status <> 'ok' AND horizon = 1"
    ((day, asset, other, status),) = [row for row in rows_of(finished, query) if row[0] < LAST]
    assert (day, asset, other) == (LAST - timedelta(days=1), "SOL", "SOL")
    assert "0 of 24 hours known in the day to 2024-03-19: expected 20 hours" in status


def test_every_stored_day_of_forecasts_gets_correlations_and_a_second_run_adds_nothing(
    finished: Settings,
) -> None:
    count = "SELECT count(DISTINCT as_of), count(*), max(created_at) FROM forecasts.correlations"
    before = rows_of(finished, count)
    assert before[0][0] == FORECAST_DAYS
    risk = "SELECT * FROM forecasts.portfolio_risk ORDER BY ALL"
    figures = rows_of(finished, risk)
    assert run(finished).success
    assert rows_of(finished, count) == before
    assert rows_of(finished, risk) == figures
    with Warehouse(finished).read() as connection:
        assert days_without_correlations(connection, LAST, LAST) == []


def test_the_stored_portfolio_has_both_methods_and_parts_that_add_up(finished: Settings) -> None:
    rows = rows_of(
        finished,
        "SELECT horizon, status, past_forecasts, var_975, es_975, mixture_var_975, mixture_es_975 FROM forecasts.portfolio_risk ORDER BY 1",
    )
    assert [row[:3] for row in rows[:2]] == [(1, "ok", 89), (5, "ok", 85)]
    assert rows[2][2] == 68
    for _, _, _, var, es, own_var, own_es in rows:
        assert 0 < var <= es
        assert 0 < own_var < own_es
    worst = rows_of(
        finished,
        "SELECT max(abs(total - r.mixture_es_99)), max(abs(share - 1)) FROM forecasts.portfolio_risk r JOIN (SELECT portfolio, as_of, horizon, "
        "model, sum(component_mixture_es_99) AS total, sum(share) AS share FROM forecasts.portfolio_components GROUP BY ALL) "
        "USING (portfolio, as_of, horizon, model)",
    )[0]
    assert max(worst) < 1e-12


def test_the_simulation_knows_only_returns_that_were_over(finished: Settings) -> None:
    book = read_portfolio(finished.portfolio or Path())
    with Warehouse(finished).read() as connection:
        earlier = LAST - timedelta(days=10)
        alone = portfolio_rows(connection, book, earlier, earlier)
        block = portfolio_rows(connection, book, earlier, LAST)
    mine = block.risk[block.risk["as_of"] == pd.Timestamp(earlier)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.risk, mine, check_exact=True)
    assert alone.risk["past_forecasts"].tolist() == [79, 75, 58]
    assert alone.risk["status"].str.contains("needs 60 past forecasts").tolist() == [False, False, True]  # fmt: skip


def test_a_refused_coin_is_named_and_not_left_out(finished: Settings, tmp_path: Path) -> None:
    path = tmp_path / "three.json"
    path.write_text('{"BTC": 0.5, "SOL": 0.5}')
    book = read_portfolio(path)
    with Warehouse(finished).read() as connection:
        for back, words in ((2, "SOL has no forecast of harx_cal .* no price day within 3 days"), (1, "SOL has no correlations .* 0 of 24 hours")):  # fmt: skip
            day = LAST - timedelta(days=back)
            found = portfolio_rows(connection, book, day, day)
            assert found.components.empty
            assert found.risk["volatility"].isna().all()
            assert found.risk["status"].str.contains(words).all()
            with pytest.raises(PortfolioError, match=words):
                show_portfolio(connection, path, day)
        view = show_portfolio(connection, path, LAST)
        assert [row[1] for row in view.rows[:3]] == ["ALL", "BTC", "SOL"]
        with pytest.raises(LookupError, match="no forecast of harx_cal published for 2020-01-01"):
            show_portfolio(connection, path, date(2020, 1, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("asset,weight\nBTC,0.5\nDOGE,0.5\n", "coin 'DOGE' is unknown: expected one of BTC, ETH, SOL"),
        ("asset,weight\nBTC,nan\n", "weight 'nan' of 'BTC'"),
        (None, "not there: expected a file"),
    ],
)  # fmt: skip
def test_a_bad_file_fails_its_own_check_and_the_run_goes_on(
    finished: Settings, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_text(content)
    result = run(finished.model_copy(update={"portfolio": path}))
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert message in str(check.description)
    stored = rows_of(
        finished,
        f"SELECT DISTINCT status FROM forecasts.portfolio_risk WHERE portfolio = 'bad' AND as_of = DATE '{LAST}'",
    )
    assert len(stored) == 1
    assert message in stored[0][0]
    assert rows_of(finished, "SELECT count(*) FROM forecasts.portfolio_components WHERE portfolio = 'bad'") == [(0,)]  # fmt: skip


def test_a_mended_file_replaces_the_reason_with_figures(finished: Settings, tmp_path: Path) -> None:
    path = tmp_path / "mended.csv"
    changed = finished.model_copy(update={"portfolio": path})
    query = "SELECT count(*), count(volatility) FROM forecasts.portfolio_risk WHERE portfolio = 'mended'"
    assert run(changed).success
    assert rows_of(finished, query) == [(3, 0)]
    path.write_text("asset,weight\nBTC,1\n")
    assert run(changed).success
    assert rows_of(finished, query) == [(3, 3)]
    assert rows_of(finished, "SELECT count(*) FROM forecasts.portfolio_components WHERE portfolio = 'mended'") == [(3,)]  # fmt: skip


@pytest.fixture
def own(finished: Settings, tmp_path: Path) -> Settings:
    """A copy of the finished home, to be changed."""
    shutil.copytree(finished.home, tmp_path / "home")
    return Settings(home=tmp_path / "home", portfolio=tmp_path / "home" / "desk.csv")


def change(settings: Settings, *statements: str) -> None:
    with Warehouse(settings).write() as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_check_reads_the_newest_version_alone(own: Settings) -> None:
    path = own.home / "bad.csv"
    changed = own.model_copy(update={"portfolio": path})
    assert run(changed).success
    path.write_text("asset,weight\nBTC,1\n")
    change(
        own,
        "INSERT INTO models.registry (model, model_version, created_at) VALUES ('harx_cal', 'v2', TIMESTAMPTZ '2024-03-20 12:00:00Z')",
        "UPDATE models.registry SET created_at = TIMESTAMPTZ '2024-03-01 12:00:00Z' WHERE model_version = 'v1'",
        "INSERT INTO forecasts.volatility SELECT * REPLACE ('v2' AS model_version) FROM forecasts.volatility",
    )
    result = run(changed)
    (check,) = result.get_asset_check_evaluations()
    assert check.passed, check.description
    versions = "SELECT model_version, count(volatility) FROM forecasts.portfolio_risk WHERE portfolio = 'bad' GROUP BY 1 ORDER BY 1"
    assert rows_of(own, versions) == [("v1", 0), ("v2", 3)]


def test_a_day_that_lacked_history_gets_its_figures_once_there_is_some(own: Settings) -> None:
    path = own.home / "young.csv"
    path.write_text("asset,weight\nBTC,0.5\nETH,0.5\n")
    young = own.model_copy(update={"portfolio": path})
    older = f"as_of < DATE '{LAST - timedelta(days=20)}'"
    change(
        own,
        f"CREATE TABLE forecasts.older AS FROM forecasts.volatility WHERE {older}",
        f"DELETE FROM forecasts.volatility WHERE {older}",
    )
    query = "SELECT horizon, past_forecasts, status, created_at, run_id FROM forecasts.portfolio_risk WHERE portfolio = 'young' ORDER BY 1"
    assert run(young).success
    before = rows_of(own, query)
    assert [row[1] for row in before] == [20, 16, 0]
    assert all("needs 60 past forecasts" in row[2] for row in before)
    revision = rows_of(own, "SELECT value FROM meta.state WHERE key = 'revision'")
    assert run(young).success
    assert rows_of(own, query) == before  # nothing is new: not even created_at
    assert rows_of(own, "SELECT value FROM meta.state WHERE key = 'revision'") == revision
    change(own, "INSERT INTO forecasts.volatility FROM forecasts.older")
    assert run(young).success
    after = rows_of(own, query)
    assert [row[1:3] for row in after] == [(89, "ok"), (85, "ok"), (68, "ok")]
    parts = "SELECT count(*), count(component_es_99) FROM forecasts.portfolio_components WHERE portfolio = 'young'"
    assert rows_of(own, parts) == [(6, 6)]
    assert run(young).success
    assert rows_of(own, query) == after


@pytest.mark.parametrize("content", [None, "asset,weight\nBTC,0.5\nSOL,0.5\n"])
def test_trouble_is_told_where_the_champion_forecast_nothing(
    own: Settings, content: str | None
) -> None:
    path = own.home / "book.csv"
    if content is not None:
        path.write_text(content)
    start = {"pin": "log_har", "start": "log_har", "models": ["log_har"]}
    with Warehouse(own).write() as connection:
        set_json_state(connection, "champion", start)
    refused = LAST - timedelta(days=2)  # SOL is
    result = run(own.model_copy(update={"portfolio": path}), refused)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    told = "book.csv: not there" if content is None else "book: SOL has no forecast of harx_cal"
    assert told in str(check.description)
    with Warehouse(own).read() as connection:
        assert told in problem_of(connection, path, refused, "log_har")
        assert problem_of(connection, path, date(2020, 1, 1), "log_har") == ""


def test_a_broken_file_fails_on_a_day_that_nothing_was_forecast(own: Settings) -> None:
    result = run(own.model_copy(update={"portfolio": own.home / "book.csv"}), LAST + timedelta(days=1))  # fmt: skip
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert "book.csv: not there" in str(check.description)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_too_small_for_a_variance_are_refused(own: Settings) -> None:
    path = own.home / "dust.csv"
    path.write_text("asset,weight\nBTC,1e-300\nETH,-1e-300\n")
    with (
        Warehouse(own).read() as connection,
        pytest.raises(PortfolioError, match="dust: daily variance 0: expected a finite number"),
    ):
        show_portfolio(connection, path, LAST)
    (check,) = run(own.model_copy(update={"portfolio": path})).get_asset_check_evaluations()
    assert not check.passed
    assert "dust: daily variance 0" in str(check.description)


def test_a_copy_older_than_correlations_is_told_so(own: Settings) -> None:
    change(own, "DROP TABLE forecasts.correlations")
    with (
        Warehouse(own).read() as connection,
        pytest.raises(WarehouseError, match=f"has no forecasts.correlations: .* `volcast run --as-of {LAST}` makes"),
    ):  # fmt: skip
        show_portfolio(connection, own.home / "desk.csv", LAST)


def test_without_a_portfolio_nothing_is_stored_and_nothing_fails(
    finished: Settings,
) -> None:
    result = run(finished.model_copy(update={"portfolio": None}))
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
