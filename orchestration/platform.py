"""What every Dagster asset needs: the settings, the warehouse and the source, as one resource.

In: settings. Out: ``Platform``. Never opens a source or the warehouse before it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orchestration.settings import Settings
from orchestration.sources import open_source
from orchestration.sources.protocol import Source
from orchestration.warehouse import Warehouse


@dataclass
class Platform:
    """One home: its settings, warehouse and source."""

    settings: Settings

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings)

    @cached_property
    def source(self) -> Source:
        return open_source(self.settings)
