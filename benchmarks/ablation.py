"""What each modality, scale and component of the attention model is worth on real data, with confidence intervals; "nothing" is the anchor.

Reads the features of a published copy (`--published`, by default that of ``VOLCAST_HOME``), with all context that its source had. Every variant
is fitted and walked forward on the same days. Two figures each: as it would be published, where the validation block says how much of the network's
residual is used, and with all of the residual, which shows what the network itself has learnt. A variant without a modality is fitted and
forecast on a panel that never had it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray

from ml.attention.model import AttentionModel
from ml.attention.tokens import CONTEXT_FIELDS
from ml.evaluation.comparison import panel_diebold_mariano
from ml.evaluation.folds import WalkForward
from ml.evaluation.losses import qlike
from ml.forecasts import HORIZONS
from ml.panel import Panel
from orchestration.panels import read_features

Floats = NDArray[np.float64]
Tables = list[tuple[str, list[str], list[list[Any]]]]
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Variant:
    """The model with something taken away or put in its place."""

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # context groups that the panel is made to lack


FULL = "all of it"
VARIANTS: dict[str, Variant] = {
    FULL: Variant("model"),
    **{f"without {group}": Variant("modality", without=(group,)) for group in CONTEXT_FIELDS},
    "without any context": Variant("modality", without=tuple(CONTEXT_FIELDS)),
    "without intraday tokens": Variant("scale", {"hourly_hours": 0}),
    "without weekly tokens": Variant("scale", {"weekly_tokens": 0}),
    "without other coins": Variant("scale", {"asset_tokens": 0}),
    "5 daily tokens of 22": Variant("scale", {"daily_tokens": 5}),
    "hours not patched (97 tokens)": Variant("scale", {"hourly_patch": 1}),
    "days patched by 2": Variant("scale", {"daily_tokens": 11, "daily_patch": 2}),
    "anchor HARX-cal": Variant("component", {"anchor": "harx_cal"}),
    "anchor pooled HAR": Variant("component", {"anchor": "har_pooled"}),
    "3 seeds": Variant("component", {"n_seeds": 3}),
    "modality gates": Variant("component", {"modality_gates": True}),
    "no modality dropout": Variant("component", {"modality_dropout": 0.0}),
    "no pinball loss": Variant("component", {"pinball_weight": 0.0}),
    "no time decay": Variant("component", {"half_life_days": 1e6}),
    "kernel linear": Variant("kernel", {"kernel": "linear"}),
    "kernel performer": Variant("kernel", {"kernel": "performer"}),
    "kernel reformer": Variant("kernel", {"kernel": "reformer"}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", type=Path, help="published copy; default: VOLCAST_HOME's")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2021, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2023, 12, 31))
    parser.add_argument("--window", type=int, default=1500)
    parser.add_argument("--refit-weeks", type=int, default=26)
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], Tables]:
    home = Path(os.environ.get("VOLCAST_HOME", ".volcast"))
    published = options.published or home / "published" / "volcast.duckdb"
    if not published.exists():
        raise SystemExit(
            f"{published} is not there: build features first, or name a published copy"
        )
    with duckdb.connect(str(published), read_only=True) as connection:
        panel = read_features(connection, options.last).panel
    started = time.perf_counter()
    names = list(dict.fromkeys([FULL, *options.variants]))
    losses: dict[str, _Losses] = {}
    for name in names:
        losses[name] = _walk(panel, VARIANTS[name], options)
        print(f"{name:<32} {time.perf_counter() - started:6.0f} s", flush=True)
    full = losses[FULL]
    losses["nothing: the anchor alone"] = _Losses(full.anchor, full.anchor, full.anchor)
    rows = []
    for name, found in losses.items():
        kind = VARIANTS[name].kind if name in VARIANTS else "model"
        for column, horizon in enumerate(HORIZONS):
            row: dict[str, Any] = {"kind": kind, "variant": name, "horizon": horizon}
            for label in ("published", "full_residual"):
                own = getattr(found, label)[..., column]
                base = getattr(full, label)[..., column]
                row[label] = _against(own, base, horizon)
            rows.append(row)
    figures = {
        "coins": list(panel.assets),
        "from": str(options.first),
        "to": str(options.last),
        "refit_weeks": options.refit_weeks,
        "seconds": time.perf_counter() - started,
        "rows": rows,
    }
    header = ["kind", "variant", *(f"h={h}" for h in HORIZONS), *(f"h={h}, full" for h in HORIZONS)]
    return figures, [
        (
            "QLIKE against all of it, % (95 % interval); above 0: worse without",
            header,
            _table(rows),
        )
    ]


@dataclass(frozen=True)
class _Losses:
    """QLIKE (D, N, H) of the forecasts as published, with all of the residual, and of the anchor; NaN = none."""

    published: Floats
    full_residual: Floats
    anchor: Floats


def _walk(panel: Panel, variant: Variant, options: argparse.Namespace) -> _Losses:
    seen = _lacking(panel, variant.without)
    rule = WalkForward(steps=7 * options.refit_weeks, initial_train_size=options.window - 1)
    folds = rule.split(panel.row(options.last) + 1, panel.row(options.first))
    parts = []
    for fold in folds:
        trained = panel.days[fold.fit_row].item()
        days = panel.days[fold.test.start : fold.test.stop].tolist()
        model = AttentionModel()
        model.fit(seen, trained, {**variant.config, "window_days": options.window}, options.seed)
        realized = np.stack([panel.target(h)[panel.rows(days)] for h in HORIZONS], axis=-1)
        found = [model.forecast(seen, days).variance, *_unshrunk(model, seen, days)]
        parts.append([_loss(realized, variance) for variance in found])
    joined = [np.concatenate(own) for own in zip(*parts, strict=True)]
    return _Losses(*joined)


def _lacking(panel: Panel, groups: tuple[str, ...]) -> Panel:
    """The panel as if these context groups had never been there."""
    gone = {name for group in groups for name in CONTEXT_FIELDS[group]}
    features = {
        name: np.full_like(values, np.nan) if name in gone else values
        for name, values in panel.features.items()
    }
    found = replace(panel, features=features)
    return replace(found, funding=None) if "funding" in groups else found


def _unshrunk(model: AttentionModel, panel: Panel, days: list[date]) -> tuple[Floats, Floats]:
    """Variance (D, N, H) with all of the residual, and the anchor's."""
    batch = model.encode(panel, days)
    forecaster = model.forecaster
    before = forecaster.shrinkage.clone()
    forecaster.shrinkage.fill_(1.0)
    with torch.no_grad():
        log_variance = model.forward_tokens(batch).numpy()
    forecaster.shrinkage.copy_(before)
    shape = (len(days), len(panel.assets), len(HORIZONS))
    full, anchor = np.full(shape, np.nan), np.full(shape, np.nan)
    row = (batch.days - np.datetime64(days[0], "D")).astype(np.int64)
    full[row, batch.assets] = np.exp(log_variance)
    anchor[row, batch.assets] = np.exp(batch.anchor.numpy())
    return full, anchor


def _loss(realized: Floats, variance: Floats) -> Floats:
    known = (realized > 0) & (variance > 0)
    found = np.full(realized.shape, np.nan)
    found[known] = qlike(realized[known], variance[known])
    return found


def _against(own: Floats, base: Floats, horizon: int) -> dict[str, float]:
    """Mean QLIKE, and its difference from the whole model's in per cent with a 95 % interval clustered by day."""
    shared = np.isfinite(own) & np.isfinite(base)
    mean, reference = float(own[shared].mean()), float(base[shared].mean())
    result = panel_diebold_mariano(own, base, horizon)
    difference = mean - reference
    margin = NORMAL_95 * abs(difference / result.statistic) if result.statistic else 0.0
    return {
        "qlike": mean,
        "difference_percent": 100 * difference / reference,
        "low_percent": 100 * (difference - margin) / reference,
        "high_percent": 100 * (difference + margin) / reference,
    }


def _table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    found: dict[str, list[Any]] = {}
    for label in ("published", "full_residual"):
        for row in rows:
            line = found.setdefault(row["variant"], [row["kind"], row["variant"]])
            own = row[label]
            if row["variant"] == FULL:
                line.append(f"{own['qlike']:.4f}")
            else:
                interval = f"{own['low_percent']:+.1f}, {own['high_percent']:+.1f}"
                line.append(f"{own['difference_percent']:+.2f} ({interval})")
    return list(found.values())
