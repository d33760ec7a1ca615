"""A small home in which every invariant holds: bars, features, two versions, gates, forecasts, attention, risk, a published copy.

Nothing is trained: values are made up so that they obey the definitions. Each is written through the door that production uses.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ml import artifacts
from ml.model import ModelState
from orchestration.gates import FEATURE_SUITES, store_verdict
from orchestration.raw_rows import append_batch
from orchestration.settings import Settings
from orchestration.sources.schema import TABLES
from orchestration.streams import StreamState, write_stream
from orchestration.tables import OUTPUT_TABLES
from orchestration.tables.layout import QUANTILE_COLUMNS
from orchestration.warehouse import Warehouse, bump_revision, replace_rows, set_json_state
from quality import Result, Verdict

FIRST = date(2024, 3, 18)
DAYS = [FIRST + timedelta(days=step) for step in range(3)]
COINS = ("BTC", "ETH")
MODELS = ("ewma", "attention")
TRAINED = date(2024, 3, 17)


def healthy(home: Path, **storage: Any) -> Settings:
    """Make the home; ``storage``: settings that say where its tables lie."""
    settings = Settings(home=home, **storage)
    warehouse = Warehouse(settings)
    _ingest(warehouse)
    with warehouse.write() as connection:
        for table, query in FEATURES.items():
            connection.execute(f"CREATE TABLE {table} AS {query}")
        set_json_state(connection, "features_built", {"fingerprint": '["f", 30, "finest", []]'})
    for suite in FEATURE_SUITES:
        verdict = Verdict.of(suite, [Result(suite, "rows", None, "critical", True, "3", "")])
        store_verdict(warehouse, verdict, FIRST, DAYS[-1], "run")
    with warehouse.write() as connection:
        _store(connection, "models.registry", _versions(settings))
        _store(connection, "forecasts.volatility", _forecasts())
        _store(connection, "forecasts.model_quantiles", _forecasts())
        _store(connection, "forecasts.risk", _risk())
        _store(connection, "forecasts.attention_weights", _attention())
        _store(connection, "forecasts.portfolio_risk", _risk().drop(columns="asset").query("horizon == 1").drop_duplicates(["as_of", "model"]).assign(portfolio="desk"))  # fmt: skip
    warehouse.publish()
    return settings


FEATURES = {
    "features.daily": f"""
        SELECT asset, CAST(day AS DATE) AS as_of, CAST(day + INTERVAL 1 DAY AS TIMESTAMP) AT TIME ZONE 'UTC' + INTERVAL 30 MINUTE AS decision_time,
            0.02 AS price_age_days, 0.3 AS funding_age_days
        FROM (SELECT unnest({list(COINS)}) AS asset), (SELECT unnest({[str(day) for day in DAYS]}::DATE[]) AS day)
    """,
    "features.funding_venues": "SELECT asset, as_of, 'binance' AS venue, 0.2 AS funding_age_days FROM features.daily",
    "features.hourly": "SELECT split_part(symbol, '/', 1) AS asset, ts, CAST(ts AS DATE) AS known_on, 1 AS bars FROM raw.ohlcv",
    "features.realized": """
        SELECT asset, known_on AS day, known_on, '1h' AS bar_interval, CAST(count(*) AS INTEGER) AS bars_used FROM features.hourly GROUP BY ALL
    """,
}


def _ingest(warehouse: Warehouse) -> None:
    """Hourly bars of three days; one of them is refused and lies in quarantine."""
    rows = []
    for asset in COINS:
        for step in range(24 * len(DAYS)):
            ts = datetime.combine(FIRST, time(), tzinfo=UTC) + timedelta(hours=step)
            rows.append(
                {
                    "venue": "binance", "symbol": f"{asset}/USDT", "interval": "1h", "ts": ts, "open": 100.0, "high": 102.0, "low": 99.0,
                    "close": 101.0, "volume": 5.0, "quote_volume": 500.0, "trades": 9.0, "taker_buy_volume": 2.0,
                    "known_at": ts + timedelta(hours=1), "source": "simulated",
                }
            )  # fmt: skip
    refused = {**rows[0], "ts": rows[0]["ts"] - timedelta(hours=1), "high": 1.0}
    until = warehouse.settings.decision_time(DAYS[-1])
    table = pa.Table.from_pylist([*rows, refused], schema=TABLES["ohlcv"].arrow)
    assert append_batch(warehouse, TABLES["ohlcv"], table, None, until).quarantined == 1
    state = StreamState("ohlcv", "simulated", "raw.ohlcv", "simulated", COINS, FIRST, until)
    with warehouse.write() as connection:
        write_stream(connection, state)


def _store(connection: Any, table: str, rows: pd.DataFrame) -> None:
    spec = OUTPUT_TABLES[table]
    stamps = {"source": "simulated", "run_id": "run", "created_at": datetime.now(UTC)}
    absent = {name: stamps.get(name) for name in spec.columns if name not in rows}
    stamped = rows.assign(**absent)
    replace_rows(connection, table, stamped[list(spec.columns)], on=list(spec.key))


def _versions(settings: Settings) -> pd.DataFrame:
    rows = []
    for model in MODELS:
        uri = f"models/{model}/v1"
        state = ModelState({"x": np.arange(3.0)}, {"model": model})
        sha = artifacts.save(str(settings.artifacts_dir / uri), state)
        rows.append(
            {
                "model": model, "model_version": f"{model}-v1", "trained_as_of": TRAINED, "train_start": TRAINED, "train_end": TRAINED,
                "snapshot_hash": "a" * 64, "data_hash": "b" * 64, "artifact_uri": uri, "artifact_hash": sha, "config": "{}", "seed": 7,
                "gate_verdicts": '{"features.daily": "open", "features.hourly": "open"}', "status": "champion",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _forecasts() -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [COINS, DAYS, (1, 5), MODELS], names=["asset", "as_of", "horizon", "model"]
    ).to_frame(index=False)
    variance = 0.0004 * (1 + np.arange(len(keys)) / 100)
    decisions = [
        datetime.combine(day + timedelta(days=1), time(0, 30), tzinfo=UTC) for day in keys["as_of"]
    ]
    volatility = np.sqrt(365 * variance)
    quantiles = {name: volatility * (0.5 + level) for name, level in QUANTILE_COLUMNS.items()}
    return keys.assign(
        model_version=keys["model"] + "-v1",
        variance=variance,
        volatility=volatility,
        decision_time=decisions,
        status="ok",
        calibrated=False,
        **quantiles,
    )


def _risk() -> pd.DataFrame:
    rows = _forecasts()[["asset", "as_of", "horizon", "model", "model_version"]]
    figures = {
        f"{side}{measure}_{level}": base * size
        for side in ("", "short_", "mixture_", "mixture_short_")
        for measure, size in (("var", 1.0), ("es", 1.3))
        for level, base in (("95", 0.03), ("975", 0.04), ("99", 0.05))
    }
    return rows.assign(
        **figures, uncertainty=0.2, advised_leverage=0.8, leverage_limit=2.0, reason="made up"
    )


def _attention() -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [COINS, DAYS, (0, 1), (0, 1), range(4)], names=["asset", "as_of", "layer", "head", "token"]
    ).to_frame(index=False)
    return keys.assign(model="attention", model_version="attention-v1", scale="daily", weight=0.25)


def break_by_hand(settings: Settings, *statements: str, publish: bool = True) -> None:
    """Run SQL on the warehouse as somebody at a prompt would, and publish, so that the copy has the same rows."""
    warehouse = Warehouse(settings)
    with warehouse.write() as connection:
        for statement in statements:
            connection.execute(statement)
        bump_revision(connection)
    if publish:
        warehouse.publish()


def break_by_writing(settings: Settings, table: str, change: str, where: str) -> None:
    """Change rows of a table through the door that forecasts come through: the ledger agrees with what is stored."""
    warehouse = Warehouse(settings)
    with warehouse.write() as connection:
        rows = connection.execute(f"SELECT * REPLACE ({change}) FROM {table} WHERE {where}").df()
        assert len(rows)
        replace_rows(connection, table, rows, on=list(OUTPUT_TABLES[table].key))
    warehouse.publish()
