"""Learning curves of a training run, as Dagster shows them.

In: the worker's results, with one curve per network. Out: a Markdown table and JSON, both capped, for the materialisation's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_CURVES = 40
"""Networks in the table; a backfill of years makes hundreds, and an event of megabytes slows the UI."""
MOST_EPOCHS = 60
"""Points of a curve in the JSON; a longer one is thinned, its first and last epoch kept."""
BARS = "▁▂▃▄▅▆▇█"
HEADER = (
    "| model | trained as of | network | epochs | best | loss of the anchor | best selection loss | validation loss |\n"
    "|---|---|---|---|---|---|---|---|"
)


def curves_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One row per trained network, newest training days first; '' where none was trained.

    The best epoch has the least selection loss: the validation loss with the anchor's on horizons that the network harms.
    """
    rows = [_row(*item) for item in _curves(results)]
    if not rows:
        return ""
    left = (
        f"\n\n{len(rows) - MOST_CURVES} more networks are not shown."
        if len(rows) > MOST_CURVES
        else ""
    )
    notes = [
        f"- {item['model']} of {item['trained_as_of']}: {note}"
        for item in results
        for note in item.get("notes", ())
    ]
    text = "\n".join([HEADER, *rows[:MOST_CURVES]]) + left
    return text + ("\n\n" + "\n".join(notes[:MOST_CURVES]) if notes else "")


def curves_json(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{model, trained_as_of, network, epoch: [...], training_loss: [...], validation_loss: [...]}], as many as the table has rows."""
    found = []
    for item, network, curve in _curves(results)[:MOST_CURVES]:
        points = _thinned(curve)
        found.append(
            {
                "model": item["model"],
                "trained_as_of": item["trained_as_of"],
                "network": network,
                "epoch": [int(point["epoch"]) for point in points],
                **{
                    name: [_rounded(point.get(name)) for point in points]
                    for name in ("training_loss", "validation_loss")
                },
            }
        )
    return found


def _curves(
    results: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], int, Sequence[Mapping[str, float]]]]:
    ordered = sorted(results, key=lambda item: str(item["trained_as_of"]), reverse=True)
    return [
        (item, network, curve)
        for item in ordered
        for network, curve in enumerate(item.get("curves") or ())
        if curve
    ]


def _row(item: Mapping[str, Any], network: int, curve: Sequence[Mapping[str, float]]) -> str:
    best = min(curve, key=lambda point: point["selection_loss"])
    cells = (
        item["model"],
        item["trained_as_of"],
        network,
        len(curve) - 1,
        int(best["epoch"]),
        f"{curve[0]['validation_loss']:.4f}",
        f"{best['selection_loss']:.4f}",
        sparkline([point["validation_loss"] for point in _thinned(curve)]),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def sparkline(values: Sequence[float]) -> str:
    """One bar per value, from the lowest to the highest; a value that is no number is a gap."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    low, width = min(known), max(known) - min(known)
    return "".join(
        BARS[int((value - low) / width * (len(BARS) - 1) + 0.5) if width > 0 else 0]
        if math.isfinite(value)
        else " "
        for value in values
    )


def _thinned(curve: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    if len(curve) <= MOST_EPOCHS:
        return list(curve)
    step = (len(curve) - 1) / (MOST_EPOCHS - 1)
    return [curve[round(index * step)] for index in range(MOST_EPOCHS)]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)
