"""A published snapshot in memory: every table that the report reads, filled with plausible rows from one seed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from orchestration.tables import OUTPUT_TABLES
from tests.orchestration.report.risk_rows import filled, risk_frames

AS_OF = date(2024, 6, 30)
ASSETS = ("BTC", "ETH", "ADA")
HORIZONS = (1, 5, 22)
MODELS = ("harx_cal", "attention", "garch_t", "random_walk")
DECIDED = datetime(2024, 7, 1, 0, 30, tzinfo=UTC)
MODALITIES = (
    "price",
    "funding",
    "open_interest",
    "implied_volatility",
    "onchain",
    "stablecoin",
    "sentiment",
)
_QUANTILES = {
    "q01": -2.33,
    "q025": -1.96,
    "q05": -1.64,
    "q10": -1.28,
    "q25": -0.67,
    "q50": 0.0,
    "q75": 0.67,
    "q90": 1.28,
    "q95": 1.64,
    "q975": 1.96,
    "q99": 2.33,
}


def published(source: str = "simulated", seed: int = 3) -> duckdb.DuckDBPyConnection:
    """All tables, for two days of forecasts and 70 days of features."""
    connection = empty()
    rng = np.random.default_rng(seed)
    features = _features(rng, source)
    for table, frame in {
        "features.daily": features,
        "features.realized": _realized(features),
        "forecasts.volatility": _forecasts(rng, source),
        "forecasts.risk": filled(
            rng, source, "forecasts.risk", _risk(rng, source).to_dict("records")
        ),
        "forecasts.attention_weights": _attention(rng, source),
        "forecasts.explanations": _explanations(rng, source),
        "forecasts.refusals": pd.DataFrame(
            [
                {
                    "source": source,
                    "asset": "ADA",
                    "as_of": AS_OF,
                    "horizon": 1,
                    "model": "egarch_t",
                    "model_version": "v1",
                    "reason": "fit did not converge",
                }
            ]
        ),
        "evaluation.leaderboard": _leaderboard(rng, source),
        "evaluation.scores": _scores(rng, source),
        "evaluation.tests": _tests(rng, source),
        "models.registry": _registry(source),
        "models.decisions": _decisions(),
        "models.drift": _drift(),
        "quality.validations": _validations(),
        **risk_frames(rng, source, AS_OF, ASSETS, HORIZONS),
    }.items():
        _insert(connection, table, frame)
    return connection


def empty() -> duckdb.DuckDBPyConnection:
    """The tables without a row."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in OUTPUT_TABLES.values():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {table.name.split('.')[0]}")
        connection.execute(table.ddl)
    flags = ", ".join(f"{m}_age_days DOUBLE, {m}_missing BOOLEAN" for m in MODALITIES)
    connection.execute(
        f"""
        CREATE SCHEMA features;
        CREATE TABLE features.daily (
            source VARCHAR, asset VARCHAR, as_of DATE, decision_time TIMESTAMPTZ, rv_d DOUBLE, return_d DOUBLE,
            implied_volatility DOUBLE, fear_greed DOUBLE, funding_rate_d DOUBLE, target_weekday INTEGER, {flags}
        );
        CREATE TABLE features.realized (
            source VARCHAR, asset VARCHAR, day DATE, known_on DATE, complete BOOLEAN, realized_variance DOUBLE
        );
        """
    )
    return connection


def _insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame) -> None:
    connection.register("incoming", frame)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


def _features(rng: np.random.Generator, source: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for asset in ASSETS:
        level = np.log(0.0008)
        for back in range(69, -1, -1):
            day = AS_OF - timedelta(days=back)
            level = 0.9 * level + 0.1 * np.log(0.0008) + rng.normal(0, 0.25)
            rows.append(
                {
                    "source": source,
                    "asset": asset,
                    "as_of": day,
                    "decision_time": DECIDED - timedelta(days=back),
                    "rv_d": float(np.exp(level)),
                    "return_d": float(rng.normal(0, 0.03)),
                    "implied_volatility": 0.55 if asset != "ADA" else None,
                    "fear_greed": 0.5 + 0.3 * float(np.sin(back / 5)) + (0.4 if back == 0 else 0),
                    "funding_rate_d": float(rng.normal(1e-4, 5e-5)),
                    "target_weekday": (day.weekday() + 1) % 7,
                    **{
                        f"{m}_age_days": {"price": 0.0, "onchain": 1.0, "sentiment": 0.02}.get(
                            m, 0.3
                        )
                        for m in MODALITIES
                    },
                    **{
                        f"{m}_missing": m == "implied_volatility" and asset == "ADA"
                        for m in MODALITIES
                    },
                }
            )
    return pd.DataFrame(rows)


def _realized(features: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": features["source"],
            "asset": features["asset"],
            "day": features["as_of"],
            "known_on": features["as_of"],
            "complete": True,
            "realized_variance": features["rv_d"],
        }
    )


def _forecasts(rng: np.random.Generator, source: str) -> pd.DataFrame:
    rows = []
    for day in (AS_OF - timedelta(days=1), AS_OF):
        for asset in ASSETS:
            for model in MODELS:
                for horizon in HORIZONS:
                    volatility = float(0.5 * np.exp(rng.normal(0, 0.15)))
                    spread = 0.45 / np.sqrt(horizon) + 0.1
                    rows.append(
                        {
                            "source": source,
                            "asset": asset,
                            "as_of": day,
                            "horizon": horizon,
                            "model": model,
                            "model_version": f"2024-06-23-{model[:4]}0001",
                            "variance": volatility**2 / 365,
                            "volatility": volatility,
                            **{
                                q: volatility * float(np.exp(z * spread))
                                for q, z in _QUANTILES.items()
                            },
                            "calibrated": model != "random_walk",
                            "status": "ok",
                            "decision_time": DECIDED - (AS_OF - day),
                            "run_id": "run-1",
                            "created_at": DECIDED,
                        }
                    )
    return pd.DataFrame(rows)


def _risk(rng: np.random.Generator, source: str) -> pd.DataFrame:
    rows = []
    for asset in ASSETS:
        for horizon in HORIZONS:
            var = 0.05 * np.sqrt(horizon)
            rows.append(
                {
                    "source": source,
                    "asset": asset,
                    "as_of": AS_OF,
                    "horizon": horizon,
                    "model": "harx_cal",
                    "model_version": "2024-06-23-harx0001",
                    **{f"var_{level}": var for level in ("95", "975", "99")},
                    **{f"es_{level}": var * 1.3 for level in ("95", "975", "99")},
                    **{f"short_var_{level}": var * 0.9 for level in ("95", "975", "99")},
                    **{f"short_es_{level}": var * 1.2 for level in ("95", "975", "99")},
                    "uncertainty": float(rng.uniform(0.1, 0.6)),
                    "advised_leverage": float(rng.uniform(0.2, 0.6)),
                    "binding": "uncertainty",
                    "reason": "target volatility 20 % over forecast, cut by uncertainty",
                }
            )
    return pd.DataFrame(rows)


def _attention(rng: np.random.Generator, source: str) -> pd.DataFrame:
    tokens: list[tuple[str, str, float | None]] = [("forecast", "price", None)]
    tokens += [("hourly", "price", hours / 24) for hours in range(4, 76, 4)]
    tokens += [("daily", "price", float(days)) for days in range(1, 33)]
    tokens += [("weekly", "price", float(days)) for days in range(33, 90, 7)]
    tokens += [("context", modality, 1.0) for modality in MODALITIES[1:]]
    tokens += [("asset", "asset", 0.0)] * 3
    rows = []
    for asset in ASSETS:
        for layer in range(2):
            for head in range(4):
                raw = np.exp(rng.normal(0, 1.3, len(tokens)))
                rows += [
                    {
                        "source": source,
                        "asset": asset,
                        "as_of": AS_OF,
                        "model": "attention",
                        "model_version": "2024-06-23-atte0001",
                        "layer": layer,
                        "head": head,
                        "head_scale": ("intraday", "daily", "macro", "context")[head],
                        "token": n,
                        "scale": scale,
                        "modality": modality,
                        "provider": "ETH" if scale == "asset" else "",
                        "token_time": None,
                        "lag_days": lag,
                        "weight": float(raw[n] / raw.sum()),
                    }
                    for n, (scale, modality, lag) in enumerate(tokens)
                ]
    return pd.DataFrame(rows)


def _explanations(rng: np.random.Generator, source: str) -> pd.DataFrame:
    verdicts = {1: "valid", 5: "weak", 22: "invalid"}
    groups = ("price_daily", "price_hourly", *MODALITIES[1:])
    return pd.DataFrame(
        [
            {
                "source": source,
                "asset": asset,
                "as_of": AS_OF,
                "horizon": horizon,
                "model": "attention",
                "model_version": "2024-06-23-atte0001",
                "feature_group": group,
                "attention_rollout": 1 / len(groups),
                "integrated_gradients": float(rng.normal(0, 0.08)),
                "ablation_effect": float(rng.normal(0, 0.08)),
                "completeness_error": 0.01,
                "verdict": verdicts[horizon],
                "verdict_reason": f"rank correlation {0.9 - horizon / 30:.2f} of attention and ablation",
            }
            for asset in ASSETS
            for horizon in HORIZONS
            for group in groups
        ]
    )


def _leaderboard(rng: np.random.Generator, source: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "source": source,
                "as_of": AS_OF,
                "horizon": horizon,
                "model": model,
                "segment_kind": "all",
                "segment": "all",
                "forecasts": 2730,
                "assets": 3,
                "first_as_of": date(2022, 1, 1),
                "last_as_of": AS_OF - timedelta(days=horizon),
                "qlike": 0.4 + 0.05 * place,
                "mse": 1e-6,
                "mae": 1e-4,
                "log_mse": 0.6 + 0.1 * place,
                "coverage_80": 0.80 + float(rng.normal(0, 0.02)),
                "coverage_98": 0.98 - 0.01 * place,
                "qlike_ratio_harx_cal": 1 + 0.1 * place,
                "dm_statistic": None if place == 0 else 1.1 * place,
                "dm_p_value": None if place == 0 else 0.3 / place**6,
                "in_mcs_90": place < 2,
            }
            for horizon in HORIZONS
            for place, model in enumerate(MODELS)
        ]
    )


def _scores(rng: np.random.Generator, source: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "source": source,
                "asset": asset,
                "as_of": AS_OF - timedelta(days=back),
                "horizon": horizon,
                "model": "harx_cal",
                "model_version": "v1",
                "qlike": float(rng.exponential(0.4)),
                "covered_80": bool(rng.random() < 0.8),
                "covered_98": bool(rng.random() < 0.98),
                "var_95_breach": bool(rng.random() < 0.05),
                "var_975_breach": bool(rng.random() < 0.025),
                "var_99_breach": bool(rng.random() < 0.01),
            }
            for asset in ASSETS
            for horizon in HORIZONS
            for back in range(horizon, 200)
        ]
    )


def _tests(rng: np.random.Generator, source: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "source": source,
                "as_of": AS_OF,
                "test": test,
                "horizon": horizon,
                "asset": "ALL",
                "model": "harx_cal",
                "benchmark": "random_walk" if test == "spa" else "",
                "statistic": 1.2,
                "p_value": p,
                "forecasts": 900,
                "verdict": "rejected at 5 %" if p < 0.05 else "not rejected",
            }
            for test, p in (("kupiec_95", 0.4), ("christoffersen_99", 0.01), ("spa", 0.7))
            for horizon in HORIZONS
        ]
    )


def _registry(source: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": model,
                "model_version": f"2024-06-23-{model[:4]}0001",
                "source": source,
                "trained_as_of": date(2024, 6, 23),
                "train_start": date(2022, 1, 1),
                "train_end": date(2024, 6, 23),
                "data_hash": "d" * 64,
                "artifact_hash": "a1b2c3d4e5f6" * 5,
                "code_version": "c0ffee123456",
                "seed": 7,
                "device": "cpu",
                "status": "champion" if model == "harx_cal" else "candidate",
                "status_reason": "lowest QLIKE",
                "created_at": DECIDED,
            }
            for model in MODELS
        ]
    )


def _decisions() -> pd.DataFrame:
    """The last promotion day's and the last Sunday's."""
    monthly, newest = date(2024, 6, 2), AS_OF
    lines = [
        (monthly, "keep", "harx_cal", "1 challengers, none passed"),
        (monthly, "refuse", "garch_t", "1 days: worse than harx_cal: QLIKE ratio 1.1800"),
        (newest, "retrain", "attention", "page_hinkley of log qlike 21 above 12"),
        (newest, "steady", "harx_cal", "errors: 2 measures within their thresholds"),
    ]
    return pd.DataFrame(
        [
            {"as_of": day, "kind": kind, "model": model, "horizon": 0, "statistic": 1.0, "threshold": 2.0, "reason": reason}
            for day, kind, model, reason in lines
        ]
    )  # fmt: skip


def _drift() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "as_of": AS_OF, "model": "attention", "kind": "errors", "measure": measure, "subject": subject, "statistic": statistic,
                "threshold": 12.0, "verdict": "drift" if statistic > 12 else "steady", "reference_days": 300, "monitored_days": 13,
            }
            for measure, subject, statistic in (("log_bias", "log error", 3.0), ("page_hinkley", "log qlike", 21.0))
        ]
    )  # fmt: skip


def _validations() -> pd.DataFrame:
    lines = [
        ("raw.ohlcv", "high_covers_open_and_close", "high", "critical", True, "0 of 720 rows"),
        ("raw.ohlcv", "no_bars_are_missing", "ts", "warning", False, "0.42 % missing"),
        ("raw.funding_rates", "rate_in_range", "rate", "critical", False, "1 of 84 rows"),
        ("features.daily", "no_negative_age", None, "critical", True, "0 of 6 rows"),
        (
            "features.daily",
            "features_have_not_drifted",
            None,
            "warning",
            True,
            "not checked: no reference given",
        ),
    ]
    return pd.DataFrame(
        [
            {
                "validation_id": f"v{n}",
                "suite": suite,
                "from_as_of": AS_OF,
                "as_of": AS_OF,
                "run_id": "run-1",
                "expectation": expectation,
                "column_name": column,
                "severity": severity,
                "success": success,
                "observed": observed,
                "message": "what was expected: what to do",
                "checked_at": DECIDED,
                "overridden_by": None,
                "override_reason": None,
            }
            for n, (suite, expectation, column, severity, success, observed) in enumerate(lines)
        ]
    )
