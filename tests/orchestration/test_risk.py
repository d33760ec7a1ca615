"""Uncertainty and advised leverage from stored rows: days one by one give what a backfill gives, through drift, retrain and new versions."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ml import artifacts
from ml.forecasts import QUANTILE_COLUMNS, QUANTILE_LEVELS
from ml.model import ModelState
from ml.risk.holdings import Portfolio
from ml.risk.leverage import LeveragePolicy
from ml.risk.tails import fit_tail
from orchestration.assets.learning import judge_pending
from orchestration.assets.training import void_superseded
from orchestration.decisions import open_retrains
from orchestration.doubts import audit_doubts, drift_kinds
from orchestration.leverage_backtest import backtest_rows, sundays_due
from orchestration.platform import Platform
from orchestration.portfolio import portfolio_rows
from orchestration.risk import leverage_policy, risk_rows, with_leverage
from orchestration.settings import Settings, SettingsError
from orchestration.tables import OUTPUT_TABLES
from orchestration.tails import tail_rows
from orchestration.versions import read_retrains, served_days
from orchestration.warehouse import Warehouse, replace_rows

MODELS = ("ewma", "attention")
COINS = ("BTC", "ETH")
GRID = Settings().trained_as_of("attention", date(2023, 4, 20))
FIRST, LAST = GRID - timedelta(days=70), GRID + timedelta(days=23)
BREAK = GRID + timedelta(days=1)
"""From here on the errors of attention break, and bring a retrain."""
RETRAINED = GRID + timedelta(days=14)
DAILY_FROM = GRID + timedelta(days=12)
SPREAD = {
    name: float(
        np.exp((0.4214 if z < 0 else 0.3226) * z)
    )  # q05 at a half, q95 at 1.7 of the forecast
    for name, z in zip(QUANTILE_COLUMNS, norm.ppf(QUANTILE_LEVELS), strict=True)
}
DAYS = pd.date_range(FIRST - timedelta(days=400), LAST + timedelta(days=30))
NOW = datetime(2023, 6, 1, tzinfo=UTC)
COMPARED = (
    "forecasts.risk",
    "evaluation.leverage_backtest",
    "models.drift",
    "models.decisions",
    "models.tail_parameters",
    "forecasts.tails",
    "forecasts.portfolio_risk",
    "forecasts.portfolio_components",
)
BOOK = Portfolio("desk", {"BTC": 0.6, "ETH": -0.2})


def span(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


class World:
    """A warehouse whose runs are made of the steps that follow training, with forecasts that a rule makes."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, models=MODELS)
        self.warehouse = Warehouse(self.settings)
        self.poison_after = date.max  # forecasts of later days are four times as high
        if not self.settings.warehouse_path.exists():
            self._plant()

    def copy(self, folder: Path) -> World:
        shutil.copytree(self.settings.home, folder / "home")
        return World(folder / "home")

    def _plant(self) -> None:
        chance = np.random.default_rng(8)
        realized, daily, hourly = [], [], []
        for coin in COINS:
            log_variance = np.log(4e-4) + 0.4 * chance.standard_normal(len(DAYS))
            variance = np.exp(log_variance)
            moves = np.sqrt(variance) * chance.standard_normal(len(DAYS))
            realized.append(pd.DataFrame({"source": "simulated", "asset": coin, "day": DAYS.date, "known_on": DAYS.date,
                "realized_variance": variance, "return": moves, "bars_expected": 24, "bars_used": 24, "complete": True,
                "close": 100 * np.exp(np.cumsum(moves))}))  # fmt: skip
            daily.append(pd.DataFrame({"source": "simulated", "asset": coin, "as_of": DAYS.date, "rv_d": variance,
                "price_age_days": np.where(np.arange(len(DAYS)) % 17 == 0, 1.0, 0.0)}))  # fmt: skip
            for hour in (0, 23):
                hourly.append(pd.DataFrame({"source": "simulated", "asset": coin, "ts": DAYS + pd.Timedelta(hours=hour), "known_on": DAYS.date,
                    "log_return": 0.005 * chance.standard_normal(len(DAYS))}))  # fmt: skip
        with self.warehouse.write() as connection:
            for name, frame in (("realized", pd.concat(realized)), ("daily", pd.concat(daily)), ("hourly", pd.concat(hourly))):  # fmt: skip
                connection.register("frame", frame)
                connection.execute(f"CREATE TABLE features.{name} AS SELECT * FROM frame")
                connection.unregister("frame")
            trained = {(m, self.settings.trained_as_of(m, day)) for m in MODELS for day in span(FIRST, LAST)}  # fmt: skip
            store(connection, "models.registry", self._versions(sorted(trained)))
            profile = pd.DataFrame([{"model": "attention", "model_version": f"v-{day}", "as_of": day - timedelta(days=back),
                "scale": "daily", "modality": name, "share": 0.5} for day in {*span(GRID - timedelta(days=120), LAST)} if day.weekday() == 6
                for back in range(60) for name in ("price", "funding")])  # fmt: skip
            store(connection, "models.attention_profiles", profile)
            pairs = [("BTC", "BTC", 1.0), ("BTC", "ETH", 0.5), ("ETH", "ETH", 1.0)]
            correlations = [{"asset": a, "other_asset": b, "as_of": day, "horizon": horizon, "correlation": value, "status": "ok"}
                for day in span(FIRST, LAST) for horizon in (1, 5, 22) for a, b, value in pairs]  # fmt: skip
            store(connection, "forecasts.correlations", pd.DataFrame(correlations))
            from orchestration.champion import note_champion_setting

            note_champion_setting(connection, self.settings)

    def _versions(self, trained: list[tuple[str, date]]) -> pd.DataFrame:
        z = np.random.default_rng(4).standard_t(5, 300)
        tail = {coin: {str(h): fit_tail(z).to_dict() for h in (1, 5, 22)} for coin in COINS}
        state = ModelState({"none": np.zeros(1)}, {"tail": tail})
        sha = artifacts.save(str(self.settings.artifacts_dir / "all"), state)
        return pd.DataFrame([{"model": model, "model_version": f"v-{day}", "trained_as_of": day, "train_start": day - timedelta(days=300),
            "train_end": day, "status": "candidate", "config": "{}", "artifact_uri": "all", "artifact_hash": sha} for model, day in trained])  # fmt: skip

    # -- the steps of a run --------------------------------------------------------------------------------------------

    def run(self, first: date, last: date) -> None:
        """What a run of first .. last does: due retrains, forecasts with explanations, decisions, risk, backtest; in this order."""
        with self.warehouse.write() as connection:
            due = [
                {"model": model, "trained_as_of": str(day)}
                for model, days in read_retrains(connection).items()
                for day in days
                if (day,) not in connection.execute("SELECT trained_as_of FROM models.registry WHERE model = ?", [model]).fetchall()
            ]  # fmt: skip
            if due:
                fits = [(item["model"], date.fromisoformat(item["trained_as_of"])) for item in due]
                store(connection, "models.registry", self._versions(fits))
                void_superseded(connection, due, first, last)
        self._forecast(first, last)
        self.tails_and_portfolio(
            first, last
        )  # may come before the decisions or after: both hang on forecasts alone
        judge_pending(Platform(self.settings), last, "run")
        self.risk(first, last)

    def backfill(self, first: date, last: date) -> None:
        """As `volcast backfill`: once more behind each retrain."""
        self.run(first, last)
        while True:
            with self.warehouse.read() as connection:
                days = [day for day in open_retrains(connection, self.settings) if first <= day < last]  # fmt: skip
            if not days:
                return
            self.run(days[0] + timedelta(days=1), last)

    def risk(self, first: date, last: date) -> None:
        with self.warehouse.read() as connection:
            blocks = served_days(connection, self.settings, first, last, without="forecasts.risk")
            rows = risk_rows(connection, self.settings, blocks, first, last, audited=("attention",))
        with self.warehouse.write() as connection:
            replace_rows(connection, "forecasts.risk", rows, on=["as_of", "model", "model_version"])
        with self.warehouse.read() as connection:
            parts = [
                backtest_rows(connection, self.settings, sunday)
                for sunday in sundays_due(connection, last)
            ]
        with self.warehouse.write() as connection:
            for part in parts:
                replace_rows(connection, "evaluation.leverage_backtest", part, on=["as_of"])

    def tails_and_portfolio(self, first: date, last: date) -> None:
        with self.warehouse.read() as connection:
            blocks = served_days(connection, self.settings, first, last, without="forecasts.tails")
            parameters, tails = tail_rows(connection, self.settings, blocks)
            begin = max(first, BREAK)  # the days before are history alone, to save time
            book = portfolio_rows(connection, BOOK, begin, last, stored=True)
        with self.warehouse.write() as connection:
            for table, rows in (
                ("models.tail_parameters", parameters),
                ("forecasts.tails", tails),
                ("forecasts.portfolio_risk", book.risk),
                ("forecasts.portfolio_components", book.components),
            ):
                store(connection, table, rows)

    def _forecast(self, first: date, last: date) -> None:
        with self.warehouse.read() as connection:
            blocks = served_days(connection, self.settings, first, last, without="forecasts.volatility")  # fmt: skip
        parts = [self._made(block.model, block.model_version, block.days) for block in blocks]
        if not parts:
            return
        rows = pd.concat(parts, ignore_index=True)
        own = rows[rows["model"] == "attention"]
        with self.warehouse.write() as connection:
            store(connection, "forecasts.volatility", rows)
            if len(own):
                verdicts = np.array(["valid", "weak", "invalid"])[[day.toordinal() % 3 for day in own["as_of"]]]  # fmt: skip
                effect = np.where(own["horizon"] == 22, 0.0, 0.1)
                store(connection, "forecasts.explanations", own.assign(feature_group="price", verdict=verdicts, ablation_effect=effect))  # fmt: skip
                weights = own[["asset", "as_of", "model", "model_version"]].drop_duplicates()
                store(connection, "forecasts.attention_weights", pd.concat([weights.assign(layer=0, head=0, token=n, scale="daily",
                    modality=name, weight=0.5) for n, name in enumerate(("price", "funding"))]))  # fmt: skip

    def _made(self, model: str, version: str, days: tuple[date, ...]) -> pd.DataFrame:
        """Forecasts that depend on model, version, coin, day and horizon alone."""
        rows = []
        for day in days:
            for coin in COINS:
                chance = np.random.default_rng([day.toordinal(), COINS.index(coin)])
                base = 4e-4 * np.exp(0.5 * np.sin(day.toordinal() / 9) + 0.3 * chance.standard_normal())  # fmt: skip
                factor = {"ewma": 0.8, "attention": 1.0}[model]
                broken = model == "attention" and day >= BREAK and version == f"v-{GRID}"
                shift = np.exp(0.2 * chance.standard_normal() + 2.5 * broken + 0.01 * (len(version) + int(version[-2:])))  # fmt: skip
                spoil = 4.0 if day > self.poison_after else 1.0
                for horizon in (1, 5, 22):
                    variance = base * factor * shift * spoil * (1 + 0.01 * horizon)
                    volatility = np.sqrt(365 * variance)
                    rows.append({"asset": coin, "as_of": day, "horizon": horizon, "model": model, "model_version": version,
                        "variance": variance, "volatility": volatility, **{name: volatility * width for name, width in SPREAD.items()}})  # fmt: skip
        return pd.DataFrame(rows)

    def rows(self, query: str) -> list[tuple]:
        with self.warehouse.read() as connection:
            return connection.execute(query).fetchall()

    def table(self, name: str, where: str = "true") -> list[tuple]:
        without = {"run_id", "created_at"} & set(OUTPUT_TABLES[name].columns)
        exclude = f"EXCLUDE ({', '.join(sorted(without))})" if without else ""
        return self.rows(f"SELECT * {exclude} FROM {name} WHERE {where} ORDER BY ALL")


def store(connection, table: str, rows: pd.DataFrame) -> None:
    """Write rows that name a few columns only; the others are null."""
    if rows.empty:
        return
    spec = OUTPUT_TABLES[table]
    full = rows.assign(source="simulated", created_at=NOW, run_id="r").reindex(columns=list(spec.columns))  # fmt: skip
    for name, (kind, _) in spec.columns.items():
        if kind in ("DATE", "TIMESTAMPTZ") and full[name].isna().all():
            full[name] = pd.to_datetime(full[name])
    replace_rows(connection, table, full, on=list(spec.key))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A backfill of the days before the daily runs."""
    world = World(tmp_path_factory.mktemp("begun") / "home")
    world.backfill(FIRST, DAILY_FROM - timedelta(days=1))
    return world


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One backfill of all days."""
    world = World(tmp_path_factory.mktemp("finished") / "home")
    world.backfill(FIRST, LAST)
    return world


def test_days_one_by_one_give_what_a_backfill_gives(
    tmp_path: Path, begun: World, finished: World
) -> None:
    daily = begun.copy(tmp_path)
    for day in span(DAILY_FROM, LAST):
        daily.run(day, day)
    for table in COMPARED:
        found = finished.table(table)
        assert found, table
        assert daily.table(table) == found, table
    retrains = finished.rows("SELECT as_of, model FROM models.decisions WHERE kind = 'retrain'")
    assert retrains == [(RETRAINED, "attention")]
    versions = finished.rows(f"SELECT DISTINCT model_version FROM forecasts.risk WHERE model = 'attention' AND as_of > DATE '{GRID}' ORDER BY 1")  # fmt: skip
    assert [row[0] for row in versions] == [f"v-{GRID}", f"v-{RETRAINED}"]


def test_a_second_run_changes_nothing(tmp_path: Path, finished: World) -> None:
    again = finished.copy(tmp_path)
    again.backfill(FIRST, LAST)
    for table in COMPARED:
        assert again.table(table) == finished.table(table), table


def test_what_comes_later_changes_no_row_before(
    tmp_path: Path, begun: World, finished: World
) -> None:
    cut = DAILY_FROM + timedelta(days=1)
    other = begun.copy(tmp_path)
    other.poison_after = cut
    with other.warehouse.write() as connection:
        connection.execute("UPDATE features.realized SET realized_variance = 9 * realized_variance, close = 3 * close WHERE day > ?", [cut])  # fmt: skip
        connection.execute("UPDATE features.hourly SET log_return = 1 + log_return WHERE known_on > ?", [cut])  # fmt: skip
    other.backfill(DAILY_FROM, LAST)
    before, after = f"as_of <= DATE '{cut}'", f"as_of > DATE '{cut}'"
    for table in COMPARED[:2]:
        assert other.table(table, before) == finished.table(table, before), table
        assert other.table(table, after) != finished.table(table, after), table


def test_the_score_is_made_of_its_columns(finished: World) -> None:
    ((worst, least, most),) = finished.rows(
        "SELECT max(abs(uncertainty - (1 - (1 - uncertainty_disagreement) * (1 - uncertainty_interval) * (1 - uncertainty_age) "
        "* (1 - uncertainty_drift) * (1 - uncertainty_audit)))), min(uncertainty), max(uncertainty) FROM forecasts.risk"
    )
    assert worst < 1e-12
    assert 0 < least < most < 1


def test_drift_counts_from_the_day_after_its_sunday_for_the_version_it_was_found_of(
    finished: World,
) -> None:
    parts = dict(finished.rows(
        "SELECT as_of, any_value(uncertainty_drift) FROM forecasts.risk WHERE model = 'attention' AND horizon = 1 GROUP BY as_of"
    ))  # fmt: skip
    assert parts[RETRAINED] == 0.0  # found on this day, so known when its forecast is out
    assert parts[RETRAINED + timedelta(days=1)] == pytest.approx(0.1)
    assert parts[RETRAINED + timedelta(days=7)] == pytest.approx(0.1)
    assert parts[RETRAINED + timedelta(days=8)] == 0.0  # the Sunday between did not find it again
    assert finished.rows("SELECT max(uncertainty_drift) FROM forecasts.risk WHERE model = 'ewma'") == [(0.0,)]  # fmt: skip


def test_kinds_of_drift_are_counted_as_the_learning_loop_does(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    sunday = GRID + timedelta(days=7)
    found = [
        ("features", "kolmogorov_smirnov", "rv_d", "drift"),
        ("features", "psi", "rv_d", "drift"),
        ("features", "kolmogorov_smirnov", "fees", "drift"),
        ("features", "psi", "fees", "steady"),
        ("errors", "page_hinkley", "log qlike", "drift"),
        ("errors", "log_bias", "log error", "not judged"),
        ("attention", "jensen_shannon", "token groups", "drift"),
    ]
    names = ["kind", "measure", "subject", "verdict"]
    drift = pd.DataFrame(found, columns=names).assign(as_of=sunday, model="attention", model_version="v-1")  # fmt: skip
    half = drift[(drift["subject"] == "fees") & (drift["kind"] == "features")].assign(model="ewma")
    with world.warehouse.write() as connection:
        store(connection, "models.drift", pd.concat([drift, half]))
    asked = [
        ("attention", "v-1", 1, 3),
        ("attention", "v-1", 0, 0),  # the Sunday itself
        ("attention", "v-1", 7, 3),
        ("attention", "v-1", 8, 0),  # another Sunday has come, and found nothing
        ("attention", "v-2", 1, 1),  # a version trained since has seen it: errors alone count
        ("ewma", "v-1", 1, 0),  # one measure of two
    ]
    forecasts = pd.DataFrame(
        [{"model": m, "model_version": v, "as_of": pd.Timestamp(sunday + timedelta(days=n))} for m, v, n, _ in asked]
    )  # fmt: skip
    with world.warehouse.read() as connection:
        assert drift_kinds(connection, forecasts).tolist() == [row[3] for row in asked]
        assert drift_kinds(connection, forecasts.iloc[:0]).tolist() == []


def test_the_audit_counts_where_the_residual_is_used(finished: World) -> None:
    parts = dict(finished.rows(
        "SELECT verdict, min(uncertainty_audit) || ' ' || max(uncertainty_audit) FROM forecasts.risk JOIN forecasts.explanations "
        "USING (asset, as_of, horizon, model, model_version) WHERE horizon < 22 GROUP BY verdict"
    ))  # fmt: skip
    assert {key: sorted({round(float(x), 4) for x in value.split()}) for key, value in parts.items()} == {
        "valid": [0.0], "weak": [0.0588], "invalid": [0.2],
    }  # fmt: skip
    unused = "SELECT max(uncertainty_audit) FROM forecasts.risk WHERE horizon = 22 OR model <> 'attention'"  # fmt: skip
    assert finished.rows(unused) == [(0.0,)]


def test_a_missing_explanation_counts_as_invalid_and_an_unknown_verdict_is_an_error(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "home")
    world.run(FIRST, FIRST)
    keys = ["asset", "as_of", "horizon", "model", "model_version"]
    with world.warehouse.write() as connection:
        connection.execute("DELETE FROM forecasts.explanations WHERE asset = 'ETH'")
        forecasts = connection.execute(f"SELECT {', '.join(keys)} FROM forecasts.volatility WHERE horizon = 1 ORDER BY ALL").df()  # fmt: skip
        doubt = audit_doubts(connection, forecasts, ("attention",))
        assert dict(zip(zip(forecasts["asset"], forecasts["model"], strict=True), doubt, strict=True))[
            ("ETH", "attention")
        ] == 2.0  # fmt: skip
        assert doubt[forecasts["model"] == "ewma"].tolist() == [0.0, 0.0]
        connection.execute("UPDATE forecasts.explanations SET verdict = 'perhaps'")
        with pytest.raises(ValueError, match="audit verdict 'perhaps': expected one of valid"):
            audit_doubts(connection, forecasts, ("attention",))


def test_every_advice_follows_on_from_the_one_before_it_across_versions(finished: World) -> None:
    broken = finished.rows(
        """
        SELECT * FROM forecasts.risk r JOIN forecasts.risk p ON p.asset = r.asset AND p.horizon = r.horizon AND p.model = r.model
            AND p.as_of = r.previous_as_of
        WHERE r.previous_leverage <> p.advised_leverage OR r.previous_as_of <> r.as_of - 1
        """
    )
    assert broken == []
    starts = finished.rows("SELECT DISTINCT as_of FROM forecasts.risk WHERE previous_leverage IS NULL")  # fmt: skip
    assert starts == [(FIRST,)]
    policy = leverage_policy(finished.settings)
    ((over, rise, empty),) = finished.rows(
        "SELECT count(*) FILTER (advised_leverage > leverage_limit OR target_leverage > leverage_limit), "
        "max(advised_leverage - previous_leverage), count(*) FILTER (reason IS NULL OR reason = '') FROM forecasts.risk"
    )
    assert (over, empty) == (0, 0)
    assert rise <= policy.max_change + 1e-12
    kinds = {row[0] for row in finished.rows("SELECT DISTINCT binding FROM forecasts.risk")}
    assert {"volatility_target", "band", "es_budget"} <= kinds


def test_a_gap_of_more_than_a_week_starts_the_path_again(tmp_path: Path, begun: World) -> None:
    world = begun.copy(tmp_path)
    for days in (6, 14):
        day = DAILY_FROM + timedelta(days=days)
        world.run(day, day)
        found = world.rows(f"SELECT DISTINCT previous_as_of, contains(reason, 'no advice in the 7 days before') FROM forecasts.risk WHERE as_of = DATE '{day}'")  # fmt: skip
        held = DAILY_FROM - timedelta(days=1)
        assert found == [(held, False) if days == 6 else (None, True)]


def test_a_day_forecast_anew_follows_the_newest_version_and_rewrites_nothing(
    tmp_path: Path, begun: World
) -> None:
    world = begun.copy(tmp_path)
    last = DAILY_FROM - timedelta(days=1)
    first = last - timedelta(days=2)
    before = world.table("forecasts.risk")
    with (
        world.warehouse.write() as connection
    ):  # other code: another version of the same training day
        connection.execute(
            "INSERT INTO models.registry SELECT * REPLACE ('v-2-10' AS model_version, created_at + INTERVAL 1 DAY AS created_at) "
            "FROM models.registry WHERE model = 'attention' AND trained_as_of = ?", [GRID]
        )  # fmt: skip
    world.run(first, last)
    kept = world.table("forecasts.risk", "model_version <> 'v-2-10'")
    assert kept == before
    path = world.rows(
        "SELECT n.as_of, n.previous_leverage, p.advised_leverage, p.model_version FROM forecasts.risk n JOIN forecasts.risk p "
        "ON p.asset = n.asset AND p.horizon = n.horizon AND p.model = n.model AND p.as_of = n.previous_as_of "
        "WHERE n.model_version = 'v-2-10' AND n.asset = 'BTC' AND n.horizon = 1 AND p.advised_leverage = n.previous_leverage ORDER BY 1"
    )
    assert [row[0] for row in path] == span(first, last)
    assert [row[3] for row in path] == [f"v-{GRID}", "v-2-10", "v-2-10"]
    world.run(DAILY_FROM, DAILY_FROM)
    newest = world.rows(
        f"SELECT n.previous_leverage = p.advised_leverage FROM forecasts.risk n JOIN forecasts.risk p USING (asset, horizon, model) "
        f"WHERE n.as_of = DATE '{DAILY_FROM}' AND p.as_of = DATE '{last}' AND p.model_version = 'v-2-10'"
    )
    assert newest == [(True,)] * 6


def test_stored_days_inside_the_range_are_followed_and_new_ones_come_first() -> None:
    policy = LeveragePolicy(band=0.0, max_change=10.0)
    days = pd.date_range("2024-01-01", periods=4)
    head = {"asset": "BTC", "horizon": 1, "model": "ewma"}
    stored = pd.DataFrame(
        [{**head, "as_of": days[0], "advised_leverage": 0.7}, {**head, "as_of": days[1], "advised_leverage": 9.0},
         {**head, "as_of": days[2], "advised_leverage": 0.9}]
    )  # fmt: skip
    new = pd.DataFrame(
        [{**head, "as_of": days[n], "volatility": 0.2, "uncertainty": 0.0, "es_975": 0.05} for n in (1, 3)]
    )  # fmt: skip
    found = with_leverage(new, stored, policy)
    assert found["previous_leverage"].tolist() == [0.7, 0.9]
    alone = with_leverage(new, stored.iloc[:2], policy)
    assert alone["previous_leverage"].tolist() == [0.7, pytest.approx(1.0)]  # not the stored 9.0


def test_the_backtest_is_of_each_sunday_and_compares_like_with_like(finished: World) -> None:
    ((first, last, models),) = finished.rows("SELECT min(as_of), max(as_of), count(DISTINCT model) FROM evaluation.leverage_backtest")  # fmt: skip
    assert first.weekday() == last.weekday() == 6
    assert (first - FIRST).days >= 20
    assert last == max(day for day in span(FIRST, LAST) if day.weekday() == 6)
    assert models == 2
    uneven = finished.rows("SELECT as_of FROM evaluation.leverage_backtest GROUP BY as_of, model, horizon, asset HAVING count(*) <> 3 OR count(DISTINCT days) <> 1")  # fmt: skip
    assert uneven == []
    ((days, held),) = finished.rows(
        f"SELECT days, mean_leverage FROM evaluation.leverage_backtest WHERE as_of = DATE '{last}' AND model = 'ewma' AND horizon = 1 AND asset = 'BTC' "
        "AND strategy = 'advised'"
    )
    ((mean,),) = finished.rows(
        f"SELECT avg(advised_leverage) FROM forecasts.risk WHERE as_of < DATE '{last}' - 1 AND model = 'ewma' AND horizon = 1 AND asset = 'BTC'"
    )
    assert days == (last - FIRST).days - 1  # advice of Saturday is traded on Sunday at 01:00
    assert held == pytest.approx(mean)


def backtest_on(world: World, sunday: date, *changes: tuple[str, list]) -> pd.DataFrame:
    """The rows of one Sunday for ewma at one day, after `changes` to the warehouse; by strategy and coin."""
    with duckdb.connect(str(world.settings.warehouse_path)) as connection:
        connection.execute("BEGIN")
        for query, values in changes:
            connection.execute(query, values)
        rows = backtest_rows(connection, world.settings, sunday)
        connection.execute("ROLLBACK")
    own = rows[(rows["model"] == "ewma") & (rows["horizon"] == 1)]
    return own.set_index(["strategy", "asset"]).sort_index()


SUNDAY = max(day for day in span(FIRST, LAST) if day.weekday() == 6)
CRASH_ON = SUNDAY - timedelta(days=10)
FALL = "UPDATE features.realized SET close = 0.5 * close WHERE asset = 'BTC' AND day >= ?"
HOUR = "UPDATE features.hourly SET log_return = log_return + ? WHERE asset = 'BTC' AND ts = ?"


@pytest.fixture
def planned(tmp_path: Path, finished: World) -> World:
    """A copy whose advice for BTC is 1 up to the day before CRASH_ON and 0 from there on."""
    world = finished.copy(tmp_path)
    with world.warehouse.write() as connection:
        connection.execute("UPDATE forecasts.risk SET advised_leverage = CASE WHEN as_of < ? THEN 1 ELSE 0 END WHERE asset = 'BTC'", [CRASH_ON])  # fmt: skip
    return world


def test_advice_earns_nothing_before_the_first_hourly_close_after_its_decision(
    planned: World,
) -> None:
    """The price halves in the hour of the decision: who was advised to leave at 00:30 leaves at 01:00 and has lost half."""
    midnight = CRASH_ON + timedelta(days=1)
    before = backtest_on(planned, SUNDAY).loc[("advised", "BTC"), "worst_drawdown"]
    halved = (FALL, [midnight])
    in_the_hour = backtest_on(planned, SUNDAY, halved, (HOUR, [np.log(0.5), midnight]))
    assert in_the_hour.loc[("advised", "BTC"), "worst_drawdown"] > 0.45 > before
    an_hour_later = backtest_on(planned, SUNDAY, halved)
    assert an_hour_later.loc[("advised", "BTC"), "worst_drawdown"] == before


def test_a_coin_without_the_hours_is_not_traded_until_they_are_there(planned: World) -> None:
    """Nobody can leave on the day of the advice, so the fall that comes before the next price is lost too."""
    midnight = CRASH_ON + timedelta(days=1)
    halved = (FALL, [midnight])
    for gone in (midnight, datetime.combine(CRASH_ON, datetime.min.time()) + timedelta(hours=23)):
        hole = ("DELETE FROM features.hourly WHERE asset = 'BTC' AND ts = ?", [gone])
        found = backtest_on(planned, SUNDAY, halved, hole)
        assert found.loc[("advised", "BTC"), "worst_drawdown"] > 0.45
        assert found.loc[("advised", "BTC"), "days"] == (SUNDAY - FIRST).days - 1
        late = ("UPDATE features.hourly SET known_on = ? WHERE asset = 'BTC' AND ts = ?", [SUNDAY + timedelta(days=1), gone])  # fmt: skip
        pd.testing.assert_frame_equal(backtest_on(planned, SUNDAY, halved, late), found)
    none = ("DELETE FROM features.hourly WHERE asset = 'BTC'", [])
    assert set(backtest_on(planned, SUNDAY, none).index.get_level_values("asset")) == {"ETH", "PORTFOLIO"}  # fmt: skip
    with planned.warehouse.write() as connection:
        connection.execute("DELETE FROM features.hourly")
        assert backtest_rows(connection, planned.settings, SUNDAY).empty


def test_a_sunday_reads_no_hour_that_it_did_not_know(planned: World) -> None:
    known = backtest_on(planned, SUNDAY)
    poison = ("UPDATE features.hourly SET log_return = 5 WHERE known_on > ? OR ts > ?", [SUNDAY, SUNDAY])  # fmt: skip
    pd.testing.assert_frame_equal(backtest_on(planned, SUNDAY, poison), known)
    last_trade = ("UPDATE features.hourly SET log_return = 0.3 WHERE ts = ?", [SUNDAY])
    assert not backtest_on(planned, SUNDAY, last_trade).equals(known)


def test_settings_of_the_path_are_checked() -> None:
    found = leverage_policy(Settings.from_env({"VOLCAST_LEVERAGE_BAND": "0.05", "VOLCAST_LEVERAGE_MAX_CHANGE": "0.3"}))  # fmt: skip
    assert (found.band, found.max_change) == (0.05, 0.3)
    for name, value in (("BAND", "1"), ("BAND", "-0.1"), ("BAND", "nan"), ("MAX_CHANGE", "0"), ("MAX_CHANGE", "inf")):  # fmt: skip
        with pytest.raises(SettingsError, match=f"VOLCAST_LEVERAGE_{name}.*{value}"):
            Settings.from_env({f"VOLCAST_LEVERAGE_{name}": value})
