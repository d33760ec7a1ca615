"""Standardised returns in each version's artefact -> Pareto tails, and extreme quantiles around each stored forecast.

In: forecasts of the versions that serve the days, the tails kept in their artefacts. Out: rows of ``models.tail_parameters`` and ``forecasts.tails``.
They depend on the version and its forecast alone, so a backfill gives what daily runs give, whoever is champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ml.forecasts import HORIZONS
from ml.risk.tails import TailFit
from ml.tails.peaks import FEW_INDEPENDENT, fit_pareto
from orchestration.settings import Settings
from orchestration.versions import ServedDays

SIDES = ("lower", "upper")
LABELS = ("001", "005", "01")
"""Of ``ml.tails.peaks.PROBABILITIES``, in its order."""
UPPER = {"001": "q999", "005": "q995", "01": "q99"}


def tail_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, blocks: Sequence[ServedDays]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New rows of models.tail_parameters and the rows of forecasts.tails for the stored forecasts of ``blocks``."""
    made, parts = [], []
    for block in blocks:
        forecasts = _forecasts(connection, block)
        if forecasts.empty:
            continue
        tails = _stored(connection, block)
        if tails.empty:
            tails = version_tails(settings, block)
            made.append(tails)
        parts.append(_quantiles(forecasts, tails))
    new = pd.concat(made, ignore_index=True) if made else pd.DataFrame()
    return new, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def version_tails(settings: Settings, block: ServedDays) -> pd.DataFrame:
    """Both tails of every coin and horizon that a version was fitted on; where there is none, a row that says why."""
    state = block.state(settings)
    kept: dict[str, dict[str, Any]] = state.meta["tail"]
    rows = [
        {
            "model": block.model,
            "model_version": block.model_version,
            "asset": asset,
            "horizon": horizon,
            "side": side,
            **_tail(kept.get(asset, {}).get(str(horizon)), horizon, side),
        }
        for asset in sorted(kept)
        for horizon in HORIZONS
        for side in SIDES
    ]
    return pd.DataFrame(rows)


def _tail(stored: dict[str, Any] | None, horizon: int, side: str) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("threshold", "independent_exceedances", "shape", "scale",
         *(f"z_{label}{end}" for label in LABELS for end in ("", "_low", "_high"))), np.nan,
    )  # fmt: skip
    if not stored:
        reason = "the version keeps no standardised returns of this coin"
        return {"observations": 0, "exceedances": 0, **empty, "reason": reason}
    tail = TailFit.from_dict(stored)
    losses = tail.losses("long" if side == "lower" else "short")
    counts = {"observations": tail.observations, "exceedances": len(losses) - 1}
    try:
        fit = fit_pareto(losses, tail.observations, horizon)
    except ValueError as error:
        return {**counts, **empty, "reason": str(error)}
    return {
        **counts,
        "threshold": fit.threshold,
        "independent_exceedances": fit.independent,
        "shape": fit.shape,
        "scale": fit.scale,
        **{
            f"z_{label}{end}": values[place]
            for end, values in (("", fit.quantiles), ("_low", fit.low), ("_high", fit.high))
            for place, label in enumerate(LABELS)
        },
        "reason": "",
    }


def _quantiles(forecasts: pd.DataFrame, tails: pd.DataFrame) -> pd.DataFrame:
    """Each forecast's scale times the standardised quantiles; the lower side is negative."""
    wide = {
        side: tails[tails["side"] == side].drop(columns=["side", "model", "model_version"])
        for side in SIDES
    }
    rows = forecasts
    for side in SIDES:
        named = wide[side].rename(
            columns={n: f"{n}_{side}" for n in wide[side].columns if n not in ("asset", "horizon")}
        )
        rows = rows.merge(named, on=["asset", "horizon"], how="left", validate="m:1")
    scale = np.sqrt(rows["horizon"].to_numpy() * rows["variance"].to_numpy())
    found = {}
    for label in LABELS:
        for end, other in (("", ""), ("_low", "_high"), ("_high", "_low")):
            found[f"return_q{label}{end}"] = -scale * rows[f"z_{label}{other}_lower"].to_numpy()
            found[f"return_{UPPER[label]}{end}"] = scale * rows[f"z_{label}{end}_upper"].to_numpy()
    counts = rows[["exceedances_lower", "exceedances_upper"]].min(axis=1)
    return rows.assign(
        **found,
        exceedances=counts.astype("Int64"),
        independent_exceedances=counts / rows["horizon"],
        status=[_status(*texts) for texts in zip(
            rows["reason_lower"], rows["reason_upper"], counts / rows["horizon"], strict=True,
        )],
    )  # fmt: skip


def _status(lower: object, upper: object, independent: float) -> str:
    reasons = {
        side: text
        for side, text in (("lower", lower), ("upper", upper))
        if not isinstance(text, str) or text
    }
    if reasons:
        texts = [
            f"no {side} tail: {text if isinstance(text, str) else 'the version does not know this coin'}"
            for side, text in reasons.items()
        ]
        return "; ".join(texts)
    if independent < FEW_INDEPENDENT:
        return f"weak: {independent:.1f} exceedances that do not overlap, expected at least {FEW_INDEPENDENT:g}"
    return "ok"


def _forecasts(connection: duckdb.DuckDBPyConnection, block: ServedDays) -> pd.DataFrame:
    days: list[date] = list(block.days)
    return connection.execute(
        "SELECT asset, as_of, horizon, model, model_version, variance FROM forecasts.volatility "
        "WHERE model = ? AND model_version = ? AND list_contains(?, as_of) ORDER BY as_of, asset, horizon",
        [block.model, block.model_version, days],
    ).df()


def _stored(connection: duckdb.DuckDBPyConnection, block: ServedDays) -> pd.DataFrame:
    return connection.execute(
        "SELECT * EXCLUDE (source, run_id, created_at) FROM models.tail_parameters WHERE model = ? AND model_version = ? "
        "ORDER BY asset, horizon, side",
        [block.model, block.model_version],
    ).df()
