"""The spurious-correlation report over stored rows: which Sundays, what was known, and that days equal a backfill."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestration.assets.spurious import judge_pending, pending
from orchestration.platform import Platform
from orchestration.settings import Settings
from orchestration.spurious import judge as judge_rows
from orchestration.tables import OUTPUT_TABLES
from orchestration.warehouse import Warehouse, replace_rows
from tests.ml.attention.markets import planted_market

DAYS, COINS, EXPLAINED = 420, 3, 70
FIRST = date(2021, 1, 1)
LAST = FIRST + timedelta(days=DAYS - 1)
SUNDAYS = [day for day in (LAST - timedelta(days=n) for n in range(20, -1, -1)) if day.weekday() == 6]  # fmt: skip
NOW = datetime(2023, 1, 1, tzinfo=UTC)
ROWS = "SELECT * EXCLUDE (run_id, created_at) FROM models.spurious_checks WHERE as_of <= ? ORDER BY ALL"


def plant(home: Path, *, after: date = LAST, poison: float = 1.0, config: str = "{}") -> Warehouse:
    """A year of features and ten weeks of explained forecasts; what came after ``after`` is multiplied by ``poison``."""
    made = Settings(home=home, models=("harx_cal", "attention"))
    warehouse = Warehouse(made)
    panel = planted_market(DAYS, COINS, lead=0.15, seed=3)
    days = [FIRST + timedelta(days=n) for n in range(DAYS)]
    spoilt = np.where(np.array(days) > after, poison, 1.0)[:, None]
    day, coin = (index.ravel() for index in np.indices((DAYS, COINS)))
    keys = {
        "source": "simulated",
        "asset": np.array(panel.assets, dtype=object)[coin],
        "as_of": np.array(days)[day],
    }
    daily = pd.DataFrame(keys | {name: (values * spoilt).ravel() for name, values in panel.features.items()})  # fmt: skip
    rv = panel.realized_variance()
    realized = pd.DataFrame(
        {
            **keys, "known_on": keys["as_of"], "complete": True, "bars_expected": 24, "bars_used": 24, "close": 100.0,
            "realized_variance": (rv * spoilt).ravel(), "return": panel.realized_return().ravel(),
        }
    ).rename(columns={"as_of": "day"})  # fmt: skip
    chance = np.random.default_rng(5)
    forecasts = [
        {
            "asset": asset, "as_of": at, "horizon": horizon, "model": "attention", "model_version": "v-1",
            "variance": 1e-3 * float(np.exp(0.3 * chance.standard_normal())) * (poison if at > after else 1.0),
        }
        for at in days[-EXPLAINED:] for asset in panel.assets for horizon in (1, 5)
    ]  # fmt: skip
    explained = [
        {
            **row, "feature_group": group, "attention_rollout": float(chance.random()) * (poison if row["as_of"] > after else 1.0),
            "ablation_effect": 0.1 * float(chance.standard_normal()), "verdict": "valid",
        }
        for row in forecasts for group in ("price_daily", "onchain", "sentiment")
    ]  # fmt: skip
    signals = pd.DataFrame(
        [
            {
                "modality": "onchain", "signal": "exchange_inflow", "series": "coinmetrics:FlowInExUSD", "asset": asset,
                "day": at - timedelta(days=1), "event_end": at, "preference": 2, "known_on": at + timedelta(days=later),
                "value": (1.0 + 0.1 * later) * (poison if at + timedelta(days=later) > after else 1.0), "downloaded_on": None,
            }
            for at in days[-200:] for asset in panel.assets for later in (0, 7) if at + timedelta(days=later) <= LAST
        ]
    )  # fmt: skip
    as_of = pd.DataFrame(
        [
            {
                "modality": "onchain", "signal": "exchange_inflow", "series": "coinmetrics:FlowInExUSD", "asset": asset, "as_of": at,
                "preference": 2, "newest_day": at - timedelta(days=1), "revised": at.day % 4 == 0,
            }
            for at in days[-200:] for asset in panel.assets
        ]
    )  # fmt: skip
    sundays = [{"as_of": at, "kind": "steady", "model": model, "horizon": 0, "model_version": "v-1", "reason": "r"} for at in SUNDAYS for model in made.models]  # fmt: skip
    with warehouse.write() as connection:
        for name, frame in {
            "features.daily": daily,
            "features.realized": realized,
            "intermediate.int_signals": signals,
            "intermediate.int_signals_as_of": as_of,
        }.items():
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
            connection.unregister("frame")
        connection.execute("CREATE TABLE features.hourly (source VARCHAR, asset VARCHAR, ts TIMESTAMP, known_on DATE)")  # fmt: skip
        store(connection, "forecasts.volatility", pd.DataFrame(forecasts))
        store(connection, "forecasts.explanations", pd.DataFrame(explained))
        store(connection, "models.decisions", pd.DataFrame(sundays))
        store(connection, "models.registry", pd.DataFrame([{"model": "attention", "model_version": "v-1", "config": config}]))  # fmt: skip
    return warehouse


def store(connection, table: str, rows: pd.DataFrame) -> None:
    """Write rows that name a few columns only; the others are null."""
    spec = OUTPUT_TABLES[table]
    full = rows.assign(source="simulated", created_at=NOW, run_id="r").reindex(columns=list(spec.columns))  # fmt: skip
    for name, (kind, _) in spec.columns.items():
        if kind in ("DATE", "TIMESTAMPTZ") and full[name].isna().all():
            full[name] = pd.to_datetime(full[name])
    replace_rows(connection, table, full, on=list(spec.key))


def rows(warehouse: Warehouse, until: date = LAST) -> list[tuple]:
    with warehouse.read() as connection:
        return connection.execute(ROWS, [until]).fetchall()


def judge(warehouse: Warehouse, last: date) -> int:
    return len(judge_pending(Platform(warehouse.settings), last, "run"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("planted") / "home"
    plant(home)
    return home


@pytest.fixture(scope="module")
def finished(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = copy(planted, tmp_path_factory.mktemp("finished"))
    assert judge(warehouse, LAST) > 0
    return warehouse


def copy(home: Path, folder: Path) -> Warehouse:
    shutil.copytree(home, folder / "home")
    return Warehouse(Settings(home=folder / "home", models=("harx_cal", "attention")))


def test_every_judged_sunday_has_every_check_with_a_reason(finished: Warehouse) -> None:
    with finished.read() as connection:
        found = connection.execute(
            "SELECT as_of, list_sort(list(DISTINCT check_name)), min(length(reason)) FROM models.spurious_checks GROUP BY 1 ORDER BY 1"
        ).fetchall()
        models = connection.execute("SELECT DISTINCT model, model_version, source FROM models.spurious_checks").fetchall()  # fmt: skip
        bad = connection.execute(
            "SELECT * FROM models.spurious_checks WHERE verdict = 'flagged' AND NOT (p_value < threshold OR p_value IS NULL OR check_name = 'lead_lag' OR check_name = 'effect_survival')"
        ).fetchall()
    names = ["attention_without_effect", "calendar_proxy", "effect_survival", "lead_lag", "leak_late", "leak_revised"]  # fmt: skip
    assert [(day, checks) for day, checks, _ in found] == [(day, names) for day in SUNDAYS]
    assert min(shortest for _, _, shortest in found) > 5
    assert models == [("attention", "v-1", "simulated")]
    assert bad == []


def test_the_planted_lead_is_in_the_table(finished: Warehouse) -> None:
    with finished.read() as connection:
        found = connection.execute(
            "SELECT modality, segment, lead_days FROM models.spurious_checks WHERE check_name = 'lead_lag' AND lead_days > 0 AND asset = 'ALL' AND as_of = ?",
            [SUNDAYS[-1]],
        ).fetchall()
    assert found == [("onchain", "mvrv", 2.0)]


def test_judging_day_by_day_gives_the_rows_of_one_run(
    planted: Path, finished: Warehouse, tmp_path: Path
) -> None:
    daily = copy(planted, tmp_path)
    for back in range(20, -1, -1):
        judge(daily, LAST - timedelta(days=back))
    assert rows(daily) == rows(finished)


def test_a_sunday_sees_its_outcomes_in_a_catch_up_of_years(planted: Path, tmp_path: Path) -> None:
    """A run that judges a Sunday together with one 1,596 days on, when the policy looks 1,100 days back."""
    warehouse = copy(planted, tmp_path)
    early, late = (SUNDAYS[0], "attention", "v-1"), SUNDAYS[0] + timedelta(days=1596)
    with warehouse.write() as connection:
        connection.execute("INSERT INTO features.daily SELECT * REPLACE (? AS as_of) FROM features.daily WHERE as_of = ?", [late, LAST])  # fmt: skip
    with warehouse.read() as connection:
        alone = judge_rows(connection, [early])
        together = judge_rows(connection, [early, (late, "attention", "v-1")])
    assert {row["as_of"] for row in together} == {SUNDAYS[0], late}
    assert repr([row for row in together if row["as_of"] == SUNDAYS[0]]) == repr(alone)


def test_a_second_run_writes_nothing(finished: Warehouse) -> None:
    before = rows(finished)
    assert judge(finished, LAST) == 0
    assert rows(finished) == before


def test_what_came_later_changes_nothing(finished: Warehouse, tmp_path: Path) -> None:
    day = SUNDAYS[-2]
    poisoned = plant(tmp_path / "home", after=day, poison=3.0)
    judge(poisoned, LAST)
    assert rows(poisoned, day) == rows(finished, day)
    assert rows(poisoned) != rows(finished)


def test_a_sunday_waits_until_the_learning_loop_has_judged_it(
    planted: Path, tmp_path: Path
) -> None:
    warehouse = copy(planted, tmp_path)
    with warehouse.write() as connection:
        connection.execute("DELETE FROM models.decisions WHERE as_of = ?", [SUNDAYS[-1]])
    judge(warehouse, LAST)
    with warehouse.read() as connection:
        judged = connection.execute("SELECT max(as_of) FROM models.spurious_checks").fetchone()
        assert pending(connection, LAST) == []
    assert judged == (SUNDAYS[-2],)


@pytest.mark.parametrize(("config", "verdict"), [("{}", "clear"), ('{"use_revised_flows": true}', "flagged")])  # fmt: skip
def test_revised_flows_are_a_leak_only_for_a_version_that_reads_them(
    planted: Path, tmp_path: Path, config: str, verdict: str
) -> None:
    warehouse = copy(planted, tmp_path)
    with warehouse.write() as connection:
        connection.execute("UPDATE models.registry SET config = ?", [config])
    judge(warehouse, LAST)
    with warehouse.read() as connection:
        found = connection.execute(
            "SELECT DISTINCT verdict FROM models.spurious_checks WHERE check_name = 'leak_revised' AND segment = 'exchange_inflow'"
        ).fetchall()
    assert found == [(verdict,)]
