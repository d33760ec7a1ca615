"""Regimes, rare days, tails, events and effects over a stored market: days equal a backfill, twice changes nothing, the future counts for nothing."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml import artifacts
from ml.events.catalog import COLUMNS
from ml.model import ModelState
from ml.regimes.model import RegimeModel
from ml.risk.tails import fit_tail
from ml.tails.rare_days import MEASURES
from orchestration.assets import regimes as assets
from orchestration.events import EVIDENCE_DAYS, effect_rows, event_rows
from orchestration.monthly import monthly_fit
from orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from orchestration.platform import Platform
from orchestration.rare_days import jump_rows
from orchestration.regimes import regime_rows
from orchestration.report import regimes as report
from orchestration.settings import Settings
from orchestration.tables.regimes import TABLES
from orchestration.tails import tail_rows
from orchestration.versions import served_days
from orchestration.warehouse import Warehouse, replace_rows
from tests.orchestration.test_learning import NOW, store

START, FIRST, LAST = date(2022, 1, 3), date(2023, 4, 10), date(2023, 5, 14)
HISTORY = pd.date_range(START, LAST)
DAYS = pd.date_range(FIRST - timedelta(days=30), LAST)
COINS = ("BTC", "ETH")
NEW = "NEW"
"""A coin listed 100 days before the end."""
OUTAGE = date(2023, 5, 10)
POISON_AFTER = date(2023, 4, 23)


def settings(home: Path) -> Settings:
    return Settings(home=home, models=("ewma", "harx_cal"), train_window_days=600)


def regimes_and_variance(chance: np.random.Generator) -> np.ndarray:
    """(T,) log variance of three regimes."""
    level, state = np.array([-8.4, -7.2, -5.8]), 1
    stay = {0: [0.95, 0.05, 0.0], 1: [0.03, 0.94, 0.03], 2: [0.0, 0.1, 0.9]}
    path = []
    for _ in HISTORY:
        state = int(chance.choice(3, p=stay[state]))
        path.append(level[state])
    return np.array(path) + 0.45 * chance.standard_normal(len(HISTORY))


def market(poison: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """features.daily and features.realized; what is known after ``POISON_AFTER`` is multiplied."""
    chance = np.random.default_rng(21)
    daily, realized = [], []
    late = np.where(pd.Timestamp(POISON_AFTER) < HISTORY, poison, 1.0)
    for coin in (*COINS, NEW):
        size = len(HISTORY)
        variance = np.exp(regimes_and_variance(chance)) * late
        mean = pd.Series(variance).rolling(22, min_periods=18).mean().to_numpy()
        returns = np.sqrt(variance) * chance.standard_t(4, size) / np.sqrt(2.0)
        columns = {name: chance.standard_normal(size) * late for name in COLUMNS}
        columns |= {
            "amihud_22d": np.exp(pd.Series(columns["amihud_22d"]).rolling(22, 1).mean()),
            "funding_dispersion_d": np.exp(columns["funding_dispersion_d"]),
            "onchain_flows_revised": np.ones(size, dtype=bool),
            "book_depth_50bp_usd_d": np.full(size, np.nan),
            "book_spread_bps_d": np.full(size, np.nan),
            "price_age_days": np.where(pd.Timestamp(OUTAGE) == HISTORY, 1.0, 0.0),
            "rv_d": variance,
            "bipower_d": variance * np.exp(0.1 * chance.standard_normal(size)),
            "quarticity_d": 1.5 * variance**2,
            "bars_expected": np.full(size, 24.0),
            "return_d": returns,
            "rv_22d": mean,
            "rv_66d": pd.Series(variance).rolling(66, min_periods=53).mean().to_numpy(),
            "target_weekday": (HISTORY.dayofweek.to_numpy() + 1) % 7,
            "target_weekend_share_5": np.full(size, 0.4),
            "target_weekend_share_22": np.full(size, 6 / 22),
        }
        frame = pd.DataFrame(
            {"source": "simulated", "asset": coin, "as_of": HISTORY.date, **columns}
        )
        days = pd.DataFrame(
            {
                "source": "simulated", "asset": coin, "day": HISTORY.date, "known_on": HISTORY.date,
                "complete": True, "realized_variance": variance, "return": returns,
                "close": 100.0 * np.exp(returns.cumsum()),
            }
        )  # fmt: skip
        kept = np.ones(size, dtype=bool)
        if coin == NEW:
            kept = np.arange(size) >= size - 100
        daily.append(frame[kept])
        realized.append(days[kept & (pd.Timestamp(OUTAGE) != HISTORY)])
        if coin == "ETH":  # a day that was revised later
            again = days[pd.Timestamp("2023-04-13") == HISTORY].assign(known_on=date(2023, 4, 16))
            realized.append(again.assign(realized_variance=again["realized_variance"] * 3))
    assert set(MEASURES) | set(COLUMNS) <= set(daily[0])
    return pd.concat(daily), pd.concat(realized)


def plant(home: Path, poison: float = 1.0) -> Warehouse:
    """A warehouse with features, two versions a model and their forecasts."""
    made = settings(home)
    warehouse = Warehouse(made)
    daily, realized = market(poison)
    chance = np.random.default_rng(5)
    tail = {
        asset: {str(h): fit_tail(chance.standard_t(4, 600)).to_dict() for h in (1, 5, 22)}
        for asset in COINS
    }
    versions, forecasts = [], []
    variance = daily.pivot(index="as_of", columns="asset", values="rv_22d")
    for model in made.models:
        for day in sorted({made.trained_as_of(model, stamp.date()) for stamp in DAYS}):
            state = ModelState(
                {"x": np.zeros(1)}, {"model": model, "tail": {**tail, NEW: {}}, "trained": str(day)}
            )
            uri = f"{model}/{day}"
            sha = artifacts.save(str(made.artifacts_dir / uri), state)
            versions.append(
                {
                    "model": model, "model_version": f"{model}-{day}", "trained_as_of": day, "train_start": START,
                    "train_end": day, "status": "candidate", "config": "{}", "artifact_uri": uri, "artifact_hash": sha,
                }
            )  # fmt: skip
        for stamp in DAYS:
            version = f"{model}-{made.trained_as_of(model, stamp.date())}"
            forecasts += [
                {
                    "asset": asset, "as_of": stamp.date(), "horizon": h, "model": model, "model_version": version,
                    "variance": variance.loc[stamp.date(), asset],
                }
                for asset in variance if np.isfinite(variance.loc[stamp.date(), asset]) for h in (1, 5, 22)
            ]  # fmt: skip
    with warehouse.write() as connection:
        for name, frame in (("daily", daily), ("realized", realized)):
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE features.{name} AS SELECT * FROM frame")
            connection.unregister("frame")
        store(connection, "models.registry", pd.DataFrame(versions))
        store(connection, "forecasts.volatility", pd.DataFrame(forecasts))
    return warehouse


def run(warehouse: Warehouse, first: date, last: date) -> None:
    """What the assets do for first .. last, without Dagster around it."""
    platform, made = Platform(warehouse.settings), warehouse.settings
    steps = (
        (assets.REGIME_TABLES, lambda read: regime_rows(read, made, first, last)),
        (assets.JUMP_TABLES, lambda read: jump_rows(read, made, first, last)),
        (
            assets.TAIL_TABLES,
            lambda read: tail_rows(
                read, made, served_days(read, made, first, last, without="forecasts.tails")
            ),
        ),
        (("forecasts.events",), lambda read: (event_rows(read, first, last),)),
    )
    for tables, make in steps:
        with warehouse.read() as connection:
            frames = make(connection)
        assets.store_rows(platform, "run", tables, frames)
    for sunday in pd.date_range(first, last, freq="W-SUN"):
        assets.judge_effects(platform, sunday.date(), "run")


def rows(warehouse: Warehouse, table: str, where: str = "true") -> list[tuple]:
    spec = next(one for one in TABLES if one.name == table)
    columns = ", ".join(name for name in spec.columns if name not in ("run_id", "created_at"))
    with warehouse.read() as connection:
        return connection.execute(
            f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL"
        ).fetchall()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """After one run of the assets over all days; no gate has judged these days, so gates are left out."""
    warehouse = plant(tmp_path_factory.mktemp("home"))
    tags = {RANGE_START_TAG: FIRST.isoformat(), RANGE_END_TAG: LAST.isoformat()}
    resources = {"platform": Platform(warehouse.settings)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "require_open_gates", lambda *_: None)
        made = dg.materialize(assets.REGIME_ASSETS, resources=resources, tags=tags)
    assert made.success
    return warehouse


def test_every_table_has_its_rows(finished: Warehouse) -> None:
    days = (LAST - FIRST).days + 1
    assert len(rows(finished, "forecasts.regimes")) == days * 4
    assert len(rows(finished, "forecasts.jumps")) == days * 3 * 3
    assert len(rows(finished, "forecasts.events")) == days * 3 * 3
    assert len(rows(finished, "forecasts.tails")) == len(
        rows(finished, "forecasts.tails", "exceedances > 0")
    ) + len(rows(finished, "forecasts.tails", f"asset = '{NEW}'"))
    fits = {row[2] for row in rows(finished, "models.regime_parameters")}
    assert fits == {date(2023, 4, 2), date(2023, 5, 7)}
    sundays = {row[1] for row in rows(finished, "evaluation.event_effects")}
    assert sundays == {day.date() for day in pd.date_range(FIRST, LAST, freq="W-SUN")}


def test_a_backfill_equals_daily_runs_and_a_second_run_changes_nothing(
    finished: Warehouse, tmp_path: Path
) -> None:
    daily = plant(tmp_path)
    cut = date(2023, 5, 11)
    run(daily, FIRST, cut)
    for back in range((LAST - cut).days):
        day = cut + timedelta(days=1 + back)
        run(daily, day, day)
    for table in TABLES:
        assert repr(rows(daily, table.name)) == repr(rows(finished, table.name)), table.name
    with finished.read() as connection:
        before = connection.execute("SELECT * FROM meta.state ORDER BY ALL").fetchall()
    run(finished, FIRST, LAST)
    with finished.read() as connection:
        assert connection.execute("SELECT * FROM meta.state ORDER BY ALL").fetchall() == before


@pytest.mark.parametrize("window", [120, 900])
def test_a_stored_fit_serves_on_when_the_training_window_changes(
    finished: Warehouse, tmp_path: Path, window: int
) -> None:
    """The fit of the month keeps its own first day, so its days are what they were; rare days and tails too."""
    shutil.copytree(finished.settings.home, tmp_path / "home")
    changed = settings(tmp_path / "home").model_copy(update={"train_window_days": window})
    warehouse = Warehouse(changed)
    tables = ("forecasts.regimes", "forecasts.jumps", "forecasts.tails")
    with warehouse.write() as connection:
        for table in tables:
            connection.execute(f"DELETE FROM {table} WHERE as_of = ?", [LAST])
    run(warehouse, LAST, LAST)
    for table in (*tables, "models.regime_parameters", "models.jump_parameters"):
        assert repr(rows(warehouse, table)) == repr(rows(finished, table)), table


def test_what_became_known_later_changes_nothing(finished: Warehouse, tmp_path: Path) -> None:
    poisoned = plant(tmp_path, poison=4.0)
    run(poisoned, FIRST, LAST)
    for table in TABLES:
        if table.name == "models.tail_parameters":  # of the versions alone
            continue
        day = "fitted_as_of" if "as_of" not in table.columns else "as_of"
        until, beyond = f"{day} <= DATE '{POISON_AFTER}'", f"{day} > DATE '{POISON_AFTER}'"
        known = rows(finished, table.name, until)
        assert known
        assert repr(known) == repr(rows(poisoned, table.name, until)), table.name
        assert repr(rows(finished, table.name, beyond)) != repr(
            rows(poisoned, table.name, beyond)
        ), f"{table.name}: the poison had no effect at all"


def test_probabilities_add_up_and_say_what_they_rest_on(finished: Warehouse) -> None:
    with finished.read() as connection:
        found = connection.execute(
            "SELECT asset, as_of, p_calm + p_normal + p_turbulent AS total, carried_days, status, regime, expected_days_left "
            "FROM forecasts.regimes ORDER BY asset, as_of"
        ).df()
    coins = found[found["asset"] != NEW]
    assert np.allclose(coins["total"], 1.0)
    assert (coins["expected_days_left"] >= 2).all()
    out = coins[coins["as_of"] == pd.Timestamp(OUTAGE)]
    assert (out["carried_days"] == 1).all()
    assert set(out["status"]) == {"carried: variance last known 1 day ago"}
    assert set(coins.loc[coins["as_of"] != pd.Timestamp(OUTAGE), "status"]) == {"ok"}
    young = found[found["asset"] == NEW]
    assert young["total"].isna().all()
    assert all("expected at least 365" in text or "no data" in text for text in young["status"])


def test_a_revision_is_read_from_the_day_it_is_known(finished: Warehouse) -> None:
    """ETH's 13 April was tripled on the 16th: the filter of the 15th has not heard of it, that of the 16th has."""
    with finished.read() as connection:
        parameters = connection.execute(
            "SELECT parameters FROM models.regime_parameters WHERE asset = 'ETH' AND fitted_as_of = DATE '2023-04-02'"
        ).fetchone()
        stored = dict(
            connection.execute(
                "SELECT as_of, p_turbulent FROM forecasts.regimes WHERE asset = 'ETH'"
            ).fetchall()
        )
    assert parameters is not None
    model = RegimeModel.from_json(parameters[0])
    _, realized = market(1.0)
    eth = realized[realized["asset"] == "ETH"].sort_values("known_on")
    for day in (date(2023, 4, 15), date(2023, 4, 16)):
        known = eth[(eth["known_on"] <= day) & (eth["day"] <= day)].drop_duplicates(
            "day", keep="last"
        )
        known = known[known["day"] >= model.first_day.astype(date)].sort_values("day")
        days = known["day"].to_numpy(dtype="datetime64[D]")
        expected = model.filtered(days, np.log(known["realized_variance"].to_numpy()))[-1, 2]
        assert stored[day] == expected


def test_tails_scale_with_the_forecast_and_widen_outwards(finished: Warehouse) -> None:
    with finished.read() as connection:
        found = connection.execute(
            "SELECT t.*, f.variance, p.z_001 FROM forecasts.tails t "
            "JOIN forecasts.volatility f USING (asset, as_of, horizon, model, model_version) "
            "LEFT JOIN models.tail_parameters p ON p.model = t.model AND p.model_version = t.model_version "
            "AND p.asset = t.asset AND p.horizon = t.horizon AND p.side = 'lower'"
        ).df()
    unknown = found[found["asset"] == NEW]
    assert unknown["return_q001"].isna().all()
    assert all("no standardised returns" in text for text in unknown["status"])
    known = found[found["asset"] != NEW]
    scale = np.sqrt(known["horizon"] * known["variance"])
    assert np.allclose(known["return_q001"], -scale * known["z_001"])
    names = ["q001_low", "q001", "q005", "q01", "q99", "q995", "q999", "q999_high"]
    ordered = known[[f"return_{name}" for name in names]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert set(known.loc[known["horizon"] == 22, "status"].str[:4]) == {"weak"}


def test_rare_days_and_events_say_what_is_missing(finished: Warehouse) -> None:
    with finished.read() as connection:
        jumps = connection.execute("SELECT * FROM forecasts.jumps").df()
        events = connection.execute("SELECT * FROM forecasts.events WHERE asset = 'BTC'").df()
        young = connection.execute(
            f"SELECT count(*), count(score), count(active) FROM forecasts.events WHERE asset = '{NEW}'"
        ).fetchone()
    out = jumps[jumps["as_of"] == pd.Timestamp(OUTAGE)]
    assert out["jump_today"].isna().all()
    for kind in ("jump", "crash"):
        fitted = jumps[jumps[f"{kind}_probability"].notna()]
        assert fitted[f"{kind}_probability"].between(0, 1).all()
        plain = fitted[~(fitted[f"{kind}_skill"] > 0)]
        assert (plain[f"{kind}_probability"] == plain[f"{kind}_base_rate"]).all()
    liquidity = events[events["event"] == "liquidity_dry_up"]
    assert set(liquidity["status"]) == {"ok, without thin_book, quoted_spread"}
    transfers = json.loads(events.loc[events["event"] == "large_transfers", "inputs"].iloc[0])
    assert transfers["flows_revised"] is True
    assert young is not None
    assert young[0] > 0
    assert young[1:] == (0, 0)


def test_the_report_reads_what_a_day_has(finished: Warehouse) -> None:
    with finished.read() as connection:
        assert {row["asset"] for row in report.regimes(connection, LAST)} >= {"MARKET", "BTC", NEW}
        assert len(report.regime_history(connection, LAST)) > 0
        assert {row["horizon"] for row in report.rare_days(connection, LAST)} == {1, 5, 22}
        tails = report.tails(connection, LAST, "harx_cal")
        assert {row["model"] for row in tails} == {"harx_cal"}
        assert all(row["as_of"] == LAST for row in report.events(connection, LAST))
        effects = report.event_effects(connection, LAST, "harx_cal")
        assert {row["event"] for row in effects} <= {
            "liquidity_dry_up",
            "large_transfers",
            "funding_squeeze",
        }
        assert all(row["verdict"] for row in effects)


def test_fits_hang_on_first_sundays_strictly_before_the_day() -> None:
    assert monthly_fit(date(2023, 5, 7)) == date(2023, 4, 2)
    assert monthly_fit(date(2023, 5, 8)) == date(2023, 5, 7)
    assert monthly_fit(date(2023, 1, 1)) == date(2022, 12, 4)


def test_an_effect_is_planted_and_found(tmp_path: Path) -> None:
    """Outcomes 50 % above forecasts on days of the event, in eight episodes."""
    made = settings(tmp_path)
    warehouse = Warehouse(made)
    sunday, chance = date(2023, 5, 14), np.random.default_rng(0)
    days = pd.date_range(sunday - timedelta(days=200), sunday)
    active = np.zeros((len(days), len(COINS)), dtype=bool)
    for start in range(5, 190, 24):
        active[start : start + 4] = True
    outcome = np.exp(0.3 * chance.standard_normal(active.shape)) * 4e-4
    outcome[1:] *= np.where(active[:-1], 1.5, 1.0)  # h = 1: the day after
    frames: dict[str, list[pd.DataFrame]] = {"realized": [], "forecasts": [], "events": []}
    for column, coin in enumerate(COINS):
        key = {"asset": coin, "as_of": days.date}
        frames["realized"].append(
            pd.DataFrame(
                {
                    "source": "simulated", "asset": coin, "day": days.date, "known_on": days.date,
                    "complete": True, "realized_variance": outcome[:, column], "return": 0.0, "close": 100.0,
                }
            )
        )  # fmt: skip
        frames["forecasts"].append(
            pd.DataFrame(
                {**key, "horizon": 1, "model": "ewma", "model_version": "v", "variance": 4e-4}
            )
        )
        begins = active[:, column] & ~np.append(False, active[:-1, column])
        frames["events"].append(
            pd.DataFrame(
                {**key, "event": "funding_squeeze", "active": active[:, column], "running_days": np.where(begins, 0, 1)}
            )
        )  # fmt: skip
    with warehouse.write() as connection:
        connection.register("frame", pd.concat(frames["realized"]))
        connection.execute("CREATE TABLE features.realized AS SELECT * FROM frame")
        store(connection, "forecasts.volatility", pd.concat(frames["forecasts"]))
        full = pd.concat(frames["events"]).assign(source="simulated", created_at=NOW, run_id="r")
        missing = {
            name: None for name in next(t for t in TABLES if t.name == "forecasts.events").columns if name not in full
        }  # fmt: skip
        replace_rows(connection, "forecasts.events", full.assign(**missing), on=["as_of"])
    with warehouse.read() as connection:
        found = effect_rows(connection, made, sunday).set_index("measure")
        with pytest.raises(ValueError, match="2023-05-13"):
            effect_rows(connection, made, sunday - timedelta(days=1))
    beyond = found.loc["outcome_beyond_forecast"]
    assert beyond["low_95"] < np.log(1.5) < beyond["high_95"]
    assert beyond["verdict"] == "outcomes lie above forecasts while it is on"
    assert beyond["episodes"] == 8
    assert beyond["last_as_of"] == pd.Timestamp(
        sunday - timedelta(days=1)
    )  # the last outcome known
    assert found.loc["forecast_move", "estimate"] == 0.0
    assert EVIDENCE_DAYS >= 365
