"""Where raw data comes from: ``open_source(settings)`` gives the source that the settings name.

In: settings. Out: a ``Source``, archive or simulated. Never: falls back from one source to another.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Protocol

from orchestration.sources.archive import ArchiveSource
from orchestration.sources.protocol import Source, SourceError
from orchestration.sources.simulated import SimulatedSource

__all__ = ["ArchiveSource", "SimulatedSource", "Source", "SourceError", "open_source"]


class SourceSettings(Protocol):
    """What a source needs of the settings."""

    @property
    def source(self) -> str: ...
    @property
    def archive(self) -> Path | None: ...
    @property
    def assets(self) -> tuple[str, ...] | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def simulated_start(self) -> date: ...


def open_source(settings: SourceSettings) -> Source:
    """The source of these settings. Raises SourceError with what to set instead."""
    if settings.source == "simulated":
        end: date | None = getattr(settings, "simulated_end", None)
        return SimulatedSource(settings.seed, settings.assets, settings.simulated_start, end)
    if settings.source == "archive":
        if settings.archive is None:
            raise SourceError(
                "VOLCAST_SOURCE=archive needs VOLCAST_ARCHIVE=<folder of the archive>"
            )
        return ArchiveSource(settings.archive, settings.assets)
    if settings.source == "live":
        raise SourceError(
            "VOLCAST_SOURCE=live: live data arrives with a later release; set simulated or archive"
        )
    raise SourceError(f"VOLCAST_SOURCE={settings.source!r}: expected simulated or archive")
