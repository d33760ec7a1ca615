"""Rows of the tables about risk, regimes, events and the audit for the report's tests: plausible keys, the other columns from one seed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from orchestration.tables import OUTPUT_TABLES

VERSION = {"harx_cal": "2024-06-23-harx0001", "attention": "2024-06-23-atte0001"}
LIGHTS = {0.95: "green", 0.975: "yellow", 0.99: "red"}


def risk_frames(
    rng: np.random.Generator,
    source: str,
    as_of: date,
    assets: tuple[str, ...],
    horizons: tuple[int, ...],
) -> dict[str, pd.DataFrame]:
    """A frame for each table."""
    served = {"model": "harx_cal", "model_version": VERSION["harx_cal"]}
    explaining = {"model": "attention", "model_version": VERSION["attention"]}
    grid = [{"asset": a, "as_of": as_of, "horizon": h} for a, h in product(assets, horizons)]
    keys: dict[str, Iterable[dict[str, Any]]] = {
        "evaluation.traffic_lights": [
            {
                "as_of": as_of, "model": "harx_cal", "method": method, "side": side, "level": level, "horizon": h,
                "asset": "ALL", "light": light, "periods": 200, "breaches": 7, "verdict": f"{light}: 7 breaches of 200",
            }
            for method, side, (level, light), h in product(("fhs", "mixture"), ("long", "short"), LIGHTS.items(), horizons)
        ],
        "evaluation.leverage_backtest": [
            {
                "as_of": as_of, "model": "harx_cal", "horizon": 1, "strategy": strategy, "asset": asset,
                "first_as_of": as_of - timedelta(days=300), "days": 300, "target_volatility": 0.2, "cost": 0.001,
            }
            for strategy, asset in product(("advised", "constant", "ewma"), ("PORTFOLIO", *assets))
        ],
        "forecasts.portfolio_risk": [
            {"portfolio": "desk", "as_of": as_of, "horizon": h, **served, "status": "ok"} for h in horizons
        ],
        "forecasts.portfolio_components": [
            {"portfolio": "desk", "as_of": as_of, "horizon": h, **served, "asset": a}
            for a, h in product(assets, horizons)
        ],
        "forecasts.regimes": [
            {
                "asset": asset, "as_of": as_of - timedelta(days=back), "p_calm": 0.2, "p_normal": 0.5, "p_turbulent": 0.3,
                "regime": "normal", "expected_days_left": 12.0, "carried_days": 0, "status": "ok",
                "fitted_as_of": as_of - timedelta(days=20),
            }
            for asset, back in product(("MARKET", *assets), range(5))
        ],
        "forecasts.jumps": [{**key, "status": "ok", "jump_today": key["asset"] == "ETH"} for key in grid],
        "forecasts.tails": [{**key, **served, "status": "ok"} for key in grid],
        "forecasts.events": [
            {
                "asset": asset, "as_of": as_of, "event": event, "score": 4.5 if asset == "BTC" else 0.4, "threshold": 3.0,
                "active": asset == "BTC", "running_days": 2, "status": "ok", "inputs": '{"funding_level": 4.5}',
            }
            for asset, event in product(assets, ("funding_squeeze", "liquidity_dry_up"))
        ],
        "evaluation.event_effects": [
            {
                "as_of": as_of, "event": "funding_squeeze", "horizon": h, "model": "harx_cal", "measure": measure,
                "first_as_of": as_of - timedelta(days=300), "last_as_of": as_of, "verdict": "no effect can be told from chance",
            }
            for h, measure in product(horizons, ("outcome_beyond_forecast", "forecast_move"))
        ],
        "forecasts.attention_audits": [
            {**key, **explaining, "verdict": "weak", "verdict_reason": "order p 0.20 above 0.05"} for key in grid
        ],
        "models.explanation_checks": [
            {
                **explaining, "check_name": check, "subject": "attention", "stage": "", "verdict": verdict,
                "reason": f"mean rank correlation of {check}",
            }
            for check, verdict in (("weight_randomisation", "pass"), ("data_randomisation", "fail"), ("seed_stability", "not judged"))
        ],
        "models.spurious_checks": [
            {
                "as_of": as_of, **explaining, "modality": modality, "asset": "ALL", "check_name": check, "segment": "mvrv",
                "horizon": 0, "verdict": verdict, "reason": f"{check} of {modality}", "lead_days": lead,
            }
            for modality, check, verdict, lead in (
                ("onchain", "lead_lag", "clear", 2.0), ("sentiment", "attention_without_effect", "flagged", None),
            )
        ],
    }  # fmt: skip
    return {table: filled(rng, source, table, rows) for table, rows in keys.items()}


def filled(
    rng: np.random.Generator, source: str, table: str, rows: Iterable[dict[str, Any]]
) -> pd.DataFrame:
    """The rows with every DOUBLE and INTEGER that they lack drawn."""
    found = []
    for row in rows:
        drawn: dict[str, Any] = {"source": source}
        for name, (kind, _) in OUTPUT_TABLES[table].columns.items():
            if name not in row and kind == "DOUBLE":
                drawn[name] = float(rng.uniform(0.01, 0.4))
            elif name not in row and kind == "INTEGER":
                drawn[name] = int(rng.integers(1, 90))
        found.append({**drawn, **row})
    return pd.DataFrame(found)
