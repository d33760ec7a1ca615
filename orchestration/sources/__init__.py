"""Where raw data comes from: ``open_source(settings)`` gives the source that the settings name.

In: settings. Out: a ``Source``: simulated, archive or live. Never: falls back from one source to another.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from orchestration.sources.archive import ArchiveSource
from orchestration.sources.protocol import Source, SourceError
from orchestration.sources.simulated import SimulatedSource

if TYPE_CHECKING:
    from orchestration.sources.live.config import LiveSettings

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
        from orchestration.sources.live import LiveConfig, LiveSource

        return LiveSource(LiveConfig.of(cast("LiveSettings", settings)))
    raise SourceError(f"VOLCAST_SOURCE={settings.source!r}: expected simulated, archive or live")
