"""Whether the audit tells good explanations from bad ones, and what it costs.

In: the planted market of the tests, on which on-chain leads and sentiment is noise. Out: shares of verdicts and the figures behind them, for a fitted
network, one with random weights, and one whose attention on the lead and on the noise is exchanged; CPU seconds of the audit and of the checks.
"""

from __future__ import annotations

import argparse
import time
from datetime import date, timedelta
from typing import Any

from ml.attention.model import AttentionModel
from ml.attention.twins import STAGES, randomised, with_network
from ml.explain.checks import Check
from ml.explain.explanations import explain
from tests.ml.attention.markets import SMALL, planted_market
from tests.ml.explain.forecasters import Swapped

TRAINED = date(2022, 1, 20)
FIGURES = ("gradient_agreement", "ablation_agreement", "order_p", "infidelity_share")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=20, help="days that are audited, of 4 coins")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    panel = planted_market()
    known = panel.until(TRAINED)
    days = [TRAINED + timedelta(days=k) for k in range(1, options.days + 1)]
    served = AttentionModel()
    started = time.process_time()
    served.fit(panel, TRAINED, {**SMALL, "n_layers": 1}, seed=3)
    seconds = {"fit": time.process_time() - started}
    started = time.process_time()
    checks = served.explanation_checks(known, lambda _: None)
    seconds["checks"] = time.process_time() - started
    random = with_network(served, randomised(served.forecaster, STAGES[-1][0], 0))
    models: dict[str, tuple[Any, list[Check]]] = {
        "fitted network": (served, checks),
        "random weights": (random, random.explanation_checks(known, lambda _: None)),
        "attention of lead and noise exchanged": (Swapped(served, "onchain", "sentiment"), checks),
    }
    rows: list[tuple[Any, ...]] = []
    for name, (model, own) in models.items():
        started = time.process_time()
        audits = explain(model, panel, days, checks=own).audits
        seconds[f"audit of {len(days) * 4} forecasts, {name}"] = time.process_time() - started
        audits = audits[audits["residual_weight"] > 0]
        share = audits["verdict"].value_counts(normalize=True)
        verdicts = [float(share.get(verdict, 0)) for verdict in ("valid", "weak", "invalid")]
        rows.append((name, *verdicts, *(float(audits[f].median()) for f in FIGURES)))
    resemblance = [
        (name, check.check, check.subject, check.statistic, check.verdict)
        for name, (_, own) in list(models.items())[:2]
        for check in own
        if not check.stage
    ]
    figures = {
        "verdicts": [list(row) for row in rows],
        "checks": [list(row) for row in resemblance],
        "cpu_seconds": seconds,
    }
    header = ["network", "valid", "weak", "invalid", *(f"median {f}" for f in FIGURES)]
    return figures, [
        ("Verdicts at horizons in use", header, rows),
        ("Checks", ["network", "check", "subject", "statistic", "verdict"], resemblance),
        ("CPU seconds, one thread", ["what", "seconds"], list(seconds.items())),
    ]
