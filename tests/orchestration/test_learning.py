"""The learning loop over stored forecasts: who is promoted, what is trained again, and that days equal a backfill."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from orchestration import runs
from orchestration.assets.learning import judge_pending, learning
from orchestration.assets.training import TABLES_BY_MODEL, fits_due, void_superseded
from orchestration.champion import champion_on, note_champion_setting
from orchestration.decisions import open_retrains, pending_days
from orchestration.learning import learn
from orchestration.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from orchestration.platform import Platform
from orchestration.schedules import RETRAIN_JOB
from orchestration.sensors import retrain_on_drift
from orchestration.settings import Settings
from orchestration.status import status_tables
from orchestration.tables import OUTPUT_TABLES
from orchestration.versions import read_retrains, trained_on
from orchestration.warehouse import Warehouse, replace_rows

FIRST, LAST = date(2023, 1, 2), date(2023, 5, 14)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
COINS = ("BTC", "ETH", "SOL")
MISS = {"ewma": 0.8, "log_har": 0.25, "harx_cal": 0.5, "attention": 0.5}
"""Standard deviation of each model's log error."""
PROMOTED = date(2023, 5, 7)
"""First Sunday of a month with 90 days of evidence at 22 days."""
GRID = Settings().trained_as_of("attention", date(2023, 4, 20))
BREAK = GRID + timedelta(days=1)
"""From here on the errors of attention may break."""
NOW = datetime(2023, 6, 1, tzinfo=UTC)


def settings(home: Path, **more: object) -> Settings:
    return Settings(home=home, models=tuple(MISS), **more)  # type: ignore[arg-type]


def plant(
    home: Path,
    *,
    broken: bool = False,
    miss: dict[str, float] | None = None,
    verdict: str = "valid",
    after: date = LAST,
    poison: float = 1.0,
    **more: object,
) -> Warehouse:
    """A warehouse with four months of forecasts; what is known or made after ``after`` is multiplied by ``poison``."""
    chance = np.random.default_rng(11)
    made = settings(home, **more)
    warehouse = Warehouse(made)
    span = pd.date_range(FIRST - timedelta(days=30), LAST)
    parts, realized = [], []
    for coin in COINS:
        log_variance = np.log(4e-4) + 0.4 * chance.standard_normal(len(span))
        variance = pd.Series(np.exp(log_variance), index=span)
        spoilt = variance.where(span <= pd.Timestamp(after), variance * poison)
        realized.append(
            pd.DataFrame(
                {
                    "source": "simulated",
                    "asset": coin,
                    "day": span.date,
                    "known_on": span.date,
                    "realized_variance": spoilt.to_numpy(),
                    "return": 0.01,
                    "bars_expected": 24,
                    "bars_used": 24,
                    "complete": True,
                    "close": 100.0,
                }
            )
        )  # fmt: skip
        for horizon in (1, 5, 22):
            target = variance.rolling(horizon).mean().shift(-horizon).ffill().reindex(DAYS)
            for model, deviation in (miss or MISS).items():
                error = deviation * chance.standard_normal(len(DAYS))
                if broken and model == "attention":
                    error = error + np.where(np.array(DAYS) >= BREAK, 2.5, 0.0)
                spoil = np.where(np.array(DAYS) > after, poison, 1.0)
                parts.append(
                    pd.DataFrame(
                        {
                            "asset": coin, "as_of": DAYS, "horizon": horizon, "model": model,
                            "variance": target.to_numpy() * np.exp(error) * spoil,
                        }
                    )
                )  # fmt: skip
    forecasts = pd.concat(parts, ignore_index=True)
    version = [f"v-{made.trained_as_of(m, d)}" for m, d in zip(forecasts["model"], forecasts["as_of"], strict=True)]  # fmt: skip
    forecasts["model_version"] = version
    with warehouse.write() as connection:
        for name, frame in (
            ("realized", pd.concat(realized)),
            ("daily", features(after, poison)),
        ):
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE features.{name} AS SELECT * FROM frame")
            connection.unregister("frame")
        connection.execute(
            "CREATE TABLE features.hourly (source VARCHAR, asset VARCHAR, ts TIMESTAMP, known_on DATE)"
        )
        store(connection, "forecasts.volatility", forecasts)
        trained = sorted({(m, made.trained_as_of(m, d)) for m in made.models for d in DAYS})
        store(connection, "models.registry", registry(trained))
        own = forecasts[forecasts["model"] == "attention"]
        store(
            connection,
            "forecasts.explanations",
            own.assign(feature_group="price", verdict=verdict, ablation_effect=0.1),
        )
        weights = own[["asset", "as_of", "model", "model_version"]].drop_duplicates()
        store(
            connection, "forecasts.attention_weights",
            pd.concat([weights.assign(layer=0, head=0, token=n, scale="daily", modality=name, weight=0.5) for n, name in enumerate(("price", "funding"))]),
        )  # fmt: skip
        profile = pd.DataFrame(
            [
                {"model": "attention", "model_version": f"v-{day}", "as_of": day - timedelta(days=back), "scale": "daily", "modality": name, "share": 0.5}
                for model, day in trained if model == "attention" for back in range(60) for name in ("price", "funding")
            ]
        )  # fmt: skip
        store(connection, "models.attention_profiles", profile)
        note_champion_setting(connection, made)
    return warehouse


def features(after: date, poison: float) -> pd.DataFrame:
    days = pd.date_range(FIRST - timedelta(days=400), LAST)
    chance = np.random.default_rng(12)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "source": "simulated", "asset": coin, "as_of": days.date,
                    "rv_d": np.exp(chance.standard_normal(len(days))) * np.where(days.date > after, poison, 1.0),
                }
            )
            for coin in COINS
        ]
    )  # fmt: skip


def registry(trained: list[tuple[str, date]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": model, "model_version": f"v-{day}", "trained_as_of": day, "train_start": day - timedelta(days=300),
                "train_end": day, "status": "candidate", "config": "{}",
            }
            for model, day in trained
        ]
    )  # fmt: skip


def store(connection, table: str, rows: pd.DataFrame) -> None:
    """Write rows that name a few columns only; the others are null."""
    spec = OUTPUT_TABLES[table]
    given = rows.assign(source="simulated", created_at=NOW, run_id="r")
    full = given.reindex(columns=list(spec.columns))
    for name, (kind, _) in spec.columns.items():
        if kind in ("DATE", "TIMESTAMPTZ") and full[name].isna().all():
            full[name] = pd.to_datetime(full[name])
    replace_rows(connection, table, full, on=list(spec.key))


def run_asset(made: Settings, first: date, last: date) -> None:
    """The asset for first .. last as one run."""
    tags = {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()}
    assert dg.materialize([learning], resources={"platform": Platform(made)}, tags=tags).success


def judge(warehouse: Warehouse, last: date) -> None:
    """What a run up to ``last`` judges, then the retrain fits that it asked for."""
    judge_pending(Platform(warehouse.settings), last, "run")
    fit_retrains(warehouse)


def fit_retrains(warehouse: Warehouse) -> None:
    """What the next training step does, in the registry."""
    with warehouse.write() as connection:
        for model, days in read_retrains(connection).items():
            store(connection, "models.registry", registry([(model, day) for day in days]))


def settle(warehouse: Warehouse) -> None:
    """One backfill: the judging stops at each retrain and goes on behind it."""
    while True:
        with warehouse.read() as connection:
            pending = pending_days(connection, LAST)
        if not pending:
            return
        judge(warehouse, LAST)


def rows(warehouse: Warehouse, query: str) -> list[tuple]:
    with warehouse.read() as connection:
        return connection.execute(query).fetchall()


JUDGED = "SELECT * EXCLUDE (run_id, created_at) FROM {} ORDER BY ALL"


@pytest.fixture(scope="module")
def finished(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Settled: log_har is better, ewma worse, and the errors of attention break."""
    warehouse = copy(stopped, tmp_path_factory.mktemp("finished"))
    fit_retrains(warehouse)
    settle(warehouse)
    return warehouse


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the errors of attention break, not judged yet."""
    home = tmp_path_factory.mktemp("planted")
    plant(home, broken=True)
    return home


@pytest.fixture(scope="module")
def stopped(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after one run over all days: judged up to the first retrain."""
    home = tmp_path_factory.mktemp("stopped") / "home"
    shutil.copytree(planted, home)
    run_asset(settings(home), FIRST, LAST)
    return home


def copy(home: Path, folder: Path, **more: object) -> Warehouse:
    """A warehouse of one's own with the same content."""
    shutil.copytree(home, folder / "home")
    return Warehouse(settings(folder / "home", **more))


def test_the_better_model_leads_from_the_day_after_its_promotion(finished: Warehouse):
    promoted = rows(finished, "SELECT as_of, model, reason FROM models.decisions WHERE kind = 'promote'")  # fmt: skip
    assert [row[:2] for row in promoted] == [(PROMOTED, "log_har")]
    assert "QLIKE ratio" in promoted[0][2]
    with finished.read() as connection:
        assert champion_on(connection, PROMOTED).model == "harx_cal"
        after = champion_on(connection, PROMOTED + timedelta(days=1))
    assert (after.model, after.since) == ("log_har", PROMOTED + timedelta(days=1))
    assert rows(
        finished,
        "SELECT model, starts_with(status_reason, 'promoted on 2023-05-07') FROM models.registry WHERE status = 'champion'",
    ) == [("log_har", True)]
    cell = "\n".join(str(line) for line in status_tables(finished.settings)[0].columns[1].cells)
    assert "log_har since 2023-05-08: promoted on 2023-05-07" in cell


def test_the_worse_model_is_refused_with_its_figures(finished: Warehouse):
    ((reason, statistic),) = rows(
        finished,
        f"SELECT reason, statistic FROM models.decisions WHERE kind = 'refuse' AND model = 'ewma' AND as_of = DATE '{PROMOTED}'",
    )
    assert "worse than harx_cal" in reason
    assert statistic < 0.05


def test_until_there_is_evidence_the_champion_is_kept_and_the_row_says_what_is_missing(
    finished: Warehouse,
):
    kept = rows(finished, "SELECT as_of, model FROM models.decisions WHERE kind = 'keep' ORDER BY 1")  # fmt: skip
    assert kept == [(date(2023, m, d), "harx_cal") for m, d in ((2, 5), (3, 5), (4, 2))]
    ((reason,),) = rows(finished, "SELECT reason FROM models.decisions WHERE kind = 'refuse' AND model = 'log_har' AND as_of = DATE '2023-04-02'")  # fmt: skip
    assert "at least 90" in reason


def test_errors_that_break_ask_for_a_retrain_and_the_fit_is_due(stopped: Path):
    warehouse = Warehouse(settings(stopped))
    ((day, model, reason),) = rows(warehouse, "SELECT as_of, model, reason FROM models.decisions WHERE kind = 'retrain'")  # fmt: skip
    assert (day, model) == (GRID + timedelta(days=14), "attention")
    assert "log_bias" in reason
    assert rows(warehouse, "SELECT max(as_of) FROM models.decisions") == [(day,)]  # later Sundays wait  # fmt: skip
    after = day + timedelta(days=1)
    with warehouse.read() as connection:
        assert open_retrains(connection, warehouse.settings) == [day]
        due = fits_due(connection, warehouse.settings, [after], FIRST - timedelta(days=60))
        retrains = read_retrains(connection)
    assert [fit["trained_as_of"] for fit in due if fit["model"] == "attention"] == [str(day)]
    made = warehouse.settings
    assert trained_on(made, retrains, "attention", day) == GRID
    assert trained_on(made, retrains, "attention", after) == day
    late = GRID + timedelta(days=29)
    assert trained_on(made, retrains, "attention", late) == GRID + timedelta(days=28)


def test_days_one_by_one_decide_what_a_backfill_decides(
    tmp_path: Path, planted: Path, finished: Warehouse
):
    daily = copy(planted, tmp_path)
    begin = GRID - timedelta(days=7)
    for day in [begin, *(day for day in DAYS if day > begin and day.weekday() == 6)]:
        hide_after(daily, day)
        judge(daily, day)
        show(daily)
    for table in ("models.decisions", "models.drift"):
        assert rows(daily, JUDGED.format(table)) == rows(finished, JUDGED.format(table)), table
    assert rows(finished, "SELECT count(*) FROM models.decisions WHERE kind = 'retrain'") == [(1,)]


def hide_after(warehouse: Warehouse, day: date) -> None:
    """Put aside what a daily run of ``day`` could not have had."""
    with warehouse.write() as connection:
        for table, column in HIDDEN.items():
            aside = table.replace(".", "_")
            connection.execute(
                f"CREATE TABLE meta.{aside} AS FROM {table} WHERE {column} > DATE '{day}'"
            )
            connection.execute(f"DELETE FROM {table} WHERE {column} > DATE '{day}'")


def show(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        for table in HIDDEN:
            aside = table.replace(".", "_")
            connection.execute(f"INSERT INTO {table} FROM meta.{aside}")
            connection.execute(f"DROP TABLE meta.{aside}")


HIDDEN = {
    "features.realized": "known_on",
    "features.daily": "as_of",
    "forecasts.volatility": "as_of",
    "forecasts.explanations": "as_of",
    "forecasts.attention_weights": "as_of",
}


def test_what_is_known_later_changes_no_decision(tmp_path: Path, finished: Warehouse):
    after = PROMOTED
    poisoned = plant(tmp_path, broken=True, after=after, poison=50.0)
    settle(poisoned)
    for table in ("models.decisions", "models.drift"):
        query = JUDGED.format(table).replace("ORDER", f"WHERE as_of <= DATE '{after}' ORDER")
        assert rows(poisoned, query) == rows(finished, query), table
        assert rows(poisoned, query)


def test_a_day_is_judged_once(finished: Warehouse):
    before = rows(finished, "SELECT * FROM models.decisions ORDER BY ALL")
    revision = rows(finished, "SELECT value FROM meta.state WHERE key = 'revision'")
    platform = Platform(finished.settings)
    done = dg.materialize(
        [learning], resources={"platform": platform}, tags={PARTITION_TAG: PROMOTED.isoformat()}
    )
    assert done.success
    assert rows(finished, "SELECT * FROM models.decisions ORDER BY ALL") == before
    assert rows(finished, "SELECT value FROM meta.state WHERE key = 'revision'") == revision


def decisions_of(warehouse: Warehouse, day: date) -> dict[tuple[str, str], str]:
    """Reasons by (kind, model) of one day judged alone."""
    with warehouse.read() as connection:
        found = learn(connection, warehouse.settings, [day], audited=("attention",))
    return {(row["kind"], row["model"]): row["reason"] for row in found.decisions}


def test_a_failed_audit_blocks_the_better_model_and_says_so(tmp_path: Path):
    good = {"log_har": 0.5, "harx_cal": 0.5, "ewma": 0.8, "attention": 0.25}
    found = decisions_of(plant(tmp_path / "invalid", miss=good, verdict="invalid"), PROMOTED)
    assert ("keep", "harx_cal") in found
    assert found["refuse", "attention"].startswith("explanation audit: 0 of ")
    passes = decisions_of(plant(tmp_path / "weak", miss=good, verdict="weak"), PROMOTED)
    assert "valid or weak (100%)" in passes["promote", "attention"]


def test_a_pin_is_kept_whatever_the_evidence_says(tmp_path: Path):
    warehouse = plant(tmp_path, champion="harx_cal")
    found = decisions_of(warehouse, PROMOTED)
    assert found["keep", "harx_cal"] == "pinned by VOLCAST_CHAMPION"
    reason = found["refuse", "log_har"]
    assert reason.startswith("VOLCAST_CHAMPION pins harx_cal; else promoted: mean QLIKE ratio")
    with warehouse.read() as connection:
        assert champion_on(connection, LAST).reason == "pinned by VOLCAST_CHAMPION"


def test_drift_is_only_noted_where_the_setting_says_so(tmp_path: Path, planted: Path):
    warehouse = copy(planted, tmp_path, retrain_on_drift=False)
    judge(warehouse, BREAK + timedelta(days=14))
    found = rows(warehouse, "SELECT as_of, reason FROM models.decisions WHERE kind IN ('drift', 'retrain') AND model = 'attention' ORDER BY 1")  # fmt: skip
    assert found[0][0] == GRID + timedelta(days=14)
    assert found[0][1].endswith("VOLCAST_RETRAIN_ON_DRIFT is off")


def test_forecasts_after_a_retrain_are_made_anew_and_those_before_it_stay(
    tmp_path: Path, stopped: Path
):
    warehouse = copy(stopped, tmp_path)
    decided = GRID + timedelta(days=14)
    with warehouse.write() as connection:
        store(
            connection, "forecasts.risk",
            connection.execute("SELECT asset, as_of, horizon, model, model_version FROM forecasts.volatility").df(),
        )  # fmt: skip
        end = LAST - timedelta(days=2)
        void_superseded(connection, [{"model": "attention", "trained_as_of": str(GRID)}], FIRST, end)  # fmt: skip
        assert connection.execute("SELECT count(*) FROM forecasts.volatility WHERE model = 'attention'").fetchone() == (len(DAYS) * 9,)  # fmt: skip
        void_superseded(connection, [{"model": "attention", "trained_as_of": str(decided)}], FIRST, end)  # fmt: skip
    gone = [decided + timedelta(days=n) for n in range(1, (end - decided).days + 1)]
    left = "SELECT DISTINCT as_of FROM {} WHERE model = '{}' ORDER BY 1"
    for table in ("forecasts.volatility", "forecasts.explanations", "forecasts.risk"):
        kept = {row[0] for row in rows(warehouse, left.format(table, "attention"))}
        assert set(DAYS) - kept == set(gone), table
    assert len(rows(warehouse, left.format("forecasts.volatility", "ewma"))) == len(DAYS)
    assert len(rows(warehouse, left.format("forecasts.risk", "ewma"))) == len(DAYS) - len(gone)


def test_every_table_of_a_models_days_is_emptied_behind_a_retrain():
    of_a_day = {
        name
        for name, table in OUTPUT_TABLES.items()
        if {"as_of", "model", "model_version"} <= set(table.columns)
        # what was found on a Sunday up to the retrain stays; `volcast evaluate` fills walk_forward_*
        and not name.startswith(("models.", "evaluation.walk_forward"))
        # what is withdrawn is kept there, and noted there
        and name not in ("forecasts.superseded", "forecasts.ledger")
    }
    assert of_a_day == {*TABLES_BY_MODEL, "forecasts.risk"}


def test_a_backfill_runs_again_behind_each_retrain(
    tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
):
    warehouse = copy(stopped, tmp_path)
    calls: list[tuple[date, date]] = []

    def run(_: Settings, job: str, first: date, last: date, console: Console) -> str:
        calls.append((first, last))
        if len(calls) > 1:
            judge(warehouse, last)
        return "run"

    monkeypatch.setattr(runs, "run_job", run)
    runs.run_days(warehouse.settings, FIRST, LAST, Console(quiet=True))
    decided = GRID + timedelta(days=14)
    assert calls == [(FIRST, LAST), (decided + timedelta(days=1), LAST)]
    assert rows(warehouse, "SELECT max(as_of) FROM models.decisions") == [(LAST,)]


def test_the_sensor_trains_at_once_or_runs_the_days_since(tmp_path: Path, stopped: Path):
    warehouse = copy(stopped, tmp_path)
    platform = Platform(warehouse.settings)

    def tick() -> dg.RunRequest | dg.SkipReason:
        with dg.build_sensor_context(resources={"platform": platform}) as context:
            return retrain_on_drift(context)

    assert isinstance(tick(), dg.SkipReason)  # nothing is published
    warehouse.publish()
    decided = GRID + timedelta(days=14)
    request = tick()
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START_TAG] == str(decided + timedelta(days=1))
    assert request.tags[RANGE_END_TAG] == str(LAST)
    with warehouse.write() as connection:
        connection.execute("DELETE FROM forecasts.volatility WHERE as_of > ?", [decided])
        connection.execute("UPDATE meta.state SET value = '99' WHERE key = 'revision'")
    warehouse.publish()
    request = tick()
    assert isinstance(request, dg.RunRequest)
    assert (request.job_name, request.partition_key) == (RETRAIN_JOB.name, str(decided))
