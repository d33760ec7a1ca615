"""What a model is and what it takes for granted, by name: the only part of a card that is written by hand.

In: a model's name. Out: its class docstring, read without importing it, and the assumptions of its family.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ml.models import MODELS

_HAR = (
    "Log realised variance ahead is linear in logs of past realised variance over a day, a week and a month; the coefficients hold over the training window.",
    "The retransformation from logs to variance (smearing) takes residuals for independent of the regressors.",
)
_GARCH = (
    "Variance follows the stated recursion of daily returns; parameters are constant over the training window and estimated by maximum likelihood.",
    "Daily returns carry the information: intraday variation is not read, so the forecast reacts a day late to what bars show.",
    "The innovations' distribution is the stated one; h-day variance assumes that the recursion goes on unchanged.",
)
_NETWORK = (
    "What was learnt on the training window holds for the weeks that the version serves; the network corrects an anchor by the share that validation supports, none where it supports none.",
    "Standardised inputs outside the range of training are clipped, so that extremes beyond it are not told apart.",
    "Weights depend on a seed; the same data, seed and device give the same version.",
)
_ASSUMPTIONS: dict[str, tuple[str, ...]] = {
    "random_walk": ("The variance of tomorrow is that of today: no mean reversion, no weekday. It is the floor that others are held against.",),
    "ewma": ("Variance is a random walk seen with noise; one decay for all coins, no mean reversion. Long horizons have the variance of the first day.",),
    "heavy": ("Realised variance drives conditional variance by the stated recursion, with constant parameters.",),
    "combination_equal": ("Its members' errors are not all alike; equal weights are not estimated, so they cannot be over-fitted, and cannot favour the better member.",),
    "combination_qlike": ("Past QLIKE of the members ranks their future; the weights lag a change in that ranking.",),
    "attention": (
        *_NETWORK,
        "Attention weights say where the network looks. They explain a forecast only where the audit finds them faithful.",
    ),
    "lstm": _NETWORK,
    "gru": _NETWORK,
}  # fmt: skip
COMMON = (
    "Realised variance from bars measures variance with noise; gaps in bars make a day incomplete, and it is then left out.",
    "Every input is read as it was known at the decision time. A provider that back-dates its stamps would defeat that.",
    "Quantiles are corrected by past outcomes (adaptive conformal); coverage holds in the long run, not on each day.",
)


def assumptions(model: str) -> tuple[str, ...]:
    """Of a model of the registry; those that all share come last."""
    own = _ASSUMPTIONS.get(model)
    if own is None and model in MODELS:
        own = _GARCH if MODELS[model].is_garch else _HAR
    return (
        *(own or ("Not described: the model is not in the registry of this release.",)),
        *COMMON,
    )


@cache
def description(model: str) -> str:
    """First paragraph of the class docstring; says so where the model is not in the registry."""
    entry = MODELS.get(model)
    if entry is None:
        return f"{model}: not in the registry of this release"
    spec = find_spec(entry.module)
    source = Path(str(spec.origin)).read_text(encoding="utf-8") if spec else ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == entry.class_name:
            return " ".join((ast.get_docstring(node) or model).split("\n\n")[0].split())
    return model
