"""Forecasts that attention may stand on, by name.

In: a name of the config. Out: an `Anchor` class. Never: a default; the config has it.
"""

from __future__ import annotations

from ml.attention.anchors.panel import (
    BORROWED,
    LEVEL_DAYS,
    MIN_LEVEL_TARGETS,
    PanelHarAnchor,
    PooledAnchor,
)
from ml.attention.anchors.protocol import Anchor, HarxCalAnchor, gives_anchor

__all__ = [
    "ANCHORS",
    "BORROWED",
    "LEVEL_DAYS",
    "MIN_LEVEL_TARGETS",
    "Anchor",
    "HarxCalAnchor",
    "PanelHarAnchor",
    "PooledAnchor",
    "anchor_class",
    "gives_anchor",
]

ANCHORS: dict[str, type[Anchor]] = {
    "harx_cal": HarxCalAnchor,
    "har_pooled": PooledAnchor,
    "har_panel": PanelHarAnchor,
}


def anchor_class(name: str) -> type[Anchor]:
    """The anchor of that name; ValueError that lists the known ones."""
    if name not in ANCHORS:
        raise ValueError(f"anchor {name!r}: expected one of {', '.join(ANCHORS)}")
    return ANCHORS[name]
